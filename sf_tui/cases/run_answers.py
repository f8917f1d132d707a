"""The questions and the states of a run's model to ask: of a live stage, or of a run on disk.

Reads only; takes no lock. Loads no training rows: questions are held out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from sf_tui.cases.answers import Answerer, AskedState, AskedTask, asked_task, fill_sheet, lent
from sf_tui.cases.referenced import open_referenced
from sf_tui.cases.run_weights import (
    LoadedRun,
    RunRecord,
    find_stage_start,
    load_newest,
    open_start_model,
)
from sf_tui.engine.checkpoint import Checkpoint, list_checkpoints
from sf_tui.engine.prepare import PreparedTask, encode_rows, read_task
from sf_tui.engine.start_weights import open_start_weights
from sf_tui.engine.weights import StartWeights, WeightStore
from sf_tui.errors import RunError, UsageError, did_you_mean
from sf_tui.profile import Profile
from sf_tui.run.answers import (
    AFTER_REPAIR,
    BEFORE_REPAIR,
    CHECKPOINT,
    MODEL,
    NOW,
    START,
    Answer,
    AnswerSheet,
    ModelState,
    Wanted,
)
from sf_tui.run.directory import RunDirectory
from sf_tui.run.stage_state import StageState
from sf_tui.tasks.encoding import Encoded
from sf_tui.tasks.task import Example


@dataclass(frozen=True)
class HeldOut:
    """The held-out examples of a task, as read and as tokens."""

    examples: Sequence[Example]
    rows: Sequence[Encoded]


@dataclass
class AskedRun:
    """A run on disk whose model is loaded and can be asked.

    Attributes:
        model: with the newest weights.
        stage: the stage.
        tasks: the tasks that can be asked about.
        states: the states to ask, the reference first.
        judged: place of the state that is compared with the first.
        notes: what is missing.
    """

    model: LoadedRun
    stage: StageState
    tasks: Sequence[str]
    states: list[AskedState]
    judged: int
    notes: list[str]
    profile: Profile
    answerer: Answerer

    def sheet(self) -> AnswerSheet:
        """Ask the questions of the probes in every state.

        Raises:
            SfError: rows or weights can't be used.
        """
        held_out = {name: self.held_out(name) for name in self.tasks}
        return fill_sheet(
            self.answerer,
            self.model.layout,
            stage_questions(self.stage, held_out, self.answerer),
            self.states,
            stage=self.stage.name,
            step=self.stage.step,
            judged=self.judged,
            notes=self.notes,
        )

    def own_answers(self, question: str) -> list[tuple[ModelState, Answer]]:
        """Return the answer to a question of one's own in every state.

        Raises:
            SfError: weights can't be used, or the chat template refuses the question.
        """
        like = example_like(read_task(self.profile, self.profile.task(self.tasks[0])).held_out)
        prompt = self.answerer.prompt(question, like)
        found = []
        for one in self.states:
            with lent(one, self.model.layout):
                found.append((one.state, self.answerer.answer_prompt(prompt)))
        return found

    def held_out(self, task: str) -> HeldOut:
        """Return the held-out examples of a task.

        Raises:
            DataError: its data can't be used.
        """
        settings = self.profile.task(task)
        found = read_task(self.profile, settings)
        rows = encode_rows(self.profile, settings, found.held_out, self.model.loaded).rows
        return HeldOut(found.held_out, rows)


def held_out_of(tasks: Mapping[str, PreparedTask], names: Sequence[str]) -> dict[str, HeldOut]:
    """Return the held-out examples of some of a worker's tasks."""
    return {name: HeldOut(tasks[name].task.held_out, tasks[name].held_out) for name in names}


def example_like(examples: Sequence[Example]) -> Example | None:
    """Return an example that a question of one's own is written like; None if none has a text."""
    return next((one for one in examples if not one.token_ids), None)


def tasks_of(stage: StageState, wanted: Sequence[str] = ()) -> list[str]:
    """Return the tasks that a stage's probes measure, its own last.

    Args:
        stage: the stage.
        wanted: only these; empty for all.

    Raises:
        UsageError: there is no such task in the stage.
    """
    probed = stage.probes[0].metrics if stage.probes else ()
    names = [name for name in (*stage.known, stage.task) if name in probed]
    names = list(dict.fromkeys(names))
    for name in wanted:
        if name not in names:
            raise UsageError(
                f"stage '{stage.name}' has no held-out questions of a task '{name}'",
                did_you_mean(name, names, "tasks"),
            )
    return [name for name in names if not wanted or name in wanted]


def stage_questions(
    stage: StageState, held_out: Mapping[str, HeldOut], answerer: Answerer
) -> list[AskedTask]:
    """Return the questions that the probes of a stage take.

    Args:
        stage: the stage.
        held_out: the held-out examples of the tasks to ask about.
        answerer: of the model.
    """
    # A full probe names the examples of the others in `subset`.
    sizes = [probe.subset or probe.metrics for probe in stage.probes if probe.subset]
    sizes += [probe.metrics for probe in stage.probes if not probe.full]
    found = []
    for name, split in held_out.items():
        count = sizes[0].get(name, {}).get("n") if sizes else None
        whole = None if count is None else int(count)
        found.append(asked_task(name, split.rows, whole, answerer))
    return [task for task in found if task.rows]


def states_since_repair(
    run: RunDirectory,
    stage: StageState,
    now: ModelState,
    open_: Callable[[Path], WeightStore],
) -> list[AskedState]:
    """Return the states of a stage from before its last repair or edit on; the last one is `now`.

    Args:
        run: the run.
        stage: the stage.
        now: the state of the weights that are in the model.
        open_: opens the weights of a checkpoint's folder.

    Raises:
        RunError: a checkpoint is damaged.
    """
    if not stage.weight_changes:
        return [AskedState(now)]
    change = stage.weight_changes[-1]
    folder = run.checkpoints / stage.name
    there = [one for one in list_checkpoints(folder) if one.step == change.step]
    before = [one for one in there if one.seq < change.seq]
    after = [one for one in there if one.seq >= change.seq]
    found = []
    if before:
        found.append(_of_checkpoint(run, BEFORE_REPAIR, max(before, key=_seq), open_))
    if now.step == change.step:
        # No step was taken since: the weights in the model are the repaired ones.
        return [*found, AskedState(replace(now, name=AFTER_REPAIR))]
    if after:
        found.append(_of_checkpoint(run, AFTER_REPAIR, min(after, key=_seq), open_))
    return [*found, AskedState(now)]


def start_state(run: RunDirectory, start: StartWeights) -> AskedState:
    """Return the state of a stage's start."""
    return AskedState(ModelState(START, 0, _place(run, start.folder)), start)


def opener(model: LoadedRun) -> Callable[[Path], WeightStore]:
    """Return what opens the weights of a checkpoint's folder for a model."""
    composite = model.loaded.composite
    names = composite.names if composite else None

    def open_(folder: Path) -> WeightStore:
        return open_start_weights(folder, model.loaded.model, model.layout, names)

    return open_


def ask_run(
    record: RunRecord, wanted: Wanted, between: Callable[[], None] | None = None
) -> AskedRun:
    """Load a run's model and find the states to ask.

    Args:
        record: the run's progress.
        wanted: what the operator wants to see.
        between: called before each forward pass.

    Raises:
        UsageError: there is no such stage, task or checkpoint.
        SfError: the model or a checkpoint can't be used.
    """
    run, history = record.run, record.history
    newest, step = record.place
    name = wanted.stage or newest
    if name not in history.stages:
        raise UsageError(
            f"no stage '{name}' has begun in this run",
            did_you_mean(name, history.stages, "stages"),
        )
    stage = history.stages[name]
    tasks = tasks_of(stage, wanted.tasks)
    # Before the model is loaded, which takes seconds.
    _check_step(record, stage, wanted.step)
    if not tasks:
        raise RunError(
            f"{run.id}: stage '{name}' has no probe, so there are no held-out questions",
            "`sf show` shows how far it has come",
        )
    model = load_newest(record)
    answerer = Answerer(model.loaded, model.compute, between=between)
    open_ = opener(model)
    notes: list[str] = []
    start = find_stage_start(model, record, name)
    states = [start_state(run, start)] if start is not None else []
    if start is None:
        notes.append(f"the start weights of stage '{name}' are gone: its answers aren't shown")
    if wanted.step is not None:
        states.append(_at_step(record, stage, wanted.step, model, open_))
    elif name != newest:
        # The weights in the model are of a later stage.
        last = _checkpoints(record, name)
        if not last:
            raise RunError(
                f"{run.id}: stage '{name}' has no checkpoint any more",
                "ask about the newest stage",
            )
        states.append(_of_checkpoint(run, CHECKPOINT, last[-1], open_))
    else:
        now = ModelState(NOW, step, seq=history.last_seq)
        states += states_since_repair(run, stage, now, open_)
    judged = len(states) - 1
    if wanted.model is not None:
        weights = open_start_model(wanted.model, model)
        states.append(AskedState(ModelState(MODEL, None, str(weights.folder)), weights))
    return AskedRun(model, stage, tasks, states, judged, notes, record.profile, answerer)


def _checkpoints(record: RunRecord, stage: str) -> list[Checkpoint]:
    return list_checkpoints(record.run.checkpoints / stage)


def _check_step(record: RunRecord, stage: StageState, step: int | None) -> None:
    """Refuse a step without a checkpoint."""
    there = {one.step for one in record.references if one.stage == stage.name}
    there |= {one.step for one in _checkpoints(record, stage.name)}
    if step is not None and step not in there:
        steps = ", ".join(map(str, sorted(there))) or "none"
        raise UsageError(
            f"--step {step}: stage '{stage.name}' has no checkpoint of this step",
            f"there are: {steps}",
        )


def _at_step(
    record: RunRecord,
    stage: StageState,
    step: int,
    model: LoadedRun,
    open_: Callable[[Path], WeightStore],
) -> AskedState:
    for one in record.references:
        if (one.stage, one.step) == (stage.name, step):
            weights = open_referenced(one.weights, model.loaded)
            return AskedState(ModelState(CHECKPOINT, step, str(one.weights.folder)), weights)
    there = [one for one in _checkpoints(record, stage.name) if one.step == step]
    # The newest one of this step: what was kept beside it is from before a repair.
    return _of_checkpoint(record.run, CHECKPOINT, max(there, key=_seq), open_)


def _of_checkpoint(
    run: RunDirectory, name: str, checkpoint: Checkpoint, open_: Callable[[Path], WeightStore]
) -> AskedState:
    place = _place(run, checkpoint.path)
    state = ModelState(name, checkpoint.step, place, checkpoint.seq)
    return AskedState(state, open_(checkpoint.path))


def _place(run: RunDirectory, folder: Path) -> str:
    inside = folder.is_relative_to(run.path)
    return folder.relative_to(run.path).as_posix() if inside else str(folder)


def _seq(checkpoint: Checkpoint) -> int:
    return checkpoint.seq
