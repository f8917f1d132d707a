"""What makes a resumed run differ from the undisturbed one in the last bits, told as alerts."""

from __future__ import annotations

import torch

from sf_tui.engine.checkpoint import Checkpoint
from sf_tui.vocabulary.events import Alert
from sf_tui.vocabulary.sizes import counted
from sf_tui.worker.context import RunContext


def tell_differences(context: RunContext, point: Checkpoint) -> None:
    """Write an alert for each difference from the worker that wrote the checkpoint.

    Args:
        context: the run.
        point: the checkpoint that it resumes from.
    """
    before, now = point.state["ranks"], context.ranks.world
    if before != now:
        text = (
            f"resumed on {counted(now, 'rank')}, written by {counted(before, 'rank')}: the "
            "same samples in the same order, and the same course within float tolerance"
        )
        context.log_event(Alert("info", "ranks", text, point.stage, point.step))
    then = point.state["torch"]
    if then != torch.__version__:
        context.alert(
            "warn",
            "versions",
            f"resumed with torch {torch.__version__}, begun with {then}: the same course, "
            "but not to the last bit",
            point.stage,
            point.step,
        )
    if context.profile.stage_train(point.stage).torch_compile:
        context.alert(
            "info",
            "compiled",
            "resumed with torch_compile: the same samples in the same order, and the same course "
            "within float tolerance",
            point.stage,
            point.step,
        )
