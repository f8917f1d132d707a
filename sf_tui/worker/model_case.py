"""A model outside any run as a case for recovery test and repair, with the data that are named.

What a run would tell of itself must be told here: the weights from before, or the accuracy then.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from sf_tui.engine.compute import choose_compute
from sf_tui.engine.prepare import load_model_of
from sf_tui.errors import UsageError
from sf_tui.profile import Profile, parse_profile
from sf_tui.profile.values import toml_value
from sf_tui.recovery.case import NewTask
from sf_tui.worker.case_data import Wanted, read_new_task, read_old_task
from sf_tui.worker.cases import (
    START_IS_SCORED,
    AssembledCase,
    KnownStart,
    Replaced,
    build_case,
)
from sf_tui.worker.recipe_tokens import TaskSize, size_of
from sf_tui.worker.run_weights import ModelAtHand, open_start_model

OLD, NEW = "old", "new"


def model_profile(source: str, replaced: Replaced, overrides: Sequence[str]) -> Profile:
    """Return the profile that stands for a bare model: its source and the data that are named.

    Args:
        source: as `[model] source`; relative paths start at the current directory.
        replaced: the data of both tasks.
        overrides: `table.key=value` texts, as for any profile; the tasks are `old` and `new`.

    Raises:
        UsageError: neither task has data.
        ProfileError: an override makes no sense, or names a file that isn't there.
    """
    named = {OLD: replaced.old, NEW: replaced.new}
    if not any(named.values()):
        raise UsageError(
            f"{source}: a model tells nothing of its tasks",
            "name their data: --old DATA, --new DATA, or both",
        )
    lines = ['name = "model"', "[model]", f"source = {toml_value(source, 4096)}"]
    for place, (name, data) in enumerate((n, d) for n, d in named.items() if d is not None):
        lines += ["[[tasks]]", f'name = "{name}"', f"data = {toml_value(data, 4096)}"]
        # A task alone must have a stage: it is the one whose settings are taken.
        lines += ["learn = true"] if not place and not all(named.values()) else []
    return parse_profile(
        "\n".join(lines), name="the command line", base_dir=Path.cwd(), overrides=overrides
    )


def model_case(
    profile: Profile,
    wanted: Wanted,
    *,
    start_model: str | None,
    start_accuracy: float | None,
) -> AssembledCase:
    """Assemble the case of a bare model.

    Args:
        profile: as `model_profile` makes it.
        wanted: what the case is for.
        start_model: a directory, a checkpoint or a starter with the weights from before.
        start_accuracy: the old task's accuracy then.

    Raises:
        DataError: data can't be used.
        ModelError: the model or the start model can't be loaded.
    """
    compute = choose_compute(profile.model.dtype, profile.train.threads)
    loaded = load_model_of(profile, compute)
    layout = loaded.layout
    start = open_start_model(start_model, loaded, layout) if start_model is not None else None
    names = [task.name for task in profile.tasks]
    old = None
    notes = (START_IS_SCORED,) if start is not None and start_accuracy is not None else ()
    if OLD in names:
        rows = read_old_task(profile, profile.task(OLD), loaded, wanted, whole=True)
        old, notes = rows.task, (*notes, *rows.notes)
    new: NewTask | None = None
    sizes: dict[str, TaskSize] = {}
    if NEW in names:
        new, prepared = read_new_task(profile, profile.task(NEW), loaded)
        sizes[NEW] = size_of(prepared)
    spec = profile.stages()[-1]
    model = ModelAtHand(loaded, layout, compute)
    known = KnownStart(start_accuracy)
    # How long the stage was that made the model what it is, nobody knows.
    case = build_case(profile, spec, model, old, new, None, start, known)
    return AssembledCase(
        case,
        profile,
        profile.model.source,
        OLD if OLD in names else None,
        sizes=sizes,
        notes=notes,
    )
