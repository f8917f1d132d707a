from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sf_tui.errors import DataError
from sf_tui.tasks.loaded_rows import load_examples
from sf_tui.tasks.task import Example, FixedExamples
from sf_tui.tasks.user_data import user_task

Write = Callable[[str, str | bytes], Path]
Settings = Callable[..., Any]


def lines(*rows: dict[str, Any]) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def questions(numbers: range, **more: Any) -> list[dict[str, Any]]:
    return [{"question": f"q{n}", "answer": f"a{n}"} | more for n in numbers]


def train_of(task: Any) -> list[Example]:
    assert isinstance(task.train, FixedExamples)
    return list(task.train.examples)


def test_a_file_becomes_a_task(write: Write, tmp_path: Path, settings: Settings) -> None:
    write("a.jsonl", lines(*questions(range(30))))
    task = user_task(settings("a.jsonl"), tmp_path, seed=0)
    assert task.name == "new"
    assert (len(task.train), len(task.held_out)) == (27, 3)
    assert {e.place for e in [*train_of(task), *task.held_out]} == {
        f"a.jsonl:{n}" for n in range(1, 31)
    }
    assert task.guess_floor == {"": pytest.approx(1 / 3)}
    assert task.notes == (
        "a.jsonl: 30 rows as question/answer, recognized by its fields",
        "held out: 3 of 30 rows",
    )


def test_a_path_starts_where_the_profile_lies(
    write: Write, tmp_path: Path, settings: Settings
) -> None:
    (tmp_path / "below").mkdir()
    write("below/a.jsonl", lines(*questions(range(4))))
    task = user_task(settings("a.jsonl"), tmp_path / "below", seed=0)
    assert task.held_out[0].place.startswith("below/a.jsonl:")


def test_the_seed_decides_what_is_held_out(
    write: Write, tmp_path: Path, settings: Settings
) -> None:
    write("a.jsonl", lines(*questions(range(100))))
    first, again, other = (user_task(settings("a.jsonl"), tmp_path, seed) for seed in (0, 0, 1))
    assert first.held_out == again.held_out
    assert first.held_out != other.held_out


def test_rows_with_one_prompt_stay_on_one_side_and_it_is_said(
    write: Write, tmp_path: Path, settings: Settings
) -> None:
    write("a.jsonl", lines(*(questions(range(20)) * 3)))
    task = user_task(settings("a.jsonl", held_out=0.3), tmp_path, seed=0)
    scored = {e.messages[0].content for e in task.held_out}
    assert not scored & {e.messages[0].content for e in train_of(task)}
    assert task.notes[-1] == (
        "held out: 18 of 60 rows; same prompt as another, so on the same side: 40 rows"
    )


def test_groups_never_straddle_the_split(write: Write, tmp_path: Path, settings: Settings) -> None:
    rows = [row | {"doc": n // 5} for n, row in enumerate(questions(range(50)))]
    write("a.jsonl", lines(*rows))
    task = user_task(settings("a.jsonl", group="doc", held_out=10), tmp_path, seed=0)
    assert len(task.held_out) == 10
    assert not {e.group for e in task.held_out} & {e.group for e in train_of(task)}
    assert task.notes[-1] == "held out: 10 of 50 rows, whole groups of 'doc' (10 groups)"


def test_a_held_out_file_is_never_trained_on(
    write: Write, tmp_path: Path, settings: Settings
) -> None:
    write("a.jsonl", lines(*questions(range(10)), {"question": "q12", "answer": "other"}))
    write("b.jsonl", lines(*questions(range(7, 13))))
    task = user_task(settings("a.jsonl", held_out="b.jsonl"), tmp_path, seed=0)
    assert len(task.held_out) == 6
    assert [e.messages[0].content for e in train_of(task)] == [f"q{n}" for n in range(7)] + ["q12"]
    assert task.notes[-3:] == (
        "held out: 6 rows, b.jsonl",
        "in both files, so left out of training: 3 rows",
        "asked in held-out rows too, but with another answer, so kept: 1 row",
    )


def test_groups_of_a_held_out_file_are_left_out_of_training(
    write: Write, tmp_path: Path, settings: Settings
) -> None:
    write("a.jsonl", lines(*questions(range(4), doc="x"), *questions(range(4, 6), doc="y")))
    write("b.jsonl", lines(*questions(range(8, 10), doc="x")))
    task = user_task(settings("a.jsonl", held_out="b.jsonl", group="doc"), tmp_path, seed=0)
    assert {e.group for e in train_of(task)} == {"y"}
    assert "of a held-out group of 'doc', so left out of training: 4 rows" in task.notes


def test_a_held_out_file_may_have_another_schema(
    write: Write, tmp_path: Path, settings: Settings
) -> None:
    write("a.jsonl", lines(*questions(range(3))))
    write("b.csv", "instruction,output\nq9,a9\n")
    task = user_task(settings("a.jsonl", held_out="b.csv"), tmp_path, seed=0)
    assert task.held_out[0].messages[0].content == "q9"


def test_a_held_out_file_with_all_of_the_training_rows_is_refused(
    write: Write, tmp_path: Path, settings: Settings
) -> None:
    write("a.jsonl", lines(*questions(range(3))))
    with pytest.raises(DataError, match=r"a\.jsonl: no row is left to train on"):
        user_task(settings("a.jsonl", held_out="a.jsonl"), tmp_path, seed=0)


@pytest.mark.parametrize("held_out", ["c.jsonl", "test"])
def test_a_missing_held_out_file_is_named(
    write: Write, tmp_path: Path, settings: Settings, held_out: str
) -> None:
    write("a.jsonl", lines(*questions(range(3))))
    with pytest.raises(DataError, match=f"{held_out}.*no such file"):
        user_task(settings("a.jsonl", held_out=held_out), tmp_path, seed=0)


def test_bad_rows_are_an_error_or_left_out_with_a_count(
    write: Write, tmp_path: Path, settings: Settings
) -> None:
    rows = [*questions(range(10)), {"question": "q", "answer": ""}, {"question": "q"}]
    write("a.jsonl", lines(*rows) + "{broken\n")
    with pytest.raises(DataError, match="3 of 13 rows can't be used"):
        user_task(settings("a.jsonl"), tmp_path, seed=0)
    task = user_task(settings("a.jsonl", on_bad_row="skip"), tmp_path, seed=0)
    assert len(task.train) + len(task.held_out) == 10
    assert (
        "a.jsonl: 3 of 13 rows can't be used and are left out, the first: "
        "a.jsonl:11: 'answer' is empty"
    ) in task.notes


def test_the_first_good_row_decides_on_the_schema(write: Write, tmp_path: Path) -> None:
    rows = [{"prompt": "p", "completion": ""}, *questions(range(2)), {"prompt": "p", "answer": "a"}]
    write("a.jsonl", lines(*rows))
    loaded = load_examples("a.jsonl", tmp_path, on_bad_row="skip")
    assert loaded.schema.name == "question/answer"
    assert [str(row) for row in loaded.first_bad] == [
        "a.jsonl:1: 'completion' is empty",
        "a.jsonl:4: 'question' is missing (fields: prompt, answer): the row is prompt/answer, and "
        "those before it are question/answer",
    ]


def test_a_fields_table_and_a_second_schema_are_told(write: Write, tmp_path: Path) -> None:
    write("a.jsonl", lines({"prompt": "p", "question": "q", "answer": "a"}))
    loaded = load_examples("a.jsonl", tmp_path)
    assert any("the fields fit question/answer as well" in note for note in loaded.notes)
    assert loaded.unused == (("question", 1),)
    table = {"question": "question", "answer": "answer"}
    mapped = load_examples("a.jsonl", tmp_path, fields=table)
    assert mapped.notes == (
        "a.jsonl: 1 row as question/answer, as its fields table says",
        "a.jsonl: fields not used: prompt (1 row)",
    )


def test_unfilled_placeholders_are_told(write: Write, tmp_path: Path) -> None:
    write("a.jsonl", lines({"prompt": "Who?", "completion": "I am {{name}}."}, *[]))
    loaded = load_examples("a.jsonl", tmp_path)
    assert "a placeholder such as {{name}} is in 1 row" in loaded.notes[-1]


def test_a_row_of_a_megabyte_is_read_whole(write: Write, tmp_path: Path) -> None:
    write("a.jsonl", lines({"prompt": "p", "completion": "x" * 2**20}))
    assert len(load_examples("a.jsonl", tmp_path).examples[0].completion) == 2**20


def test_all_formats_give_the_same_examples(write: Write, tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = questions(range(5))
    write("a.jsonl", lines(*rows))
    write("a.json", json.dumps(rows, indent=1))
    write("a.csv", "question,answer\n" + "".join(f"q{n},a{n}\n" for n in range(5)))
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "a.parquet")
    turns = {
        name: [e.messages for e in load_examples(name, tmp_path).examples]
        for name in ("a.jsonl", "a.json", "a.csv", "a.parquet")
    }
    assert len(turns["a.jsonl"]) == 5
    assert all(found == turns["a.jsonl"] for found in turns.values())
