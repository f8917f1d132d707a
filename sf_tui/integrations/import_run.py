"""Makes a run directory from a finished training: probes every checkpoint, and refers to it.

One model is in memory; each checkpoint's weights are copied into it tensor by tensor. The run is
made under a hidden name and renamed when it is complete, so an interrupted import leaves nothing.
Alerts and danger windows come from the code that watches a live run.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from sf_tui.cases.inputs import record_inputs, take_inputs
from sf_tui.cases.referenced import open_referenced
from sf_tui.engine.loading import model_folder
from sf_tui.engine.prepare import PreparedRun, prepare_run
from sf_tui.engine.start_weights import DriftMeter
from sf_tui.errors import ModelError, RunError, UsageError
from sf_tui.integrations.trainer_output import TrainerOutput, check_shapes, weights_in
from sf_tui.integrations.trainer_state import LoggedStep
from sf_tui.profile import Profile, StageSpec, dump_profile
from sf_tui.run.directory import RunDirectory
from sf_tui.run.durable import aside_name, remove, remove_abandoned, sync_directory
from sf_tui.run.events import EventLog
from sf_tui.run.references import Reference, WeightFiles, write_references
from sf_tui.vocabulary.events import (
    Alert,
    CheckpointWritten,
    RunFinished,
    StageFinished,
    StageStarted,
    Step,
)
from sf_tui.vocabulary.sizes import counted
from sf_tui.worker.checkpoints import CheckpointStore
from sf_tui.worker.context import RunContext
from sf_tui.worker.inbox import CommandInbox
from sf_tui.worker.introduction import introduce_run
from sf_tui.worker.loss_alerts import LossAlerts
from sf_tui.worker.probe_notes import note_probe_plan
from sf_tui.worker.probes import StageProbes
from sf_tui.worker.resume_log import ResumeLog
from sf_tui.worker.rules import RuleWatch
from sf_tui.worker.stop import StopSignals

Log = Callable[[str], None]

_OTHER_BASE = "name the directory of the whole model that the training began with: --base MODEL"


@dataclass(frozen=True)
class Imported:
    """An imported run.

    Attributes:
        run: its directory.
        checkpoints: the weights that were probed, the start first.
        notes: what was not imported, and why.
    """

    run: RunDirectory
    checkpoints: tuple[Reference, ...]
    notes: tuple[str, ...]


def import_training(
    output: TrainerOutput,
    profile: Profile,
    path: Path,
    *,
    argv: Sequence[str],
    log: Log,
    check_stop: Callable[[], None],
) -> Imported:
    """Make a run directory from a finished training.

    Args:
        output: its folder.
        profile: from `imported_profile`.
        path: the run directory to make.
        argv: the command line.
        log: receives a line for the user about each part of the work.
        check_stop: called between checkpoints; an exception from it ends the import.

    Raises:
        UsageError: the path exists.
        ModelError: the base can't be loaded, or a checkpoint doesn't fit it.
        DataError: data can't be used.
        RunError: the run directory can't be written.
    """
    log(f"loading {profile.model.source}")
    start = _start_files(profile)
    check_shapes(output, start)
    with _new_run(path, profile, argv) as run:
        prepared = prepare_run(profile, None, run.created)
        spec, known = next(iter(profile.stages_with_known()))
        references = [
            Reference(spec.name, 0, start),
            *(Reference(spec.name, at.step, at.weights) for at in output.saved),
        ]
        # From the headers alone, before the first probe: a probe may take minutes.
        for reference in references:
            open_referenced(reference.weights, prepared.loaded)
        record_inputs(run, take_inputs(profile))
        events = EventLog(run.events)
        try:
            history = _History(run, events, prepared, spec, known, output)
            history.write(references, log, check_stop)
            events.sync()
        finally:
            events.close()
        try:
            write_references(run, references)
        except OSError as error:
            raise _not_written(path, error) from error
    return Imported(RunDirectory(path), tuple(references), output.notes)


def _start_files(profile: Profile) -> WeightFiles:
    """Return the files of the model that the training began with."""
    try:
        folder = model_folder(profile.model, profile.base_dir)
    except ModelError as error:
        raise ModelError(error.message, f"{error.hint}; or {_OTHER_BASE}") from error
    if not folder.is_dir():
        kind = "a GGUF file" if folder.suffix == ".gguf" else "a file"
        raise UsageError(
            f"--base {folder}: {kind}, whose weights can't be compared with the checkpoints",
            "name the model's directory with *.safetensors (save_pretrained writes one)",
        )
    found = weights_in(folder, _OTHER_BASE)
    if found.is_adapter:
        raise UsageError(f"--base {folder}: it is an adapter, not a whole model", _OTHER_BASE)
    return found


@contextmanager
def _new_run(path: Path, profile: Profile, argv: Sequence[str]) -> Iterator[RunDirectory]:
    """Yield a new run directory under a hidden folder; on exit, move it to its place.

    If the block raises, nothing is left behind. What a kill leaves is removed by the next run that
    is made beside it.

    Raises:
        UsageError: the path exists or is not UTF-8.
        RunError: the directory can't be written.
    """
    path = path.absolute()
    aside = path.parent / aside_name(secrets.token_hex(4), "making")
    try:
        remove_abandoned(path.parent, None, "making")
        # Refuses an existing path before the work, with its hint.
        RunDirectory.check_new(path)
        aside.mkdir(parents=True, mode=0o700)
    except OSError as error:
        raise _not_written(path, error) from error
    try:
        run = RunDirectory.create(
            aside / path.name,
            profile_text=dump_profile(profile),
            profile_name=profile.name,
            argv=argv,
        )
        yield run
        try:
            RunDirectory.check_new(path)
            run.path.rename(path)
            sync_directory(path.parent)
        except OSError as error:
            raise _not_written(path, error) from error
    finally:
        # The disk may fail here too; the next run that is made removes it.
        with suppress(OSError):
            remove(aside)


def _not_written(path: Path, error: OSError) -> RunError:
    return RunError(
        f"{path}: can't make a run directory: {error.strerror or error}",
        "choose another place with --run-dir or $SF_HOME",
    )


class _History:
    """Writes the events of a finished training, in the order in which a live run writes them."""

    def __init__(
        self,
        run: RunDirectory,
        events: EventLog,
        prepared: PreparedRun,
        spec: StageSpec,
        known: Sequence[str],
        output: TrainerOutput,
    ) -> None:
        self._prepared = prepared
        self._spec = spec
        self._known = [name for name in known if name != spec.task]
        self._output = output
        self._steps = output.steps
        self._context = RunContext(
            run,
            events,
            ResumeLog(),
            prepared,
            CheckpointStore(run, prepared.profile.checkpoint),
            CommandInbox(run.commands),
            StopSignals(),
            RuleWatch(()),
        )
        self._probes = StageProbes(self._context, spec, self._known, self._steps)
        test = f"`sf diagnose {run.id}`"
        self._losses = LossAlerts(
            self._context, spec.name, spec.task, old=lambda: test, new=lambda: ""
        )
        self._left_window = False

    def write(
        self, references: Sequence[Reference], log: Log, check_stop: Callable[[], None]
    ) -> None:
        """Probe the start and every checkpoint, and write all events."""
        self._introduce()
        start, *saved = references
        store = open_referenced(start.weights, self._prepared.loaded)
        self._probes.measure_from(DriftMeter(self._prepared.layout, self._prepared.freezer, store))
        # The model was loaded with the last adapter, if the training made one.
        store.load_into(self._prepared.layout)
        log(f"start: {self._probe_start(start)}")
        logged = list(self._output.state.logged) if self._output.state is not None else []
        for at, reference in enumerate(saved):
            check_stop()
            while logged and logged[0].step <= reference.step:
                self._add_step(logged.pop(0))
            found = self._probe(reference, last=at == len(saved) - 1)
            log(f"step {reference.step} of {self._steps}: {found}")
        for entry in logged:
            self._add_step(entry)
        self._finish()

    def _introduce(self) -> None:
        context, spec = self._context, self._spec
        introduce_run(context)
        count = len(self._output.saved)
        source = (
            f"imported from {self._output.folder}: {counted(count, 'checkpoint')}, "
            f"{counted(self._steps, 'step')}; times are those of the import"
        )
        for note in (source, *self._output.notes):
            context.log_event(Alert("info", "import", note))
        own = self._prepared.tasks[spec.task]
        if len(own.held_out):
            context.log_event(
                Alert(
                    "info",
                    "import",
                    f"'{spec.task}': the training may have seen the rows that are scored, so its "
                    "score shows what was learned, not what carries over",
                    task=spec.task,
                )
            )
        context.log_event(
            StageStarted(
                stage=spec.name,
                task=spec.task,
                strategy=spec.train.strategy,
                steps=self._steps,
                known=self._known,
            )
        )

    def _probe_start(self, start: Reference) -> str:
        probes = self._probes
        probes.probe_start()
        probes.say_unknown_tasks()
        note_probe_plan(self._context, self._spec, probes)
        probes.danger.enter_at_start()
        if probes.report is not None:
            self._losses.check(0, {}, probes.report.own_score)
        self._add_checkpoint(start)
        return self._scores()

    def _probe(self, reference: Reference, *, last: bool) -> str:
        step, probes = reference.step, self._probes
        self._leave_window(step - 1)
        open_referenced(reference.weights, self._prepared.loaded).load_into(self._prepared.layout)
        probes.probe(step, full=last)
        probes.drift(step)
        if probes.report is not None:
            self._losses.check(step, probes.report.old, probes.report.own_score)
        self._leave_window(step)
        self._add_checkpoint(reference)
        return self._scores()

    def _add_step(self, entry: LoggedStep) -> None:
        self._leave_window(entry.step - 1)
        self._context.log_event(
            Step(
                stage=self._spec.name,
                step=entry.step,
                loss=entry.loss,
                learning_rate=entry.learning_rate,
                grad_norm=entry.grad_norm,
            )
        )
        if entry.loss is None:
            self._context.alert(
                "error",
                "nan",
                f"the loss that was logged at step {entry.step} is not finite",
                self._spec.name,
                entry.step,
            )

    def _leave_window(self, step: int) -> None:
        """Log the end of the danger window at the stage's start, if a step is not before it."""
        end = self._probes.danger.at_start
        if 0 < end <= step and not self._left_window:
            self._left_window = True
            self._probes.danger.leave(end)

    def _add_checkpoint(self, reference: Reference) -> None:
        context = self._context
        context.log_event(
            CheckpointWritten(
                stage=reference.stage,
                step=reference.step,
                path=str(reference.weights.folder),
                bytes=reference.weights.bytes,
                metrics=context.accuracy,
                probed_at=context.probed_at,
            )
        )

    def _scores(self) -> str:
        parts = []
        for name, measures in self._context.accuracy.items():
            value = measures.get(self._prepared.tasks[name].metric)
            parts.append(f"{name} {value:.2f}" if value is not None else f"{name} –")
        return ", ".join(parts)

    def _finish(self) -> None:
        context, spec, state = self._context, self._spec, self._output.state
        self._leave_window(self._steps)
        last = self._output.saved[-1].step
        if last < self._steps:
            context.alert(
                "warn",
                "import",
                f"the weights after step {last} were not saved: the training went on to step "
                f"{self._steps}",
                spec.name,
                self._steps,
            )
        if state is not None and state.planned > self._steps:
            context.alert(
                "info",
                "import",
                f"the training ended at step {self._steps} of {state.planned}",
                spec.name,
                self._steps,
                again=True,
            )
        context.log_event(
            StageFinished(
                stage=spec.name, task=spec.task, strategy=spec.train.strategy, steps=self._steps
            )
        )
        context.log_event(RunFinished("completed", 0, context.accuracy))
