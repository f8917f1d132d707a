"""Compares runs: scores at each stage's end with intervals, curves on one axis, and profiles.

The first run is the reference. Where the results of single examples are recorded for both runs and
the examples are the same, a difference has paired intervals and McNemar's test; elsewhere it has
the interval of two independent shares, which is wider, and the row says why.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sf_tui.diagnosis import bootstrap
from sf_tui.errors import SfError
from sf_tui.profile import load_profile
from sf_tui.profile.write import differences
from sf_tui.report.curves import LOSS, RunCurves, aligned, read_curves
from sf_tui.report.recorded_examples import (
    Inputs,
    read_input_digests,
    right_at_end,
    why_other_examples,
)
from sf_tui.run.course import TaskCourse, courses
from sf_tui.run.directory import RunDirectory
from sf_tui.vocabulary.intervals import Estimate, difference, paired_difference
from sf_tui.vocabulary.measured import Score

_SEED = 0
"""Of the bootstrap: the same runs give the same interval."""
BUCKETS = 200
"""Most rows of an aligned curve."""
_MOST_EXACT = 2000
"""Discordant examples up to which McNemar's test is exact; its terms grow with their number."""


@dataclass(frozen=True)
class ComparedScore:
    """A run's score beside the reference's.

    Attributes:
        score: at the stage's end or, of a stage under way, now; None if the run has none.
        difference: score minus the reference's, in the metric's unit; None without both.
        estimate: the same with its 95 % interval; None if the metric has none.
        paired: whether both were compared example by example.
        lost: examples that only the reference had right; None unless paired.
        gained: examples that only this run had right; None unless paired.
        p_value: of McNemar's exact test; None unless paired.
        bootstrap: the difference with the interval of a paired bootstrap; None unless paired.
        why_unpaired: the reason; empty if it is paired or nothing is compared.
    """

    score: Score | None
    difference: float | None = None
    estimate: Estimate | None = None
    paired: bool = False
    lost: int | None = None
    gained: int | None = None
    p_value: float | None = None
    bootstrap: Estimate | None = None
    why_unpaired: str = ""


@dataclass(frozen=True)
class ComparedTask:
    """One task at the end of one stage, in every run; the first is the reference."""

    stage: str
    task: str
    metric: str
    scores: Sequence[ComparedScore]


@dataclass(frozen=True)
class ProfileDifference:
    """A profile key that differs between runs; a value as TOML, None if a profile has no such."""

    key: str
    values: Sequence[str | None]


@dataclass(frozen=True)
class Comparison:
    """Several runs side by side.

    Attributes:
        runs: the runs with their curves, the reference first.
        tasks: their scores, in the order of stages.
        profiles: the keys that differ.
        notes: what could not be compared, and why.
    """

    runs: Sequence[RunCurves]
    tasks: Sequence[ComparedTask]
    profiles: Sequence[ProfileDifference]
    notes: Sequence[str]

    def curves(self, buckets: int = BUCKETS) -> list[dict[str, Any]]:
        """Return every series on one axis: stage, series, and rows by step (`aligned`)."""
        names: dict[tuple[str, str], None] = {}
        for run in self.runs:
            for stage, series in run.series.items():
                names |= dict.fromkeys((stage, one) for one in series if one != LOSS)
                if LOSS in series:
                    names[stage, LOSS] = None
        found = []
        for stage, series_name in names:
            points = {str(at): run.points(stage, series_name) for at, run in enumerate(self.runs)}
            rows = aligned(points, buckets)
            if rows:
                found.append({"stage": stage, "series": series_name, "rows": rows})
        return found


def compare_runs(runs: Sequence[RunDirectory]) -> Comparison:
    """Read and compare runs; the first is the reference. Damage does not raise."""
    read = [read_curves(run) for run in runs]
    notes = [f"damaged: {problem}" for one in read for problem in one.damage]
    inputs = []
    for run in runs:
        profile = None
        try:
            profile = load_profile(run.profile)
        except SfError as error:
            notes.append(f"{run.id}: its profile is not compared: {error.message}")
        inputs.append(Inputs(profile, read_input_digests(run)))
    return Comparison(read, _compare_tasks(read, inputs), _compare_profiles(inputs), notes)


def _compare_tasks(runs: Sequence[RunCurves], inputs: Sequence[Inputs]) -> list[ComparedTask]:
    rows = [{(row.stage, row.task): row for row in courses(run.state)} for run in runs]
    names = dict.fromkeys(key for one in rows for key in one)
    found = []
    for stage, task in names:
        ours = rows[0].get((stage, task))
        scores = [ComparedScore(ours.end if ours else None)]
        for at in range(1, len(runs)):
            theirs = rows[at].get((stage, task))
            scores.append(_compared(runs[0], inputs[0], ours, runs[at], inputs[at], theirs))
        metrics = [run.state.metric_of(task) for run in runs if task in run.state.metrics]
        found.append(ComparedTask(stage, task, metrics[0] if metrics else "", scores))
    return found


def _compared(
    first: RunCurves,
    first_inputs: Inputs,
    ours: TaskCourse | None,
    second: RunCurves,
    second_inputs: Inputs,
    theirs: TaskCourse | None,
) -> ComparedScore:
    before, after = (ours.end if ours else None), (theirs.end if theirs else None)
    if ours is None or theirs is None or before is None or after is None:
        return ComparedScore(after)
    if before.metric != after.metric:
        return ComparedScore(after)
    change = after.value - before.value
    if before.estimate is None or after.estimate is None:
        return ComparedScore(after, change)
    why = why_other_examples(theirs.task, first_inputs, second_inputs)
    why = f"other examples: {why}" if why else _why_not_whole(before, after)
    if not why:
        bits = [_end_bits(first, ours, before), _end_bits(second, theirs, after)]
        if bits[0] is not None and bits[1] is not None:
            pairs = list(zip(bits[0], bits[1], strict=True))
            lost = sum(a and not b for a, b in pairs)
            gained = sum(b and not a for a, b in pairs)
            drop = paired_difference(sum(bits[0]), lost, gained, len(pairs))
            return ComparedScore(
                after,
                change,
                _negated(drop),
                True,
                lost,
                gained,
                mcnemar(lost, gained),
                bootstrap.paired_difference(bits[1], bits[0], seed=_SEED),
            )
        why = _why_no_bits(after)
    drop = difference(before.estimate, after.estimate)
    return ComparedScore(after, change, _negated(drop), why_unpaired=why)


def _why_not_whole(before: Score, after: Score) -> str:
    if before.examples != after.examples:
        return f"{before.examples} and {after.examples} examples"
    return "" if before.full and after.full else "not the whole held-out split was scored"


def _why_no_bits(score: Score) -> str:
    if not score.metric.counts_examples:
        return f"{score.metric.name} is a {score.metric.unit}, not of right examples"
    return "no checkpoint of the stage's end has the results of single examples"


def _end_bits(run: RunCurves, end: TaskCourse, score: Score) -> tuple[bool, ...] | None:
    if score.right is None:
        return None
    return right_at_end(run.run, end.stage, end.task, score.examples, score.right)


def _negated(drop: Estimate) -> Estimate:
    return Estimate(-drop.value, -drop.high, -drop.low)


def mcnemar(lost: int, gained: int) -> float:
    """Return the two-sided p-value of McNemar's test for discordant pairs.

    Exact up to 2,000 of them, then the normal approximation with continuity correction.

    Source: McNemar 1947, "Note on the sampling error of the difference between correlated
    proportions or percentages".
    """
    total, fewer = lost + gained, min(lost, gained)
    if total == 0:
        return 1.0
    if total > _MOST_EXACT:
        z = max(abs(lost - gained) - 1, 0) / math.sqrt(total)
        return math.erfc(z / math.sqrt(2))
    tail = sum(math.comb(total, k) for k in range(fewer + 1))
    # Whole numbers until here: either is too large for a float.
    return min(1.0, 2 * tail / (1 << total))


def _compare_profiles(inputs: Sequence[Inputs]) -> list[ProfileDifference]:
    """Return the keys in which any profile differs from the first one that can be read."""
    readable = [(at, one.profile) for at, one in enumerate(inputs) if one.profile is not None]
    if len(readable) < 2:
        return []
    base_at, base = readable[0]
    values: dict[str, dict[int, str]] = {}
    for at, profile in readable[1:]:
        for one in differences(base, profile):
            values.setdefault(one.key, {base_at: one.ours})[at] = one.theirs
    known = {at for at, _ in readable}
    return [
        ProfileDifference(
            key,
            [(found.get(at, found[base_at]) if at in known else None) for at in range(len(inputs))],
        )
        for key, found in values.items()
    ]
