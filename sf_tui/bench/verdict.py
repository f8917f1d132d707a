"""`sf bench verdict`: score the verdict on cases with a known true verdict.

Cases whose label contradicts the reference recovery are listed separately and count neither as
right nor as wrong; none is dropped silently.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from sf_tui.bench.harness import BenchReport, Figure
from sf_tui.bench.verdict_trial import CASES, play_trial, read_trial
from sf_tui.diagnosis.calibration import (
    calibration_table,
    confusion_matrix,
    labelling_accuracy,
    share_errors,
    spearman,
)
from sf_tui.errors import DataError
from sf_tui.vocabulary.verdicts import CLEAR_VERDICTS, VERDICTS

Row = dict[str, Any]


def measure_verdict(
    out: str, seeds: int, threads: int, cases: Sequence[str] | None = None
) -> dict[str, Any]:
    """Run the missing cases of the trial and score all of them.

    Args:
        out: file of the cases, one JSON object per line.
        seeds: number of seeds.
        threads: CPU threads.
        cases: names of the cases to run; None: all.

    Returns:
        A `BenchReport` as JSON types.
    """
    known = {case.name for case in CASES}
    for name in cases or ():
        if name not in known:
            raise DataError(f"the trial has no case '{name}'", f"it has {', '.join(sorted(known))}")
    play_trial(Path(out), seeds, threads, cases or ())
    rows = [
        row
        for row in read_trial(Path(out))
        if row["seed"] <= seeds and row["case"] in (cases or known)
    ]
    return score_trial(rows, {"file": out, "seeds": seeds, "threads": threads}).as_plain()


def score_trial(rows: Sequence[Row], conditions: dict[str, Any]) -> BenchReport:
    """Score the verdict, and each arm as if it decided alone.

    Args:
        rows: the cases as the trial recorded them.
        conditions: the settings of the trial.
    """
    contradicted = [row for row in rows if not is_confirmed(row)]
    confirmed = [row for row in rows if is_confirmed(row)]
    names = list(dict.fromkeys(arm for row in rows for arm in row["arms"]))
    whole = _score(confirmed, None)
    alone = {name: _score(confirmed, name) for name in names}
    neighbors = alone.get("neighbors", whole)
    return BenchReport(
        "verdict",
        (
            Figure("cases", "cases run", len(rows), "at least 60"),
            Figure("confirmed", "cases that the reference confirms", len(confirmed)),
            *_figures("", "the verdict", whole),
            *_figures("neighbors_", "the neighbors arm alone", neighbors),
        ),
        conditions,
        {
            "labels": list(VERDICTS),
            "verdict": whole,
            "arms": alone,
            "contradicted": [
                {key: row[key] for key in ("case", "seed", "label", "verdict", "reference_verdict")}
                for row in contradicted
            ],
            "wrong": [
                {key: row[key] for key in ("case", "seed", "label", "verdict", "arm")}
                for row in confirmed
                if row["label"] in CLEAR_VERDICTS and row["verdict"] != row["label"]
            ],
            "seconds": sum(row["seconds"] for row in rows),
            "cases": list(rows),
        },
    )


def is_confirmed(row: Row) -> bool:
    """Return whether the reference recovery agrees with a case's label."""
    return bool(row["reference_verdict"] == row["label"])


def _figures(prefix: str, who: str, score: dict[str, Any]) -> tuple[Figure, ...]:
    return (
        Figure(
            f"{prefix}accuracy",
            f"{who}: share of none, spurious and real cases labeled right "
            f"({score['accuracy_low']:.2f} to {score['accuracy_high']:.2f})",
            score["accuracy"],
            "at least 0.95",
        ),
        Figure(
            f"{prefix}real_called_spurious",
            f"{who}: real cases labeled spurious with a closed interval",
            score["real_called_spurious"],
            "0",
        ),
        Figure(
            f"{prefix}spearman",
            f"{who}: rank correlation of the spurious share with the reference's",
            score["spearman"],
            "at least 0.9",
        ),
        Figure(
            f"{prefix}share_error",
            f"{who}: mean absolute difference from the reference's spurious share",
            score["share_error"],
        ),
    )


def _score(rows: Sequence[Row], arm: str | None) -> dict[str, Any]:
    outcomes = [_outcome(row, arm) for row in rows]
    clear = [(row["label"], one) for row, one in zip(rows, outcomes, strict=True)]
    clear = [(label, one) for label, one in clear if label in CLEAR_VERDICTS]
    accuracy = labelling_accuracy([a for a, _ in clear], [one["verdict"] for _, one in clear])
    shares = [
        (one["spurious_share"], row["reference_share"])
        for row, one in zip(rows, outcomes, strict=True)
        # A *none* case lost nothing, so its share is pure noise.
        if row["label"] != "none"
        and one["spurious_share"] is not None
        and row["reference_share"] is not None
    ]
    ours, theirs = [a for a, _ in shares], [b for _, b in shares]
    errors = share_errors(ours, theirs)
    return {
        "accuracy": accuracy.value,
        "accuracy_low": accuracy.low,
        "accuracy_high": accuracy.high,
        "clear_cases": len(clear),
        "confusion": confusion_matrix(
            [row["label"] for row in rows], [one["verdict"] for one in outcomes]
        ).tolist(),
        "real_called_spurious": sum(
            row["label"] == "real" and one["verdict"] == "spurious" and one["closed"]
            for row, one in zip(rows, outcomes, strict=True)
        ),
        "spearman": spearman(ours, theirs) or 0.0,
        "share_error": errors.mean_absolute,
        "largest_share_error": errors.largest,
        "calibration": [asdict(one) for one in calibration_table(ours, theirs)],
    }


def _outcome(row: Row, arm: str | None) -> dict[str, Any]:
    if arm is None:
        return row
    found: dict[str, Any] = row["arms"].get(
        arm, {"verdict": "inconclusive", "closed": False, "spurious_share": None}
    )
    return found
