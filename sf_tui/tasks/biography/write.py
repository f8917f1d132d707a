"""The experiment as files that any prompt/completion reader can load.

Writes all files or none. Knows nothing of tokens.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from sf_tui.errors import UsageError
from sf_tui.run.durable import aside_name, remove_abandoned
from sf_tui.tasks.biography.build import biography_task
from sf_tui.tasks.biography.world import NEW_TASKS, BiographySettings, Settings, check_settings
from sf_tui.tasks.task import Example, Task

# A file can't draw entries again in every epoch; 20 entries per person come close, one for each of
# an attribute's sentences.
ENTRIES_PER_PERSON = 20


@dataclass(frozen=True)
class Summary:
    """Number of rows in each file and, for each scored task, its guess floors."""

    rows: dict[str, int]
    guess_floor: dict[str, dict[str, float]]


def write_biography(
    directory: Path, settings: BiographySettings, entries: int = ENTRIES_PER_PERSON
) -> Summary:
    """Write the experiment as JSONL, with its settings in `experiment.json`.

    Rows have `prompt` and `completion`, which are joined unchanged; questions also have their
    attribute as `group`. In `pretrain.jsonl` the prompt is empty and the completion is an entry.

    Args:
        directory: a new or an empty directory; left empty on failure.
        settings: people, shares, form and seeds.
        entries: number of entries per person.

    Raises:
        UsageError: `directory` is not empty or can't be written, or the settings make no
            experiment.
    """
    check_settings(settings)
    if entries < 1:
        raise UsageError(f"entries is {entries}; it must be at least 1")
    # Absolute, so that the directory has a name and a parent even if it was given as ".".
    directory = directory.absolute()
    try:
        # Leftovers of a killed process don't count.
        remove_abandoned(directory, directory.name, "writing")
        remove_abandoned(directory.parent, directory.name, "writing")
        _refuse_occupied(directory)
        return _write_aside(directory, settings, entries)
    except OSError as error:
        raise UsageError(
            f"can't write {directory}: {error.strerror}", "choose another directory"
        ) from error


def _refuse_occupied(directory: Path) -> None:
    if directory.is_dir():
        if any(directory.iterdir()):
            raise UsageError(
                f"{directory} is not empty", "choose a directory that is empty or not there yet"
            )
    elif directory.exists():
        raise UsageError(f"{directory} is not a directory", "choose another name")


def _write_aside(directory: Path, settings: BiographySettings, entries: int) -> Summary:
    existed = directory.is_dir()
    # Next to the final place, so that renaming never crosses file systems.
    home = directory if existed else directory.parent
    home.mkdir(parents=True, exist_ok=True)
    aside = home / aside_name(directory.name, "writing")
    aside.mkdir()
    try:
        summary = _write_files(aside, settings, entries)
        if existed:
            # Keep the directory: it may be a mount point or a working directory.
            for file in sorted(aside.iterdir()):
                file.rename(directory / file.name)
        else:
            aside.rename(directory)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return summary


def _write_files(directory: Path, settings: BiographySettings, entries: int) -> Summary:
    pretrain = biography_task("pretrain", settings)
    old = biography_task("old", settings)
    new = {
        f"new-{number}": biography_task(f"new-{number}", settings)
        for number in range(1, NEW_TASKS + 1)
    }
    texts: dict[str, Iterable[Example]] = {
        "pretrain": _drawn(pretrain, entries),
        "old-tuned": _drawn(old, 1),
        "old-held-out": old.held_out,
        **{name: task.held_out for name, task in new.items()},
    }
    summary = Summary(
        rows={
            f"{name}.jsonl": _write_rows(directory / f"{name}.jsonl", examples)
            for name, examples in texts.items()
        },
        guess_floor={name: task.guess_floor for name, task in {"old": old, **new}.items()},
    )
    made_from = Settings(
        people=settings.people,
        train_share=settings.train_share,
        new_people=settings.new_people,
        question_form=settings.question_form,
        seed=settings.seed,
        new_seed=settings.new_seed,
    )
    described = {"settings": {**asdict(made_from), "entries": entries}, **asdict(summary)}
    (directory / "experiment.json").write_text(json.dumps(described, indent=2) + "\n", "utf-8")
    return summary


def _drawn(task: Task, draws: int) -> Iterator[Example]:
    for draw in range(draws):
        for index in range(len(task.train)):
            yield task.train.example(index, draw)


def _write_rows(path: Path, examples: Iterable[Example]) -> int:
    rows = 0
    with path.open("w", encoding="utf-8", newline="\n") as file:
        for example in examples:
            row = {"prompt": example.prompt, "completion": example.completion}
            if example.group:
                row["group"] = example.group
            file.write(json.dumps(row) + "\n")
            rows += 1
    return rows
