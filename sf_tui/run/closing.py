"""What to read at a run's end: what was kept and lost, where the model is, and what to do next.

`sf run --no-ui`, `sf show` and the console end with these lines, from the same state.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sf_tui.run.checkpoint_folders import newest_checkpoint
from sf_tui.run.course import TaskCourse, courses
from sf_tui.run.directory import RunDirectory
from sf_tui.run.durable import read_regular
from sf_tui.run.hosted import host_name
from sf_tui.run.losses import task_losses
from sf_tui.run.next_steps import is_complete
from sf_tui.run.state import RunState
from sf_tui.vocabulary.events import Alert
from sf_tui.vocabulary.measured import KNOWN_FROM, Drop, drop_between, format_drop, format_score
from sf_tui.vocabulary.verdicts import VERDICTS, is_recoverable

ALERT_DROP = 0.20
"""Default of [window] alert_drop."""

ROWS_ALONE = (
    "its training rows are learned and its held-out rows are not: more steps don't help where they "
    "ask what no training row tells"
)


@dataclass(frozen=True)
class Closing:
    """The lines at a run's end.

    Attributes:
        outcome: one line for each task: what was lost, kept, or not learned.
        model: the folder with the newest weights; None before the first checkpoint.
        next_steps: commands, each with what it is for; empty if nothing is to be done.
    """

    outcome: list[str]
    model: Path | None
    next_steps: list[tuple[str, str]]


def closing_of(run: RunDirectory, state: RunState, name: str, *, is_dead: bool = False) -> Closing:
    """Return the lines at the end of a run, or at the point where it was stopped.

    Args:
        run: the run.
        state: the fold of its events.
        name: the run's name on the command line.
        is_dead: whether its worker ended without a word.
    """
    return Closing(
        [*_lost_lines(state), *_learned_lines(state)],
        newest_weights(run, state),
        list(_next_steps(run, state, name, is_dead=is_dead)),
    )


def newest_weights(run: RunDirectory, state: RunState) -> Path | None:
    """Return the folder with the run's newest weights: the final model, else a checkpoint."""
    if state.finished is not None and run.model.is_dir():
        return run.model
    newest = newest_checkpoint(run, state)
    return run.path / newest.path if newest else None


def _lost_lines(state: RunState) -> Iterator[str]:
    for loss in task_losses(state):
        drop = loss.since_run
        if drop is None:
            continue
        if _was_unknown(state, loss.task, drop):
            yield (
                f"{loss.task} was not known when the run began, so nothing of it could be lost: "
                f"{format_score(drop.after, counts=True)}"
            )
            continue
        since = "taught it" if _is_taught(state, loss.task) else "began"
        yield (
            f"{loss.task} {_in_words(drop)} since the run {since}: {format_score(drop.before)} to "
            f"{format_score(drop.after, counts=True)}"
        )


def _was_unknown(state: RunState, task: str, drop: Drop) -> bool:
    """Return whether a task's first score was no more than guessing, so that it can't be lost."""
    if drop.before.metric.is_share and drop.before.value == drop.after.value == 0.0:
        return True
    if _is_taught(state, task):
        return False
    told = {one.code for one in state.alerts if isinstance(one, Alert)}
    return Alert.unknown_code(task) in told


def _is_taught(state: RunState, task: str) -> bool:
    """Return whether the run trained a task before it was an earlier one."""
    for stage in state.stages.values():
        if task in stage.known:
            return False
        if stage.task == task:
            return True
    return False


def _in_words(drop: Drop) -> str:
    change = format_drop(drop, interval=True)
    unit = "points" if drop.after.metric.is_share else drop.after.metric.unit
    if not drop.exceeds(0.0):
        # The interval includes no loss.
        return f"was kept ({change} {unit})"
    if drop.after.metric.is_share:
        return f"lost {change.removeprefix('−')} {unit}"
    return f"changed by {change} {unit}"


def _learned_lines(state: RunState) -> Iterator[str]:
    for course in _trained(state):
        if course.end is None:
            continue
        text = f"{course.task} reached {format_score(course.end, counts=True)} in its own stage"
        if not was_learned(course):
            text += f"; it was not learned: it started at {format_score(course.start)}"
        yield text


def _trained(state: RunState) -> list[TaskCourse]:
    """Return the courses of the tasks in the stages that trained them."""
    return [course for course in courses(state) if course.task == state.stages[course.stage].task]


def was_learned(course: TaskCourse) -> bool:
    """Return whether a trained task's score rose for certain, or was high from the start."""
    if course.start is None or course.end is None:
        return True
    gain = drop_between(course.end, course.start)
    if course.start.metric.is_share and course.start.value >= KNOWN_FROM:
        return True
    return gain.exceeds(0.0)


def _next_steps(
    run: RunDirectory, state: RunState, name: str, *, is_dead: bool
) -> Iterator[tuple[str, str]]:
    host = host_name(run)
    if _ended_at_nan(state) and not host:
        # What the stage's figures say of its rate is of another one that was too high.
        yield (
            "",
            "start another run with a lower [train] learning_rate; a resume ends as this one",
        )
        return
    ended = state.finished
    is_cut_short = is_dead or (ended is not None and not is_complete(ended.status))
    if is_cut_short:
        if host:
            yield "", f"{host}'s own resume continues the run"
        else:
            yield f"sf resume {name}", "continue the run"
    bound = alert_drop(run)
    lost = [
        loss
        for loss in task_losses(state)
        if loss.since_run is not None and loss.since_run.value > 0 and loss.since_run.exceeds(0.0)
    ]
    unlearned = [course for course in _trained(state) if not was_learned(course)]
    if is_cut_short:
        # A stage that goes on may still learn its task.
        unlearned = []
    if unlearned and all(state.stages[one.stage].knows_its_rows for one in unlearned):
        yield "", ROWS_ALONE
    elif unlearned and run.references.exists():
        yield "", "if it was to be learned, train again with a higher learning rate or more steps"
    elif unlearned:
        yield (
            f"sf profile check {run.profile}",
            "see epochs and rate; train again with a higher [train] learning_rate or more steps",
        )
    if not lost:
        return
    diagnosis = state.diagnosis if state.diagnosis_holds else None
    if diagnosis is not None and diagnosis.verdict in VERDICTS:
        recover = f"sf recover {name} --out DIR"
        yield (
            recover if is_recoverable(diagnosis.verdict) else "",
            VERDICTS[diagnosis.verdict].advice(
                has_start=True,
                knows_accuracy=diagnosis.start is not None,
                recover=recover,
                rounds_ended=diagnosis.rounds_ended,
            ),
        )
        return
    drop = lost[0].since_run
    small = drop is not None and drop.value < bound
    yield (
        f"sf diagnose {name}",
        "a small loss; find out whether it is spurious"
        if small
        else "is the loss spurious or real?",
    )


def _ended_at_nan(state: RunState) -> bool:
    """Return whether the run failed at a NaN, which a resume would repeat."""
    if state.finished is None or state.finished.status != "failed" or state.stage is None:
        return False
    errors = [one for one in state.alerts if one.level == "error"]
    last = errors[-1] if errors else None
    return (
        isinstance(last, Alert)
        and last.code == Alert.NAN
        and last.stage == state.stage.name
        and (last.step or 0) > state.stage.step
    )


def alert_drop(run: RunDirectory) -> float:
    """Return the drop that a run's profile warns of; the default if it can't be read."""
    try:
        return alert_drop_of(tomllib.loads(read_regular(run.profile).decode()))
    except (OSError, ValueError):
        # A damaged profile is reported by the reader that needs it.
        return ALERT_DROP


def alert_drop_of(profile: Mapping[str, Any]) -> float:
    """Return the drop that a profile's tables warn of; the default if they name none."""
    try:
        return float(profile.get("window", {}).get("alert_drop", ALERT_DROP))
    except (ValueError, AttributeError, TypeError):
        return ALERT_DROP
