"""The trial behind `sf bench verdict`: its cases, and how each is damaged, tested and recorded.

The label of a case follows from its construction and is confirmed by the reference recovery. Each
case is one line of JSON; cases already in the file are skipped, so a trial can be interrupted.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sf_tui.bench.harness import append_case, read_cases
from sf_tui.bench.verdict_scene import Damaged, TrialScene
from sf_tui.diagnosis.rules import ArmResult
from sf_tui.diagnosis.verdict import Finding, decide_verdict
from sf_tui.recovery.recovery_test import RecoveryTest
from sf_tui.vocabulary.verdicts import VerdictName

ENTRIES = 16
"""Biographies per step; each has as many tokens as five questions."""


@dataclass(frozen=True)
class TrialCase:
    """One way to damage the starter model."""

    name: str
    label: VerdictName
    """The true verdict, known from the construction of the case."""
    damage: Callable[[TrialScene], Damaged]
    description: str


def _new_people(people: int, rate: float, steps: int = 300, form: str = "same"):  # type: ignore[no-untyped-def]
    def damage(scene: TrialScene) -> Damaged:
        rows = scene.new_people(people, "other" if form == "other" else "same")
        return scene.tune(rows, steps, rate)

    return damage


def _contradicted(share: float) -> Callable[[TrialScene], Damaged]:
    return lambda scene: scene.tune(scene.biographies(share), 900, 1e-3, ENTRIES)


CASES: tuple[TrialCase, ...] = (
    TrialCase("noise-0.05", "none", lambda s: s.add_noise(0.05), "noise of 0.05 σ on every MLP"),
    TrialCase("noise-0.1", "none", lambda s: s.add_noise(0.1), "noise of 0.1 σ on every MLP"),
    TrialCase(
        "old-again",
        "none",
        lambda s: s.tune(s.tuned_half(), 60, 1e-4),
        "60 more steps of the old task itself",
    ),
    TrialCase(
        "faint-tuning",
        "none",
        lambda s: s.tune(s.new_people(25), 60, 5e-6),
        "25 new people, 60 steps at 5e-6",
    ),
    TrialCase("25-same-1e-4", "spurious", _new_people(25, 1e-4), "25 new people, 1e-4"),
    TrialCase("25-same-2e-4", "spurious", _new_people(25, 2e-4), "25 new people, 2e-4"),
    TrialCase("25-same-3e-4", "spurious", _new_people(25, 3e-4), "25 new people, 3e-4"),
    TrialCase(
        "25-other-2e-4",
        "spurious",
        _new_people(25, 2e-4, form="other"),
        "25 new people in another form, 2e-4",
    ),
    TrialCase(
        "25-other-3e-4",
        "spurious",
        _new_people(25, 3e-4, form="other"),
        "25 new people in another form, 3e-4",
    ),
    TrialCase(
        "answer-format",
        "spurious",
        lambda s: s.tune(s.new_people(25, answer=lambda text: f"{text} was recorded."), 150, 2e-4),
        "25 new people whose answers end in a fixed phrase, 2e-4",
    ),
    TrialCase(
        "prefix-shift",
        "spurious",
        lambda s: s.tune(s.new_people(25, answer=lambda text: f" Records:{text}"), 150, 2e-4),
        "25 new people, every answer after a fixed prefix, 2e-4",
    ),
    TrialCase(
        "unrelated-task",
        "spurious",
        lambda s: s.tune(s.word_pairs(), 150, 3e-4),
        "unrelated word pairs, 3e-4",
    ),
    # Weaker damage costs this model three to six points: 15 to 30 answers, too few to rank shares.
    TrialCase("noise-0.8", "spurious", lambda s: s.add_noise(0.8), "noise of 0.8 σ on every MLP"),
    TrialCase(
        "zeroed-0.75",
        "spurious",
        lambda s: s.zero(0.75, (1, 2)),
        "three quarters of the MLP weights of two blocks zeroed",
    ),
    TrialCase(
        "contradicted",
        "real",
        _contradicted(1.0),
        "contradicting biographies of the held-out people, 900 steps of 1e-3",
    ),
    TrialCase(
        "past-capacity",
        "real",
        lambda s: s.tune(s.new_people(400), 900, 2e-3),
        "400 new people, 900 steps of 2e-3: long past capacity",
    ),
    TrialCase("noise-5", "real", lambda s: s.add_noise(5.0), "noise of 5 σ on every MLP"),
    TrialCase(
        "contradicted-questions",
        "real",
        lambda s: s.tune(s.wrong_answers(), 900, 1e-3),
        "the held-out questions with other people's answers, 900 steps of 1e-3",
    ),
    TrialCase("50-same-8e-4", "partial", _new_people(50, 8e-4), "50 new people, 8e-4"),
    TrialCase("100-same-4e-4", "partial", _new_people(100, 4e-4), "100 new people, 4e-4"),
    TrialCase("100-same-8e-4", "partial", _new_people(100, 8e-4), "100 new people, 8e-4"),
    *(
        TrialCase(
            f"contradicted-{share:.2f}",
            "partial",
            _contradicted(share),
            f"{share:.0%} of the held-out people contradicted, others with true facts, as above",
        )
        for share in (0.25, 0.5, 0.75)
    ),
    TrialCase("noise-1.5", "partial", lambda s: s.add_noise(1.5), "noise of 1.5 σ on every MLP"),
)
"""25 ways; three seeds make 75 cases."""


# Excludes the lines of a trial with other rules.
SCHEMA = 3


def play_trial(out: Path, seeds: int, threads: int, names: Sequence[str] = ()) -> None:
    """Run every case that is not in the file yet and append it.

    Args:
        out: the file, one JSON object per line.
        seeds: seeds 1 … `seeds` are run, each with different new people.
        threads: CPU threads.
        names: cases to run; empty: all.
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
    """Return the cases in a file, skipping torn lines."""
    return read_cases(out, SCHEMA)


def play_case(scene: TrialScene, case: TrialCase) -> dict[str, Any]:
    """Damage the starter, test it, and check its label by the reference recovery."""
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
