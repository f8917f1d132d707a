"""The verdict on a lost task: what the strongest trustworthy recovery shows, with its evidence.

Combines arms, intervals and rules, and words the result; measures nothing itself.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

from numpy.typing import ArrayLike

from sf_tui.diagnosis.bootstrap import RESAMPLES, RecoveryEstimates, estimate_recovery
from sf_tui.diagnosis.new_task import NewTask
from sf_tui.diagnosis.objection import Objection, objection_to_real
from sf_tui.diagnosis.rules import (
    INTERIM_CONFIDENCE,
    PARTIAL_WIDTH,
    REAL_BELOW,
    SPURIOUS_OF_START,
    ArmResult,
    strongest_arm,
    verdict_of,
)
from sf_tui.vocabulary.intervals import Estimate
from sf_tui.vocabulary.sizes import counted
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
    new: NewTask | None = None
    """Whether the new task was learned; None if it was not scored."""


def decide_verdict(
    now: ArrayLike,
    arms: Sequence[ArmResult] = (),
    start: ArrayLike | None = None,
    *,
    start_examples: int | None = None,
    reference: ArmResult | None = None,
    new: NewTask | None = None,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Finding:
    """Return the verdict of the strongest arm whose control stays at the floor.

    *real* needs all of them: if another one may have brought back enough, or no training helped at
    all, the verdict is `inconclusive`.

    If no arm is allowed, the verdict is `inconclusive` (or `none`, which needs no arm). If the
    start is unknown, it is always `inconclusive`, and the evidence states what can still be
    concluded: how many points came back, and a lower bound of what is known.

    Args:
        now: (examples,) bool, or scores in [0, 1], on the held-out examples.
        arms: the recoveries that may decide; each scored on the same examples.
        start: scores on the same examples at the stage's start, or a single accuracy, or None.
        start_examples: number of examples behind that accuracy; None: it is exact.
        reference: the long recovery of a thorough test. It never decides, but it may speak against
            *real*.
        new: the new task's figures, for the evidence.
        resamples: number of bootstrap resamples.
        seed: seed of the bootstrap.

    Raises UsageError and ValueError as `estimate_recovery` does.
    """
    arm = strongest_arm(arms)
    estimate = partial(
        estimate_recovery, start_examples=start_examples, resamples=resamples, seed=seed
    )
    estimates = estimate(now, arm.recovered if arm else None, start)
    name, closed = verdict_of(estimates)
    objection = None
    if name == "real":
        witnesses = [*arms, reference] if reference is not None else arms
        objection = objection_to_real(now, witnesses, start, estimate)
        if objection is not None:
            name, closed = "inconclusive", False
    return Finding(
        name=name,
        evidence=_evidence(name, closed, estimates, arm, arms, objection, new),
        closed=closed,
        controlled=arm is not None and arm.control is not None,
        arm=arm.name if arm else None,
        estimates=estimates,
        new=new,
    )


def is_settled(
    now: ArrayLike,
    arms: Sequence[ArmResult],
    start: ArrayLike | None,
    *,
    start_examples: int | None = None,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> bool:
    """Return whether a test may end before its last round: nothing more could change its verdict.

    It may if the intervals of `INTERIM_CONFIDENCE` bear a label, if there is no drop to explain, or
    if no start is known. The arguments are those of `decide_verdict`. What speaks against *real*
    is looked at with the usual intervals: it only ever takes a label away.
    """
    arm = strongest_arm(arms)
    if start is None or arm is None:
        return True

    estimate = partial(
        estimate_recovery, start_examples=start_examples, resamples=resamples, seed=seed
    )
    if verdict_of(estimate(now, None, start))[0] == "none":
        return True
    name, _ = verdict_of(estimate(now, arm.recovered, start, confidence=INTERIM_CONFIDENCE))
    if name == "real":
        return objection_to_real(now, arms, start, estimate) is None
    # At this confidence a small drop may seem to be none, which settles nothing.
    return name not in {"inconclusive", "none"}


def _evidence(
    name: VerdictName,
    closed: bool,
    estimates: RecoveryEstimates,
    arm: ArmResult | None,
    arms: Sequence[ArmResult],
    objection: Objection | None,
    new: NewTask | None,
) -> tuple[str, ...]:
    """Return the measurements, then the conclusions, one sentence each.

    A conclusion that is only a bound comes first, and so does a new task that was not learned:
    a reader who stops there must not take the figures for more than they are.

    Args:
        name: the verdict.
        closed: whether the intervals rule out the neighboring verdicts.
        estimates: the figures that it follows from.
        arm: the arm that `estimates.recovered` comes from.
        arms: all arms that were run, to explain why none decides.
        objection: why a loss that looks real to that arm is not called so.
        new: the new task's figures.
    """
    sentences = [_accuracy_sentence(estimates)]
    if name in {"partial", "inconclusive"} and estimates.spurious_share is not None:
        reached = [estimates.spurious_share]
        if objection is not None and objection.share is not None:
            reached.append(objection.share)
        highest = max(share.high for share in reached)
        bound = replace(estimates.spurious_share, high=highest)
        sentences.insert(0, _bound_sentence(name, bound))
    if new is not None and not new.learned:
        is_lost = estimates.drop is not None and estimates.drop.low > 0
        sentences.insert(0 if name == "none" else 1, new.sentence(is_lost=is_lost))
    if arm is not None and estimates.recovered is not None:
        sentences += [_recovery_sentence(arm, estimates), _control_sentence(arm)]
    else:
        sentences += _why_no_arm(arms)
    if estimates.start is None:
        sentences += _without_start(estimates)
    elif objection is not None:
        sentences.append(objection.sentence())
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


def _bound_sentence(name: VerdictName, share: Estimate) -> str:
    """Return what the interval of the spurious share bears, in whole percent and rounded down."""
    spurious, gone = _percent(share.low), _percent(1 - share.high)
    if name == "partial":
        return (
            f"At least {spurious} % of the loss is spurious, and at least {gone} % of it did not "
            "come back."
        )
    if spurious:
        return (
            f"At least {spurious} % of the loss is spurious; whether the rest is gone is not shown."
        )
    return (
        f"Between 0 and {100 - gone} % of the loss came back: this shows neither that it is "
        "spurious nor that it is gone."
    )


def _percent(share: float) -> int:
    # 0.55 is stored as slightly more or less; it must not become 54.
    return math.floor(100 * share + 1e-6)


def _accuracy_sentence(estimates: RecoveryEstimates) -> str:
    now = (
        f"{_with_interval(estimates.now)} now on {counted(estimates.examples, 'held-out example')}"
    )
    if estimates.start is None or estimates.drop is None:
        return f"The old task is at {now}; its accuracy at the start is unknown."
    drop = estimates.drop
    return (
        f"The old task was at {estimates.start.value:.3f} at the start and is at {now}: "
        f"a drop of {_in_points(drop)}."
    )


def _recovery_sentence(arm: ArmResult, estimates: RecoveryEstimates) -> str:
    assert estimates.recovered is not None
    taken = arm.steps if arm.steps_taken is None else arm.steps_taken
    when = (
        f"in {counted(taken, 'step')}"
        if arm.steps == taken
        else f"at its best step, {arm.steps} of {taken}"
    )
    reached = f"'{arm.name}' brings it to {_with_interval(estimates.recovered)} {when}"
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
        return [
            f"Even the lower end of that accuracy is at least {SPURIOUS_OF_START:g} of the start: "
            "the knowledge is there."
        ]
    if name == "real":
        return [
            f"Even the upper end of the share that came back is under {REAL_BELOW:g}, with every "
            "recovery that was tried: the knowledge is gone."
        ]
    if name == "partial":
        return [
            f"The whole interval of the share is above {REAL_BELOW:g}, and that of the accuracy "
            f"under {SPURIOUS_OF_START:g} of the start: part is still known, and part did not come "
            "back."
        ]
    if estimates.recovered is None:
        return ["So nothing shows whether what was lost is still known."]
    return [_open_sentence(estimates)]


def _open_sentence(estimates: RecoveryEstimates) -> str:
    """Return which verdicts the intervals leave open."""
    start, recovered, share = estimates.start, estimates.recovered, estimates.spurious_share
    assert start is not None
    assert recovered is not None
    assert share is not None
    enough = SPURIOUS_OF_START * start.value
    allowed = []
    if recovered.high >= enough:
        allowed.append(f"'spurious' (an accuracy of at least {SPURIOUS_OF_START:g} of the start)")
    if share.low < REAL_BELOW:
        allowed.append(f"'real' (less than {REAL_BELOW:g} of the loss came back)")
    if recovered.low < enough:
        allowed.append("'partial'")
    if len(allowed) == 1:
        return f"An interval of the share wider than {PARTIAL_WIDTH:g} does not bear 'partial'."
    return f"The intervals still allow {', '.join(allowed[:-1])} and {allowed[-1]}."


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
