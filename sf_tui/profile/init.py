"""The text of a new profile with a comment on every key.

Generated from the schema's descriptions and defaults, so it always agrees with the schema. Writes
no file.
"""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from sf_tui.profile.action_schema import Rule, argument_field, documented_arguments
from sf_tui.profile.adapter_schema import AdapterSettings
from sf_tui.profile.names import RESERVED_KEYS
from sf_tui.profile.schema import current_schema
from sf_tui.profile.train_schema import DEFAULT_STEPS
from sf_tui.profile.values import choices_of, inner_model, toml_value
from sf_tui.vocabulary.ops import OPS, Argument
from sf_tui.vocabulary.strategies import STRATEGIES

LONGEST = 10_000
WIDTH = 100

EXAMPLES: dict[str, dict[str, Any]] = {
    "model": {
        "config": {"model_type": "gpt_neox", "hidden_size": 128, "num_hidden_layers": 4},
        "tokenizer": "biography",
        "revision": "main",
    },
    "tasks": {
        "held_out": 0.1,
        "group": "topic",
        "fields": {"prompt": "question", "completion": "answer"},
        "split": "train",
        "subset": "default",
        "train": {"steps": 600, "learning_rate": 3e-4},
    },
    "train": {
        "steps": DEFAULT_STEPS,
        "epochs": 2,
        "micro_batch_size": 4,
        "max_length": 512,
        "threads": 2,
    },
    "adapter": {"source": "their-adapter"},
    "neighbors": {"exclude_tasks": ["old"]},
    "replay_stage": {"task": "old", "train": {"learning_rate": 1e-4}},
    "diagnose": {
        "steps": 50,
        "learning_rate": 1e-4,
        "control": "never-seen.jsonl",
        "unrelated": "another-task.jsonl",
        "device": "cuda:1",
        "threads": 4,
    },
    "recover": {"learning_rate": 5e-6, "rate_share": 0.25, "interpolate": 0.7},
    "probe": {"examples": 128, "batch_size": 64},
    "rules": {
        "name": "protect-old-task",
        "metric": "drop",
        "above": 0.2,
        "below": 0.5,
        "within_steps": 150,
        "action": "freeze",
        "arguments": {"layers": 2},
    },
    "actions": {
        "op": "freeze",
        "key": "2",
        "label": "Freeze two blocks",
    },
    "guard": {"old_accuracy": 0.8, "new_accuracy": 0.95},
    "cost": {"gpu_hour": 2.5},
}
"""Example values for keys without a default."""

STARTER_SCENE: dict[str, Any] = {
    "model": "starter:biography-mini",
    "old": "biography:old",
    "new": "biography:new",
    # With these values plain tuning loses the old task deeply and reversibly on this model.
    "train": {"learning_rate": 4e-4, "batch_size": 48, "steps": DEFAULT_STEPS},
}
"""The built-in experiment, for users without a model and data."""

COMMENTED_OUT = ("adapter", "rules", "actions")
WRITTEN_BY_SF = "host"
"""The table of a training that another program runs, which is in no profile that a user writes."""


def new_profile(
    *,
    name: str,
    model: str,
    old: str,
    new: str,
    held_out: Mapping[str, int] | None = None,
    train: Mapping[str, Any] | None = None,
    probe: Mapping[str, Any] | None = None,
    guard: Mapping[str, float] | None = None,
) -> str:
    """Return the text of a commented profile with every key, which runs as written.

    Args:
        name: the profile's name.
        model: `[model] source`.
        old: the data of the task that the model already does.
        new: the data of the task to learn.
        held_out: rows to hold out of `old` and `new`; without an entry the default split is used.
        train: keys of `[train]` that differ from the defaults.
        probe: the same of `[probe]`.
        guard: the same of `[guard]`.
    """
    given: dict[str, dict[str, Any]] = {
        "": {"name": name, "description": f"tune {old} -> {new}"},
        "model": {"source": model},
        "train": {"steps": DEFAULT_STEPS, **(train or {})},
        "probe": dict(probe or {}),
        "guard": dict(guard or {}),
    }
    lines = [
        "# A profile of sf: which model is trained on what, and what is watched.",
        "# Every key is here. One that is commented out (a # with no space after it) shows its",
        "# default or an example. `sf profile check` checks it, `sf run` runs it.",
        "",
    ]
    for key, field in current_schema().model_fields.items():
        table = inner_model(field.annotation)
        if key == WRITTEN_BY_SF:
            continue
        if table is None:
            lines += _key(key, field, given[""])
            continue
        lines.append("")
        if key == "tasks":
            lines += _tasks(table, old, new, held_out or {})
        elif key in COMMENTED_OUT:
            lines += _commented_out(key, table)
        else:
            lines += _summary(table)
            lines.append(f"[{key}]")
            lines += _keys(key, table, given.get(key, {}))
        if key not in ("tasks", *COMMENTED_OUT):
            lines += _inner_tables(key, table)
    return "\n".join(lines) + "\n"


def _summary(table: type[BaseModel]) -> list[str]:
    text = (table.__doc__ or "").partition(": ")[2].rstrip(".")
    return [f"# ---- {text}"]


def _inner_tables(section: str, table: type[BaseModel]) -> list[str]:
    lines = []
    for key, field in table.model_fields.items():
        inner = inner_model(field.annotation)
        if inner is None:
            continue
        # A table with a required key can't appear without it, nor a strategy's table without the
        # strategy.
        needy = section == "train" or any(one.is_required() for one in inner.model_fields.values())
        lines += ["", *_summary(inner), f"{'#' if needy else ''}[{section}.{key}]"]
        lines += _keys(f"{section}.{key}", inner, {})
    return lines


def _tasks(table: type[BaseModel], old: str, new: str, held_out: Mapping[str, int]) -> list[str]:
    own = {"held_out": held_out["old"]} if "old" in held_out else {}
    return [
        *_summary(table),
        "# The model already does the first task; it is watched while the next is trained.",
        "[[tasks]]",
        *_keys("tasks", table, {"name": "old", "data": old, **own}),
        "",
        "[[tasks]]",
        'name = "new"',
        f"data = {toml_value(new, LONGEST)}",
        *([f"held_out = {held_out['new']}"] if "new" in held_out else []),
    ]


def _commented_out(key: str, table: type[BaseModel]) -> list[str]:
    lines = _summary(table)
    if table is Rule:
        return [*lines, "#[[rules]]", *_keys(key, table, {})]
    if table is AdapterSettings:
        return [*lines, "#[adapter]", *_keys(key, table, {})]
    shown = ", ".join(f"{op.name} ({op.key})" if op.key else op.name for op in OPS.values())
    return [
        *lines,
        *textwrap.wrap(
            f"Built in: {shown}.",
            WIDTH,
            initial_indent="# ",
            subsequent_indent="# ",
            break_on_hyphens=False,
        ),
        f"# Keys reserved for the console: {' '.join(RESERVED_KEYS)}",
        "#[actions.freeze-two]",
        *_keys(key, table, {}),
        *(line for row in documented_arguments() for line in _argument(*row)),
    ]


def _argument(name: str, argument: Argument, meaning: str) -> list[str]:
    field = argument_field(argument)
    examples = {} if argument.default is not None else {name: argument.example}
    return [f"# {meaning}", *_key(name, field, {}, examples)[1:]]


def _keys(
    section: str,
    table: type[BaseModel],
    given: Mapping[str, Any],
) -> list[str]:
    lines = []
    for key, field in table.model_fields.items():
        if inner_model(field.annotation) is None:
            lines += _key(key, field, given, _examples(section))
    return lines


def _examples(section: str) -> Mapping[str, Any]:
    declared = {one.table: one.examples for one in STRATEGIES.values() if one.table}
    return EXAMPLES.get(section) or declared.get(section, {})


def _key(
    key: str, field: FieldInfo, given: Mapping[str, Any], examples: Mapping[str, Any] = {}
) -> list[str]:
    meaning = f"# {field.description}"
    allowed = choices_of(field)
    if allowed and not all(value in meaning for value in allowed):
        meaning += f" ({', '.join(allowed)})"
    if key in given:
        return [meaning, f"{key} = {toml_value(given[key], LONGEST)}"]
    value = examples.get(key, field.default)
    assert value is not None, f"no example for {key}"
    assert value is not PydanticUndefined, f"no example for {key}"
    return [meaning, f"#{key} = {toml_value(value, LONGEST)}"]
