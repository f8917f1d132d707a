"""Warns before a stage's first step of old tasks that the model does not know as they are asked."""

from __future__ import annotations

from collections.abc import Sequence

from sf_tui.cases.known_tasks import describe_unknown, sample_answers, task_start
from sf_tui.vocabulary.events import Alert
from sf_tui.worker.context import RunContext
from sf_tui.worker.lockstep import ending_alike
from sf_tui.worker.stop import is_out_of_memory


def warn_of_unknown_tasks(context: RunContext, stage: str, names: Sequence[str]) -> None:
    """Write an alert for each old task whose score at the stage's start is near guessing.

    Only for the first stage that a task is old in: a task that an earlier stage lost was known.

    Args:
        context: the run, after the stage's first probe.
        stage: the stage's name.
        names: its watched old tasks.
    """
    before: set[str] = set()
    for spec, known in context.profile.stages_with_known():
        if spec.name == stage:
            break
        before |= set(known) - {spec.task}
    for name in names:
        code = Alert.unknown_code(name)
        if name in before or context.resume_log.has_event("alert", stage, code):
            continue
        task = context.prepared.tasks[name]
        start = task_start(task, context.accuracy[name])
        if start is None or start.is_known:
            continue
        try:
            with ending_alike(context.ranks):
                answers = sample_answers(context.prepared, task)
        except (RuntimeError, MemoryError) as error:
            # The warning matters more than its examples.
            if not is_out_of_memory(error):
                raise
            answers = []
        context.alert("warn", code, describe_unknown(start, answers), stage, 0)
