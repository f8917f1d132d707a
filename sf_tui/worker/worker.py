"""Executes a run from its first event to its last: preparation, stages, guards, the final model.

One worker owns a run directory at a time. It can be killed at any moment, and the run resumed.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

from sf_tui.cases.inputs import check_inputs, describe_changes
from sf_tui.engine.adapters.inject import peft_version, require_peft
from sf_tui.engine.checkpoint import Checkpoint, read_checkpoint
from sf_tui.engine.prepare import prepare_run
from sf_tui.engine.ranks import ALONE, RankLostError, Ranks, RunEnded
from sf_tui.errors import RunError, SfError
from sf_tui.profile import Profile, StageSpec, load_profile
from sf_tui.run.directory import RunDirectory, check_utf8, clear_leftovers
from sf_tui.run.events import EventLog
from sf_tui.run.liveness import Heartbeat, RunLock
from sf_tui.run.log_repair import check_log
from sf_tui.run.reading import check_links
from sf_tui.vocabulary.commands import DONE
from sf_tui.vocabulary.declared import TaskMetrics
from sf_tui.vocabulary.events import Alert, Event, Probe, Rewound, RunFinished
from sf_tui.worker.checkpoints import CheckpointStore
from sf_tui.worker.context import RunContext
from sf_tui.worker.final_model import whole_weights, write_model
from sf_tui.worker.following import Beginning, FollowedLog, FollowedStore
from sf_tui.worker.inbox import CommandInbox
from sf_tui.worker.introduction import introduce_run
from sf_tui.worker.launched import describe_ranks, leave_lone_launcher
from sf_tui.worker.rank_watch import RankWatch
from sf_tui.worker.resume_differences import tell_differences
from sf_tui.worker.resume_log import ResumeLog
from sf_tui.worker.rules import RuleWatch
from sf_tui.worker.run_end import (
    EXIT_FAILED,
    EXIT_GUARD,
    EXIT_OK,
    EXIT_STOPPED,
    TrainedByHostError,
    claim_run,
    missed_guards,
    open_inbox,
    refuse_commands,
    refuse_unread,
    settle_earlier_commands,
)
from sf_tui.worker.stage import StagePlay
from sf_tui.worker.stage_strategies import LoopOf, check_strategies, own_loop
from sf_tui.worker.stop import PreparationStopped, StopRun, StopSignals, as_run_error, one_line


class Worker:
    """Executes one run."""

    def __init__(
        self,
        run: RunDirectory,
        signals: StopSignals,
        *,
        accept_changed_data: bool = False,
        loop_of: LoopOf = own_loop,
        ranks: Ranks = ALONE,
    ) -> None:
        self._ranks = ranks
        self._loop_of = loop_of
        self._run = run
        self._accept_changed_data = accept_changed_data
        self._signals = signals
        self._listeners: list[Callable[[Event], None]] = []
        self._context: RunContext | None = None
        self._watch = RankWatch(ranks, self._say_lost)
        self._heartbeat = Heartbeat(run, self._watch.read)

    def listen(self, listener: Callable[[Event], None]) -> None:
        """Call `listener` for every event written from now on."""
        self._listeners.append(listener)

    def work(self) -> int:
        """Start or resume the run; return the exit code.

        Raises:
            SfError: the run failed; the failure is also logged.
        """
        if not self._ranks.is_main:
            return self._follow()
        if self._ranks.world == 1:
            leave_lone_launcher(os.environ)
        with self._watch:
            try:
                code = self._own_and_work()
            except SfError as error:
                self._ranks.end(error.exit_code)
                raise
            except Exception:
                self._ranks.end(EXIT_FAILED)
                raise
        self._ranks.end(code)
        return code

    def _say_lost(self, error: RankLostError) -> None:
        if not self._ranks.is_main:
            print(error, file=sys.stderr, flush=True)
        elif self._context is not None:
            self._say_failed(self._context.log, one_line(error), error.exit_code)
            self._heartbeat.stop()

    def _follow(self) -> int:
        """Train as rank 0 decides, until it has ended the run; return the run's exit code."""
        with self._watch:
            try:
                self._work(None)
                # Rank 0 writes the model, and ends the run.
                self._ranks.decide(lambda: None)
            except RunEnded as end:
                return end.exit_code
            except RankLostError:
                raise
            except Exception as error:
                self._ranks.leave(str(error) or type(error).__name__)
                raise
        raise RankLostError("rank 0 goes on after the end of the run")

    def _own_and_work(self) -> int:
        check_utf8(self._run.path)
        check_links(self._run)
        lock = RunLock(self._run)
        lock.acquire()
        try:
            clear_leftovers(self._run)
            self._heartbeat.start()
            log = self._open_log()
            try:
                check_log(self._run, log.seq)
                return self._work_or_say_why(log)
            finally:
                log.close()
        finally:
            self._heartbeat.stop()
            lock.release()

    def _open_log(self) -> EventLog:
        try:
            return EventLog(self._run.events)
        except OSError as error:
            raise RunError(
                f"{self._run.events}: can't be read: {error.strerror}",
                "check its owner and the disk",
            ) from error

    def _work_or_say_why(self, log: EventLog) -> int:
        for listener in self._listeners:
            log.listen(listener)
        try:
            return self._work(log)
        except TrainedByHostError:
            # Nothing failed: the run waits for its host.
            raise
        except SfError as error:
            if isinstance(error, RankLostError):
                self._watch.note_gone(error.ranks)
            self._say_failed(log, one_line(error), error.exit_code)
            raise
        except Exception as error:
            failure = as_run_error(error, self._run.path)
            if failure is None:
                self._say_failed(log, f"{type(error).__name__}: {error}", EXIT_FAILED)
                raise
            self._say_failed(log, one_line(failure), failure.exit_code)
            raise failure from error

    def _say_failed(self, log: EventLog, reason: str, exit_code: int) -> None:
        metrics = self._context.accuracy if self._context else _last_metrics(log)
        try:
            log.append(RunFinished("failed", exit_code, metrics, reason))
        except RunError:
            # The log can't be written if the disk caused the failure; the failure itself is
            # raised to the caller.
            return

    def _work(self, log: EventLog | None) -> int:
        """Work through the run; in a rank other than 0, which has no log, return before its end."""
        profile = load_profile(self._run.profile)
        if profile.host is not None:
            raise TrainedByHostError(self._run.id, profile.host.name)
        if self._ranks.world > 1 and profile.launch.sharding == "fsdp2":
            self._ranks.keep_step()
        inbox = open_inbox(self._run)
        if log is not None:
            resume_log = ResumeLog(log.history)
            shelf = CheckpointStore(self._run, profile.checkpoint)
            seq = log.seq
            begun = self._ranks.decide(lambda: self._begin(profile, shelf, resume_log, seq))
        else:
            begun = Beginning.received(self._ranks)
            log = FollowedLog(self._run.events, begun.seq)
            resume_log = ResumeLog(log.history)
            shelf = FollowedStore(self._run, profile.checkpoint)
        resume_point = read_checkpoint(Path(begun.checkpoint)) if begun.checkpoint else None
        resumed = resume_log.has_event("run_started")
        threads = resume_point.state["threads"] if resume_point else None
        stopped = False
        try:
            with self._signals.ending_preparation():
                prepared = prepare_run(profile, threads, self._run.created, self._ranks)
                check_strategies(prepared)
        except PreparationStopped:
            stopped = True
        self._signals.share(self._ranks)
        if stopped or (self._ranks.world > 1 and self._signals.received):
            return self._stop_unprepared(log, inbox, resume_log)
        context = RunContext(
            self._run,
            log,
            resume_log,
            prepared,
            shelf,
            inbox,
            self._signals,
            RuleWatch(profile.rules),
        )
        self._context = context
        log.history.clear()
        where = describe_ranks(self._ranks, str(prepared.compute.device))
        if self._ranks.is_main:
            if not resumed:
                introduce_run(context)
            if self._ranks.world > 1:
                context.log_event(Alert("info", "ranks", where))
            for alert in begun.alerts:
                # Every time, unlike `context.alert`: the files may change again.
                context.log_event(Alert("warn", *alert))
            settle_earlier_commands(context, begun=resumed)
        return self._play(context, resume_point, resumed=resumed)

    def _begin(
        self, profile: Profile, shelf: CheckpointStore, resume_log: ResumeLog, seq: int
    ) -> Beginning:
        """Take the run over, and return where it goes on from."""
        names = [stage.name for stage in profile.stages()]
        resume_point = shelf.resume_point(names, resume_log)
        resumed = resume_log.has_event("run_started")
        peft = peft_version() if profile.adapter is not None else None
        changed_peft = self._changed_peft(peft) if resumed else None
        claim_run(self._run, peft=peft)
        changed = check_inputs(
            self._run, profile, begun=resumed, accept_changed=self._accept_changed_data
        )
        alerts = []
        if changed:
            alerts.append(("data-changed", f"data changed: {describe_changes(changed)}"))
        if changed_peft is not None:
            alerts.append(("versions", changed_peft))
        return Beginning(seq, str(resume_point.path) if resume_point else None, alerts)

    def _stop_unprepared(self, log: EventLog, inbox: CommandInbox, resume_log: ResumeLog) -> int:
        if not self._ranks.is_main:
            return EXIT_STOPPED
        refuse_unread(inbox, resume_log.commands, log.append, "the run was being stopped")
        log.append(
            RunFinished(
                status="stopped",
                exit_code=EXIT_STOPPED,
                metrics=_last_metrics(log),
                reason=f"stopped by signal {self._signals.received} before its first step; "
                f"`sf resume {self._run.id}` continues it",
            )
        )
        return EXIT_STOPPED

    def _changed_peft(self, now: str | None) -> str | None:
        """Return an alert if an adapter run was last trained with another version of peft.

        Raises:
            ModelError: peft isn't installed any more.
        """
        then = self._run.read_run_json().get("versions", {}).get("peft")
        if then is None:
            return None
        require_peft()
        if now == then:
            return None
        return (
            f"resumed with peft {now}, last trained with {then}: what an adapter layer computes "
            "may differ in the last bit"
        )

    def _play(self, context: RunContext, resume_point: Checkpoint | None, *, resumed: bool) -> int:
        stages = context.profile.stages()
        play: StagePlay | None = None
        try:
            for at, (spec, known) in enumerate(context.profile.stages_with_known()):
                reached = (
                    [stage.name for stage in stages].index(resume_point.stage)
                    if resume_point
                    else -1
                )
                if at < reached:
                    continue
                play = StagePlay(context, spec, known, self._loop_of(context, spec))
                if at == reached and resume_point is not None:
                    play.take_up(resume_point)
                    self._tell_resumed(context, stages, resume_point)
                else:
                    if resumed and reached < 0 and at == 0:
                        self._tell_started_anew(context, spec)
                    play.begin()
                play.play()
        except StopRun as stop:
            return self._stop(context, play, stop)
        return self._finish(context)

    def _tell_resumed(
        self, context: RunContext, stages: list[StageSpec], point: Checkpoint
    ) -> None:
        # A later stage may have begun without reaching its first checkpoint: it starts over.
        begun = [s.name for s in stages if context.resume_log.has_event("stage_started", s.name)]
        # A damaged and repaired log may have lost all of them.
        later = bool(begun) and begun[-1] != point.stage
        stage, step = (begun[-1], 0) if later else (point.stage, point.step)
        lost = max(context.resume_log.last_step(stage) - step, 0)
        context.log_event(Rewound(stage=stage, step=step, lost=lost, reason="resumed"))
        tell_differences(context, point)

    def _tell_started_anew(self, context: RunContext, spec: StageSpec) -> None:
        lost = context.resume_log.last_step(spec.name)
        context.log_event(Rewound(stage=spec.name, step=0, lost=lost, reason="resumed"))

    def _stop(self, context: RunContext, play: StagePlay | None, stop: StopRun) -> int:
        if play is not None:
            play.save()
        weights = whole_weights(context)
        if not self._ranks.is_main:
            return EXIT_STOPPED
        write_model(context, weights)
        if stop.command is not None:
            command = context.resume_log.commands[stop.command]
            context.log_event(command.answer(DONE))
        refuse_commands(context, "the run was being stopped")
        context.log_event(
            RunFinished(
                status="stopped",
                exit_code=EXIT_STOPPED,
                metrics=context.accuracy,
                reason=f"stopped {stop.reason}; `sf resume {self._run.id}` continues it",
            )
        )
        return EXIT_STOPPED

    def _finish(self, context: RunContext) -> int:
        weights = whole_weights(context)
        if not self._ranks.is_main:
            return EXIT_OK
        failed = missed_guards(context)
        write_model(context, weights)
        refuse_commands(context, "the run had come to its end")
        code = EXIT_GUARD if failed else EXIT_OK
        context.log_event(
            RunFinished(
                status="guard_failed" if failed else "completed",
                exit_code=code,
                metrics=context.accuracy,
                reason="; ".join(failed) or None,
            )
        )
        return code


def _last_metrics(log: EventLog) -> TaskMetrics:
    """Return the results of the last probe before this worker opened the log."""
    probes = [event for event in log.history if isinstance(event, Probe)]
    return probes[-1].metrics if probes else {}
