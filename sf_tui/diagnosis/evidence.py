"""The evidence of a verdict in sentences for people.

Decides nothing: it tells the figures that decided, and what they leave open.
"""

from __future__ import annotations

from collections.abc import Sequence

from sf_tui.diagnosis.arms import Arm
from sf_tui.diagnosis.bootstrap import RecoveryEstimates
from sf_tui.diagnosis.intervals import Estimate
from sf_tui.diagnosis.judging import REAL_BELOW, SPURIOUS_OF_START, VerdictName


def tell_evidence(
    name: VerdictName,
    closed: bool,
    estimates: RecoveryEstimates,
    arm: Arm | None,
    arms: Sequence[Arm],
) -> tuple[str, ...]:
    """Return what was measured, then what follows, one sentence each.

    Args:
        name: the verdict.
        closed: whether the intervals close it.
        estimates: what it was made of.
        arm: the arm that `estimates.recovered` comes from.
        arms: all that were run, to say why none speaks.
    """
    sentences = [_tell_accuracy(estimates)]
    if arm is not None and estimates.recovered is not None:
        sentences += [_tell_recovery(arm, estimates), _tell_control(arm)]
    else:
        sentences += _tell_why_no_arm(arms)
    if estimates.start is None:
        sentences += _tell_without_start(estimates)
    else:
        sentences += _tell_verdict(name, closed, estimates)
    return tuple(sentences)


def _with_interval(estimate: Estimate) -> str:
    return f"{estimate.value:.3f} ({estimate.low:.3f} to {estimate.high:.3f})"


def _in_points(difference: Estimate) -> str:
    # Adding 0.0 takes the sign off a rounded zero.
    value, low, high = (
        round(100 * share, 1) + 0.0 for share in (difference.value, *difference.interval)
    )
    return f"{value} points ({low} to {high})"


def _tell_accuracy(estimates: RecoveryEstimates) -> str:
    now = f"{_with_interval(estimates.now)} now on {estimates.examples} held-out examples"
    if estimates.start is None or estimates.drop is None:
        return f"The old task is at {now}; its accuracy at the start is unknown."
    drop = estimates.drop
    return (
        f"The old task was at {estimates.start.value:.3f} at the start and is at {now}: "
        f"a drop of {_in_points(drop)}."
    )


def _tell_recovery(arm: Arm, estimates: RecoveryEstimates) -> str:
    assert estimates.recovered is not None
    reached = (
        f"'{arm.name}' brings it to {_with_interval(estimates.recovered)} in {arm.steps} steps"
    )
    share = estimates.spurious_share
    return f"{reached}: {_with_interval(share)} of the loss came back." if share else f"{reached}."


def _tell_control(arm: Arm) -> str:
    if arm.control is None:
        return "No control was measured: some of what came back may have been taught by the test."
    return (
        f"On {arm.control_examples} {_control_of(arm)} the same recovery "
        f"reaches {arm.control:.3f}, guessing {arm.floor:.3f}: it did not teach the answers."
    )


def _control_of(arm: Arm) -> str:
    if arm.exchanged:
        return "held-out questions with one another's answers"
    return "examples of facts that the model never saw"


def _tell_why_no_arm(arms: Sequence[Arm]) -> list[str]:
    return [
        f"'{arm.name}' doesn't count: it reaches {arm.control:.3f} on {arm.control_examples} "
        f"{_control_of(arm)}, above the floor of {arm.floor:.3f}, so it teaches what it should "
        "find."
        for arm in arms
        if not arm.allowed
    ] or ["No recovery was run."]


def _tell_without_start(estimates: RecoveryEstimates) -> list[str]:
    recovered, gain = estimates.recovered, estimates.gain
    if recovered is None or gain is None:
        return ["Without the accuracy at the start nothing can be said of a loss."]
    known = max(recovered.low, estimates.now.low)
    said = [f"At least {known:.3f} is known, whatever the start was."]
    if known >= SPURIOUS_OF_START:
        said.append("So a real loss of more than a tenth of the start is ruled out.")
    elif gain.low > 0:
        said.append(
            f"In all {_in_points(gain)} came back: those were not gone. What else was lost can't "
            "be told."
        )
    else:
        said.append(
            "Nothing measurable came back: either nothing was lost, or it is gone. Only the "
            "accuracy at the start tells which."
        )
    return said


def _tell_verdict(name: VerdictName, closed: bool, estimates: RecoveryEstimates) -> list[str]:
    if name == "none":
        return _tell_none(closed, estimates)
    if name == "spurious":
        said = [
            f"Even the lower end of that accuracy is at least {SPURIOUS_OF_START:g} of the start: "
            "the knowledge is there."
        ]
        if not closed:
            said.append(
                f"Of the loss itself less than {REAL_BELOW:g} may have come back; if so, that small"
                " part is gone."
            )
        return said
    if name == "real":
        return [
            f"Even the upper end of the share that came back is under {REAL_BELOW:g}: the "
            "knowledge is gone."
        ]
    if name == "partial":
        return ["Part of what was lost is still known and part is gone."]
    if estimates.recovered is None:
        return ["So nothing tells whether what was lost is still known."]
    return ["The interval is too wide to say more; more held-out examples would narrow it."]


def _tell_none(closed: bool, estimates: RecoveryEstimates) -> list[str]:
    start, drop = estimates.start, estimates.drop
    if start is not None and start.value == 0:
        return ["The start didn't know it either: there was nothing to lose."]
    said = [
        "The interval of the drop includes 0: no loss is seen."
        if drop and drop.high >= 0
        else "It got better."
    ]
    if drop is not None and not closed:
        said.append(
            f"Up to {100 * drop.high:.1f} points may be lost all the same; more held-out examples "
            "would tell."
        )
    return said
