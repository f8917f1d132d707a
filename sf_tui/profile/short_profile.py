"""The text of a new profile with only the keys that matter, each with its value's reason.

`init` writes every key. Knows no model and no data: values and reasons are given. Writes no file.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sf_tui.profile.values import toml_value

LONGEST = 10_000
_COMMENT_COLUMN = 31


def short_profile(
    *,
    name: str,
    model: str,
    old: str,
    new: str,
    about_model: str = "",
    held_out: Mapping[str, int] | None = None,
    train: Mapping[str, Any],
    probe: Mapping[str, Any] | None = None,
    guard: Mapping[str, float] | None = None,
    reasons: Mapping[str, str] | None = None,
) -> str:
    """Return a short commented profile that runs as written.

    Args:
        name: the profile's name.
        model: `[model] source`.
        old: the data of the task that the model already does.
        new: the data of the task to learn.
        about_model: the model in a few words.
        held_out: rows to hold out of `old` and `new`; without an entry the default split is used.
        train: `[train]`.
        probe: `[probe]`.
        guard: `[guard]`.
        reasons: why a value is what it is, by `table.key`, or `held_out.TASK`.
    """
    why = {"model.source": about_model, **(reasons or {})}
    held_out = held_out or {}
    lines = [
        "# A profile of sf. `sf profile check` shows what it will cost, `sf run` runs it;",
        "# `sf guide profile` lists every key, `sf profile init --full` writes them all.",
        "",
        _line("name", name),
        _line("description", f"tune {old} -> {new}"),
        "",
        "[model]",
        _line("source", model, why["model.source"]),
        "",
        "# The task that the model already does. It is measured, not trained.",
        *_task("old", old, held_out, why),
        "",
        "# The task to learn.",
        *_task("new", new, held_out, why),
        "",
        "[train]",
        _line("strategy", "seq", 'plain; "anchor" holds the old task without its data'),
        *(_line(key, value, why.get(f"train.{key}", "")) for key, value in train.items()),
        "",
        "# Without the #: train a LoRA adapter, at about ten times the rate (`sf guide adapters`).",
        "#[adapter]",
    ]
    if probe:
        lines += ["", "[probe]"]
        lines += [_line(key, value, why.get(f"probe.{key}", "")) for key, value in probe.items()]
    lines += [
        "",
        "# Without the #: freeze the lower half by itself when the old task has lost 10 points.",
        "#[[rules]]",
        '#name = "protect-old"',
        '#metric = "drop"',
        "#above = 0.10",
        "#within_steps = 150",
        '#action = "freeze"',
    ]
    if guard:
        lines += ["", "# `sf run` exits with 4 if a task ends below its guard.", "[guard]"]
        lines += [_line(key, value, why.get(f"guard.{key}", "")) for key, value in guard.items()]
    return "\n".join(lines) + "\n"


def _task(name: str, data: str, held_out: Mapping[str, int], why: Mapping[str, str]) -> list[str]:
    lines = ["[[tasks]]", _line("name", name), _line("data", data)]
    if name in held_out:
        lines.append(_line("held_out", held_out[name], why.get(f"held_out.{name}", "")))
    return lines


def _line(key: str, value: object, comment: str = "") -> str:
    text = f"{key} = {toml_value(value, LONGEST)}"
    return f"{text:<{_COMMENT_COLUMN - 2}}  # {comment}" if comment else text
