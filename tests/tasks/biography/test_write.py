import json
from pathlib import Path

import pytest
from datasets import load_dataset

from sf_tui.errors import UsageError
from sf_tui.tasks.biography import Settings, biography_task, build_tokenizer, write_biography

SETTINGS = Settings(people=12, train_share=0.5, new_people=3, seed=4, new_seed=1)

FILES = [
    "pretrain.jsonl",
    "old-tuned.jsonl",
    "old-held-out.jsonl",
    *(f"new-{number}.jsonl" for number in range(1, 6)),
]


def rows(path: Path) -> list[dict[str, str]]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def test_the_whole_experiment_is_written_and_its_rows_are_the_tasks_examples(
    tmp_path: Path,
) -> None:
    out = tmp_path / "deep" / "experiment"
    summary = write_biography(out, SETTINGS, entries=3)

    assert sorted(path.name for path in out.iterdir()) == sorted([*FILES, "experiment.json"])
    assert summary.rows == {name: len(rows(out / name)) for name in FILES}
    assert summary.rows["pretrain.jsonl"] == 36
    old = biography_task("old", SETTINGS)
    assert rows(out / "old-held-out.jsonl") == [
        {"prompt": example.prompt, "completion": example.completion, "group": example.group}
        for example in old.held_out
    ]
    assert len(rows(out / "old-tuned.jsonl")) == len(old.train)
    assert summary.guess_floor["old"] == old.guess_floor
    assert [path.name for path in out.parent.iterdir()] == ["experiment"]


def test_a_common_reader_gets_rows_that_tokenize_to_the_generators_ids(tmp_path: Path) -> None:
    write_biography(tmp_path / "out", SETTINGS, entries=2)
    tokenizer = build_tokenizer()

    for which, name in [("new-2", "new-2.jsonl"), ("pretrain", "pretrain.jsonl")]:
        path = str(tmp_path / "out" / name)
        read = load_dataset(
            "json", data_files=path, split="train", cache_dir=str(tmp_path / "cache")
        )
        task = biography_task(which, SETTINGS)
        for index in range(len(task.train)):
            example = task.train.example(index, 0)
            prompt, completion = tokenizer([example.prompt, example.completion]).input_ids
            joined = read[index]["prompt"] + read[index]["completion"]
            assert tokenizer(joined).input_ids == prompt + completion


def test_files_are_the_same_bytes_each_time(tmp_path: Path) -> None:
    for name in ("first", "second"):
        write_biography(tmp_path / name, SETTINGS)

    for path in (tmp_path / "first").iterdir():
        assert path.read_bytes() == (tmp_path / "second" / path.name).read_bytes()


def test_it_says_how_it_was_made(tmp_path: Path) -> None:
    write_biography(tmp_path / "out", SETTINGS, entries=2)

    described = json.loads((tmp_path / "out" / "experiment.json").read_text("utf-8"))
    assert described["settings"] == {
        "people": 12,
        "train_share": 0.5,
        "new_people": 3,
        "question_form": "same",
        "seed": 4,
        "new_seed": 1,
        "entries": 2,
    }


def test_an_empty_directory_is_filled_where_it_stands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inode = tmp_path.stat().st_ino
    monkeypatch.chdir(tmp_path)
    write_biography(Path(), SETTINGS, entries=1)

    assert tmp_path.stat().st_ino == inode
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([*FILES, "experiment.json"])


def test_a_directory_that_holds_something_is_refused_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")

    with pytest.raises(UsageError, match=str(tmp_path)):
        write_biography(tmp_path, SETTINGS)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_a_file_in_the_way_is_refused(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("mine")

    with pytest.raises(UsageError, match="not a directory"):
        write_biography(tmp_path / "out", SETTINGS)
    with pytest.raises(UsageError, match="can't write"):
        write_biography(tmp_path / "out" / "below", SETTINGS)
    assert (tmp_path / "out").read_text() == "mine"


@pytest.mark.parametrize("entries", [0, -1])
def test_no_entries_are_refused(tmp_path: Path, entries: int) -> None:
    with pytest.raises(UsageError, match="entries"):
        write_biography(tmp_path / "out", SETTINGS, entries)


def test_a_refused_experiment_leaves_nothing_behind(tmp_path: Path) -> None:
    with pytest.raises(UsageError):
        write_biography(tmp_path / "out", Settings(people=1))
    assert list(tmp_path.iterdir()) == []
