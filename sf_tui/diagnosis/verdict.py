"""The verdict on a lost task: what the strongest trustworthy recovery shows, with its evidence.

Combines arms, intervals and rules, and words the result; measures nothing itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from numpy.typing import ArrayLike

from sf_tui.diagnosis.bootstrap import RESAMPLES, RecoveryEstimates, estimate_recovery
from sf_tui.diagnosis.rules import (
    REAL_BELOW,
    SPURIOUS_OF_START,
    ArmResult,
    strongest_arm,
    verdict_of,
)
from sf_tui.vocabulary.intervals import Estimate
from sf_tui.vocabulary.verdicts import VerdictName


@dataclass(frozen=True)
class Finding:
    """A verdict on the old task with its evidence and figures."""

    name: VerdictName
    evidence: tuple[str, ...]
    """Sentences for the user: the measurements, then the conclusions."""
    closed: bool
    """Whether the intervals rule out the neighboring verdicts; see `verdict_of`."""
    controlled: bool
    """Whether the deciding arm had a control (which stayed at the floor)."""
    arm: str | None
    """The deciding arm; None if none was run or none is allowed."""
    estimates: RecoveryEstimates
    """The figures of that arm; without one, those that need no recovery."""


def decide_verdict(
    now: ArrayLike,
    arms: Sequence[ArmResult] = (),
    start: ArrayLike | None = None,
    *,
    start_examples: int | None = None,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Finding:
    """Return the verdict of the strongest arm whose control stays at the floor.

    If no arm is allowed, the verdict is `inconclusive` (or `none`, which needs no arm). If the
    start is unknown, it is always `inconclusive`, and the evidence states what can still be
    concluded: how many points came back, and a lower bound of what is known.

    Args:
        now: (examples,) bool, or scores in [0, 1], on the held-out examples.
        arms: the recoveries that may decide; each scored on the same examples.
        start: scores on the same examples at the stage's start, or a single accuracy, or None.
        start_examples: number of examples behind that accuracy; None: it is exact.
        resamples: number of bootstrap resamples.
        seed: seed of the bootstrap.

    Raises UsageError and ValueError as `estimate_recovery` does.
    """
    arm = strongest_arm(arms)
    estimates = estimate_recovery(
        now,
        arm.recovered if arm else None,
        start,
        start_examples=start_examples,
        resamples=resamples,
        seed=seed,
    )
    name, closed = verdict_of(estimates)
    return Finding(
        name=name,
        evidence=_evidence(name, closed, estimates, arm, arms),
        closed=closed,
        controlled=arm is not None and arm.control is not None,
        arm=arm.name if arm else None,
        estimates=estimates,
    )


def _evidence(
    name: VerdictName,
    closed: bool,
    estimates: RecoveryEstimates,
    arm: ArmResult | None,
    arms: Sequence[ArmResult],
) -> tuple[str, ...]:
    """Return the measurements, then the conclusions, one sentence each.

    Args:
        name: the verdict.
        closed: whether the intervals rule out the neighboring verdicts.
        estimates: the figures that it follows from.
        arm: the arm that `estimates.recovered` comes from.
        arms: all arms that were run, to explain why none decides.
    """
    sentences = [_accuracy_sentence(estimates)]
    if arm is not None and estimates.recovered is not None:
        sentences += [_recovery_sentence(arm, estimates), _control_sentence(arm)]
    else:
        sentences += _why_no_arm(arms)
    if estimates.start is None:
        sentences += _without_start(estimates)
    else:
        sentences += _verdict_sentences(name, closed, estimates)
    return tuple(sentences)


def _with_interval(estimate: Estimate) -> str:
    return f"{estimate.value:.3f} ({estimate.low:.3f} to {estimate.high:.3f})"


def _in_points(difference: Estimate) -> str:
    # Adding 0.0 removes the sign of a rounded zero.
    value, low, high = (
        round(100 * share, 1) + 0.0 for share in (difference.value, *difference.interval)
    )
    return f"{value} points ({low} to {high})"


def _accuracy_sentence(estimates: RecoveryEstimates) -> str:
    now = f"{_with_interval(estimates.now)} now on {estimates.examples} held-out examples"
    if estimates.start is None or estimates.drop is None:
        return f"The old task is at {now}; its accuracy at the start is unknown."
    drop = estimates.drop
    return (
        f"The old task was at {estimates.start.value:.3f} at the start and is at {now}: "
        f"a drop of {_in_points(drop)}."
    )


def _recovery_sentence(arm: ArmResult, estimates: RecoveryEstimates) -> str:
    assert estimates.recovered is not None
    reached = (
        f"'{arm.name}' brings it to {_with_interval(estimates.recovered)} in {arm.steps} steps"
    )
    share = estimates.spurious_share
    return f"{reached}: {_with_interval(share)} of the loss came back." if share else f"{reached}."


def _control_sentence(arm: ArmResult) -> str:
    if arm.control is None:
        return "No control was measured: some of what came back may have been taught by the test."
    return (
        f"On {arm.control_examples} {_control_of(arm)} the same recovery "
        f"reaches {arm.control:.3f}, guessing {arm.floor:.3f}: it did not teach the answers."
    )


def _control_of(arm: ArmResult) -> str:
    if arm.exchanged:
        return "held-out questions with one another's answers"
    return "examples of facts that the model never saw"


def _why_no_arm(arms: Sequence[ArmResult]) -> list[str]:
    return [
        f"'{arm.name}' doesn't count: it reaches {arm.control:.3f} on {arm.control_examples} "
        f"{_control_of(arm)}, above the floor of {arm.floor:.3f}, so it teaches what it should "
        "find."
        for arm in arms
        if not arm.allowed
    ] or ["No recovery was run."]


def _without_start(estimates: RecoveryEstimates) -> list[str]:
    recovered, gain = estimates.recovered, estimates.gain
    if recovered is None or gain is None:
        return ["Without the accuracy at the start no loss can be measured."]
    known = max(recovered.low, estimates.now.low)
    sentences = [f"At least {known:.3f} is known, whatever the start was."]
    if known >= SPURIOUS_OF_START:
        sentences.append("So a real loss of more than a tenth of the start is ruled out.")
    elif gain.low > 0:
        sentences.append(
            f"In all {_in_points(gain)} came back: those were not gone. What else was lost is "
            "unknown."
        )
    else:
        sentences.append(
            "Nothing measurable came back: either nothing was lost, or it is gone. Only the "
            "accuracy at the start shows which."
        )
    return sentences


def _verdict_sentences(name: VerdictName, closed: bool, estimates: RecoveryEstimates) -> list[str]:
    if name == "none":
        return _none_sentences(closed, estimates)
    if name == "spurious":
        sentences = [
            f"Even the lower end of that accuracy is at least {SPURIOUS_OF_START:g} of the start: "
            "the knowledge is there."
        ]
        if not closed:
            sentences.append(
                f"Of the loss itself less than {REAL_BELOW:g} may have come back; if so, that small"
                " part is gone."
            )
        return sentences
    if name == "real":
        return [
            f"Even the upper end of the share that came back is under {REAL_BELOW:g}: the "
            "knowledge is gone."
        ]
    if name == "partial":
        return ["Part of what was lost is still known and part is gone."]
    if estimates.recovered is None:
        return ["So nothing shows whether what was lost is still known."]
    return ["The interval is too wide to say more; more held-out examples would narrow it."]


def _none_sentences(closed: bool, estimates: RecoveryEstimates) -> list[str]:
    start, drop = estimates.start, estimates.drop
    if start is not None and start.value == 0:
        return ["The start model didn't know it either: there was nothing to lose."]
    sentences = [
        "The interval of the drop includes 0: no loss is seen."
        if drop and drop.high >= 0
        else "It got better."
    ]
    if drop is not None and not closed:
        sentences.append(
            f"Up to {100 * drop.high:.1f} points may still be lost; more held-out examples "
            "would show it."
        )
    return sentences
