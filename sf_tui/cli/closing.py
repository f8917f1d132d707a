"""The last lines of a headless run: where the model is, what was lost, and what to do next."""

from __future__ import annotations

from collections.abc import Iterator

from sf_tui.cli.target import run_name
from sf_tui.run.directory import RunDirectory
from sf_tui.run.next_steps import is_complete, what_next
from sf_tui.run.state import RunState
from sf_tui.vocabulary.events import RunFinished

NAMED_FROM = 0.10
"""Loss of an old task, as a share, from which it is named: less is within the noise of a probe."""


def closing_lines(run: RunDirectory, state: RunState, event: RunFinished) -> Iterator[str]:
    """Yield what an operator needs after the end of a run.

    Args:
        run: the run.
        state: the fold of all its events.
        event: its end.
    """
    name = run_name(run)
    if run.model.is_dir():
        yield f"model: {run.model}"
    lost = list(_losses(state))
    for task, before, now in lost:
        yield f"{task} lost {100 * (before - now):.0f} points ({before:.2f} to {now:.2f})"
    # The reason of a stop or a failure names what to do already.
    if lost and is_complete(event.status):
        yield what_next(name, event.status)


def _losses(state: RunState) -> Iterator[tuple[str, float, float]]:
    """Yield each old task that lost much: its value once it was known, and its last value.

    A task is known at the end of its own stage, or from the run's start if it has none.
    """
    stages = [stage for stage in state.stages.values() if stage.probes]
    if not stages:
        return
    last = stages[-1].probes[-1].metrics
    learned = {stage.task: stage.probes[-1].metrics for stage in stages}
    for task in last:
        if task == stages[-1].task or not state.metric(task).is_share:
            continue
        before = state.value_of(task, learned.get(task, stages[0].probes[0].metrics))
        now = state.value_of(task, last)
        if before is not None and now is not None and before - now >= NAMED_FROM:
            yield task, before, now
