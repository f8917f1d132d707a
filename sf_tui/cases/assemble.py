"""Assembles cases for recovery test and repair: weights, start weights and both tasks.

A case comes from a run without a worker, from a worker's current stage (the worker passes the
values), or from a bare model, whose data and start weights the user names. Reads only; takes no
lock.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from sf_tui.cases.choice import choose_old_task, choose_stage, watched_before
from sf_tui.cases.inputs import changed_inputs, describe_changes
from sf_tui.cases.named_model import model_tables
from sf_tui.cases.references import case_references
from sf_tui.cases.retrain_cost import training_tokens
from sf_tui.cases.rows import (
    CaseNeeds,
    held_out_prompts_of,
    new_task_of,
    old_task_of,
    read_held_out_prompts,
    read_new_task,
    read_old_task,
)
from sf_tui.cases.run_weights import (
    LoadedRun,
    RunRecord,
    base_start,
    find_stage_start,
    load_newest,
    open_start_model,
    own_start,
)
from sf_tui.engine.compute import choose_compute
from sf_tui.engine.prepare import BIOGRAPHY, PreparedRun, PreparedTask, load_model_of
from sf_tui.engine.weights import StartWeights
from sf_tui.errors import UsageError
from sf_tui.profile import Profile, StageSpec, TaskSettings, TrainSettings, parse_profile
from sf_tui.profile.sources import absolute
from sf_tui.profile.values import toml_value
from sf_tui.recovery.case import CaseTask, RecoveryCase, StartAccuracy
from sf_tui.run.state import RunState
from sf_tui.vocabulary.declared import Measures
from sf_tui.vocabulary.metrics import metric_named

OLD, NEW = "old", "new"
"""The task names of a bare model."""

_ADAPTER_FACTOR = 10
"""An adapter's usual learning rate, relative to the default, which is for whole models. Without it
the search on an adapter of `biography-mini` took its highest rate and brought 0.87 of 1.00 back."""

START_IS_SCORED = (
    "the accuracy that is named is not used: the start weights are available and are scored"
)


@dataclass(frozen=True)
class CaseOverrides:
    """The parts of a case that replace the run's own."""

    task: str | None = None
    """The old task; None: the watched one that lost most."""
    stage: str | None = None
    """The stage whose start weights are the reference; None: the last one of a new task."""
    old: str | None = None
    """Data of the old task."""
    new: str | None = None
    """Data of the new task."""
    start_model: str | None = None
    """A directory, a checkpoint or a starter with the start weights."""
    start_accuracy: float | None = None
    """The old task's accuracy at the start, if there are no start weights."""
    checkpoint: str | None = None
    """The checkpoint of an imported run; None: the newest."""


@dataclass(frozen=True)
class StagePoint:
    """A worker's position in its current stage."""

    spec: StageSpec
    step: int
    watches_old: bool
    """Whether a watched task was learned before the stage."""


@dataclass(frozen=True)
class RunCase:
    """A case with its profile and its place in the run."""

    case: RecoveryCase
    profile: Profile
    stage: str | None = None
    """The stage that the weights belong to; None outside a run."""
    step: int | None = None
    since: str | None = None
    """The stage whose start weights are the reference."""
    stage_tokens: Mapping[str, int] = field(default_factory=dict)
    """Tokens of a task's stage at full length, for the tasks that were read."""
    notes: tuple[str, ...] = ()
    """For the user: what is missing, and what replaces it."""


def build_case(
    profile: Profile,
    spec: StageSpec,
    model: LoadedRun,
    old: CaseTask | None,
    new: CaseTask | None,
    start: StartWeights | None,
    known_start: StartAccuracy,
    stage_tokens: int | None,
) -> RecoveryCase:
    """Assemble a case with the learning rate, the batches and the neighbors of a stage.

    The recovery test itself adds a control and another task.

    Args:
        profile: its [replay_stage], [neighbors] and [anchor] are used.
        spec: the stage.
        model: with its current weights.
        old: the lost task.
        new: the newly learned task.
        start: the start weights.
        known_start: what is known of the old task's accuracy at the start without them.
        stage_tokens: tokens that the stage trained on; None if the stage is unknown.
    """
    return RecoveryCase(
        model.loaded,
        model.layout,
        model.compute,
        old,
        new,
        start,
        _stage_rate(spec, model, known=stage_tokens is not None),
        spec.train.batch_size,
        spec.train.micro_batch,
        stage_tokens,
        known_start,
        kinds=profile.neighbors.kinds,
        anchor=profile.anchor,
        seed=profile.seed,
        reference_rate=profile.replay_stage.train.get("learning_rate"),
        stage=spec.name,
    )


def _stage_rate(spec: StageSpec, model: LoadedRun, *, known: bool) -> float:
    """Return the stage's learning rate; a usual one for what trained if it is unknown."""
    rate = spec.train.learning_rate
    named = known or rate != TrainSettings().learning_rate
    return rate if named or model.layout.adapters is None else _ADAPTER_FACTOR * rate


def run_case(record: RunRecord, needs: CaseNeeds, overrides: CaseOverrides) -> RunCase:
    """Assemble the case of a run without a worker, from the checkpoint that a resume would load.

    Args:
        record: the run's progress; the caller holds the run's lock.
        needs: what the case is for.
        overrides: the parts that replace the run's own.

    Raises:
        RunError: a checkpoint can't be read.
        UsageError: no such task or stage, or no task was lost.
        DataError: required data can't be used.
        ModelError: the model or the start model can't be loaded.
    """
    profile, history = record.profile, record.history
    spec = choose_stage(profile, history, overrides.stage, overrides.task)
    old_settings: TaskSettings | None = None
    # With start weights, a repair needs no old task to score; a test does.
    if needs.scores_needed or overrides.task or watched_before(profile, history, spec):
        old_settings = choose_old_task(profile, history, spec, overrides.task)
    model = load_newest(record)
    notes: list[str] = []
    if record.point is None and not record.references:
        notes.append("the checkpoints are gone: the weights are those of the run's model/")
    start = find_stage_start(model, record, spec.name, overrides.start_model)
    if start is None:
        notes.append(f"the start weights of stage '{spec.name}' are gone")
    elif overrides.start_accuracy is not None:
        notes.append(START_IS_SCORED)
    old: CaseTask | None = None
    if old_settings is None:
        notes.append(f"stage '{spec.name}' began with no watched task to be scored")
    else:
        settings = with_data(old_settings, overrides.old)
        whole = overrides.old is not None
        old, missing = read_old_task(profile, settings, model.loaded, needs, whole=whole)
        notes += missing
    changed = changed_inputs(record.run, profile)
    if changed:
        notes.append(
            f"changed since the run began: {describe_changes(changed)}; the rows that are scored "
            "may differ from the run's"
        )
    new_settings = with_data(profile.task(spec.task), overrides.new)
    new, prepared_new = read_new_task(profile, new_settings, model.loaded)
    known = StartAccuracy()
    if overrides.start_accuracy is not None:
        known = StartAccuracy(overrides.start_accuracy)
    elif overrides.old is None and overrides.start_model is None and old_settings is not None:
        known = _logged_start(history, spec.name, old_settings.name, old)
    case = build_case(profile, spec, model, old, new, start, known, _tokens_of(spec, prepared_new))
    given = {old_settings.name if old_settings else "": overrides.old, spec.task: overrides.new}
    case.other_held_out, unread = read_held_out_prompts(profile, given, model.loaded)
    notes += unread
    if overrides.start_model is None:
        case.references = case_references(
            profile,
            spec.name,
            model,
            record.start_of,
            lambda task: read_new_task(profile, profile.task(task), model.loaded)[1].train,
        )
    stage, step = record.place
    return RunCase(
        case,
        profile,
        stage,
        step,
        spec.name,
        _tokens_by_task(profile, {spec.task: prepared_new}),
        tuple(notes),
    )


def live_case(
    point: StagePoint,
    prepared: PreparedRun,
    history: RunState,
    accuracy: Mapping[str, Measures],
    start_of: Callable[[str], Path],
    needs: CaseNeeds,
    check_stop: Callable[[], None],
) -> RunCase:
    """Assemble the case of a worker's current stage, with its current weights.

    The case shares the worker's model, so a test must restore it.

    Args:
        point: the worker's position.
        prepared: the run's model and tasks.
        history: the run so far.
        accuracy: each task's measures as the worker remembers them. A resumed worker must choose
            the same old task again, and its log may contain later probes.
        start_of: returns the folder of a stage's first checkpoint.
        needs: what the case is for.
        check_stop: raises if the run has to stop; querying the start model may take longer than a
            scheduler waits.

    Raises:
        UsageError: no watched task was learned before.
        RunError: the stage's first checkpoint can't be used.
    """
    profile, spec = prepared.profile, point.spec
    old_settings = choose_old_task(profile, history, spec, None, accuracy)
    model = LoadedRun(prepared.loaded, prepared.layout, prepared.compute)
    new = prepared.tasks[spec.task]
    old = old_task_of(profile, prepared.tasks[old_settings.name], prepared.loaded, needs)
    case = build_case(
        profile,
        spec,
        model,
        old,
        new_task_of(new),
        own_start(profile, spec.name, model, start_of),
        _logged_start(history, spec.name, old.name, old),
        _tokens_of(spec, new),
    )
    case.references = case_references(
        profile, spec.name, model, start_of, lambda task: prepared.tasks[task].train
    )
    case.other_held_out = held_out_prompts_of(prepared.tasks.values(), {old.name, spec.task})
    case.check_stop = check_stop
    if prepared.ranks.lockstep:
        case.agree = lambda late: prepared.ranks.decide(lambda: late)
    trained = {name: task for name, task in prepared.tasks.items() if len(task.train)}
    return RunCase(
        case,
        profile,
        spec.name,
        point.step,
        spec.name,
        _tokens_by_task(profile, trained),
    )


def model_profile(source: str, overrides: CaseOverrides, settings: Sequence[str]) -> Profile:
    """Return a profile for a bare model: its source and the named data.

    Args:
        source: as `[model] source`; relative paths start at the current directory.
        overrides: the data of both tasks.
        settings: `table.key=value` texts, as for any profile; the tasks are `old` and `new`.

    Raises:
        UsageError: neither task has data.
        ProfileError: a setting is invalid, or names a missing file.
    """
    named = {OLD: overrides.old, NEW: overrides.new}
    if not any(named.values()):
        raise UsageError(
            f"{source}: a model has no record of its tasks",
            "name their data: --old DATA, --new DATA, or both",
        )
    lines = ['name = "model"', *model_tables(source, settings)]
    for place, (name, data) in enumerate((n, d) for n, d in named.items() if d is not None):
        lines += ["[[tasks]]", f'name = "{name}"', f"data = {toml_value(data, 4096)}"]
        # A profile needs a stage, so a lone task gets one, whose settings are used.
        lines += ["learn = true"] if not place and not all(named.values()) else []
    return parse_profile(
        "\n".join(lines), name="the command line", base_dir=Path.cwd(), overrides=settings
    )


def model_case(profile: Profile, needs: CaseNeeds, overrides: CaseOverrides) -> RunCase:
    """Assemble the case of a bare model.

    Args:
        profile: from `model_profile`.
        needs: what the case is for.
        overrides: the start weights, or the old task's accuracy at the start.

    Raises:
        DataError: data can't be used.
        ModelError: the model or the start model can't be loaded.
    """
    compute = choose_compute(profile.model.dtype, profile.train.threads)
    loaded = load_model_of(profile, compute)
    model = LoadedRun(loaded, loaded.layout, compute)
    start = None
    if overrides.start_model is not None:
        start = open_start_model(overrides.start_model, model)
    elif profile.adapter is not None:
        start = base_start(model)
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


def with_data(settings: TaskSettings, data: str | None) -> TaskSettings:
    """Return a task's table with other data, which has no split of its own."""
    if data is None:
        return settings
    place = data if data.startswith(BIOGRAPHY) else absolute_if_there(data)
    return settings.model_copy(
        update={"data": place, "held_out": None, "split": None, "subset": None}
    )


def absolute_if_there(data: str) -> str:
    """Return a path relative to the current directory as an absolute one; an id unchanged."""
    path = Path(absolute(data, Path.cwd()))
    return str(path) if path.exists() or data.startswith((".", "/", "~")) else data


def _tokens_of(spec: StageSpec, task: PreparedTask) -> int:
    return training_tokens(spec.train, len(task.train), task.mean_length)


def _tokens_by_task(profile: Profile, tasks: Mapping[str, PreparedTask]) -> dict[str, int]:
    return {
        name: training_tokens(profile.stage_train(name), len(task.train), task.mean_length)
        for name, task in tasks.items()
    }


def _logged_start(history: RunState, stage: str, task: str, old: CaseTask | None) -> StartAccuracy:
    """Return the old task's accuracy at the stage's start, from the log."""
    probes = history.stages[stage].probes
    if old is None or not probes or probes[0].step != 0:
        return StartAccuracy()
    measures = probes[0].metrics.get(task, {})
    metric = old.metric if metric_named(old.metric).is_share else "token_accuracy"
    value, examples = measures.get(metric), measures.get("n")
    if value is None or examples is None:
        return StartAccuracy()
    return StartAccuracy(value, int(examples))
