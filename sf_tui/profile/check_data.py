"""Checks of `[model]`, `[[tasks]]`, `[biography]`, `[diagnose]` and `[recover]`.

Checks which keys fit which source, which tasks are trained, and whether data overlap with the
run's. Opens no model and no data.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from sf_tui.errors import did_you_mean
from sf_tui.profile.locate import KeyPath
from sf_tui.profile.names import (
    BIOGRAPHY_DATA,
    BIOGRAPHY_TOKENIZER,
    HOST_DATA,
    RANDOM_MODEL,
    REPLAY_STAGE,
)
from sf_tui.profile.problems import Origin, Problem
from sf_tui.profile.schema import Profile
from sf_tui.profile.sources import (
    STARTER_PREFIX,
    is_missing,
    is_package_source,
    is_well_formed,
    missing_hint,
    package_hint,
    starter_hint,
    starters,
)
from sf_tui.profile.values import toml_value

# "starter:x" and "biography:x" are this program's schemes; a URL's is not.
SCHEME = re.compile(r"^[A-Za-z_-]+:(?!//)")


def check_model(profile: Profile, origin: Origin) -> Iterator[Problem]:
    """Find keys of `[model]` that contradict each other, and unknown sources."""
    model = profile.model
    source = ("model", "source")
    if model.source == RANDOM_MODEL:
        yield from _check_random(profile)
    elif "config" in origin.raw.get("model", {}):
        yield Problem(
            ("model", "config"),
            "config goes with a random model only",
            f'remove it, or set source = "{RANDOM_MODEL}"',
        )
    if model.source.startswith(STARTER_PREFIX):
        name = model.source.removeprefix(STARTER_PREFIX)
        known = starters()
        if name not in known:
            yield Problem(source, f"no starter model is named '{name}'", starter_hint(name, known))
    elif is_package_source(model.source):
        if not is_well_formed(model.source):
            yield Problem(
                source,
                f"source = {toml_value(model.source)}: names no file of a package",
                'write "package:NAME/FILE.gguf", NAME as one imports it',
            )
    elif SCHEME.match(model.source):
        yield Problem(
            source,
            f"source = {toml_value(model.source)}: unknown kind of source",
            "write starter:NAME, package:NAME/FILE, a directory, a Hugging Face id, a .gguf file "
            "or random",
        )


def _check_random(profile: Profile) -> Iterator[Problem]:
    model = profile.model
    kind = model.config.get("model_type")
    if not isinstance(kind, str) or not kind:
        yield Problem(
            ("model", "config" if model.config else "source"),
            "a random model needs [model.config] with a model_type",
            'for example model_type = "gpt_neox", with hidden_size, num_hidden_layers, …',
        )
    biography_only = all(task.data.startswith("biography:") for task in profile.tasks)
    if model.tokenizer is None and not biography_only:
        yield Problem(
            ("model", "source"),
            "a random model has no tokenizer of its own",
            "add tokenizer = a directory or a Hugging Face id",
        )


def model_files(profile: Profile) -> Iterator[Problem]:
    """Find paths of the model and the tokenizer that don't exist."""
    for key, value in (("source", profile.model.source), ("tokenizer", profile.model.tokenizer)):
        if value is not None and is_package_source(value):
            # If it were installed, it would already be a path.
            yield Problem(("model", key), f"{key}: there is no {value}", package_hint(value))
        elif is_missing(value):
            yield Problem(("model", key), f"{key}: there is no {value}", missing_hint(value))


NEW_BIOGRAPHY_TASKS = 5
# The generator can make 2.6 million different names.
MOST_PEOPLE = 1_000_000
ONLY_FOR_YOUR_DATA = ("held_out", "group", "fields", "split", "subset")


def check_tasks(profile: Profile, origin: Origin) -> Iterator[Problem]:
    """Find duplicate names, unknown data, and a profile in which no task is trained."""
    if not profile.tasks:
        yield Problem(("tasks",), "there is no task", "add [[tasks]] with name and data")
        return
    seen: dict[str, int] = {}
    for place, task in enumerate(profile.tasks):
        path = ("tasks", place, "name")
        if task.name == REPLAY_STAGE:
            yield Problem(
                path,
                f"name = '{REPLAY_STAGE}' is reserved for the stage that [replay_stage] adds",
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
        if place and not profile.host and origin.raw["tasks"][place].get("learn") is False:
            yield Problem(
                ("tasks", place, "learn"),
                "learn = false: only the first task can be used as already known",
                "remove learn; a task that is only watched comes first",
            )
    alone = len(profile.tasks) == 1 and not profile.tasks[0].learn
    if alone and not profile.replay_stage.steps and not profile.host:
        yield Problem(
            ("tasks", 0, "name"),
            "there is nothing to train: the first task counts as already known",
            "add a second task, or set learn = true",
        )


def check_data(path: KeyPath, data: str) -> Iterator[Problem]:
    """Find an unknown kind of data at a key."""
    # A run of a host has its rows; `check_host` refuses them in any other.
    if data in BIOGRAPHY_DATA or data.startswith(HOST_DATA) or Path(data).is_absolute():
        return
    if SCHEME.match(data):
        yield Problem(
            path,
            f"{path[-1]} = {toml_value(data)}: there is no such data",
            did_you_mean(data, BIOGRAPHY_DATA, "built-in data"),
        )


def check_biography(profile: Profile) -> Iterator[Problem]:
    """Find settings of `[biography]` that don't make an experiment."""
    people = profile.biography.people
    if people < 2:
        yield Problem(
            ("biography", "people"),
            f"people = {people}: must be at least 2",
            "some people are trained on, the others are held out",
        )
    if people + NEW_BIOGRAPHY_TASKS * profile.biography.new_people > MOST_PEOPLE:
        yield Problem(
            ("biography", "people"),
            f"people and {NEW_BIOGRAPHY_TASKS} x new_people come to more than {MOST_PEOPLE:,}",
            "the generator has no more names; use fewer people",
        )


def uses_biography(profile: Profile) -> bool:
    """Return whether any part of the profile uses the biography generator."""
    data = [task.data for task in profile.tasks]
    data += [profile.diagnose.control or "", profile.diagnose.unrelated or ""]
    return profile.model.tokenizer == BIOGRAPHY_TOKENIZER or any(
        name.startswith("biography:") for name in data
    )


def has_old_task(profile: Profile) -> bool:
    """Return whether a watched task exists before the last one."""
    return any(task.watch for task in profile.tasks[:-1])


def task_notes(profile: Profile, origin: Origin) -> list[str]:
    """Return notes on task settings that have no effect."""
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
    """Find task files that don't exist."""
    for place, task in enumerate(profile.tasks):
        for key, value in (("data", task.data), ("held_out", task.held_out)):
            if is_missing(value):
                yield Problem(
                    ("tasks", place, key),
                    f"{key}: there is no file {value}",
                    missing_hint(value),
                )


DATA_KEYS: dict[str, str] = {
    "control": "name data about facts that the model never sees, e.g. biography:new-5",
    "unrelated": "name data of a task that is not part of the run",
}
"""Keys that name data, and the hint if the run itself uses the same data."""

SAME_FACTS: dict[str, str] = {
    "biography:old": "biography:pretrain",
    "biography:new": "biography:new-1",
}
"""Built-in data, and the other built-in data about the same people."""


def check_diagnosis(profile: Profile, origin: Origin) -> Iterator[Problem]:
    """Find data that overlap with the measured tasks, and old examples without an old task."""
    diagnose = profile.diagnose
    for key, hint in DATA_KEYS.items():
        data = getattr(diagnose, key)
        if data is None:
            continue
        path = ("diagnose", key)
        yield from check_data(path, data)
        same = _tasks_about(profile, data)
        if same:
            yield Problem(
                path, f"{key} = {toml_value(data)}: task '{same[0]}' is about the same facts", hint
            )
    if diagnose.control is not None and _facts(diagnose.control) == _facts(
        diagnose.unrelated or ""
    ):
        yield Problem(
            ("diagnose", "unrelated"),
            "unrelated and control are about the same facts",
            "the control measures guessing without teaching; use other data for one of them",
        )
    yield from _check_examples(profile, origin)


def _facts(data: str) -> str:
    return SAME_FACTS.get(data, data)


def _tasks_about(profile: Profile, data: str) -> list[str]:
    return [
        task.name
        for task in profile.tasks
        # A split or a subset of a datasets id has its own rows.
        if _facts(task.data) == _facts(data) and task.split is None and task.subset is None
    ]


def _check_examples(profile: Profile, origin: Origin) -> Iterator[Problem]:
    if profile.recover.examples:
        yield from check_old_examples(
            profile, ("recover",), "recover", profile.recover.model_dump()
        )
    for name, own in origin.raw.get("actions", {}).items():
        action = profile.actions[name]
        if action.op == "recover":
            yield from check_old_examples(profile, ("actions", name), action.op, own)


def check_old_examples(
    profile: Profile, path: KeyPath, op: str, arguments: Mapping[str, Any]
) -> Iterator[Problem]:
    """Find a recovery from old examples in a run without an old task.

    Args:
        profile: the profile.
        path: the table that holds the arguments.
        op: their op.
        arguments: some or all of the op's arguments.
    """
    examples = arguments.get("examples")
    if op != "recover" or type(examples) is not int or examples < 1 or has_old_task(profile):
        return
    yield Problem(
        (*path, "examples"),
        f"examples = {examples}: no earlier task is watched that they could come from",
        "watch a task before the last one, or remove examples",
    )


def diagnosis_files(profile: Profile) -> Iterator[Problem]:
    """Find files named in `[diagnose]` that don't exist."""
    for key in DATA_KEYS:
        value = getattr(profile.diagnose, key)
        if is_missing(value):
            yield Problem(
                ("diagnose", key), f"{key}: there is no file {value}", missing_hint(value)
            )
