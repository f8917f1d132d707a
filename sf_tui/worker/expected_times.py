"""How long training would wait for a diagnosis, a repair or an anchor, from the measured speed.

A rough estimate; once an operation has run, its own duration counts.
"""

from __future__ import annotations

import statistics

from sf_tui.engine.prepare import PreparedTask
from sf_tui.neighbors.cache import MOST_PROMPTS
from sf_tui.profile import Profile, StageSpec
from sf_tui.recovery.arms import (
    BANK_PROMPTS,
    EXAMPLES_RATES,
    EXAMPLES_ROWS,
    EXAMPLES_STEPS,
    FEWEST_NEIGHBOR_STEPS,
    MOST_NEIGHBOR_STEPS,
    NEIGHBOR_BUDGET,
    NEIGHBOR_RATES,
    NEIGHBOR_ROWS,
    NEIGHBOR_SEARCH_STEPS,
)
from sf_tui.vocabulary.operation_events import OperationTimes
from sf_tui.worker.context import RunContext
from sf_tui.worker.ops import StageControl

_TIMED_STEPS = 5
"""Steps of this worker after which the speed counts; the first of them is left out."""
_FORWARD = 1 / 3
"""A forward pass takes a third of a training step's time a token."""
_ANSWERED = 3.0
"""Forward passes that an answer of the start model is worth: proposing, generating, scoring."""
_ARMS = 3
_SCORES_AN_ARM = 8
"""Passes over the selection slice and the held-out rows that choosing an arm's best step takes."""
_MOST_SCORED = 512
_REPAIR_SHARE = 1.5
"""Scoring costs a repair up to half of what training does."""


class ExpectedTimes:
    """Logs the expected times of one stage once its speed is known.

    Args:
        context: the run.
        spec: the stage.
        stage: its control.
    """

    def __init__(self, context: RunContext, spec: StageSpec, stage: StageControl) -> None:
        self._context = context
        self._spec = spec
        self._stage = stage
        self._speeds: list[float] = []

    def after_step(self) -> None:
        """Take in the speed of the last step, and log the times when it is known."""
        if len(self._speeds) > _TIMED_STEPS:
            return
        state = self._context.resume_log.state.stages.get(self._stage.name)
        last = state.last_step if state is not None else None
        if last is None or not last.tokens_per_second:
            return
        self._speeds.append(last.tokens_per_second)
        if len(self._speeds) > _TIMED_STEPS:
            seconds = self._seconds(statistics.median(self._speeds[1:]))
            self._context.log_event(
                OperationTimes(stage=self._stage.name, step=self._stage.step, seconds=seconds)
            )

    def _seconds(self, tokens_per_second: float) -> dict[str, float]:
        prepared = self._context.prepared
        new = prepared.tasks[self._spec.task]
        others = [task for name, task in prepared.tasks.items() if name != self._spec.task]
        work = {"anchor": anchor_tokens(prepared.profile, self._spec, new)}
        if others:
            old = max(others, key=lambda task: task.mean_length)
            work["diagnose"] = diagnosis_tokens(prepared.profile, self._spec, new, old)
            work["recover"] = repair_tokens(prepared.profile, self._spec, new)
        return {op: round(tokens / tokens_per_second, 1) for op, tokens in work.items()}


def anchor_tokens(profile: Profile, spec: StageSpec, new: PreparedTask) -> float:
    """Return what building an anchor's answers costs, in trained tokens of the same time."""
    settings = profile.anchor
    rows = settings.rows or spec.train.batch_size
    wanted = settings.cache_size or spec.train.total_steps(len(new.train)) * rows
    return _answering(min(wanted, MOST_PROMPTS), new)


def diagnosis_tokens(
    profile: Profile, spec: StageSpec, new: PreparedTask, old: PreparedTask
) -> float:
    """Return what a recovery test costs without further rounds, as `anchor_tokens` does."""
    train, settings = spec.train, profile.diagnose
    rows = min(NEIGHBOR_ROWS, train.batch_size)
    stage_rows = train.total_steps(len(new.train)) * train.batch_size
    steps = settings.steps or min(
        max(round(NEIGHBOR_BUDGET * stage_rows / rows), FEWEST_NEIGHBOR_STEPS),
        MOST_NEIGHBOR_STEPS,
    )
    search = NEIGHBOR_SEARCH_STEPS * len(NEIGHBOR_RATES)
    neighbors = (steps + search) * rows * new.mean_length
    examples = EXAMPLES_STEPS * len(EXAMPLES_RATES) * min(settings.examples, EXAMPLES_ROWS)
    scored = min(len(old.held_out), _MOST_SCORED)
    # The model now, the start model, and each arm, with as many control questions.
    passes = 2 * (2 + _ARMS) + _ARMS * _SCORES_AN_ARM / 4
    bank = min(rows * steps, BANK_PROMPTS)
    return (
        neighbors
        + examples * old.mean_length
        + _answering(bank, new)
        + _FORWARD * passes * scored * old.mean_length
    )


def repair_tokens(profile: Profile, spec: StageSpec, new: PreparedTask) -> float:
    """Return what a repair at its first rate costs, as `anchor_tokens` does."""
    settings, batch = profile.recover, spec.train.batch_size
    rows = batch * (2 + settings.old_share) * settings.steps
    wanted = min(batch * settings.steps, profile.anchor.cache_size or MOST_PROMPTS, MOST_PROMPTS)
    return _REPAIR_SHARE * rows * new.mean_length + _answering(wanted, new)


def _answering(prompts: int, task: PreparedTask) -> float:
    return _FORWARD * _ANSWERED * prompts * task.mean_length
