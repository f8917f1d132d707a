"""`sf bench repair`: which repairs bring an old task back, and what they cost the new one.

Old and new accuracy over steps when 0, 10, 100, 1000 and all old examples are replayed, with and
without the start model's answers to neighbors, and for every weight edit alone. Each repair is one
line of JSON; repairs already in the file are skipped.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sf_tui.bench.harness import BenchReport, Figure, append_case, read_cases
from sf_tui.bench.verdict_scene import TrialScene
from sf_tui.engine.weights import Snapshot
from sf_tui.recovery.progress import TuningStep
from sf_tui.recovery.repair import RATE_SHARE, Repair, edit_model

SCHEMA = 1
EXAMPLES = (0, 10, 100, 1000, None)
"""Numbers of replayed old examples; None: all."""
KEEPS = (0.9, 0.8, 0.7, 0.6)
STEPS = 150
EVERY = 25


@dataclass(frozen=True)
class Scene:
    """How the old task was damaged."""

    name: str
    people: int
    rate: float


SCENES = (Scene("25 people, 6e-4", 25, 6e-4), Scene("100 people, 3e-4", 100, 3e-4))


def measure_repair(out: str, seeds: int, threads: int, steps: int = STEPS) -> dict[str, Any]:
    """Run the missing repairs of the table and return it as a `BenchReport` in JSON types.

    Args:
        out: file of the repairs, one JSON object per line.
        seeds: number of seeds.
        threads: CPU threads.
        steps: optimizer steps of every repair.
    """
    path = Path(out)
    for seed in range(1, seeds + 1):
        _play_seed(path, seed, threads, steps)
    rows = [
        row
        for row in read_cases(path, SCHEMA)
        if row["seed"] <= seeds and row["steps"] in (0, steps)
    ]
    return _report(
        rows, {"file": out, "seeds": seeds, "threads": threads, "steps": steps}
    ).as_plain()


def _play_seed(path: Path, seed: int, threads: int, steps: int) -> None:
    done = {
        (row["scene"], row["seed"], row["repair"], row["steps"]) for row in read_cases(path, SCHEMA)
    }
    trial: TrialScene | None = None
    for scene in SCENES:
        wanted = [
            name
            for name in _repair_names()
            if (scene.name, seed, name, steps if "old" in name else 0) not in done
        ]
        if not wanted:
            continue
        trial = trial or TrialScene(seed, threads=threads)
        trial.begin()
        damaged = trial.tune(trial.new_people(scene.people), 300, scene.rate)
        case = trial.case(damaged)
        bad = Snapshot(case.layout)
        for name in wanted:
            bad.restore()
            row = {
                "schema": SCHEMA,
                "scene": scene.name,
                "seed": seed,
                "repair": name,
                **_play(case, name, steps),
            }
            append_case(path, row)
            print(
                f"sf bench repair: seed {seed}, {scene.name}, {name}: old "
                f"{row['old_before']:.2f} to {row['old']:.2f}, new {row['new']:.2f}",
                file=sys.stderr,
                flush=True,
            )


def _repair_names() -> list[str]:
    tuned = [
        f"{'all' if count is None else count} old{', neighbors' if with_neighbors else ''}"
        for with_neighbors in (True, False)
        for count in EXAMPLES
        if with_neighbors or count != 0
    ]
    return [*tuned, "shift-edit", "spectral-edit", *(f"interpolate {keep}" for keep in KEEPS)]


def _play(case: Any, name: str, steps: int) -> dict[str, Any]:
    if "old" not in name:
        op, _, keep = name.partition(" ")
        found = edit_model(case, op, {"keep": float(keep)} if keep else {}, force=True)
        course: list[list[float]] = []
    else:
        count = name.split()[0]
        scorer = case.scorer()
        course = []

        def score(now: TuningStep) -> None:
            if now.step % EVERY == 0:
                old = scorer.accuracy(case.old.held_out, "exact_match")
                course.append([now.step, old, scorer.accuracy(case.new.held_out, "exact_match")])
                case.model.train()

        found = Repair(
            case,
            examples=len(case.old.train) if count == "all" else int(count),
            steps=steps,
            old_share=1.0,
            use_neighbors="neighbors" in name,
            # The table shows what each repair costs the new task, so nothing bounds it.
            learning_rate=RATE_SHARE * case.learning_rate,
            new_floor=0.0,
            on_step=score,
        ).run()
    return {
        "start": found.start,
        "old_before": found.old.before,
        "new_before": found.new.before,
        "old": found.old.after,
        "new": found.new.after,
        "best_step": found.steps,
        "steps": steps if "old" in name else 0,
        "keep": found.keep,
        "tokens": found.tokens,
        "seconds": round(found.seconds, 2),
        "course": course,
    }


def _report(rows: Sequence[dict[str, Any]], conditions: dict[str, Any]) -> BenchReport:
    figures = []
    for scene in SCENES:
        here = [row for row in rows if row["scene"] == scene.name]
        for name in _repair_names():
            found = [row for row in here if row["repair"] == name]
            if not found:
                continue
            old = [row["old"] / row["start"] for row in found]
            new = float(np.mean([row["new"] for row in found]))
            key = f"{scene.people} {name}".replace(", ", "_").replace(" ", "_")
            before = float(np.mean([row["old_before"] / row["start"] for row in found]))
            figures.append(
                Figure(
                    key,
                    f"{scene.name}: old task after {name} relative to its start ({before:.2f} "
                    f"before; {min(old):.2f} to {max(old):.2f}), new task {new:.2f}",
                    float(np.mean(old)),
                )
            )
    return BenchReport("repair", tuple(figures), conditions, {"repairs": list(rows)})
