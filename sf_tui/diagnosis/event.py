"""The `diagnosis` event: verdict, decomposition of the loss, arms and cost.

Knows how numbers are rounded. The event log adds `seq` and `time`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from sf_tui.diagnosis.rules import ArmResult
from sf_tui.diagnosis.verdict import Finding
from sf_tui.vocabulary.declared import ArmRecord, CostEntry, DiagnosisCost
from sf_tui.vocabulary.events import DiagnosisMade
from sf_tui.vocabulary.intervals import Estimate, rounded, rounded_interval, rounded_rate

_SECONDS_AN_HOUR = 3600


@dataclass(frozen=True)
class Cost:
    """The cost of one piece of training."""

    tokens: int
    seconds: float | None
    """None if it was not run and no speed is known."""
    money: float | None
    """In the currency of the price; None without a price or without seconds."""

    def rounded(self, share: float | None = None) -> CostEntry:
        """Return the cost as an event contains it, with its `share` if given."""
        return CostEntry(self.tokens, rounded(self.seconds), rounded(self.money), rounded(share))


@dataclass(frozen=True)
class CostComparison:
    """The cost of the test and of its alternatives."""

    test: Cost
    old_task: Cost | None
    """Training the old task again; None if its tokens are unknown."""
    recipe: Cost | None
    """All stages from the first on; None if their tokens are unknown."""
    tokens_per_second: float | None
    """The speed from which their seconds are computed."""

    def rounded(self) -> DiagnosisCost:
        """Return the test's own figures with the alternatives nested, as an event contains them.

        `share` is the test's tokens as a share of the alternative's.
        """
        return DiagnosisCost(
            tokens=self.test.tokens,
            seconds=rounded(self.test.seconds),
            money=rounded(self.test.money),
            tokens_per_second=rounded(self.tokens_per_second),
            old_task=self._beside(self.old_task),
            recipe=self._beside(self.recipe),
        )

    def _beside(self, other: Cost | None) -> CostEntry | None:
        if other is None:
            return None
        return other.rounded(self.test.tokens / other.tokens if other.tokens else None)


def compare_costs(
    *,
    seconds: float,
    tokens: int,
    tokens_per_second: float | None = None,
    gpu_hour: float | None = None,
    old_task_tokens: int | None = None,
    recipe_tokens: int | None = None,
) -> CostComparison:
    """Return the cost of a recovery test and of training again.

    The seconds of training that was not run are its tokens divided by the test's speed.

    Args:
        seconds: wall time of the whole test, all arms.
        tokens: tokens that the test passed through the model.
        tokens_per_second: speed of its training steps alone; default tokens / seconds, which also
            counts loading and scoring and so makes the alternatives look slower.
        gpu_hour: price of a GPU hour.
        old_task_tokens: tokens of training the old task again.
        recipe_tokens: tokens of all stages.

    Raises ValueError for a figure that is negative or not finite.
    """
    given = (seconds, tokens, tokens_per_second, gpu_hour, old_task_tokens, recipe_tokens)
    if not all(figure is None or (math.isfinite(figure) and figure >= 0) for figure in given):
        raise ValueError("seconds, tokens, speed and price are at least 0")
    speed = tokens_per_second or (tokens / seconds if seconds > 0 and tokens else None)

    def cost_of(tokens: int, seconds: float | None) -> Cost:
        if seconds is None or gpu_hour is None:
            return Cost(tokens, seconds, None)
        return Cost(tokens, seconds, seconds * gpu_hour / _SECONDS_AN_HOUR)

    def cost_again(tokens: int | None) -> Cost | None:
        return None if tokens is None else cost_of(tokens, tokens / speed if speed else None)

    return CostComparison(
        test=cost_of(tokens, seconds),
        old_task=cost_again(old_task_tokens),
        recipe=cost_again(recipe_tokens),
        tokens_per_second=speed,
    )


class RoundsMade(Protocol):
    """What a test did after its arms, while its verdict was open."""

    @property
    def done(self) -> int:
        """Number of rounds."""

    @property
    def steps(self) -> int:
        """Steps of all of them."""

    @property
    def ended(self) -> str:
        """Why there were no more."""


@dataclass(frozen=True)
class Decomposition:
    """How much of a task the model still knows, and how much of that it answers when asked."""

    knowledge: float
    """Accuracy after the recovery: a lower bound of what is known."""
    alignment: float | None
    """now / knowledge, at most 1; None if nothing is known."""
    alignment_loss: float
    """recovered - now, at least 0."""
    knowledge_loss: float | None
    """start - recovered, at least 0; None without a known start."""


def decompose(now: float, recovered: float, start: float | None = None) -> Decomposition:
    """Split an accuracy into alignment and knowledge.

    A recovery that ends below `now` or above `start` does so by chance, or because the start was
    not optimal; that loss is then 0, not negative.

    Source: Zheng et al. 2025, "Spurious Forgetting in Continual Learning of Language Models",
    section 2: performance = alignment + knowledge.

    Args:
        now: accuracy in [0, 1].
        recovered: accuracy after the recovery.
        start: accuracy at the stage's start.
    """
    return Decomposition(
        knowledge=recovered,
        alignment=min(now / recovered, 1.0) if recovered > 0 else None,
        alignment_loss=max(recovered - now, 0.0),
        knowledge_loss=None if start is None else max(start - recovered, 0.0),
    )


def diagnosis_event(
    finding: Finding,
    arms: Sequence[ArmResult],
    cost: CostComparison,
    *,
    task: str,
    stage: str | None,
    step: int | None,
    examples: int,
    skipped: Mapping[str, str] | None = None,
    since: str | None = None,
    forwarded_tokens: int | None = None,
    rounds: RoundsMade | None = None,
) -> DiagnosisMade:
    """Return the event, with floats rounded to six decimals and None for unknown values.

    `steps` are those of the deciding arm, `seconds` and `tokens` those of the whole test;
    `interval` is the 95 % interval of the spurious share.

    Args:
        finding: the verdict with its figures.
        arms: every arm that was run, the reference included.
        cost: of the whole test.
        task: the old task that was diagnosed.
        stage: the run's stage at the time of the test; None outside a run.
        step: the stage's step.
        examples: number of safe examples of the old task that the arms could train on.
        skipped: name and reason of each arm that was not run.
        since: what the start refers to.
        forwarded_tokens: tokens that the test only forwarded.
        rounds: what the deciding arm did after the others; None if the test has no rounds.

    Raises ValueError if two arms share a name, or the deciding arm isn't among them.
    """
    entries = {name: ArmRecord(skipped=reason) for name, reason in (skipped or {}).items()}
    steps = {arm.name: arm.steps for arm in arms}
    if len(steps) < len(arms) or steps.keys() & entries.keys():
        raise ValueError("two arms of a diagnosis have the same name")
    if finding.arm is not None and finding.arm not in steps:
        raise ValueError(f"the verdict's arm '{finding.arm}' is not among those that were run")
    figures, new = finding.estimates, finding.new
    start = figures.start.value if figures.start else None
    parts = (
        decompose(figures.now.value, figures.recovered.value, start) if figures.recovered else None
    )
    return DiagnosisMade(
        task=task,
        stage=stage,
        step=step,
        verdict=finding.name,
        closed=finding.closed,
        controlled=finding.controlled,
        evidence=list(finding.evidence),
        start=rounded(start),
        now=rounded(figures.now.value),
        now_interval=rounded_interval(figures.now),
        recovered=_value(figures.recovered),
        recovered_interval=rounded_interval(figures.recovered),
        drop_interval=rounded_interval(figures.drop),
        spurious_share=_value(figures.spurious_share),
        real_share=_value(figures.real_share),
        interval=rounded_interval(figures.spurious_share),
        alignment=rounded(parts.alignment) if parts else None,
        alignment_loss=rounded(parts.alignment_loss) if parts else None,
        knowledge_loss=rounded(parts.knowledge_loss) if parts else None,
        examples=examples,
        held_out=figures.examples,
        arm=finding.arm,
        steps=steps.get(finding.arm) if finding.arm is not None else None,
        seconds=rounded(cost.test.seconds),
        tokens=cost.test.tokens,
        cost=cost.rounded(),
        arms={arm.name: _arm_record(arm) for arm in arms} | entries,
        since=since,
        forwarded_tokens=forwarded_tokens,
        rounds=rounds.done if rounds else None,
        round_steps=rounds.steps if rounds else None,
        rounds_ended=rounds.ended if rounds else None,
        new_task=new.name if new else None,
        new_now=_value(new.now) if new else None,
        new_interval=rounded_interval(new.now) if new else None,
        new_start=_value(new.start) if new else None,
        new_held_out=new.examples if new else None,
        new_learned=new.learned if new else None,
    )


def _value(estimate: Estimate | None) -> float | None:
    return rounded(estimate.value) if estimate else None


def _arm_record(arm: ArmResult) -> ArmRecord:
    return ArmRecord(
        recovered=rounded(arm.accuracy),
        control=rounded(arm.control),
        floor=rounded(arm.floor),
        allowed=arm.allowed,
        steps=arm.steps,
        steps_taken=arm.steps if arm.steps_taken is None else arm.steps_taken,
        seconds=rounded(arm.seconds),
        tokens=arm.tokens,
        learning_rate=rounded_rate(arm.learning_rate),
    )
