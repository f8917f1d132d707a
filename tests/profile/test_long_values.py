"""No message about a profile is a wall of the value that it quotes, whatever key holds it."""

from __future__ import annotations

import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Union, get_args, get_origin

import pytest
from pydantic import BaseModel

from sf_tui.errors import ProfileError, SfError, shorten
from sf_tui.profile import parse_profile
from sf_tui.profile.schema import Profile
from sf_tui.vocabulary.ops import OPS

BASE = """name = "long"
[model]
source = "random"
[model.config]
model_type = "gpt_neox"
[[tasks]]
name = "old"
data = "biography:old"
[[tasks]]
name = "new"
data = "biography:new"
[[rules]]
name = "r"
metric = "drop"
above = 0.2
action = "freeze"
[actions.freeze]
op = "freeze"
"""
ELEMENTS = {"tasks": "tasks.new", "rules": "rules.r", "actions": "actions.freeze"}


def keys(model: type[BaseModel] = Profile, above: str = "") -> Iterator[str]:
    """Yield every key of the schema as `--set` names it."""
    for name, field in model.model_fields.items():
        key = f"{above}.{name}" if above else name
        inner = _table(field.annotation)
        if inner is None:
            yield key
        else:
            yield from keys(inner, ELEMENTS.get(key, key))


def _table(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    if get_origin(annotation) in (list, dict, Union, types.UnionType):
        return next(filter(None, map(_table, get_args(annotation))), None)
    return None


ARGUMENTS = [f"actions.{op.name}.{name}" for op in OPS.values() for name in op.argument_names]
KEYS = [
    *keys(),
    *ARGUMENTS,
    "fields.unknown",
    "tasks.new.fields.prompt",
    "tasks.new.fields.x",
    "no.such.key",
]
VALUES = {
    "word": "x" * 100_000,
    "words": "x y " * 25_000,
    "folders": "x/" * 50_000,
    "scheme": "biography:" + "x" * 100_000,
    "list": '["' + "x" * 100_000 + '"]',
}


SLOW = {"words", "folders", "scheme", "list"}
"""Cut by the same code as the other one."""


@pytest.mark.parametrize(
    "value", [pytest.param(v, marks=pytest.mark.slow) if v in SLOW else v for v in VALUES]
)
def test_long_value_is_cut_at_every_key(value: str, tmp_path: Path) -> None:
    for key in KEYS:
        try:
            loaded = parse_profile(
                BASE, base_dir=tmp_path, overrides=[f"{key}={VALUES[value]}"], files=True
            )
        except ProfileError as error:
            said = str(error)
            assert len(said) < 8000, key
            assert said.startswith(("--set ", "profile.toml:")), (key, said)
        else:
            assert all(len(note) < 8000 for note in loaded.notes), key


def test_name_of_a_task_becomes_a_folder_and_has_its_length() -> None:
    with pytest.raises(ProfileError, match="up to 64 small letters"):
        parse_profile(BASE.replace('"new"', f'"{"n" * 65}"'))
    parse_profile(BASE.replace('"new"', f'"{"n" * 64}"'))


def test_message_keeps_what_stands_before_and_behind_a_long_value() -> None:
    said = shorten(f"file:3: task '{'x' * 99_999}' is unknown\nsecond line")
    assert said.startswith("file:3: task 'xxx")
    assert said.endswith("xxx' is unknown\nsecond line")
    assert len(said) < 400
    assert len(str(SfError("word " * 50_000, "hint " * 50_000))) < 5000


def test_ordinary_messages_stay_as_they_are() -> None:
    path = "/" + "/".join(["folder"] * 250)
    for text in ("", "short", f"{path}: no such file", "line\n" * 1000):
        assert shorten(text) == text
