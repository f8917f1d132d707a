"""A run's model as a case for recovery test and repair: weights, start weights, both tasks.

Of a run directory, whatever became of its worker, or of a run that its worker has in hand. Reads
only; locks nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from sf_tui.engine.prepare import BIOGRAPHY, PreparedRun
from sf_tui.engine.weights import StoredWeights
from sf_tui.errors import UsageError
from sf_tui.profile import Profile, StageSpec, TaskSettings, did_you_mean
from sf_tui.profile.names import REPLAY_STAGE
from sf_tui.profile.sources import absolute
from sf_tui.recovery.case import NewTask, OldTask, RecoveryCase
from sf_tui.run.directory import RunDirectory
from sf_tui.run.events import read_events
from sf_tui.run.history import History, Measures, fold
from sf_tui.worker.case_data import (
    OldRows,
    Wanted,
    new_task_of,
    old_task_of,
    read_new_task,
    read_old_task,
)
from sf_tui.worker.inputs import changed_inputs, describe_changes
from sf_tui.worker.recipe_tokens import TaskSize, size_of
from sf_tui.worker.run_weights import ModelAtHand, find_start, load_newest, read_record

if TYPE_CHECKING:
    from sf_tui.worker.context import RunContext
    from sf_tui.worker.stage import StagePlay


START_IS_SCORED = (
    "the accuracy that is named is not taken: the start weights are there to be scored"
)


@dataclass(frozen=True)
class Replaced:
    """What a case takes from elsewhere than the run."""

    task: str | None = None
    """The old task; None: the watched one that lost most."""
    stage: str | None = None
    """The stage whose start the model is compared with; None: the last one of a new task."""
    old: str | None = None
    """Data of the old task."""
    new: str | None = None
    """Data of the new task."""
    start_model: str | None = None
    """A directory, a checkpoint or a starter with the weights from before."""
    start_accuracy: float | None = None


@dataclass(frozen=True)
class AssembledCase:
    """A case and where it was taken from."""

    case: RecoveryCase
    profile: Profile
    source: str
    """What the model was made from: `[model] source`."""
    old: str | None
    """The old task's name; None where there is none."""
    stage: str | None = None
    """The stage that the weights stand in; None outside a run."""
    step: int | None = None
    since: str | None = None
    """The stage whose start they are compared with."""
    sizes: Mapping[str, TaskSize] = field(default_factory=dict)
    """Of the tasks that were read."""
    notes: tuple[str, ...] = ()
    """What a person should know: what is missing, and what stands in for it."""


@dataclass(frozen=True)
class KnownStart:
    """The old task's accuracy before the stage, where it is known without the weights."""

    accuracy: float | None = None
    examples: int | None = None
    """How many it was measured on; None where nobody says."""


def build_case(
    profile: Profile,
    spec: StageSpec,
    model: ModelAtHand,
    old: OldTask | None,
    new: NewTask | None,
    size: TaskSize | None,
    start: StoredWeights | None,
    known: KnownStart,
) -> RecoveryCase:
    """Put a case together; its rates, batches and neighbors are a stage's.

    A control and another task are the test's own affair.

    Args:
        profile: of [replay_stage], [neighbors] and [anchor].
        spec: the stage.
        model: as it stands now.
        old: the task that was lost.
        new: the task that was learnt.
        size: of the stage's data; None where nobody knows what the stage was.
        start: the weights from before.
        known: what is known without them.
    """
    train = spec.train
    tokens = None
    if size is not None:
        steps = train.total_steps(size.entries)
        tokens = round(steps * train.batch_size * size.mean_length)
    return RecoveryCase(
        model.loaded,
        model.layout,
        model.compute,
        old,
        new,
        start,
        train.learning_rate,
        train.batch_size,
        train.micro_batch,
        tokens,
        start_accuracy=known.accuracy,
        start_examples=known.examples,
        reference_rate=profile.replay_stage.train.get("learning_rate"),
        kinds=profile.neighbors.kinds.model_dump(),
        top_k=profile.anchor.top_k,
        longest_answer=profile.anchor.answer_tokens,
        most_prompts=profile.anchor.cache_size,
        seed=profile.seed,
        stage=spec.name,
    )


def run_case(
    run: RunDirectory, profile: Profile, wanted: Wanted, replaced: Replaced
) -> AssembledCase:
    """Assemble the case of a run whose worker has ended: its newest checkpoint that counts.

    Args:
        run: the run; whoever calls this holds its lock.
        profile: the run's, perhaps with other settings of diagnosis and repair.
        wanted: what the case is for.
        replaced: what is taken from elsewhere.

    Raises:
        RunError: the run has no weights yet, or a checkpoint can't be read.
        UsageError: no such task or stage, or none that was lost.
        DataError: data are needed that can't be used.
        ModelError: the model or the start model can't be loaded.
    """
    record = read_record(run, profile)
    spec = choose_stage(profile, record.history, replaced.stage, replaced.task)
    old: TaskSettings | None = None
    # Start weights repair what nobody has named as a task; a test needs something to score.
    if wanted.scores_needed or replaced.task or watched_before(profile, record.history, spec):
        old = choose_old_task(profile, record.history, spec, replaced.task)
    model = load_newest(record)
    loaded, layout, history = model.loaded, model.layout, record.history
    notes: list[str] = []
    if record.point is None:
        notes.append("the checkpoints are gone: the weights are those of the run's model/")
    start = find_start(loaded, layout, record.start_of(spec.name), replaced.start_model)
    if start is None:
        notes.append(f"the start weights of stage '{spec.name}' are gone")
    elif replaced.start_accuracy is not None:
        notes.append(START_IS_SCORED)
    old_rows = OldRows(None, (f"stage '{spec.name}' began with no watched task to be scored",))
    if old is not None:
        whole = replaced.old is not None
        old_rows = read_old_task(profile, with_data(old, replaced.old), loaded, wanted, whole=whole)
    notes += old_rows.notes
    changed = changed_inputs(run, profile)
    if changed:
        notes.append(
            f"changed since the run began: {describe_changes(changed)}; "
            "the rows that are scored may be others "
            "than the run's"
        )
    new_settings = with_data(profile.task(spec.task), replaced.new)
    new, prepared_new = read_new_task(profile, new_settings, loaded)
    known = KnownStart()
    if replaced.start_accuracy is not None:
        known = KnownStart(replaced.start_accuracy)
    elif replaced.old is None and replaced.start_model is None and old is not None:
        known = _told_start(history, spec.name, old.name, old_rows.task)
    size = size_of(prepared_new)
    case = build_case(profile, spec, model, old_rows.task, new, size, start, known)
    stage, step = record.place
    return AssembledCase(
        case,
        profile,
        profile.model.source,
        old.name if old is not None else None,
        stage,
        step,
        spec.name,
        {spec.task: size},
        tuple(notes),
    )


def live_case(context: RunContext, play: StagePlay, wanted: Wanted) -> AssembledCase:
    """Assemble the case of the stage that a worker is playing, its model as it stands.

    Whoever tries something on it gives the model back as it was.

    Args:
        context: the run.
        play: the stage.
        wanted: what the case is for.

    Raises:
        UsageError: no watched task was learnt before.
        RunError: the stage's first checkpoint can't be used.
    """
    prepared: PreparedRun = context.prepared
    profile = prepared.profile
    history = fold(read_events(context.run.events))
    spec = play.spec
    # By what the worker itself remembers: a resumed one must choose the same task again.
    old_settings = choose_old_task(profile, history, spec, None, context.accuracy)
    loaded, layout = prepared.loaded, prepared.layout
    new = prepared.tasks[spec.task]
    old = old_task_of(profile, prepared.tasks[old_settings.name], loaded, wanted)
    case = build_case(
        profile,
        spec,
        ModelAtHand(loaded, layout, prepared.compute),
        old,
        new_task_of(new),
        size_of(new),
        find_start(loaded, layout, context.shelf.path(spec.name, 0), None),
        _told_start(history, spec.name, old.name, old),
    )
    # A scheduler does not wait as long as the start model may have to be asked.
    case.between = context.stop_if_asked
    return AssembledCase(
        case,
        profile,
        profile.model.source,
        old.name,
        play.name,
        play.step,
        spec.name,
        {name: size_of(task) for name, task in prepared.tasks.items() if len(task.train)},
    )


def choose_stage(
    profile: Profile, history: History, name: str | None, task: str | None
) -> StageSpec:
    """Return the stage whose start a model is compared with.

    Args:
        profile: the run's profile.
        history: the run so far.
        name: the stage; None: the last one that has begun and trains a new task.
        task: the old task that it must know, if one is named.

    Raises:
        UsageError: there is no such stage, or it has not begun.
    """
    stages = {stage.name: stage for stage in profile.stages() if stage.name in history.stages}
    if name is not None:
        if name not in stages:
            raise UsageError(
                f"no stage '{name}' has begun in this run", did_you_mean(name, stages, "stages")
            )
        return stages[name]
    if task is not None:
        profile.task(task)
    new = [stage for stage in stages.values() if stage.name != REPLAY_STAGE]
    knowing = [stage for stage in new if task is None or task in history.stages[stage.name].known]
    if not knowing:
        what = "no stage has begun" if task is None else f"no stage began that knew task '{task}'"
        raise UsageError(f"{what} in this run", "`sf show` tells how far it has come")
    return knowing[-1]


def choose_old_task(
    profile: Profile,
    history: History,
    stage: StageSpec,
    name: str | None,
    now: Mapping[str, Measures] | None = None,
) -> TaskSettings:
    """Return the task that was lost: the one that is named, or the watched one that lost most.

    Args:
        profile: the run's profile.
        history: the run so far.
        stage: since whose start.
        name: the task, if one is named.
        now: each task's measures now; None: those of the newest probe.

    Raises:
        UsageError: there is no such task, or the stage began without knowing it.
    """
    known = history.stages[stage.name].known
    earlier = [task for task in known if task != stage.task]
    if name is not None:
        settings = profile.task(name)
        if name not in earlier:
            raise UsageError(
                f"task '{name}' was not known when stage '{stage.name}' began",
                did_you_mean(name, earlier, "earlier tasks"),
            )
        return settings
    watched = watched_before(profile, history, stage)
    if not watched:
        raise UsageError(
            f"stage '{stage.name}' began with no watched task to be lost",
            f"name another --stage, or a --task that is not watched: {', '.join(earlier)}"
            if earlier
            else "name another --stage",
        )
    probes = _probes_since(history, stage.name)
    first = probes[0] if probes else {}
    last = now or (probes[-1] if probes else {})

    def drop(task: str) -> float:
        metric = history.metric(task)
        before, after = (found.get(task, {}).get(metric.name) for found in (first, last))
        return 0.0 if before is None or after is None else metric.drop(before, after)

    return profile.task(max(watched, key=drop))


def watched_before(profile: Profile, history: History, stage: StageSpec) -> list[str]:
    """Return the watched tasks that were known when a stage began."""
    known = history.stages[stage.name].known
    return [task for task in profile.watched_tasks() if task in known and task != stage.task]


def _probes_since(history: History, stage: str) -> list[Mapping[str, Measures]]:
    names = list(history.stages)
    later = [history.stages[name] for name in names[names.index(stage) :]]
    return [probe.accuracy for one in later for probe in one.probes]


def with_data(settings: TaskSettings, data: str | None) -> TaskSettings:
    """Return a task's table with other data, which nobody has split."""
    if data is None:
        return settings
    place = data if data.startswith(BIOGRAPHY) else absolute_if_there(data)
    return settings.model_copy(
        update={"data": place, "held_out": None, "split": None, "subset": None}
    )


def absolute_if_there(data: str) -> str:
    """Return a path that starts at the current directory as an absolute one; an id as it is."""
    path = Path(absolute(data, Path.cwd()))
    return str(path) if path.exists() or data.startswith((".", "/", "~")) else data


def _told_start(history: History, stage: str, task: str, old: OldTask | None) -> KnownStart:
    """Return what the log tells of the old task at the stage's start."""
    probes = history.stages[stage].probes
    if old is None or not probes or probes[0].step != 0:
        return KnownStart()
    measures = probes[0].accuracy.get(task, {})
    metric = "token_accuracy" if old.metric == "nll" else old.metric
    if metric not in measures:
        return KnownStart()
    return KnownStart(measures[metric], int(measures["n"]))
