"""Looks at a profile's model and data before a run: figures, estimates, warnings.

Reads rows, a tokenizer, file headers and a config. Loads weights only to score the old tasks, and
only if asked or if the model is small.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from sf_tui.cases.data_facts import DataFacts, is_remote, read_data_facts
from sf_tui.cases.estimates import RunEstimate, estimate_run
from sf_tui.cases.known_tasks import TaskStart, describe_unknown, measure_starts, sample_answers
from sf_tui.cases.memory_plan import MemoryPlan, remedies
from sf_tui.cases.model_size import ModelSize, is_local, read_model_size, read_tokenizer
from sf_tui.cases.profile_warnings import warn_of_plan
from sf_tui.engine.prepare import prepare_run
from sf_tui.errors import DataError, ModelError
from sf_tui.profile import Profile
from sf_tui.vocabulary.sizes import format_bytes

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

MOST_MEASURED_PARAMETERS = 20_000_000
"""Models up to this size are loaded and scored without being asked to: that takes a few seconds."""


@dataclass(frozen=True)
class Review:
    """What was found."""

    size: ModelSize | None
    tasks: Mapping[str, DataFacts]
    estimate: RunEstimate
    starts: tuple[TaskStart, ...] = ()
    """Scores of the tasks that the model should know before the first stage, if measured."""
    warnings: tuple[str, ...] = ()
    notes: tuple[str, ...] = field(default=())
    """What could not be looked at, and why."""
    refusal: ModelError | None = None
    """Why no training of this profile can fit into the device's memory."""


def review_profile(profile: Profile, *, measure: bool | None = None) -> Review:
    """Look at a profile's model and data.

    Local data and models have to be usable. What needs a network and can't be reached is left out,
    with a note.

    Args:
        profile: a loaded profile.
        measure: whether to load the model and score the old tasks; None: if it is small.

    Raises:
        DataError: local data can't be used.
        ModelError: a local model can't be used.
    """
    notes: list[str] = []
    size, tokenizer = look_at_model(profile, notes)
    tasks = look_at_data(profile, tokenizer, size, notes)
    estimate = estimate_run(profile, tasks, size)
    if measure is None:
        small = size is not None and size.parameters <= MOST_MEASURED_PARAMETERS
        measure = small and not size_is_random(size)
    starts: list[TaskStart] = []
    unknown: list[str] = []
    if measure and len(tasks) == len(profile.tasks):
        starts, unknown = measure_known(profile)
    elif measure:
        notes.append("the old task is not scored: not all data are available")
    return Review(
        size,
        tasks,
        estimate,
        tuple(starts),
        (*unknown, *warn_of_plan(profile, tasks, estimate, size)),
        tuple(notes),
        None if estimate.plan is None else _refusal(profile, estimate.plan),
    )


def _refusal(profile: Profile, plan: MemoryPlan) -> ModelError | None:
    if plan.fits:
        return None
    assert plan.device_bytes is not None  # it was compared
    shared = (
        f" ({plan.processes_a_device} processes share it)" if plan.processes_a_device > 1 else ""
    )
    ways = list(remedies(profile, plan))
    return ModelError(
        f"[model] {profile.model.source}: weights, gradients and AdamW's moments take "
        f"{format_bytes(plan.exact)} a process, and the device has "
        f"{format_bytes(plan.device_bytes)}{shared}",
        f"what would fit: {'; '.join(ways)}" if ways else "take a smaller model or a larger device",
    )


def size_is_random(size: ModelSize | None) -> bool:
    """Return whether a model has new weights, which know no task."""
    return size is not None and size.is_random


def look_at_model(
    profile: Profile, notes: list[str]
) -> tuple[ModelSize | None, PreTrainedTokenizerBase | None]:
    """Return a profile's model size and tokenizer; None and a note for what can't be reached.

    Raises:
        ModelError: a local model can't be used.
    """
    size: ModelSize | None = None
    tokenizer: PreTrainedTokenizerBase | None = None
    try:
        tokenizer = read_tokenizer(profile.model, profile.base_dir)
        size = read_model_size(profile.model, profile.base_dir, tokenizer)
    except ModelError as error:
        if is_local(profile.model, profile.base_dir):
            raise
        notes.append(f"the model is not looked at: {error.message}")
    return size, tokenizer


def look_at_data(
    profile: Profile,
    tokenizer: PreTrainedTokenizerBase | None,
    size: ModelSize | None,
    notes: list[str],
) -> dict[str, DataFacts]:
    """Return each task's data in figures; those that can't be reached are left out with a note.

    Raises:
        DataError: local data can't be used.
    """
    found = {}
    for settings in profile.tasks:
        try:
            found[settings.name] = read_data_facts(
                profile, settings, tokenizer, size.max_length if size else None
            )
        except DataError as error:
            if not is_remote(settings, profile.base_dir):
                raise
            notes.append(f"the data of '{settings.name}' are not looked at: {error.message}")
    return found


def measure_known(profile: Profile) -> tuple[list[TaskStart], list[str]]:
    """Load the model and score the watched tasks that it should know before the first stage.

    Returns:
        Their scores, and a warning for each that it does not know.
    """
    spec, known = next(profile.stages_with_known())
    names = [name for name in known if name != spec.task and profile.task(name).watch]
    if not names:
        return [], []
    prepared = prepare_run(profile, None)
    starts = measure_starts(prepared, names)
    unknown = [
        describe_unknown(start, sample_answers(prepared, prepared.tasks[start.name]))
        for start in starts
        if not start.is_known
    ]
    return starts, unknown
