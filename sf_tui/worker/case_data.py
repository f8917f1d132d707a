"""The rows of a recovery case: the old task's, the new one's, the control's, another task's.

Knows what is trained on and what is only scored, and that old data may be gone. Knows no weights.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sf_tui.engine.batches import derive_seed
from sf_tui.engine.loading import LoadedModel
from sf_tui.engine.prepare import (
    BIOGRAPHY,
    PreparedTask,
    encode_rows,
    metric_of,
    prepare_task,
    read_task,
)
from sf_tui.engine.probing import spread_evenly
from sf_tui.errors import DataError
from sf_tui.profile import Profile, TaskSettings
from sf_tui.profile.sources import is_missing
from sf_tui.recovery.case import NewTask, OldTask
from sf_tui.recovery.scoring import ScoredRows, scored_rows
from sf_tui.tasks.biography import biography_task
from sf_tui.tasks.encoded_examples import encode_all
from sf_tui.tasks.encoding import Encoded
from sf_tui.tasks.loaded_rows import load_examples
from sf_tui.tasks.task import Example, FixedExamples, Task
from sf_tui.tasks.user_data import DEFAULT_MOST, load_held_out_file, split_examples

# A test trains on ten old examples and a repair seldom on more than a thousand; only the paper's
# own recovery wants them all.
MOST_EXAMPLES = 4096

# Of a control or another task so many rows tell enough.
_MOST_OTHERS = 512

_FEWEST_SCORED = 2


@dataclass(frozen=True)
class Wanted:
    """What a case is assembled for."""

    examples: int
    """Safe examples of the old task that may be trained on."""
    every_example: bool = False
    """Whether all of the old task's training rows are wanted, for the paper's own recovery."""
    scores_needed: bool = True
    """Whether it is in vain without old rows to score on."""


@dataclass(frozen=True)
class OldRows:
    """The old task as far as its data are at hand."""

    task: OldTask | None
    notes: tuple[str, ...] = ()
    """What of it is not at hand."""


def read_old_task(
    profile: Profile,
    settings: TaskSettings,
    loaded: LoadedModel,
    wanted: Wanted,
    *,
    whole: bool = False,
) -> OldRows:
    """Read the old task; what is absent and not needed is left out and noted.

    Args:
        profile: the profile.
        settings: the task's table.
        loaded: the model, for its tokenizer and the longest row that it takes.
        wanted: what the case is for.
        whole: the data were never split: of a user's file so many rows become safe examples as are
            wanted, and all others, up to 512, are scored.

    Raises:
        DataError: the data can't be used, or are absent and needed.
    """
    try:
        if whole and settings.held_out is None and not settings.data.startswith(BIOGRAPHY):
            task = _split_whole(profile, settings, wanted)
        else:
            task = read_task(profile, settings)
    except DataError as error:
        if not _is_absent(settings):
            raise
        return _without_training_rows(profile, settings, loaded, wanted, error)
    return OldRows(_old_task(profile, settings, task, loaded, wanted))


def old_task_of(
    profile: Profile, prepared: PreparedTask, loaded: LoadedModel, wanted: Wanted
) -> OldTask:
    """Return a task that a worker has prepared as an old task.

    What it does not train in this run it has not encoded either.
    """
    settings = profile.task(prepared.name)
    examples = _training_rows(profile, settings, prepared.task, loaded, wanted)
    held_out = scored_rows(prepared.held_out)
    return OldTask(prepared.name, prepared.metric, held_out, examples)


def read_new_task(
    profile: Profile, settings: TaskSettings, loaded: LoadedModel
) -> tuple[NewTask, PreparedTask]:
    """Read the task that was learnt last.

    Raises:
        DataError: its data can't be used.
    """
    prepared = prepare_task(profile, settings, read_task(profile, settings), loaded)
    return new_task_of(prepared), prepared


def new_task_of(prepared: PreparedTask) -> NewTask:
    """Return a task that a worker has prepared as a new task; a drawn one as its first epoch is."""
    rows = tuple(prepared.train.encoded(at, 0) for at in range(len(prepared.train)))
    held_out = scored_rows(prepared.held_out)
    return NewTask(prepared.name, prepared.metric, rows, held_out)


def read_others(profile: Profile, data: str | None, loaded: LoadedModel) -> ScoredRows | None:
    """Return all rows of a control or of another task, at most 512; None where none is named.

    Args:
        profile: whose [biography] built-in data is made of.
        data: written as a task's.
        loaded: the model, for its tokenizer and the longest row that it takes.

    Raises:
        DataError: the data can't be used.
    """
    if data is None:
        return None
    if data.startswith(BIOGRAPHY):
        made = biography_task(data.removeprefix(BIOGRAPHY), profile.biography)
        examples: Sequence[Example] = made.held_out
    else:
        examples = load_examples(data, profile.base_dir).examples
    taken = _spread(examples, _MOST_OTHERS, data)
    encoded = encode_all(taken, loaded.tokenizer, loaded.max_length)
    if not encoded.rows:
        raise DataError(
            f"{data}: no row can be used: {'; '.join(encoded.notes())}",
            "shorten the rows, or name other data",
        )
    return scored_rows(encoded.rows)


def _split_whole(profile: Profile, settings: TaskSettings, wanted: Wanted) -> Task:
    loaded = load_examples(
        settings.data,
        profile.base_dir,
        fields=settings.fields,
        on_bad_row=settings.on_bad_row,
        group=settings.group,
        split=settings.split,
        subset=settings.subset,
    )
    examples = loaded.examples
    pool = max(wanted.examples, len(examples) // 2 if wanted.every_example else 0)
    scored = min(len(examples) - pool, DEFAULT_MOST)
    if scored < _FEWEST_SCORED:
        raise DataError(
            f"{loaded.shown}: {len(examples)} rows can't give {pool} safe examples and be scored "
            "on others",
            f"at least {_FEWEST_SCORED} rows are scored: add rows, or lower --examples",
        )
    if scored == len(examples):
        return Task(settings.name, FixedExamples(()), examples)
    by_group = settings.group is not None
    split = split_examples(examples, scored, profile.seed, loaded.shown, by_group)
    return Task(
        settings.name,
        FixedExamples([examples[at] for at in split.train]),
        [examples[at] for at in split.held_out],
    )


def _is_absent(settings: TaskSettings) -> bool:
    # A data set's id, which can't be had without a network.
    is_id = not settings.data.startswith(BIOGRAPHY) and not Path(settings.data).is_absolute()
    return is_id or is_missing(settings.data) or is_missing(settings.held_out)


def _without_training_rows(
    profile: Profile,
    settings: TaskSettings,
    loaded: LoadedModel,
    wanted: Wanted,
    error: DataError,
) -> OldRows:
    """Take the old task as a held-out file alone has it, or as one that can't be scored."""
    held_out: Sequence[Example] = ()
    if isinstance(settings.held_out, str) and not is_missing(settings.held_out):
        held_out = load_held_out_file(settings, settings.held_out, profile.base_dir).examples
    if not held_out and wanted.scores_needed:
        raise DataError(error.message, f"{error.hint}; without it the old task can't be scored")
    if wanted.examples and not wanted.scores_needed:
        raise DataError(
            error.message, f"{error.hint}; a repair without old examples needs no such file"
        )
    if not held_out:
        note = f"'{settings.name}' can't be scored: {error.message}"
        return OldRows(None, (note,))
    task = Task(settings.name, FixedExamples(()), held_out)
    note = f"'{settings.name}' is only scored, no example of it is at hand: {error.message}"
    return OldRows(_old_task(profile, settings, task, loaded, wanted), (note,))


def _old_task(
    profile: Profile, settings: TaskSettings, task: Task, loaded: LoadedModel, wanted: Wanted
) -> OldTask:
    held_out = encode_rows(profile, settings, task.held_out, loaded)
    examples = _training_rows(profile, settings, task, loaded, wanted)
    if not held_out.rows and wanted.scores_needed:
        raise DataError(
            f"'{task.name}': no row to score on can be used: {'; '.join(held_out.notes())}",
            "raise [train] max_length, or shorten the rows",
        )
    metric = metric_of(settings, held_out.rows or examples)
    return OldTask(task.name, metric, scored_rows(held_out.rows), examples)


def _training_rows(
    profile: Profile, settings: TaskSettings, task: Task, loaded: LoadedModel, wanted: Wanted
) -> tuple[Encoded, ...]:
    """Return the rows that safe examples are drawn from."""
    count = len(task.train)
    most = count if wanted.every_example else max(MOST_EXAMPLES, wanted.examples)
    places = list(range(count))
    if count > most:
        order = spread_evenly([""] * count, derive_seed(profile.seed, settings.name, "pool"))
        places = sorted(order[:most])
    examples = [task.train.example(at, 0) for at in places]
    return tuple(encode_rows(profile, settings, examples, loaded).rows)


def _spread(examples: Sequence[Example], most: int, name: str) -> Sequence[Example]:
    if len(examples) <= most:
        return examples
    order = spread_evenly([example.group for example in examples], derive_seed(name))
    return [examples[at] for at in sorted(order[:most])]
