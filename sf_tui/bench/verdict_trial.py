"""Playing the verdict's trial: damage, test, reference, one line of JSON a case.

A case that is already in the file is not played again, so that a trial can be cut off and taken up.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from sf_tui.bench.case_file import append_case, read_cases
from sf_tui.bench.verdict_cases import CASES, TrialCase
from sf_tui.bench.verdict_scene import TrialScene
from sf_tui.diagnosis.rules import ArmResult
from sf_tui.diagnosis.verdict import Finding, decide_verdict
from sf_tui.recovery.recovery_test import RecoveryTest

# A trial of other rules must not be mixed with an earlier one's lines.
SCHEMA = 2


def play_trial(out: Path, seeds: int, threads: int, names: Sequence[str] = ()) -> None:
    """Play every case that isn't in a file yet and append it there.

    Args:
        out: the file, one JSON object a line.
        seeds: seeds 1 … `seeds` are played, each with other new people.
        threads: CPU threads.
        names: cases to play; none for all.
    """
    done = {(row["case"], row["seed"]) for row in read_trial(out)}
    chosen = [case for case in CASES if not names or case.name in names]
    for seed in range(1, seeds + 1):
        waiting = [case for case in chosen if (case.name, seed) not in done]
        if not waiting:
            continue
        scene = TrialScene(seed, threads=threads)
        for case in waiting:
            row = play_case(scene, case)
            append_case(out, row)
            print(
                f"sf bench verdict: seed {seed}, {case.name} ({case.label}): {row['verdict']}, "
                f"reference {row['reference_verdict']}, {row['seconds']:.0f} s",
                file=sys.stderr,
                flush=True,
            )


def read_trial(out: Path) -> list[dict[str, Any]]:
    """Return the cases in a file; a line that a kill cut short is left out."""
    return read_cases(out, SCHEMA)


def play_case(scene: TrialScene, case: TrialCase) -> dict[str, Any]:
    """Damage the starter, test it, and confirm its label by the reference recovery."""
    begun = time.perf_counter()
    scene.begin()
    damaged = case.damage(scene)
    spent_on_damage = time.perf_counter() - begun
    outcome = RecoveryTest(scene.case(damaged), thorough=True).run()
    reference = outcome.reference
    assert reference is not None  # the scene has all of the old data
    reference_verdict = decide_verdict(outcome.now, [reference], outcome.start)
    by_arm = {arm.name: decide_verdict(outcome.now, [arm], outcome.start) for arm in outcome.arms}
    found = outcome.finding.estimates
    return {
        "schema": SCHEMA,
        "case": case.name,
        "label": case.label,
        "seed": scene.seed,
        "verdict": outcome.finding.name,
        "closed": outcome.finding.closed,
        "arm": outcome.finding.arm,
        "start": found.start.value if found.start else None,
        "now": found.now.value,
        "spurious_share": _share(outcome.finding),
        "interval": _interval(outcome.finding),
        "reference_verdict": reference_verdict.name,
        "reference_recovered": reference.accuracy,
        "reference_share": _share(reference_verdict),
        "reference_steps": reference.steps,
        "arms": {arm.name: _arm_row(arm, by_arm[arm.name]) for arm in outcome.arms},
        "diverged": outcome.diverged,
        "tokens": outcome.tokens,
        "test_seconds": round(outcome.seconds, 2),
        "damage_seconds": round(spent_on_damage, 2),
        "seconds": round(time.perf_counter() - begun, 2),
    }


def _arm_row(arm: ArmResult, verdict: Finding) -> dict[str, Any]:
    return {
        "verdict": verdict.name,
        "closed": verdict.closed,
        "recovered": float(np.mean(np.asarray(arm.recovered))),
        "control": arm.control,
        "allowed": arm.allowed,
        "spurious_share": _share(verdict),
        "interval": _interval(verdict),
        "steps": arm.steps,
        "tokens": arm.tokens,
        "learning_rate": arm.learning_rate,
    }


def _share(verdict: Finding) -> float | None:
    share = verdict.estimates.spurious_share
    return share.value if share else None


def _interval(verdict: Finding) -> list[float] | None:
    share = verdict.estimates.spurious_share
    return [share.low, share.high] if share else None
