"""Each task's course through each stage: its score at the start, at its worst, and at the end.

`sf show`, the closing table of a headless run and the console's matrix all show these rows. Start
and end are of the whole held-out split where that was scored; the worst value in the danger window
is of the examples that every probe scores.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from sf_tui.run.losses import first_as_earlier, score_of, stage_drop
from sf_tui.run.stage_state import StageState
from sf_tui.run.state import RunState
from sf_tui.vocabulary.measured import Drop, Score, drop_between
from sf_tui.vocabulary.metrics import KL


@dataclass(frozen=True)
class Divergence:
    """How far the model is from the start model on its own answers, in nats a token.

    Attributes:
        largest: largest value in the stage's danger window; None without a window.
        largest_step: step of that probe.
        end: newest value of the stage.
    """

    largest: float | None
    largest_step: int | None
    end: float


@dataclass(frozen=True)
class TaskCourse:
    """One task in one stage.

    Attributes:
        stage: name of the stage.
        task: name of the task.
        start: score before the first step.
        worst: worst score in the stage's danger window; None without a window.
        worst_step: step of that probe.
        end: newest score of the stage.
        step: step of the stage.
        in_stage: drop from start to end; None for the task that the stage trains.
        since_run: drop since the run began or taught the task; None as above.
        divergence: of a task that consists of the start model's answers; else None.
    """

    stage: str
    task: str
    start: Score | None
    worst: Score | None
    worst_step: int | None
    end: Score | None
    step: int
    in_stage: Drop | None
    since_run: Drop | None
    divergence: Divergence | None = None

    def as_json(self, metric: str) -> dict[str, Any]:
        """Return the row of `sf show --json`."""
        return {
            "stage": self.stage,
            "task": self.task,
            "metric": metric,
            "start": self.start.value if self.start else None,
            "worst_in_window": self.worst.value if self.worst else None,
            "worst_at_step": self.worst_step,
            "end": self.end.value if self.end else None,
            "step": self.step,
            "measured": {
                "start": _score_object(self.start),
                "worst_in_window": _score_object(self.worst),
                "end": _score_object(self.end),
            },
            "drop_in_stage": _drop_object(self.in_stage),
            "drop_since_run_began": _drop_object(self.since_run),
            KL.name: None if self.divergence is None else asdict(self.divergence),
        }


def _score_object(score: Score | None) -> dict[str, Any] | None:
    if score is None:
        return None
    estimate = score.estimate
    return {
        "value": score.value,
        "examples": score.examples,
        "interval": list(estimate.interval) if estimate else None,
        "whole_split": score.full,
    }


def _drop_object(drop: Drop | None) -> dict[str, Any] | None:
    if drop is None:
        return None
    return {
        "value": drop.value,
        "interval": list(drop.estimate.interval) if drop.estimate else None,
    }


def courses(state: RunState) -> list[TaskCourse]:
    """Return every task's course in every stage that has a probe, in the order of the stages."""
    return [
        _course(state, stage, task)
        for stage in state.stages.values()
        if stage.probes
        for task in stage.probes[0].metrics
    ]


def _course(state: RunState, stage: StageState, task: str) -> TaskCourse:
    first, last = stage.probes[0], stage.probes[-1]
    worst, worst_step = _worst_in_window(state, stage, task)
    start, end = score_of(state, task, first), score_of(state, task, last)
    in_stage = since_run = None
    if task in state.watched_of(stage.known) and task != stage.task:
        in_stage = since_run = stage_drop(state, stage, task, last)
        origin = first_as_earlier(state, task)
        before = score_of(state, task, origin) if origin and origin is not first else None
        if before is not None and end is not None:
            since_run = drop_between(before, end)
    return TaskCourse(
        stage.name,
        task,
        start,
        worst,
        worst_step,
        end,
        stage.step,
        in_stage,
        since_run,
        _divergence(stage, task),
    )


def _divergence(stage: StageState, task: str) -> Divergence | None:
    found = [
        (value, probe.step)
        for probe in stage.probes
        if (value := probe.comparable.get(task, {}).get(KL.name)) is not None
    ]
    if not found:
        return None
    in_window = [one for one in found if stage.window and one[1] <= stage.window]
    largest, step = max(in_window, default=(None, None))
    return Divergence(largest, step, found[-1][0])


def _worst_in_window(
    state: RunState, stage: StageState, task: str
) -> tuple[Score | None, int | None]:
    scored = [
        (score, probe.step)
        for probe in stage.probes
        if stage.window and probe.step <= stage.window
        if (score := score_of(state, task, probe, comparable=True)) is not None
    ]
    if not scored:
        return None, None
    value = state.metric(task).worst(score.value for score, _ in scored)
    return next((score, step) for score, step in scored if score.value == value)
