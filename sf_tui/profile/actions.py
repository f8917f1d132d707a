"""The default actions of every profile, and how a profile's own actions are laid over them.

Decides which action gets a key that two of them want. Runs no action.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from sf_tui.profile.action_schema import takers_text
from sf_tui.profile.locate import KeyPath
from sf_tui.profile.names import NAME_PATTERN, RESERVED_KEYS
from sf_tui.profile.problems import Origin, Problem
from sf_tui.profile.schema import Profile
from sf_tui.profile.values import toml_value
from sf_tui.vocabulary.ops import OPS, op_named, ops_that_take


def default_actions() -> dict[str, dict[str, Any]]:
    """Return the raw table of the action that each op has by default."""
    return {
        op.name: {
            "op": op.name,
            **({"key": op.key} if op.key else {}),
            **({"confirm": True} if op.confirm else {}),
        }
        for op in OPS.values()
    }


def lay_over_defaults(own: object) -> object:
    """Return a profile's raw `actions` table laid over the default actions.

    An action with a default's name and op (or no op) inherits the keys that it doesn't set. A
    default loses its console key to a profile's own action that asks for it.
    """
    if own is None:
        own = {}
    if not isinstance(own, dict):
        return own
    defaults = default_actions()
    actions: dict[str, Any] = {name: dict(action) for name, action in defaults.items()}
    for name, action in own.items():
        default = defaults.get(name)
        inherits = default is not None and isinstance(action, dict)
        if inherits and default is not None and action.get("op", default["op"]) == default["op"]:
            actions[name] = {**default, **action}
        else:
            actions[name] = action
    asked_for = [action.get("key") for action in own.values() if isinstance(action, dict)]
    for name, action in actions.items():
        if isinstance(action, dict) and "key" not in _own_action(own, name):
            key = action.get("key")
            if key is not None and key in asked_for:
                del action["key"]
    return actions


def _own_action(own: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    action = own.get(name)
    return action if isinstance(action, dict) else {}


def check_actions(profile: Profile, origin: Origin) -> Iterator[Problem]:
    """Find names that can't be typed, arguments that an op doesn't take, and conflicting keys."""
    own = origin.raw.get("actions", {})
    for name, action in own.items():
        path: KeyPath = ("actions", name)
        if not re.match(NAME_PATTERN, name):
            yield Problem(
                path,
                f"'{name}' can't be the name of an action",
                "use small letters, digits, '-' and '_'",
                table=1,
            )
        op = profile.actions[name].op
        for argument in action:
            takers = ops_that_take(argument)
            if takers and op not in takers:
                yield Problem(
                    (*path, argument),
                    f"op '{op}' takes no argument '{argument}'",
                    takers_text(takers),
                )
    yield from _check_keys(profile, own, origin)


def _check_keys(
    profile: Profile, own: Mapping[str, Mapping[str, Any]], origin: Origin
) -> Iterator[Problem]:
    holders: dict[str, str] = {}
    for name, action in own.items():
        key = action.get("key")
        path = ("actions", name, "key")
        if not isinstance(key, str) or not key:
            continue
        op = profile.actions[name].op
        if not op_named(op).may_have_key:
            yield Problem(
                path,
                f"op '{op}' takes no key, so that no slip of a finger ends a run",
                "take the key away; stopping is in the palette and in `sf stop`",
            )
        elif key in RESERVED_KEYS:
            yield Problem(
                path,
                f"key = {toml_value(key)}: this key is reserved for the console",
                f"reserved: {' '.join(RESERVED_KEYS)}; choose another",
            )
        elif key in holders:
            other = holders[key]
            place = origin.place(("actions", other, "key"))
            yield Problem(
                path,
                f"key = {toml_value(key)} is also the key of [actions.{other}] ({place})",
                "give one of them another key",
            )
        holders.setdefault(key, name)
