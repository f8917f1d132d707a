"""Runs with realistic numbers of examples: whole splits at stage ends, fewer during a stage."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import pairwise

from sf_tui.vocabulary.declared import LayerDrift, ModelFacts, PlannedStage
from sf_tui.vocabulary.events import (
    Danger,
    Drift,
    Probe,
    RunFinished,
    RunStarted,
    StageFinished,
    StageStarted,
)
from tui.written_run import LAYERS, WrittenRun

MakeRun = Callable[..., WrittenRun]
Right = Mapping[str, tuple[int, int]]
"""Task to right examples and scored ones."""
PROBED, WHOLE = 101, 600


def start_run(written: WrittenRun, stages: tuple[str, ...] = ("new",), steps: int = 300) -> None:
    tasks = ["old", *stages]
    written.event(
        RunStarted(
            run=written.run.id,
            profile="five",
            model=ModelFacts(parameters=1_052_160, layers=4),
            tasks=tasks,
            watched=tasks,
            metrics={task: "exact_match" for task in tasks},
            stages=[PlannedStage(stage, stage, steps) for stage in stages],
            device="cpu",
        )
    )


def start_stage(
    written: WrittenRun, stage: str, known: tuple[str, ...], steps: int = 300, window: int = 150
) -> None:
    written.event(StageStarted(stage, stage, steps, strategy="seq", known=list(known)))
    written.event(Danger(stage=stage, step=0, state="entered", window=window))


def measures(right: Right) -> dict[str, dict[str, float]]:
    return {task: {"exact_match": count / n, "n": n} for task, (count, n) in right.items()}


def probe(
    written: WrittenRun, stage: str, step: int, right: Right, whole: Right | None = None
) -> None:
    """Write a probe: of the whole splits, too, if their counts are given."""
    written.event(
        Probe(
            stage=stage,
            step=step,
            metrics=measures(whole or right),
            full=whole is not None,
            subset=measures(right) if whole else {},
            drop=1 - min(count / n for task, (count, n) in right.items() if task != stage),
        )
    )
    for index, name in enumerate(LAYERS):
        written.drift[name] = 0.0002 * step / (1 + index)
    layers = [LayerDrift(name, value, False) for name, value in written.drift.items()]
    written.event(Drift(stage=stage, step=step, layers=layers))


def fall(written: WrittenRun, stage: str, until: int, task: str, counts: Mapping[int, int]) -> None:
    """Train to a step; an old task is probed at the steps of `counts`, the new one is learned."""
    for before, step in pairwise([0, *sorted([*counts, until])]):
        for at in range(before + 1, step + 1):
            written.step(at, stage)
        if step in counts:
            learned = min(PROBED, round(PROBED * step / 60))
            probe(written, stage, step, {task: (counts[step], PROBED), stage: (learned, PROBED)})


COUNTS = {5: 97, 10: 88, 20: 66, 30: 51, 40: 42, 50: 36, 60: 31, 70: 29, 80: 27, 85: 26}


def losing(make_run: MakeRun) -> WrittenRun:
    """Return a run in whose first window the old task fell from 1.00 to 26 of 101."""
    written = make_run()
    start_run(written)
    start_stage(written, "new", ("old",))
    start = {"old": (PROBED, PROBED), "new": (0, PROBED)}
    probe(written, "new", 0, start, {"old": (WHOLE, WHOLE), "new": (0, 112)})
    written.checkpoint(0)
    fall(written, "new", 85, "old", COUNTS)
    written.beat()
    return written


def repaired(make_run: MakeRun, *, steps_after: int = 12) -> WrittenRun:
    """Return a run whose old task was repaired at step 200, past the first window."""
    written = losing(make_run)
    for step in range(86, 201):
        written.step(step)
    probe(written, "new", 200, {"old": (25, PROBED), "new": (PROBED, PROBED)})
    written.command("c-7", "recover", "accepted", 200)
    written.waited_s += 41
    written.command("c-7", "recover", "done", 200, reason="old 0.25 to 0.98")
    written.event(Danger(stage="new", step=200, state="entered", window=150, cause="recover"))
    probe(written, "new", 200, {"old": (99, PROBED), "new": (PROBED, PROBED)})
    for step in range(201, 201 + steps_after):
        written.step(step)
    if steps_after >= 10:
        probe(written, "new", 210, {"old": (80, PROBED), "new": (PROBED, PROBED)})
    written.beat()
    return written


def finished(make_run: MakeRun) -> WrittenRun:
    """Return a completed run whose last probe is of the whole splits."""
    written = repaired(make_run)
    for step in range(213, 301):
        written.step(step)
    whole = {"old": (157, WHOLE), "new": (112, 112)}
    probe(written, "new", 300, {"old": (26, PROBED), "new": (PROBED, PROBED)}, whole)
    written.event(StageFinished(stage="new", task="new", strategy="seq", steps=300))
    written.event(RunFinished("completed", 0, measures(whole)))
    written.beat(age_s=600)
    return written


REASON = (
    "stage 'new', step 1: the loss is not a number; no good checkpoint; try a lower [train] "
    'learning_rate, or on_nan = "continue" to go back and go on at half the rate; then start anew'
)


def failed(make_run: MakeRun) -> WrittenRun:
    """Return a run that failed before its first step."""
    written = make_run()
    start_run(written)
    start_stage(written, "new", ("old",))
    start = {"old": (PROBED, PROBED), "new": (0, PROBED)}
    probe(written, "new", 0, start, {"old": (WHOLE, WHOLE), "new": (0, 112)})
    written.run.worker_log.write_text(f"loading the model\n{REASON}\n")
    written.event(RunFinished("failed", 1, {}, REASON))
    written.beat(age_s=600)
    return written


PEOPLE = ("people-a", "people-b", "people-c", "people-d")


def five_tasks(make_run: MakeRun) -> WrittenRun:
    """Return a run in its fourth stage: `old` was lost in the first ones and loses no more."""
    written = make_run()
    start_run(written, PEOPLE, steps=60)
    old = [(600, 101), (240, 40), (94, 12), (41, 7)]
    known: tuple[str, ...] = ("old",)
    for index, stage in enumerate(PEOPLE):
        start_stage(written, stage, known, steps=60, window=30)
        whole_old, probed_old = old[index]
        earlier = {task: (90 - 6 * at, PROBED) for at, task in enumerate(known[1:])}
        whole_earlier = {task: (178 - 12 * at, 200) for at, task in enumerate(known[1:])}
        begun = {"old": (probed_old, PROBED), **earlier, stage: (0, PROBED)}
        probe(
            written,
            stage,
            0,
            begun,
            {"old": (whole_old, WHOLE), **whole_earlier, stage: (0, 200)},
        )
        last = index == len(PEOPLE) - 1
        for step in range(1, 46 if last else 61):
            written.step(step, stage)
            if step % 5 == 0 and (step < 60):
                end_old = old[index + 1][1] if not last else 7
                part = probed_old + round((end_old - probed_old) * step / 60)
                learned = min(PROBED, 3 * step)
                after = {task: (count - step // 3, n) for task, (count, n) in earlier.items()}
                now = {"old": (part, PROBED), **after, stage: (learned, PROBED)}
                probe(written, stage, step, now)
        if not last:
            after = {task: (count - 20, n) for task, (count, n) in earlier.items()}
            whole_after = {task: (count - 40, n) for task, (count, n) in whole_earlier.items()}
            probe(
                written,
                stage,
                60,
                {"old": (old[index + 1][1], PROBED), **after, stage: (PROBED, PROBED)},
                {"old": (old[index + 1][0], WHOLE), **whole_after, stage: (200, 200)},
            )
            written.event(StageFinished(stage=stage, task=stage, strategy="seq", steps=60))
            known = (*known, stage)
    written.beat()
    return written


def not_learned(make_run: MakeRun) -> WrittenRun:
    """Return a run past its window whose new task stayed at 0 of 101."""
    written = make_run()
    start_run(written)
    start_stage(written, "new", ("old",))
    start = {"old": (PROBED, PROBED), "new": (0, PROBED)}
    probe(written, "new", 0, start, {"old": (WHOLE, WHOLE), "new": (0, 112)})
    for step in range(1, 201):
        written.step(step)
        if step % 50 == 0:
            probe(written, "new", step, {"old": (100, PROBED), "new": (0, PROBED)})
    written.event(Danger(stage="new", step=150, state="left", window=150))
    written.beat()
    return written
