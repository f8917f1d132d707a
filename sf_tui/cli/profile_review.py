"""What `sf profile check` prints: the review of a profile as lines and as JSON.

Knows layout only; `sf_tui.cases.profile_review` looks at model and data.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from sf_tui.vocabulary.sizes import counted, format_bytes

if TYPE_CHECKING:
    from sf_tui.cases.data_facts import DataFacts
    from sf_tui.cases.estimates import RunEstimate, StageEstimate
    from sf_tui.cases.known_tasks import TaskStart
    from sf_tui.cases.memory_plan import MemoryPlan
    from sf_tui.cases.profile_review import Review
    from sf_tui.profile import Profile, StageSpec


def profile_lines(profile: Profile, review: Review | None) -> Iterator[str]:
    """Yield what a profile would do, a line for each part.

    Args:
        profile: a checked profile.
        review: its model and data in figures; None if they were not looked at.
    """
    size = f": {review.size}" if review is not None and review.size is not None else ""
    yield f"  model   {profile.model.source}{size}"
    trained = {stage.task for stage in profile.stages()}
    for task in profile.tasks:
        facts = review.tasks.get(task.name) if review is not None else None
        yield f"  task    {task.name}: {task.data}, metric {_metric(task.metric, facts)}"
        if facts is not None:
            yield f"          {_rows(facts, trained=task.name in trained)}"
    stages = {one.name: one for one in review.estimate.stages} if review is not None else {}
    for stage in profile.stages():
        yield f"  stage   {_stage(profile, stage)}"
        if stage.name in stages:
            yield f"          {_length(stages[stage.name])}"
    if review is not None:
        yield from _review_lines(review)
    for note in profile.notes:
        yield f"  note    {note}"


def _review_lines(review: Review) -> Iterator[str]:
    if review.estimate.seconds is not None:
        yield f"  cost    {_cost(review.estimate)}"
    if review.estimate.plan is not None:
        yield f"  memory  {_memory(review.estimate.plan)}"
    for start in review.starts:
        yield f"  start   {_start(start)}"
    for warning in review.warnings:
        yield f"  warn    {warning}"
    for note in review.notes:
        yield f"  note    {note}"


def _metric(metric: str, facts: DataFacts | None) -> str:
    found = facts.metric if facts is not None else metric
    return metric if found == metric else f"{metric} ({found})"


def _rows(facts: DataFacts, *, trained: bool) -> str:
    about = "about " if facts.guessed or facts.sampled else ""
    use = "to train on" if trained else "safe examples"
    return (
        f"{counted(facts.rows, 'row')}: {facts.train} {use}, {facts.held_out} held out; "
        f"{about}{facts.mean_tokens:.0f} tokens a row, longest {facts.longest}, "
        f"answer {facts.answer_tokens:.0f}; {about}{facts.tokens:,.0f} tokens in all"
    )


def _stage(profile: Profile, stage: StageSpec) -> str:
    train = stage.train
    length = (
        counted(f"{train.epochs:g}", "epoch")
        if train.epochs
        else counted(train.total_steps(0), "step")
    )
    return (
        f"{stage.name}: {train.strategy}, {length} of {counted(train.batch_size, 'example')}"
        f" at {train.learning_rate:g}; old data: {profile.old_data_access(stage)}"
    )


def _length(stage: StageEstimate) -> str:
    time = f"; about {duration(stage.seconds)}" if stage.seconds is not None else ""
    return (
        f"{counted(stage.steps, 'step')}, {counted(f'{stage.epochs:.3g}', 'epoch')}, "
        f"{stage.tokens:,.0f} tokens{time}"
    )


def _cost(estimate: RunEstimate) -> str:
    assert estimate.seconds is not None
    assert estimate.memory is not None
    assert estimate.disk is not None
    free = ""
    if estimate.memory_available is not None:
        free = f" ({format_bytes(estimate.memory_available)} free)"
    return (
        f"about {duration(estimate.seconds)}, {format_bytes(estimate.memory)} of memory{free}, "
        f"up to {format_bytes(estimate.disk)} of disk; right within a factor of two or so"
    )


def _memory(plan: MemoryPlan) -> str:
    ranks = f"each of {plan.ranks} processes: " if plan.ranks > 1 else ""
    if plan.sharded:
        ranks = f"each of {plan.ranks} processes, which divide the model: "
    program = f", Python and torch {format_bytes(plan.process)}" if plan.process else ""
    return (
        f"{ranks}weights {format_bytes(plan.weights)}, gradients {format_bytes(plan.gradients)}, "
        f"optimizer {format_bytes(plan.optimizer)}, activations about "
        f"{format_bytes(plan.activations)} ({plan.rows} rows a pass){program}"
    )


def _start(start: TaskStart) -> str:
    # Deferred: not needed for `--quick`.
    from sf_tui.vocabulary.measured import format_score

    return f"{start.name} {format_score(start.score, counts=True)}"


def duration(seconds: float) -> str:
    """Return a rough duration: `40 s`, `3 min`, `5 h`."""
    if seconds < 90:
        return f"{max(round(seconds, -1 if seconds >= 20 else 0), 1):.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    hours = seconds / 3600
    return f"{hours:.0f} h" if hours < 72 else f"{hours / 24:.0f} days"


def profile_json(profile: Profile, review: Review | None) -> dict[str, Any]:
    """Return all that `profile_lines` shows, as a JSON object; sizes in bytes, times in seconds."""
    found: dict[str, Any] = {
        "ok": True,
        "name": profile.name,
        "model": profile.model.source,
        "tasks": [
            {"name": task.name, "data": task.data, "metric": task.metric} for task in profile.tasks
        ],
        "stages": [
            {
                "name": stage.name,
                "task": stage.task,
                "strategy": stage.train.strategy,
                "old_data_access": profile.old_data_access(stage),
                "steps": stage.train.steps,
                "epochs": stage.train.epochs,
            }
            for stage in profile.stages()
        ],
        "notes": [*profile.notes, *(review.notes if review is not None else ())],
    }
    if review is None:
        return found
    estimate = review.estimate
    return found | {
        "model_size": None if review.size is None else dataclasses.asdict(review.size),
        "data": [
            dataclasses.asdict(facts) | {"rows": facts.rows, "tokens": round(facts.tokens)}
            for facts in review.tasks.values()
        ],
        "estimate": {
            "stages": [dataclasses.asdict(stage) for stage in estimate.stages],
            "seconds": estimate.seconds,
            "memory_bytes": estimate.memory,
            "memory_available_bytes": estimate.memory_available,
            "memory_plan": None if estimate.plan is None else dataclasses.asdict(estimate.plan),
            "disk_bytes": estimate.disk,
        },
        "start": [
            {
                "task": start.name,
                "metric": start.score.metric.name,
                "value": start.score.value,
                "interval": list(start.estimate.interval),
                "n": start.score.examples,
                "guess_floor": start.floor,
                "known": start.is_known,
            }
            for start in review.starts
        ],
        "warnings": list(review.warnings),
    }
