"""The earlier start weights that a repair in a run of several stages refers to.

Reads checkpoints' headers and prompts of tasks that the run taught; no answers, no old data.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from sf_tui.cases.run_weights import LoadedRun, own_start
from sf_tui.engine.batches import EncodedSource
from sf_tui.neighbors.anatomy import sample_prompts
from sf_tui.profile import Profile
from sf_tui.profile.references import references_of
from sf_tui.recovery.case import CaseReferences, TaughtTask


def case_references(
    profile: Profile,
    stage: str,
    model: LoadedRun,
    start_of: Callable[[str], Path],
    train_of: Callable[[str], EncodedSource],
) -> CaseReferences | None:
    """Return the references of a repair in a stage.

    Args:
        profile: the run's profile.
        stage: the stage.
        model: the model that the weights must fit.
        start_of: returns the folder of a stage's first checkpoint.
        train_of: returns the training rows of a task that the run taught.

    Returns:
        None where only the stage's own start can be used: it is the only one, a taught task has no
        prompts or [anchor] taught_share is 0, or a checkpoint is gone.

    Raises:
        RunError: a checkpoint can't be used.
        DataError: the rows of a taught task can't be used.
    """
    share = profile.anchor.taught_share
    wanted = references_of(profile, stage)
    if wanted.taught and not share:
        return None
    if wanted.origin == stage and not wanted.taught:
        return None
    origin = own_start(profile, wanted.origin, model, start_of)
    if origin is None:
        return None
    taught = []
    for task, reference in wanted.taught:
        weights = own_start(profile, reference, model, start_of)
        sample = sample_prompts(train_of(task))
        if weights is None or not sample.prompts:
            return None
        taught.append(TaughtTask(task, tuple(sample.prompts), sample.longest_answer, weights))
    return CaseReferences(origin, tuple(taught), share)
