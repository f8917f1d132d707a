"""The `diagnosis` event, from a verdict, its arms and the cost.

Knows how numbers are rounded; the event log adds `seq` and `time`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sf_tui.diagnosis.arms import Arm
from sf_tui.diagnosis.cost import CostComparison
from sf_tui.diagnosis.decomposition import decompose
from sf_tui.diagnosis.intervals import Estimate
from sf_tui.diagnosis.json_numbers import rounded, rounded_interval, rounded_rate
from sf_tui.diagnosis.verdict import Verdict
from sf_tui.vocabulary.event_records import ArmResult
from sf_tui.vocabulary.events import DiagnosisMade


def diagnosis_event(
    verdict: Verdict,
    arms: Sequence[Arm],
    cost: CostComparison,
    *,
    task: str,
    stage: str | None,
    step: int | None,
    examples: int,
    skipped: Mapping[str, str] | None = None,
    since: str | None = None,
    forwarded_tokens: int | None = None,
) -> DiagnosisMade:
    """Return the event: floats of six decimals, None for what isn't known.

    `steps` are those of the arm that speaks, `seconds` and `tokens` those of the whole test;
    `interval` is the 95 % interval of the spurious share.

    Args:
        verdict: what was decided.
        arms: every arm that was run, also those that had no say (a reference).
        cost: of the whole test.
        task: the old task that was diagnosed.
        stage: where in the run it was; None outside one.
        step: the stage's step.
        examples: safe examples of the old task that the arms could train on.
        skipped: name and reason of each arm that was not run.
        since: what the start refers to.
        forwarded_tokens: tokens that the test only read.

    Raises ValueError when two arms share a name, or the arm that speaks isn't among them.
    """
    entries = {name: ArmResult(skipped=reason) for name, reason in (skipped or {}).items()}
    steps = {arm.name: arm.steps for arm in arms}
    if len(steps) < len(arms) or steps.keys() & entries.keys():
        raise ValueError("two arms of a diagnosis have the same name")
    if verdict.arm is not None and verdict.arm not in steps:
        raise ValueError(f"the verdict's arm '{verdict.arm}' is not among those that were run")
    found = verdict.estimates
    start = found.start.value if found.start else None
    parts = decompose(found.now.value, found.recovered.value, start) if found.recovered else None
    return DiagnosisMade(
        task=task,
        stage=stage,
        step=step,
        verdict=verdict.name,
        closed=verdict.closed,
        controlled=verdict.controlled,
        evidence=list(verdict.evidence),
        start=rounded(start),
        now=rounded(found.now.value),
        now_interval=rounded_interval(found.now),
        recovered=_value(found.recovered),
        recovered_interval=rounded_interval(found.recovered),
        drop_interval=rounded_interval(found.drop),
        spurious_share=_value(found.spurious_share),
        real_share=_value(found.real_share),
        interval=rounded_interval(found.spurious_share),
        alignment=rounded(parts.alignment) if parts else None,
        alignment_loss=rounded(parts.alignment_loss) if parts else None,
        knowledge_loss=rounded(parts.knowledge_loss) if parts else None,
        examples=examples,
        held_out=found.examples,
        arm=verdict.arm,
        steps=steps.get(verdict.arm) if verdict.arm is not None else None,
        seconds=rounded(cost.test.seconds),
        tokens=cost.test.tokens,
        cost=cost.rounded(),
        arms={arm.name: _arm_result(arm) for arm in arms} | entries,
        since=since,
        forwarded_tokens=forwarded_tokens,
    )


def _value(estimate: Estimate | None) -> float | None:
    return rounded(estimate.value) if estimate else None


def _arm_result(arm: Arm) -> ArmResult:
    return ArmResult(
        recovered=rounded(arm.accuracy),
        control=rounded(arm.control),
        floor=rounded(arm.floor),
        allowed=arm.allowed,
        steps=arm.steps,
        seconds=rounded(arm.seconds),
        tokens=arm.tokens,
        learning_rate=rounded_rate(arm.learning_rate),
    )
