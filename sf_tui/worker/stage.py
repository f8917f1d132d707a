"""Runs one stage: its steps, and all work between steps.

After a step: probe and drift, danger window, rules, checkpoint. Before the next step: commands. A
resume depends on this fixed order.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from sf_tui.cases.assemble import StagePoint
from sf_tui.engine.checkpoint import Checkpoint, read_checkpoint
from sf_tui.engine.loop import (
    NonFiniteLossError,
    StageTuner,
    StepOutcome,
    TrainingLoop,
)
from sf_tui.engine.start_weights import DriftMeter
from sf_tui.errors import RunError
from sf_tui.profile import StageSpec
from sf_tui.run.durable import remove
from sf_tui.vocabulary.events import (
    CheckpointWritten,
    Rewound,
    StageFinished,
    Step,
)
from sf_tui.worker.anchor_control import AnchorControl
from sf_tui.worker.beside import ending_beside
from sf_tui.worker.checkpoints import check_fits
from sf_tui.worker.commands import CommandRunner
from sf_tui.worker.context import RunContext
from sf_tui.worker.decisions import Decisions
from sf_tui.worker.introduction import announce_risk, announce_stage, say_tied_embeddings
from sf_tui.worker.learning_alerts import warn_of_divergence
from sf_tui.worker.non_finite import go_back, learning_rate_factor
from sf_tui.worker.probes import StageProbes
from sf_tui.worker.stage_bank import bank_folder
from sf_tui.worker.stage_strategies import stage_strategies
from sf_tui.worker.stop import Rewind
from sf_tui.worker.watch import StageWatch

# Interval at which a paused worker polls for commands, in seconds.
_PAUSED_POLL_S = 0.1


class StagePlay:
    """Runs one stage of a run.

    Args:
        context: the run.
        spec: the stage.
        known: the tasks learned before it.
        loop: its training loop.

    Attributes:
        loop: the training loop; its `step` is the stage's progress.
        strategies: the strategies hooked into the loop's steps.
    """

    def __init__(
        self, context: RunContext, spec: StageSpec, known: Sequence[str], loop: TrainingLoop
    ) -> None:
        self.spec = spec
        self.loop = loop
        self._context = context
        self._known = [name for name in known if name != spec.task]
        refusal = loop.refusal(spec.train.strategy)
        if refusal is not None:
            raise RunError(f"stage '{spec.name}': {refusal}", "train it with another strategy")
        self.strategies = stage_strategies(context, spec, self._known)
        loop.attach(self.strategies)
        # Built up front, or a checkpoint's bytes would depend on whether the anchor was used.
        self.strategies.get("anchor")
        self._measuring = StageProbes(context, spec, self._known, loop.total_steps)
        self._watch = StageWatch(context, spec, self, self._measuring)
        self._commands = CommandRunner(context, self)

    @property
    def anchor(self) -> AnchorControl:
        """The stage's anchor, for the ops that switch it on and off."""
        control = self.strategies.get("anchor")
        assert isinstance(control, AnchorControl)
        return control

    @property
    def name(self) -> str:
        """The stage's name."""
        return self.spec.name

    @property
    def step(self) -> int:
        """Optimizer steps done."""
        return self.loop.step

    def begin(self) -> None:
        """Start the stage from the current weights: first probe, first checkpoint."""
        context = self._context
        context.prepared.begin_stage(self.name)
        context.prepared.freezer.restore(context.sticky_frozen)
        self.strategies.begin(context.carried)
        context.rules.begin_stage()
        self._tell_started()
        say_tied_embeddings(context, self.name, self.step)
        self._measuring.probe_start()
        self._measuring.say_unknown_tasks()
        self._watch.begin()
        if self._measuring.has_old_tasks and context.ranks.runs_whole:
            announce_risk(context, self.spec, self.loop.total_steps)
        self._commands.resume_from(context.log.seq, 0)
        # Any existing bank is from a discarded attempt at this stage.
        if context.ranks.is_main:
            remove(bank_folder(context.run, self.name))
        self.save()
        self._measure_drift_from_start()
        self._open_strategies(at_start=True)

    def _tell_started(self) -> None:
        told = self._known, self.strategies, self._measuring.plan
        announce_stage(self._context, self.spec, self.loop, *told)

    def take_up(self, checkpoint: Checkpoint) -> None:
        """Resume from a checkpoint of this stage, the last one of an earlier worker."""
        context = self._context
        self._restore(checkpoint)
        # Missing only if the log was damaged and repaired.
        self._tell_started()
        # A kill after the checkpoint may have prevented its event, or the work after it.
        told = context.resume_log.checkpoint_seq(self.name, checkpoint.path.name)
        is_current = checkpoint.path == context.shelf.path(self.name, checkpoint.step)
        if is_current and told <= checkpoint.state["logged"]:
            self._tell_checkpoint(checkpoint)
        went_back = self._watch.take_up(checkpoint.seq)
        context.shelf.settle(self.name, self.loop.total_steps, context.resume_log)
        self._tell_put_aside()
        self._measure_drift_from_start()
        if context.decide(lambda: went_back):
            self.tell_probe()
        self._commands.resume_from(checkpoint.seq, checkpoint.step)
        self._open_strategies()

    def play(self) -> None:
        """Run the remaining steps.

        Raises:
            StopRun: a command or a signal requested it.
            RunError: the loss became NaN, or the disk is full.
        """
        with ending_beside(self._context):
            while True:
                try:
                    decisions = self.obey()
                    if self.step >= self.loop.total_steps:
                        break
                    self.finish_step(self.loop.advance(), decisions)
                except NonFiniteLossError as error:
                    self._recover_from_nan(error)
                except Rewind:
                    continue
        self.finish()

    def finish(self) -> None:
        """End the stage after its last step."""
        self._context.carried = self.strategies.carried()
        if not self._context.resume_log.has_event("stage_finished", self.name):
            self._context.log_event(
                StageFinished(
                    stage=self.name,
                    task=self.spec.task,
                    strategy=self.spec.train.strategy,
                    steps=self.loop.total_steps,
                )
            )

    def checkpoint(self) -> str:
        """Write the checkpoint that an operator asks for, and return its name."""
        return self.save(asked_for=True).name

    def save(self, *, asked_for: bool = False) -> Path:
        """Write a checkpoint of this step on rank 0, log it, and return its complete folder."""
        if self._context.ranks.lockstep:
            assert isinstance(self.loop, StageTuner)  # a loop of one's own has no divided weights
            path = self._context.shelf.path(self.name, self.step)
            self.loop.gather(path.with_name(f".{path.name}.gathered"))
        return Path(self._context.decide(lambda: str(self._save(asked_for=asked_for))))

    def _save(self, *, asked_for: bool) -> Path:
        context = self._context
        context.log.sync()
        path = context.shelf.path(self.name, self.step)
        before = read_checkpoint(path)
        if before is not None:
            # A requested checkpoint keeps this mark when a stop rewrites it.
            asked_for = asked_for or before.state.get("asked_for") is True
            if before.seq < context.resume_log.edited_seq(self.name):
                # It has the weights of this step before an edit; a rollback may need them.
                context.shelf.keep_aside(before)
                self._tell_put_aside()
        state, tensors = self.stored(asked_for=asked_for)
        size = self.loop.save(path, state, tensors)
        self._tell_checkpoint(Checkpoint(path, state), size)
        context.shelf.prune(self.name, self.loop.total_steps)
        return path

    def stored(
        self, *, asked_for: bool = False
    ) -> tuple[dict[str, Any], dict[str, dict[str, torch.Tensor]]]:
        """Return what a checkpoint keeps of the stage beside weights: plain data, and tensors."""
        context = self._context
        facts, tensors = self.strategies.stored()
        state = {
            "stage": self.name,
            "step": self.step,
            "seq": self._commands.queue.applied_seq,
            "logged": context.log.seq,
            "frozen": context.prepared.freezer.frozen,
            "sticky_frozen": context.sticky_frozen,
            "strategies": facts,
            "rules_crossed": context.rules.crossed,
            "baseline": self._measuring.baseline,
            "right_at_start": self._measuring.right_at_start,
            "right_now": self._measuring.right_now,
            "watch": self._watch.state,
            "accuracy": context.accuracy,
            "probed_at": context.probed_at,
            "score": self._measuring.score(),
            "asked_for": asked_for,
            "threads": torch.get_num_threads(),
            "torch": torch.__version__,
            "ranks": context.ranks.world,
        }
        return state, tensors

    def _tell_checkpoint(self, checkpoint: Checkpoint, size: int | None = None) -> None:
        context = self._context
        context.log_event(
            CheckpointWritten(
                stage=self.name,
                step=checkpoint.step,
                path=str(checkpoint.path.relative_to(context.run.path)),
                bytes=checkpoint.size if size is None else size,
                metrics=checkpoint.state["accuracy"],
                probed_at=checkpoint.state["probed_at"],
            )
        )

    def _tell_put_aside(self) -> None:
        """Log the checkpoints that were put aside, each once under its new name."""
        for checkpoint in self._context.shelf.put_aside_of(self.name):
            told = self._context.resume_log.checkpoint_seq(self.name, checkpoint.path.name)
            # An earlier event is about another checkpoint that had this name, deleted since.
            if told <= checkpoint.state["logged"]:
                self._tell_checkpoint(checkpoint)

    def tell_drift(self) -> None:
        """Log the drift of every layer at this step."""
        self._measuring.drift(self.step)

    def point(self) -> StagePoint:
        """Return the stage's current position, for code that examines its model between steps."""
        return StagePoint(self.spec, self.step, self._measuring.has_old_tasks)

    def tell_probe(self) -> None:
        """Probe at this step again, after the weights were changed between steps."""
        self._measuring.probe(self.step, full=False)
        self._measuring.drift(self.step)
        self._watch.after_probe()

    def arm(self, cause: str) -> None:
        """Open a danger window at this step and arm the alerts again, after the op `cause`."""
        self._watch.arm(cause)

    def rewind(self, checkpoint: Checkpoint, reason: str) -> None:
        """Rewind to a checkpoint of this stage, log it, and abandon later checkpoints."""
        self._rewind(checkpoint, reason, lost=self.step - checkpoint.step)

    def _rewind(self, checkpoint: Checkpoint, reason: str, *, lost: int) -> None:
        self._restore(checkpoint)
        self._context.log_event(
            Rewound(
                stage=self.name,
                step=checkpoint.step,
                lost=lost,
                reason=reason,
                checkpoint=checkpoint.path.name,
            )
        )
        self._context.shelf.abandon_after(self.name, checkpoint.step, checkpoint.path.name)
        self._tell_put_aside()
        self._commands.drop_replays()
        self._open_strategies()

    def _restore(self, checkpoint: Checkpoint) -> None:
        context = self._context
        check_fits(
            checkpoint,
            layers=[layer.name for layer in context.prepared.layout.layers],
            rules=[rule.name for rule in context.profile.rules],
            last_step=self.loop.total_steps,
            strategies=self.strategies,
        )
        self.loop.rewind(checkpoint)
        context.prepared.freezer.restore(checkpoint.state["frozen"])
        context.sticky_frozen = list(checkpoint.state["sticky_frozen"])
        self.strategies.restore(checkpoint.state["strategies"], checkpoint.strategy_tensors)
        context.rules.restore(checkpoint.state["rules_crossed"])
        context.accuracy = checkpoint.state["accuracy"]
        context.probed_at = checkpoint.state["probed_at"]
        self._measuring.restore(
            checkpoint.state["baseline"],
            checkpoint.state["right_at_start"],
            checkpoint.state["right_now"],
        )
        self._watch.restore(checkpoint.state["watch"])
        self._set_learning_rate_factor()

    def _open_strategies(self, *, at_start: bool = False) -> None:
        for name, took in self.strategies.open(at_start=at_start):
            self._context.alert("info", name, took, self.name, self.step)

    def _measure_drift_from_start(self) -> None:
        context = self._context
        start = context.shelf.start(self.name)
        self._measuring.measure_from(
            DriftMeter(context.prepared.layout, context.prepared.freezer, start)
        )

    def _set_learning_rate_factor(self) -> None:
        self.loop.scale_learning_rate(learning_rate_factor(self._context, self.spec))

    def obey(self) -> Decisions:
        """Run all commands due before the next step; return the decisions about the step."""
        following = self.step + 1
        while True:
            # A command may have opened a danger window.
            probe = following == self.loop.total_steps or self._measuring.is_due(following)
            decisions = self._commands.before_step(self.step, probe=probe)
            self._commands.apply(decisions)
            if not decisions.is_final:
                continue
            # The stage ends with the test beside it, so that the verdict is in its part of the log.
            waits = self.step >= self.loop.total_steps and self._context.beside is not None
            if not decisions.paused and not waits:
                return decisions
            time.sleep(_PAUSED_POLL_S)

    def finish_step(self, outcome: StepOutcome, decisions: Decisions) -> None:
        """Log a step, and do all that is due after it and that `obey` decided before it."""
        context, step = self._context, self.step
        last = step == self.loop.total_steps
        if last:
            self.strategies.end()
        context.log_event(
            Step(
                stage=self.name,
                step=step,
                loss=outcome.loss,
                learning_rate=outcome.learning_rate,
                grad_norm=outcome.grad_norm,
                tokens_per_second=round(outcome.tokens_per_second, 1),
                losses=outcome.added,
            )
        )
        metrics: dict[str, float | None] = {"loss": outcome.loss, "grad_norm": outcome.grad_norm}
        if decisions.probe:
            metrics |= self._measuring.probe(step, full=last)
            metrics["drift"] = self._measuring.drift(step)
            self._watch.after_probe()
        self._watch.after_step()
        for fired in self._commands.after_step(metrics, step):
            self._commands.apply(fired)
        if last:
            warn_of_divergence(context, self.spec, outcome.loss, step)
        if last or step % context.profile.checkpoint.every == 0:
            self.save()

    def _recover_from_nan(self, error: NonFiniteLossError) -> None:
        go_back(self._context, self.spec, error, self._restore, self._rewind)
        self._set_learning_rate_factor()
