"""What the measurements of one stage mean for the operator: danger windows and alerts.

Decides nothing that changes a weight. Its state is in each checkpoint, so a resumed run gives the
alerts of a run that was not killed, each once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sf_tui.profile import StageSpec
from sf_tui.vocabulary.declared import AnswerRecord
from sf_tui.worker.advice import new_task_advice, old_task_advice
from sf_tui.worker.answer_ops import lost_answers
from sf_tui.worker.context import RunContext
from sf_tui.worker.expected_times import ExpectedTimes
from sf_tui.worker.learning_alerts import early_look, warn_if_not_learned
from sf_tui.worker.loss_alerts import LossAlerts
from sf_tui.worker.ops import StageControl
from sf_tui.worker.probe_notes import note_probe_plan
from sf_tui.worker.probes import StageProbes


class StageWatch:
    """Watches one stage after each probe and each step."""

    def __init__(
        self, context: RunContext, spec: StageSpec, stage: StageControl, probes: StageProbes
    ) -> None:
        self._context = context
        self._spec = spec
        self._stage = stage
        self._probes = probes
        self._losses = LossAlerts(
            context,
            spec.name,
            spec.task,
            old=lambda: old_task_advice(context, stage),
            new=lambda: new_task_advice(context, stage),
            lost=self._lost_answers,
        )
        self._times = ExpectedTimes(context, spec, stage)
        self._early = early_look(probes.danger.at_start, stage.loop.total_steps)
        self._looked = False

    def _lost_answers(self, task: str) -> Sequence[AnswerRecord]:
        """Return some answers that a task lost; empty where the model can't be asked."""
        if self._stage.loop.refusal("ask") is not None:
            return ()
        return lost_answers(self._context, self._probes.lost_rows(task))

    @property
    def state(self) -> dict[str, Any]:
        """Plain data for a checkpoint, as `WatchState` describes it."""
        return {**self._losses.state, "looked": self._looked}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Restore the state of a checkpoint."""
        self._losses.restore(state)
        self._looked = state["looked"]

    def begin(self) -> None:
        """Report on the stage's start, after its first probe."""
        note_probe_plan(self._context, self._spec, self._probes)
        self._probes.danger.enter_at_start()
        report = self._probes.report
        if report is not None:
            # Sets the best score of the stage's own task; nothing is lost yet.
            self._losses.check(0, {}, report.own_score)

    def take_up(self, seq: int) -> bool:
        """Complete what a kill may have cut off.

        Args:
            seq: the last event that the checkpoint includes.

        Returns:
            Whether a rollback to this step came after the checkpoint, so that the probe behind the
            rollback has to be repeated: the checkpoint does not know what it showed.
        """
        danger, step = self._probes.danger, self._stage.step
        danger.enter_at_start()
        rewound = self._context.resume_log.rewound
        went_back = (
            rewound is not None
            and rewound.reason == "rollback"
            and rewound.seq > seq
            and (rewound.stage, rewound.step) == (self._spec.name, step)
        )
        if went_back:
            self.arm("rollback")
        return went_back

    def arm(self, cause: str) -> None:
        """Open a danger window at the current step and arm the alerts again.

        Args:
            cause: the op after which losses are likely.
        """
        self._losses.arm()
        self._probes.danger.arm(self._stage.step, cause)

    def after_probe(self) -> None:
        """Alert about what the last probe shows."""
        report, step, steps = self._probes.report, self._stage.step, self._stage.loop.total_steps
        if report is None:
            return
        self._losses.check(step, report.old, report.own_score)
        early = not self._looked and self._early <= step < steps
        self._looked = self._looked or early
        watched = self._spec.task in self._context.profile.watched_tasks()
        if report.own is not None and watched and (early or step == steps):
            warn_if_not_learned(
                self._context,
                self._spec,
                report.own,
                step,
                steps,
                paired=report.own_counted,
                anchor=self._stage.anchor.strength,
            )

    def after_step(self) -> None:
        """Log the end of a danger window, and the expected times of operations."""
        self._probes.danger.leave(self._stage.step)
        self._times.after_step()
