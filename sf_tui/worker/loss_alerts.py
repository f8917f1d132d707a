"""Alerts about what a stage's tasks lose: which task, how much, and when one is told again.

An alert needs a loss whose whole 95 % interval is past `[window] alert_drop`, so that it never
rests on a few examples' chance. It is given again for each further loss of that size, after every
recovery of the task, and after every op that changed the weights or took a protection away.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from sf_tui.run.losses import task_losses
from sf_tui.vocabulary.declared import AnswerRecord
from sf_tui.vocabulary.measured import (
    Drop,
    Score,
    drop_between,
    format_drop,
    format_number,
    format_score,
)
from sf_tui.vocabulary.sizes import counted
from sf_tui.worker.context import RunContext

CODE = "drop"

Advice = Callable[[], str]
"""Returns the actions that make sense now."""

Lost = Callable[[str], Sequence[AnswerRecord]]
"""Returns what the model answers now to some questions of a task that it lost."""


class LossAlerts:
    """Alerts of one stage.

    Attributes:
        stage: the stage's name.
        own: the task that it trains.
    """

    def __init__(
        self,
        context: RunContext,
        stage: str,
        own: str,
        *,
        old: Advice,
        new: Advice,
        lost: Lost = lambda _: (),
    ) -> None:
        self.stage = stage
        self.own = own
        self._context = context
        self._old_advice = old
        self._new_advice = new
        self._lost = lost
        self._bound = context.profile.window.alert_drop
        self._told: dict[str, float] = {}
        self._best: float | None = None

    @property
    def state(self) -> dict[str, Any]:
        """Plain data for a checkpoint."""
        return {
            "in_stage": dict(self._told),
            "since_run": dict(self._context.lost_since_run),
            "best": self._best,
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Restore the state of a checkpoint."""
        self._told = dict(state["in_stage"])
        self._context.lost_since_run = dict(state["since_run"])
        self._best = state["best"]

    def arm(self) -> None:
        """Let every loss that is past the bound be told again."""
        self._told.clear()
        self._context.lost_since_run.clear()

    def check(self, step: int, drops: Mapping[str, Drop], own: Score | None) -> None:
        """Alert about the losses that the last probe shows.

        Args:
            step: optimizer steps done.
            drops: the drop of each watched old task since the stage's start.
            own: the score of the stage's own task, on the examples of every probe.
        """
        state = self._context.resume_log.state
        since_run = {loss.task: loss.since_run for loss in task_losses(state)}
        for task, drop in drops.items():
            whole = since_run.get(task)
            in_run = self._context.lost_since_run
            if self._passes(self._told, task, drop):
                self._tell(task, drop, step, self._beside(drop, whole))
                if whole is not None:
                    # That one includes this loss, and the reader knows it now.
                    in_run[task] = max(in_run.get(task, whole.value), whole.value)
            elif whole is not None and self._passes(in_run, task, whole):
                self._tell(
                    task, whole, step, f" since the run began, {_amount(drop)} in this stage"
                )
        if own is not None:
            self._check_own(step, own)

    def _check_own(self, step: int, now: Score) -> None:
        """Alert if the stage's own task was learned and is lost again."""
        if self._best is None or now.metric.drop(self._best, now.value) < 0:
            self._best = now.value
        # The best of several probes and this one are of the same examples; which were right in the
        # best is not known, so the interval is the wider one of separate examples.
        drop = drop_between(Score(self._best, now.examples, now.metric), now)
        if self._passes(self._told, self.own, drop):
            self._context.alert(
                "warn",
                CODE,
                f"{self.own}, which this stage trains, {_lost(drop)} of what it had learned "
                f"({_scores(drop)}) by step {step}; the alert is at {self._alert_at(drop)}"
                f"{_sentence(self._new_advice())}",
                self.stage,
                step,
                self.own,
                again=True,
            )

    def _passes(self, told: dict[str, float], task: str, drop: Drop) -> bool:
        """Return whether a loss is to be told now, and remember it."""
        if drop.value <= self._bound:
            told.pop(task, None)
            return False
        last = told.get(task)
        if last is None:
            passes = drop.exceeds(self._bound)
        else:
            # A value without an upper end would give many alerts in equal steps: each doubles.
            further = last + self._bound if drop.after.metric.is_share else 2 * last
            passes = drop.value >= max(further, last) and drop.exceeds(last)
        if passes:
            told[task] = drop.value
        return passes

    def _tell(self, task: str, drop: Drop, step: int, beside: str) -> None:
        self._context.alert(
            "warn",
            CODE,
            f"{task} {_lost(drop)}{beside} ({_scores(drop)}) by step {step}; "
            f"the alert is at {self._alert_at(drop)}{_sentence(self._old_advice())}",
            self.stage,
            step,
            task,
            again=True,
            answers=lambda: self._lost(task),
        )

    def _beside(self, drop: Drop, whole: Drop | None) -> str:
        if whole is None or format_drop(whole) == format_drop(drop):
            return ""
        return f" in this stage, {_amount(whole)} since the run began"

    def _alert_at(self, drop: Drop) -> str:
        if drop.after.metric.is_share:
            return counted(f"{100 * self._bound:g}", "point")
        return f"{self._bound:g} {drop.after.metric.unit}"


def _lost(drop: Drop) -> str:
    return f"lost {_amount(drop)}"


def _amount(drop: Drop) -> str:
    """Return the size of a loss; a gain has a plus."""
    written = format_drop(drop)
    if not drop.after.metric.is_share:
        return f"{format_number(drop.value)} {drop.after.metric.unit}"
    size = written.removeprefix("−")
    return counted(size, "point")


def _scores(drop: Drop) -> str:
    before = format_score(drop.before, interval=False)
    count = drop.after.examples
    return f"{before} to {format_score(drop.after)}, {counted(count, 'example')}"


def _sentence(advice: str) -> str:
    return f". {advice}" if advice else ""
