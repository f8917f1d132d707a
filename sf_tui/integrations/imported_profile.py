"""The profile of an imported run: what a finished training's folder and the command line tell.

Reads row counts, no model. Whatever the folder doesn't tell keeps the profile's default.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from sf_tui.cases.assemble import absolute_if_there
from sf_tui.engine.prepare import BIOGRAPHY
from sf_tui.errors import UsageError
from sf_tui.integrations.base_model import named_base
from sf_tui.integrations.host_profile import NEIGHBORS, NEW, OLD, scored_rows
from sf_tui.integrations.trainer_output import TrainerOutput
from sf_tui.profile import Profile, parse_profile
from sf_tui.profile.names import HOST_DATA
from sf_tui.profile.values import toml_value
from sf_tui.tasks.loaded_rows import load_examples
from sf_tui.tasks.user_data import DEFAULT_MOST

HOST = "import"
"""The host's name in the profile of an imported run."""

EXAMPLES = 200
"""Held-out examples of each task in a probe between start and end; they give a score to ± 0.07."""

_NEW_SCORED = 50
_LONGEST = 4096


@dataclass(frozen=True)
class ImportOptions:
    """What the user says about a finished training.

    Attributes:
        old: data of the tasks that the model did before.
        new: data of the task that it was trained on; None if they are not available.
        base: the model that the training began with; None: as its configuration names it.
        name: the run's name; None: the folder's.
        settings: `table.key=value` texts.
    """

    old: Sequence[str]
    new: str | None = None
    base: str | None = None
    name: str | None = None
    settings: Sequence[str] = ()


def imported_profile(output: TrainerOutput, options: ImportOptions) -> Profile:
    """Return the profile of an imported run.

    Raises:
        UsageError: no old task is named, or the base can't be found.
        ProfileError: a setting is invalid, or names a missing file.
        DataError: data can't be used.
    """
    if not options.old:
        raise UsageError(
            f"{output.folder}: no task to score its checkpoints on",
            "name rows of a task that the model did before the training: --old FILE",
        )
    base = options.base or named_base(output)
    source = base if base.startswith("starter:") else absolute_if_there(base)
    lines = [
        f"name = {_text(options.name or _name_of(output.folder))}",
        "[host]",
        f'name = "{HOST}"',
        f"output_dir = {_text(str(output.folder))}",
        "[model]",
        f"source = {_text(source)}",
    ]
    if output.tokenizer is not None:
        lines.append(f"tokenizer = {_text(str(output.tokenizer))}")
    if output.is_adapter:
        lines += ["[adapter]", f"source = {_text(str(output.saved[-1].folder))}"]
    rows = 0
    for name, data in _named(options.old):
        lines += _task(name, data, learned=False)[0]
    if options.new is not None:
        task, rows = _task(NEW, options.new, learned=True)
        lines += task
    else:
        lines += ["[[tasks]]", f'name = "{NEW}"', f'data = "{HOST_DATA}"']
    lines += ["[train]", f"steps = {output.steps}", *_training(output, rows)]
    steps = [0, *(at.step for at in output.saved)]
    every = min(after - before for before, after in pairwise(steps))
    lines += ["[probe]", f"every = {every}", f"every_in_window = {every}", f"examples = {EXAMPLES}"]
    return parse_profile(
        "\n".join(lines),
        name="the command line",
        base_dir=Path.cwd(),
        overrides=options.settings,
    )


def _named(old: Sequence[str]) -> list[tuple[str, str]]:
    """Return the old tasks by name: `old`, or several by the names of their files."""
    if len(old) == 1:
        return [(OLD, old[0])]
    found: dict[str, str] = {}
    for data in old:
        stem = Path(data.removeprefix(BIOGRAPHY)).stem.lower()
        plain = re.sub(r"[^a-z0-9_-]+", "-", stem).strip("-_")[:48] or OLD
        name, number = plain, 2
        while name in found or name in (NEW, NEIGHBORS):
            name, number = f"{plain}-{number}", number + 1
        found[name] = data
    return list(found.items())


def _task(name: str, data: str, *, learned: bool) -> tuple[list[str], int]:
    """Return a task's table, and the number of rows of one that was trained; 0 if unknown."""
    place = data if data.startswith(BIOGRAPHY) else absolute_if_there(data)
    lines = ["[[tasks]]", f"name = {_text(name)}", f"data = {_text(place)}"]
    # Only a file is counted: a data set's id may have to be downloaded, and has splits.
    if place.startswith(BIOGRAPHY) or not Path(place).is_absolute():
        return lines, 0
    if not learned:
        lines.append(f"held_out = {scored_rows(Path(place))}")
        return lines, 0
    rows = len(load_examples(place, Path.cwd()).examples)
    # The training has seen all of them: those that are scored show that it learned them.
    scored = min(max(rows // 10, min(_NEW_SCORED, rows // 2)), DEFAULT_MOST)
    if scored:
        lines.append(f"held_out = {scored}")
    return lines, rows


def _training(output: TrainerOutput, rows: int) -> list[str]:
    """Return what the log tells of `[train]`."""
    state = output.state
    if state is None:
        return []
    lines = []
    if state.learning_rate is not None:
        lines.append(f"learning_rate = {state.learning_rate!r}")
    if rows and state.epochs is not None and state.step:
        size = round(state.epochs * rows / state.step)
        lines.append(f"batch_size = {min(max(size, 1), rows)}")
    return lines


def _name_of(folder: Path) -> str:
    plain = re.sub(r"[^A-Za-z0-9._-]+", "-", folder.name).lstrip("._-")[:64]
    return plain or HOST


def _text(value: str) -> str:
    return toml_value(value, _LONGEST)
