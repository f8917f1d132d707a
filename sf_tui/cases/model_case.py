"""A model outside any run as a case for recovery test and repair, with the data that are named.

What a run's log and profile would provide must be named here: the data of both tasks, and the
weights from before or the accuracy then.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from sf_tui.cases.rows import CaseNeeds, read_new_task, read_old_task
from sf_tui.cases.run_case import START_IS_SCORED, CaseOverrides, RunCase, build_case
from sf_tui.cases.run_weights import LoadedRun, open_start_model
from sf_tui.engine.compute import choose_compute
from sf_tui.engine.layout import read_layout
from sf_tui.engine.prepare import load_model_of
from sf_tui.errors import UsageError
from sf_tui.profile import Profile, parse_profile
from sf_tui.profile.describe import toml_value
from sf_tui.recovery.case import CaseTask, StartAccuracy

OLD, NEW = "old", "new"


def model_profile(source: str, overrides: CaseOverrides, settings: Sequence[str]) -> Profile:
    """Return a profile for a bare model: its source and the data that are named.

    Args:
        source: as `[model] source`; relative paths start at the current directory.
        overrides: the data of both tasks.
        settings: `table.key=value` texts, as for any profile; the tasks are `old` and `new`.

    Raises:
        UsageError: neither task has data.
        ProfileError: a setting is invalid, or names a file that isn't there.
    """
    named = {OLD: overrides.old, NEW: overrides.new}
    if not any(named.values()):
        raise UsageError(
            f"{source}: a model has no record of its tasks",
            "name their data: --old DATA, --new DATA, or both",
        )
    lines = ['name = "model"', "[model]", f"source = {toml_value(source, 4096)}"]
    for place, (name, data) in enumerate((n, d) for n, d in named.items() if d is not None):
        lines += ["[[tasks]]", f'name = "{name}"', f"data = {toml_value(data, 4096)}"]
        # A profile needs a stage, so a task alone gets one; its settings are used.
        lines += ["learn = true"] if not place and not all(named.values()) else []
    return parse_profile(
        "\n".join(lines), name="the command line", base_dir=Path.cwd(), overrides=settings
    )


def model_case(profile: Profile, needs: CaseNeeds, overrides: CaseOverrides) -> RunCase:
    """Assemble the case of a bare model.

    Args:
        profile: from `model_profile`.
        needs: what the case is for.
        overrides: the weights from before, or the old task's accuracy then.

    Raises:
        DataError: data can't be used.
        ModelError: the model or the start model can't be loaded.
    """
    compute = choose_compute(profile.model.dtype, profile.train.threads)
    loaded = load_model_of(profile, compute)
    model = LoadedRun(loaded, read_layout(loaded.model), compute)
    start = None
    if overrides.start_model is not None:
        start = open_start_model(overrides.start_model, model)
    names = [task.name for task in profile.tasks]
    scored = start is not None and overrides.start_accuracy is not None
    notes = (START_IS_SCORED,) if scored else ()
    old: CaseTask | None = None
    if OLD in names:
        old, missing = read_old_task(profile, profile.task(OLD), loaded, needs, whole=True)
        notes = (*notes, *missing)
    new: CaseTask | None = None
    if NEW in names:
        new, _ = read_new_task(profile, profile.task(NEW), loaded)
    spec = profile.stages()[-1]
    known = StartAccuracy(overrides.start_accuracy)
    # The length of the stage that produced this model is unknown.
    case = build_case(profile, spec, model, old, new, start, known, None)
    return RunCase(case, profile, notes=notes)
