"""The run of a training that another program drives, a step at a time.

Uses the same stage, probes, rules, commands and events as a worker. Raises what goes wrong;
`watcher` keeps that away from the training.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from sf_tui.cases.inputs import check_inputs
from sf_tui.engine.checkpoint import Checkpoint
from sf_tui.engine.checkpoint_state import FORMAT, dump_state
from sf_tui.engine.loop import StepOutcome
from sf_tui.errors import RunError
from sf_tui.integrations.host import Host, HostLoop
from sf_tui.integrations.host_folder import (
    earlier_run,
    make_run,
    prepare_host,
    resume_point,
    state_file,
)
from sf_tui.integrations.host_profile import Settings
from sf_tui.profile import load_profile
from sf_tui.run.durable import replace_file
from sf_tui.run.events import EventLog
from sf_tui.run.liveness import Heartbeat, RunLock
from sf_tui.run.log_repair import check_log
from sf_tui.vocabulary.commands import DONE
from sf_tui.vocabulary.events import Alert, CheckpointWritten, Rewound, RunFinished
from sf_tui.worker.checkpoints import CheckpointStore
from sf_tui.worker.context import RunContext
from sf_tui.worker.decisions import Decisions
from sf_tui.worker.introduction import introduce_run
from sf_tui.worker.resume_log import ResumeLog
from sf_tui.worker.rules import RuleWatch
from sf_tui.worker.run_end import (
    EXIT_FAILED,
    EXIT_GUARD,
    EXIT_OK,
    EXIT_STOPPED,
    claim_run,
    missed_guards,
    open_inbox,
    refuse_commands,
    settle_earlier_commands,
)
from sf_tui.worker.stage import StagePlay
from sf_tui.worker.stop import StopRun, StopSignals


class HostedStage(StagePlay):
    """The stage that a host trains.

    Attributes:
        wants_checkpoint: whether the host is to write a checkpoint after this step.
    """

    wants_checkpoint = False

    def checkpoint(self) -> str:
        """Ask the host for a checkpoint of this step, and return how it will be called."""
        self.wants_checkpoint = True
        assert isinstance(self.loop, HostLoop)
        return f"the host writes it now: checkpoint-{self.loop.first + self.step}"

    def stored(
        self, *, asked_for: bool = False
    ) -> tuple[dict[str, Any], dict[str, dict[str, torch.Tensor]]]:
        """Return what a checkpoint keeps, with the host's own count of steps."""
        state, tensors = super().stored(asked_for=asked_for)
        assert isinstance(self.loop, HostLoop)
        return state | {"host_step": self.loop.first + self.step}, tensors

    def _measure_drift_from_start(self) -> None:
        assert isinstance(self.loop, HostLoop)
        if not self.loop.is_sharded:
            super()._measure_drift_from_start()

    def end_early(self) -> None:
        """Measure everything once more, where the host ends before its last step."""
        self._measuring.probe(self.step, full=True)
        self._measuring.drift(self.step)
        self.save()


class HostedRun:
    """One training of another program, as a run.

    Attributes:
        run: its directory.
        stop: why the training must end; None while it goes on.
    """

    def __init__(self, host: Host, settings: Settings, run_dir: Path | None = None) -> None:
        """Find the run that the host continues, or make one, and take its lock.

        Args:
            host: the host, as its training begins.
            settings: what the user wants.
            run_dir: where the run is; None for a new one among the others, or for the one that
                the host continues.

        Raises:
            SfError: the run can't be made or continued.
        """
        self._host = host
        self.stop: StopRun | None = None
        self._decisions: Decisions | None = None
        self._added: Mapping[str, float] = {}
        earlier = earlier_run(host, run_dir)
        self.run = earlier or make_run(host, settings, run_dir)
        self._lock = RunLock(self.run)
        self._lock.acquire()
        self._heartbeat = Heartbeat(self.run, host.watch.read)
        self._heartbeat.start()
        self._log = EventLog(self.run.events)
        try:
            check_log(self.run, self._log.seq)
            more = {} if host.output_dir is None else {"output_dir": str(host.output_dir)}
            self._inbox = open_inbox(self.run)
            claim_run(self.run, **more)
        except BaseException:
            self.close()
            raise

    def begin(self) -> None:
        """Write the run's first events, or those of a resume, and run the commands that wait."""
        profile = load_profile(self.run.profile)
        log = ResumeLog(self._log.history)
        resumed = log.has_event("run_started")
        changed = check_inputs(self.run, profile, begun=resumed, accept_changed=True)
        self._context = context = RunContext(
            self.run,
            self._log,
            log,
            prepare_host(self.run, profile, self._host),
            CheckpointStore(self.run, profile.checkpoint),
            self._inbox,
            StopSignals(),
            RuleWatch(profile.rules),
        )
        self._log.history.clear()
        if not resumed:
            introduce_run(context)
        if changed:
            context.log_event(Alert("warn", "data-changed", "data changed since the run began"))
        settle_earlier_commands(context, begun=resumed)
        ((spec, known),) = profile.stages_with_known()
        point = resume_point(self.run, spec.name, self._host.step) if resumed else None
        first = self._host.step if point is None else self._host.step - point[1]
        self.loop = HostLoop(self._host, context.prepared.layout, first=first)
        self._stage = HostedStage(context, spec, known, self.loop)
        if point is None:
            if resumed:
                context.log_event(Rewound(spec.name, 0, "resumed", log.last_step(spec.name)))
            self._stage.begin()
            for note in self._host.notes:
                self.note("warn", note)
            if first:
                self.note("info", f"watched from the host's step {first} on: that is step 0 here")
        else:
            checkpoint, step = point
            lost = max(log.last_step(spec.name) - step, 0)
            self._stage.take_up(Checkpoint(checkpoint.path, checkpoint.state | {"step": step}))
            context.log_event(Rewound(spec.name, step, "resumed", lost))
        self._obey()

    @property
    def adds_gradients(self) -> bool:
        """Whether the next step has losses beside the host's."""
        return bool(self.loop.hooks.losses())

    @property
    def last_edit(self) -> int:
        """Number of the last event that changed weights between two steps; 0 for none."""
        return self._context.resume_log.edited_seq(self._stage.name)

    def add_gradients(self) -> None:
        """Add the gradients of the anchor to the host's, before its update."""
        self._added = self.loop.add_gradients(self._host.max_grad_norm)

    def after_step(self, outcome: StepOutcome) -> bool:
        """Record one optimizer step of the host, then run the commands that wait.

        Returns:
            Whether the host is asked to write a checkpoint now.
        """
        self.loop.step += 1
        decisions = self._decisions
        if decisions is None or self.stop is not None:
            return False
        outcome = replace(outcome, added=dict(self._added))
        self._added = {}
        if not math.isfinite(outcome.loss) and outcome.tokens_per_second:
            self._context.alert(
                "error",
                Alert.NAN,
                f"step {self.loop.step}: the loss is {outcome.loss}; stop the training and lower "
                "its learning rate",
                self._stage.name,
                self.loop.step,
            )
        self._stage.wants_checkpoint = False
        self._stage.finish_step(outcome, decisions)
        self._obey()
        return self._stage.wants_checkpoint

    def host_saved(self, folder: Path) -> None:
        """Log a checkpoint that the host wrote, and keep what a resume from it needs."""
        context, stage = self._context, self._stage
        state, _ = stage.stored()
        whole = state | {"format": FORMAT, "optimizer": [], "files": {}}
        place = state_file(self.run, self._stage.step)
        replace_file(place, dump_state(whole))
        size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
        context.log_event(
            CheckpointWritten(
                stage=stage.name,
                step=stage.step,
                path=str(folder.absolute()),
                bytes=size,
                metrics=context.accuracy,
                probed_at=context.probed_at,
            )
        )

    def end(self) -> None:
        """Write the run's last events: its guards, or who stopped it."""
        context, stage = self._context, self._stage
        if self.stop is not None:
            stage.save()
            if self.stop.command is not None:
                command = context.resume_log.commands[self.stop.command]
                context.log_event(command.answer(DONE))
            refuse_commands(context, "the training was being stopped")
            self._finish(
                "stopped",
                EXIT_STOPPED,
                f"stopped {self.stop.reason}; {self._host.name}'s own resume continues it",
            )
            return
        if stage.step < stage.loop.total_steps:
            stage.end_early()
            self.note(
                "info",
                f"{self._host.name} ended at step {stage.step} of {stage.loop.total_steps}",
            )
        stage.finish()
        refuse_commands(context, "the training had come to its end")
        failed = missed_guards(context)
        if failed:
            self._finish("guard_failed", EXIT_GUARD, "; ".join(failed))
        else:
            self._finish("completed", EXIT_OK)

    def fail(self, reason: str, *, trace: str = "") -> None:
        """Write that the run ends here, because the host or `sf` itself failed.

        Args:
            reason: why, for the run's last event.
            trace: the traceback of an error of `sf`, for the worker's log.
        """
        if trace:
            with suppress(OSError), self.run.worker_log.open("a", encoding="utf-8") as file:
                file.write(trace)
            with suppress(RunError):
                self._log.append(Alert("error", "watching", reason))
        context = getattr(self, "_context", None)
        metrics = context.accuracy if context is not None else {}
        # The disk itself may be what failed.
        with suppress(RunError):
            self._log.append(RunFinished("failed", EXIT_FAILED, metrics, reason))

    def note(self, level: str, message: str) -> None:
        """Write an alert about the host."""
        step = self._stage.step
        self._context.alert(level, "host", message, self._stage.name, step, again=True)

    def close(self) -> None:
        """Give the run's directory back."""
        self._log.close()
        self._heartbeat.stop()
        self._lock.release()

    def _obey(self) -> None:
        try:
            self._decisions = self._stage.obey()
        except StopRun as stop:
            self.stop = stop
            self._stage.wants_checkpoint = True

    def _finish(self, status: str, code: int, reason: str | None = None) -> None:
        self._context.log_event(RunFinished(status, code, self._context.accuracy, reason))
