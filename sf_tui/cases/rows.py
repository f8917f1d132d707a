"""The rows of a case: of the old task, the new task, a control and another task.

Knows which rows are trained on and which are only scored, and that old data may be missing. Knows
no weights.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
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
from sf_tui.neighbors.anatomy import Tokens
from sf_tui.neighbors.held_out import untrained_prompts
from sf_tui.profile import Profile, TaskSettings
from sf_tui.profile.sources import is_missing
from sf_tui.recovery.case import CaseTask
from sf_tui.recovery.scoring import EvalSet, eval_set
from sf_tui.tasks.biography import biography_task
from sf_tui.tasks.encoded_examples import encode_all
from sf_tui.tasks.encoding import Encoded
from sf_tui.tasks.loaded_rows import load_examples
from sf_tui.tasks.task import Example, FixedExamples, Task
from sf_tui.tasks.user_data import DEFAULT_MOST, load_held_out_file, split_examples
from sf_tui.vocabulary.sizes import counted

MOST_EXAMPLES = 4096
"""Most old training rows that are encoded, unless all are needed: a test trains on ten of them and
a repair rarely on more than a thousand; only the paper's own recovery uses all."""

_MOST_OTHERS = 512
"""Most rows of a control or of another task; more would not change a conclusion."""

_MOST_WITH_SPARE = 2048
"""Most rows of a user's file that a test scores while its verdict is open: half the interval."""

_FEWEST_SCORED = 2


@dataclass(frozen=True)
class CaseNeeds:
    """Requirements on a case."""

    examples: int
    """Safe examples of the old task that may be trained on."""
    every_example: bool = False
    """Whether all of the old task's training rows are needed, for the paper's own recovery."""
    scores_needed: bool = True
    """Whether the case is useless without old rows to score."""
    spare: bool = False
    """Whether further held-out rows are of use, which are scored only if the first leave a verdict
    open."""


def read_old_task(
    profile: Profile,
    settings: TaskSettings,
    loaded: LoadedModel,
    needs: CaseNeeds,
    *,
    whole: bool = False,
) -> tuple[CaseTask | None, tuple[str, ...]]:
    """Read the old task; parts that are missing and not needed are left out and noted.

    Args:
        profile: the profile.
        settings: the task's table.
        loaded: the model, for its tokenizer and the longest row that it accepts.
        needs: what the case is for.
        whole: the data has no split of its own. `needs.examples` rows of a user's file become safe
            examples, and all others, up to 512, are scored; with `needs.spare`, more of them, up to
            2,048 in all, are kept for later.

    Returns:
        The task, None if it can't be scored; and notes on what is missing.

    Raises:
        DataError: the data can't be used, or is missing and needed.
    """
    try:
        if whole and settings.held_out is None and not settings.data.startswith(BIOGRAPHY):
            task, spare = _split_whole(profile, settings, needs)
        else:
            task, spare = read_task(profile, settings), []
    except DataError as error:
        if not _is_missing(settings):
            raise
        return _without_training_rows(profile, settings, loaded, needs, error)
    old = _old_task(profile, settings, task, loaded, needs)
    if spare:
        old = replace(old, spare=eval_set(encode_rows(profile, settings, spare, loaded).rows))
    return old, ()


def old_task_of(
    profile: Profile, prepared: PreparedTask, loaded: LoadedModel, needs: CaseNeeds
) -> CaseTask:
    """Return a prepared task as an old task.

    A task that no stage of the run trains has no encoded training rows yet.
    """
    settings = profile.task(prepared.name)
    examples = _training_rows(profile, settings, prepared.task, loaded, needs)
    held_out = eval_set(prepared.held_out)
    return CaseTask(prepared.name, prepared.metric, held_out, examples)


def read_new_task(
    profile: Profile, settings: TaskSettings, loaded: LoadedModel
) -> tuple[CaseTask, PreparedTask]:
    """Read the newly learned task.

    Raises:
        DataError: its data can't be used.
    """
    prepared = prepare_task(profile, settings, read_task(profile, settings), loaded)
    return new_task_of(prepared), prepared


def new_task_of(prepared: PreparedTask) -> CaseTask:
    """Return a prepared task as a new task; if its rows are drawn, those of the first epoch."""
    rows = tuple(prepared.train.encoded(at, 0) for at in range(len(prepared.train)))
    held_out = eval_set(prepared.held_out)
    return CaseTask(prepared.name, prepared.metric, held_out, rows)


def read_held_out_prompts(
    profile: Profile, known: Mapping[str, str | None], loaded: LoadedModel
) -> tuple[tuple[Tokens, ...], tuple[str, ...]]:
    """Return the held-out prompts of a profile's other tasks, and notes on unreadable ones.

    Args:
        profile: the profile.
        known: names of the tasks whose rows the case has, each with the data that replaces its
            own, or None.
        loaded: the model, for its tokenizer and the longest row that it accepts.
    """
    tasks, notes = [], []
    for settings in profile.tasks:
        if settings.name in known and known[settings.name] is None:
            continue
        try:
            tasks.append(prepare_task(profile, settings, read_task(profile, settings), loaded))
        except DataError as error:
            notes.append(
                f"held-out rows of '{settings.name}' can't be kept out of the prompts that are "
                f"trained on: {error.message}"
            )
    return held_out_prompts_of(tasks), tuple(notes)


def held_out_prompts_of(
    tasks: Iterable[PreparedTask], known: Collection[str] = ()
) -> tuple[Tokens, ...]:
    """Return the prompts of some tasks that are held out, without those of known ones."""
    others = (task for task in tasks if task.name not in known)
    return tuple(p for task in others for p in untrained_prompts(task.held_out, task.train))


def read_others(profile: Profile, data: str | None, loaded: LoadedModel) -> EvalSet | None:
    """Return all rows of a control or of another task, at most 512; None if `data` is None.

    Args:
        profile: its [biography] generates built-in data.
        data: as in a task's table.
        loaded: the model, for its tokenizer and the longest row that it accepts.

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
    return eval_set(encoded.rows)


def _split_whole(
    profile: Profile, settings: TaskSettings, needs: CaseNeeds
) -> tuple[Task, list[Example]]:
    """Return a file's rows as a task, and the rows that are kept for later."""
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
    pool = max(needs.examples, len(examples) // 2 if needs.every_example else 0)
    scored = min(len(examples) - pool, DEFAULT_MOST)
    if scored < _FEWEST_SCORED:
        raise DataError(
            f"{loaded.shown}: {counted(len(examples), 'row')} can't give "
            f"{counted(pool, 'safe example')} and be scored on others",
            f"at least {_FEWEST_SCORED} rows are scored: add rows, or lower --examples",
        )
    if scored == len(examples):
        return Task(settings.name, FixedExamples(()), examples), []
    by_group = settings.group is not None
    split = split_examples(examples, scored, profile.seed, loaded.shown, by_group)
    train, spare = split.train, list[int]()
    most = min(len(examples) - pool, _MOST_WITH_SPARE) if needs.spare else scored
    if most > scored:
        # The draw is the same, so these are the rows above and more.
        wider = split_examples(examples, most, profile.seed, loaded.shown, by_group)
        spare = [at for at in wider.held_out if at not in set(split.held_out)]
        train = tuple(at for at in train if at not in set(spare))
    task = Task(
        settings.name,
        FixedExamples([examples[at] for at in train]),
        [examples[at] for at in split.held_out],
    )
    return task, [examples[at] for at in spare]


def _is_missing(settings: TaskSettings) -> bool:
    # A data set's id counts as missing, because there may be no network.
    is_id = not settings.data.startswith(BIOGRAPHY) and not Path(settings.data).is_absolute()
    return is_id or is_missing(settings.data) or is_missing(settings.held_out)


def _without_training_rows(
    profile: Profile,
    settings: TaskSettings,
    loaded: LoadedModel,
    needs: CaseNeeds,
    error: DataError,
) -> tuple[CaseTask | None, tuple[str, ...]]:
    """Return the old task with its held-out file alone, or None if that is missing too."""
    held_out: Sequence[Example] = ()
    if isinstance(settings.held_out, str) and not is_missing(settings.held_out):
        held_out = load_held_out_file(settings, settings.held_out, profile.base_dir).examples
    if not held_out and needs.scores_needed:
        raise DataError(error.message, f"{error.hint}; without it the old task can't be scored")
    if needs.examples and not needs.scores_needed:
        raise DataError(
            error.message, f"{error.hint}; a repair without old examples needs no such file"
        )
    if not held_out:
        return None, (f"'{settings.name}' can't be scored: {error.message}",)
    task = Task(settings.name, FixedExamples(()), held_out)
    note = f"'{settings.name}' is only scored, no example of it is available: {error.message}"
    return _old_task(profile, settings, task, loaded, needs), (note,)


def _old_task(
    profile: Profile, settings: TaskSettings, task: Task, loaded: LoadedModel, needs: CaseNeeds
) -> CaseTask:
    held_out = encode_rows(profile, settings, task.held_out, loaded)
    examples = _training_rows(profile, settings, task, loaded, needs)
    if not held_out.rows and needs.scores_needed:
        raise DataError(
            f"'{task.name}': no row to score on can be used: {'; '.join(held_out.notes())}",
            "raise [train] max_length, or shorten the rows",
        )
    metric = metric_of(settings, held_out.rows or examples)
    return CaseTask(task.name, metric, eval_set(held_out.rows), examples)


def _training_rows(
    profile: Profile, settings: TaskSettings, task: Task, loaded: LoadedModel, needs: CaseNeeds
) -> tuple[Encoded, ...]:
    """Return the rows that safe examples are drawn from."""
    count = len(task.train)
    most = count if needs.every_example else max(MOST_EXAMPLES, needs.examples)
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
