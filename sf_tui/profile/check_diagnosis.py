"""Rules of `[diagnose]` and `[recover]`: data apart from the run's, an old task to take from.

Opens no data.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from sf_tui.profile.check_tasks import check_data, has_old_task
from sf_tui.profile.describe import toml_value
from sf_tui.profile.locate import KeyPath
from sf_tui.profile.paths import is_missing, missing_hint
from sf_tui.profile.problems import Origin, Problem
from sf_tui.profile.schema import Profile

DATA_KEYS: dict[str, str] = {
    "control": "name data of facts that the model never sees, e.g. biography:new-5",
    "unrelated": "name data of a task that the run knows nothing of",
}
"""The keys that name data, and what to do where it is the run's own."""

SAME_FACTS: dict[str, str] = {
    "biography:old": "biography:pretrain",
    "biography:new": "biography:new-1",
}
"""Built-in data, and other built-in data about the same people."""


def check_diagnosis(profile: Profile, origin: Origin) -> Iterator[Problem]:
    """Find data that would teach or ask what is measured, and old examples of no task."""
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
            "the control tells what is guessed untaught; give one of them other data",
        )
    yield from _check_examples(profile, origin)


def _facts(data: str) -> str:
    return SAME_FACTS.get(data, data)


def _tasks_about(profile: Profile, data: str) -> list[str]:
    return [
        task.name
        for task in profile.tasks
        # A split or a subset of a datasets id has rows of its own.
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
    """Find a recovery from old examples in a run that knows no old task.

    Args:
        profile: the profile.
        path: the table that the arguments stand in.
        op: what they are arguments of.
        arguments: some or all of the op's.
    """
    examples = arguments.get("examples")
    if op != "recover" or type(examples) is not int or examples < 1 or has_old_task(profile):
        return
    yield Problem(
        (*path, "examples"),
        f"examples = {examples}: no earlier task is watched that they could come from",
        "watch a task before the last one, or take examples away",
    )


def diagnosis_files(profile: Profile) -> Iterator[Problem]:
    """Find the files that `[diagnose]` names and that aren't there."""
    for key in DATA_KEYS:
        value = getattr(profile.diagnose, key)
        if is_missing(value):
            yield Problem(
                ("diagnose", key), f"{key}: there is no file {value}", missing_hint(value)
            )
