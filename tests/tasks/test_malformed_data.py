"""Every malformed file is answered with one message that says where and what to do."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sf_tui.errors import DataError
from sf_tui.tasks.user_data import user_task

Write = Callable[[str, str | bytes], Path]
Settings = Callable[..., Any]

GOOD = '{"prompt": "a", "completion": "b"}\n{"prompt": "c", "completion": "d"}\n'
SKIP = 'on_bad_row = "skip"'
CHAT = '{"messages": [{"role": "user", "content": "u"}, {"role": "assistant", "content": "a"}]}\n'

# name, content, what the message opens with, what it says, what the hint says
FILES: list[tuple[str, str | bytes, str, str, str]] = [
    ("a.jsonl", b"", "a.jsonl: ", "the file is empty", "must hold"),
    ("a.jsonl", "\n \n\n", "a.jsonl: ", "holds no row", "must hold"),
    ("a.json", "[]", "a.json: ", "holds no row", "must hold"),
    ("a.csv", "prompt,completion\n", "a.csv: ", "holds no row", "must hold"),
    ("a.jsonl", GOOD.encode("utf-16"), "a.jsonl: ", "UTF-16", "UTF-8"),
    ("a.jsonl", GOOD + '{"prompt": "a", "completion": "b"\n', "a.jsonl:3: ", "invalid JSON", SKIP),
    ("a.jsonl", GOOD.encode() + b'{"prompt": "\xff"}\n', "a.jsonl:3: ", "not UTF-8", SKIP),
    ("a.jsonl", GOOD + '{"prompt": "a"}\n', "a.jsonl:3: ", "'completion' is missing", SKIP),
    ("a.jsonl", GOOD + '{"prompt": "a", "completion": ""}\n', "a.jsonl:3: ", "is empty", SKIP),
    ("a.jsonl", GOOD + '{"prompt": "a", "completion": null}\n', "a.jsonl:3: ", "is null", SKIP),
    ("a.jsonl", GOOD + '{"prompt": "a", "completion": 3}\n', "a.jsonl:3: ", "a number (3)", SKIP),
    ("a.jsonl", GOOD + '{"prompt": ["a"], "completion": "b"}\n', "a.jsonl:3: ", "a list", SKIP),
    ("a.jsonl", GOOD + "[[1]]\n", "a.jsonl:3: ", "is a list, not an object", SKIP),
    ("a.jsonl", GOOD + '{"prompt": "a", "prompt": "b"}\n', "a.jsonl:3: ", "occurs twice", SKIP),
    ("a.jsonl", GOOD + '{"question": "a", "answer": "b"}\n', "a.jsonl:3: ", "is missing", SKIP),
    ("a.jsonl", GOOD + ">>>>>>> theirs\n", "a.jsonl:3: ", "unfinished merge", SKIP),
    ("a.jsonl", CHAT + '{"messages": []}\n', "a.jsonl:2: ", "holds no turn", SKIP),
    ("a.jsonl", CHAT + '{"messages": {"role": "user"}}\n', "a.jsonl:2: ", "an object", SKIP),
    ("a.jsonl", CHAT + CHAT.replace("user", "bot"), "a.jsonl:2: ", "role 'bot'", SKIP),
    ("a.jsonl", '{"prompt": "a"}\n', "a.jsonl: ", "fit no known schema", "fields = {"),
    ("a.csv", "Prompt,Completion\na,b\n", "a.csv: ", "Completion, Prompt", 'prompt = "Prompt"'),
    ("a.json", '[{"prompt": "a"\n', "a.json:2:1: ", "invalid JSON", ".jsonl"),
    ("a.json", '{"train": [{"a": 1}],\n"test": [{"a": 1}]}', "a.json: ", "2 lists", "its own file"),
    ("a.json", "3", "a.json:1: ", "neither a list nor an object", "list of objects"),
    ("a.csv", "prompt,prompt\na,b\n", "a.csv:1: ", "names 'prompt' twice", "rename"),
    ("a.csv", "prompt,completion\na,b\nc\n", "a.csv:3: ", "has 1 column ", SKIP),
    ("a.csv", "prompt,completion\na,b\nc,\n", "a.csv:3: ", "'completion' is empty", SKIP),
    ("a.csv", b"prompt,completion\na,b\nc,\xe9\n", "a.csv:3: ", "is not UTF-8", SKIP),
    ("a.csv", 'prompt,completion\na,b\n"c,d\n', "a.csv:3: ", "invalid CSV", SKIP),
    ("a.parquet", "PAR1", "a.parquet: ", "can't be read as parquet", "write the file again"),
    ("a.jsonl.gz", b"\x1f\x8b\x08", "a.jsonl.gz: ", "damaged", "copy or write it again"),
    ("a.xlsx", b"PK\x03\x04[Content_Types].xml", "a.xlsx: ", "an Excel workbook", "CSV"),
    ("a.jsonl", b"PK\x03\x04", "a.jsonl: ", "a zip archive", "unzip"),
    ("a.jsonl", b"\x28\xb5\x2f\xfd", "a.jsonl: ", "compressed by zstd", "zstd -d"),
    ("a.jsonl", GOOD[: len(GOOD) // 2], "a.jsonl: ", "1 row can't be split", "held_out"),
]


@pytest.mark.parametrize(("name", "content", "opening", "says", "hint"), FILES)
def test_a_malformed_file_is_told_with_place_and_remedy(
    write: Write,
    tmp_path: Path,
    settings: Settings,
    name: str,
    content: str | bytes,
    opening: str,
    says: str,
    hint: str,
) -> None:
    write(name, content)
    with pytest.raises(DataError) as caught:
        user_task(settings(name), tmp_path, seed=0)
    assert caught.value.exit_code == 2
    assert caught.value.message.startswith(opening)
    assert says in caught.value.message
    assert hint in caught.value.hint


def test_the_first_three_bad_rows_are_shown_and_all_counted(
    write: Write, tmp_path: Path, settings: Settings
) -> None:
    write("a.jsonl", GOOD + '{"prompt": "a", "completion": ""}\n' * 7)
    with pytest.raises(DataError) as caught:
        user_task(settings("a.jsonl"), tmp_path, seed=0)
    assert caught.value.message.split("\n  ") == [
        "a.jsonl:3: 'completion' is empty",
        "a.jsonl:4: 'completion' is empty",
        "a.jsonl:5: 'completion' is empty",
        "and 4 more",
        "7 of 9 rows can't be used",
    ]


def test_a_file_without_a_good_row_is_an_error_even_when_bad_rows_are_skipped(
    write: Write, tmp_path: Path, settings: Settings
) -> None:
    write("a.jsonl", '{"prompt": "a", "completion": ""}\n' * 2)
    with pytest.raises(DataError, match="2 of 2 rows can't be used: no row is left") as caught:
        user_task(settings("a.jsonl", on_bad_row="skip"), tmp_path, seed=0)
    assert caught.value.message.startswith("a.jsonl:1: 'completion' is empty")
    assert "skip" not in caught.value.hint


@pytest.mark.parametrize(
    ("given", "says", "hint"),
    [
        (
            {"fields": {"prompt": "promt", "completion": "completion"}},
            "fields.prompt names the field 'promt', which no row has; did you mean 'prompt'?",
            "the rows have prompt, completion",
        ),
        ({"fields": {"prompt": "prompt"}}, "make no known schema", "fields = {"),
        ({"group": "topic"}, "group names the field 'topic', which no row has", "prompt"),
        ({"held_out": 2}, "held_out = 2 of 2 rows", "at most 1"),
        ({"held_out": "b.jsonl"}, "b.jsonl: no such file", "did you mean 'a.jsonl'?"),
        ({"split": "test"}, 'split = "test" has no meaning', "take out split"),
    ],
)
def test_settings_that_do_not_fit_the_file_are_told(
    write: Write, tmp_path: Path, settings: Settings, given: dict[str, Any], says: str, hint: str
) -> None:
    write("a.jsonl", GOOD)
    with pytest.raises(DataError) as caught:
        user_task(settings("a.jsonl", **given), tmp_path, seed=0)
    assert says in caught.value.message
    assert hint in caught.value.hint


def test_one_row_without_its_group_is_a_bad_row(
    write: Write, tmp_path: Path, settings: Settings
) -> None:
    grouped = '{"prompt": "a", "completion": "b", "doc": 1}\n'
    write("a.jsonl", grouped * 2 + GOOD[:35] + grouped.replace("1", "null"))
    with pytest.raises(DataError) as caught:
        user_task(settings("a.jsonl", group="doc"), tmp_path, seed=0)
    assert "a.jsonl:3: has no field 'doc', the group key" in caught.value.message
    assert "a.jsonl:4: the group key 'doc' is null" in caught.value.message


def test_a_missing_file_and_a_folder_are_told(
    write: Write, tmp_path: Path, settings: Settings
) -> None:
    write("train.jsonl", GOOD)
    write("facts.jsonl", GOOD)
    with pytest.raises(DataError, match=r"trian\.jsonl: no such file") as caught:
        user_task(settings("trian.jsonl"), tmp_path, seed=0)
    assert caught.value.hint == "did you mean 'train.jsonl'?"
    with pytest.raises(DataError, match="is a folder of several data sets") as caught:
        user_task(settings("."), tmp_path, seed=0)
    assert "train.jsonl" in caught.value.message
