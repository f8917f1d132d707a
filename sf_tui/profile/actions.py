"""The actions that every profile has, and how a profile's own are laid over them.

Knows ops' default names and keys and who keeps a key that two actions want. Runs nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from sf_tui.profile.action_schema import takers_text
from sf_tui.profile.locate import KeyPath
from sf_tui.profile.names import NAME_PATTERN, RESERVED_KEYS, ops_that_take
from sf_tui.profile.problems import Origin, Problem
from sf_tui.profile.schema import Profile
from sf_tui.profile.values import toml_value

DEFAULT_ACTIONS: dict[str, dict[str, Any]] = {
    "freeze": {"op": "freeze", "key": "f"},
    "unfreeze": {"op": "unfreeze", "key": "u"},
    "anchor": {"op": "anchor", "key": "a"},
    "unanchor": {"op": "unanchor", "key": "o"},
    "pause": {"op": "pause", "key": "space"},
    # Pausing a second time resumes, so it needs no key of its own.
    "resume": {"op": "resume"},
    "checkpoint": {"op": "checkpoint", "key": "c"},
    "rollback": {"op": "rollback", "key": "b", "confirm": True},
    "diagnose": {"op": "diagnose", "key": "d"},
    "recover": {"op": "recover", "key": "r", "confirm": True},
    # Edits change the weights at once and are rare enough for the palette.
    "shift-edit": {"op": "shift-edit", "confirm": True},
    "spectral-edit": {"op": "spectral-edit", "confirm": True},
    "interpolate": {"op": "interpolate", "confirm": True},
    # Never a single key: it stands too near the others.
    "stop": {"op": "stop"},
}


def lay_over_defaults(own: object) -> object:
    """Return a profile's raw `actions` table laid over the default actions.

    An action of a default's name and op (or without op) takes the keys that it doesn't give from
    the default; a default loses its key to an action of the profile's own that asks for it.
    """
    if own is None:
        own = {}
    if not isinstance(own, dict):
        return own
    actions: dict[str, Any] = {name: dict(action) for name, action in DEFAULT_ACTIONS.items()}
    for name, action in own.items():
        default = DEFAULT_ACTIONS.get(name)
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
    """Find names that can't be typed, arguments an op doesn't take and keys that clash."""
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
        if profile.actions[name].op == "stop":
            yield Problem(
                path,
                "op 'stop' takes no key, so that no slip of a finger ends a run",
                "take the key away; stopping is in the palette and in `sf stop`",
            )
        elif key in RESERVED_KEYS:
            yield Problem(
                path,
                f"key = {toml_value(key)}: the console keeps this key for itself",
                f"it keeps {' '.join(RESERVED_KEYS)}; take another",
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
