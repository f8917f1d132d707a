"""Rules of `[[tasks]]` and `[biography]`: names, kinds of data, what is learnt.

Opens no data.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from sf_tui.errors import did_you_mean
from sf_tui.profile.check_model import SCHEME
from sf_tui.profile.describe import toml_value
from sf_tui.profile.locate import KeyPath
from sf_tui.profile.names import BIOGRAPHY_DATA, BIOGRAPHY_TOKENIZER, REPLAY_STAGE
from sf_tui.profile.paths import is_missing, missing_hint
from sf_tui.profile.problems import Origin, Problem
from sf_tui.profile.schema import Profile

NEW_BIOGRAPHY_TASKS = 5
# Of the generator's 2.6 million names.
MOST_PEOPLE = 1_000_000
ONLY_FOR_YOUR_DATA = ("held_out", "group", "fields", "split", "subset")


def check_tasks(profile: Profile, origin: Origin) -> Iterator[Problem]:
    """Find tasks that can't be told apart, have no data of a known kind or are never learnt."""
    if not profile.tasks:
        yield Problem(("tasks",), "there is no task", "add [[tasks]] with name and data")
        return
    seen: dict[str, int] = {}
    for place, task in enumerate(profile.tasks):
        path = ("tasks", place, "name")
        if task.name == REPLAY_STAGE:
            yield Problem(
                path,
                f"name = '{REPLAY_STAGE}' is kept for the stage that [replay_stage] adds",
                "give the task another name",
            )
        if task.name in seen:
            other = origin.place(("tasks", seen[task.name], "name"))
            yield Problem(
                path,
                f"name = '{task.name}' is already the name of another task ({other})",
                "give one of them another name",
            )
        seen.setdefault(task.name, place)
        yield from check_data(("tasks", place, "data"), task.data)
        if place and origin.raw["tasks"][place].get("learn") is False:
            yield Problem(
                ("tasks", place, "learn"),
                "learn = false: only the first task can be left as it is known",
                "take learn away; a task that is only watched goes first",
            )
    if len(profile.tasks) == 1 and not profile.tasks[0].learn and not profile.replay_stage.steps:
        yield Problem(
            ("tasks", 0, "name"),
            "there is nothing to train: the first task is taken as known",
            "add a second task, or set learn = true",
        )


def check_data(path: KeyPath, data: str) -> Iterator[Problem]:
    """Find data of a kind that there is not, at the key that names it."""
    if data in BIOGRAPHY_DATA or Path(data).is_absolute():
        return
    if SCHEME.match(data):
        yield Problem(
            path,
            f"{path[-1]} = {toml_value(data)}: there is no such data",
            did_you_mean(data, BIOGRAPHY_DATA, "built-in data"),
        )


def check_biography(profile: Profile) -> Iterator[Problem]:
    """Find settings that make no experiment."""
    people = profile.biography.people
    if people < 2:
        yield Problem(
            ("biography", "people"),
            f"people = {people}: wanted at least 2",
            "one part of the people is tuned on, the other is held out",
        )
    if people + NEW_BIOGRAPHY_TASKS * profile.biography.new_people > MOST_PEOPLE:
        yield Problem(
            ("biography", "people"),
            f"people and {NEW_BIOGRAPHY_TASKS} x new_people come to more than {MOST_PEOPLE:,}",
            "there are no more names to give; ask for fewer people",
        )


def uses_biography(profile: Profile) -> bool:
    """Tell whether anything in the profile is made by the biography generator."""
    data = [task.data for task in profile.tasks]
    data += [profile.diagnose.control or "", profile.diagnose.unrelated or ""]
    return profile.model.tokenizer == BIOGRAPHY_TOKENIZER or any(
        name.startswith("biography:") for name in data
    )


def has_old_task(profile: Profile) -> bool:
    """Tell whether a watched task is known while another is learnt."""
    return any(task.watch for task in profile.tasks[:-1])


def task_notes(profile: Profile, origin: Origin) -> list[str]:
    """Return what is set for tasks and changes nothing."""
    notes = []
    if origin.raw.get("biography") and not uses_biography(profile):
        notes.append("[biography] is ignored: no task uses it")
    for place, task in enumerate(profile.tasks):
        if task.data in BIOGRAPHY_DATA:
            given = [key for key in ONLY_FOR_YOUR_DATA if key in origin.raw["tasks"][place]]
            for key in given:
                notes.append(
                    f"[[tasks]] '{task.name}' {key} is ignored: biography data has its own"
                )
    first = profile.tasks[0]
    if first.train and not first.learn:
        notes.append(f"[[tasks]] '{first.name}' train is ignored: the task is known, not trained")
    return notes


def task_files(profile: Profile) -> Iterator[Problem]:
    """Find the tasks' files that aren't there."""
    for place, task in enumerate(profile.tasks):
        for key, value in (("data", task.data), ("held_out", task.held_out)):
            if is_missing(value):
                yield Problem(
                    ("tasks", place, key),
                    f"{key}: there is no file {value}",
                    missing_hint(value),
                )
