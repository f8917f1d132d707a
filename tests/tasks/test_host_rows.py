from __future__ import annotations

from pathlib import Path

import pytest

from sf_tui.errors import DataError
from sf_tui.tasks.encoding import Encoded
from sf_tui.tasks.host_rows import host_file, host_task, write_host_rows


def test_rows_come_back_as_the_tokens_that_were_written(tmp_path: Path) -> None:
    file = host_file(tmp_path, "host:new.jsonl")
    assert file is not None
    train = [Encoded([1, 2, 3], [-100, 2, 3])]
    write_host_rows(file, train, [Encoded([4, 5], [-100, 5])])
    task = host_task("new", tmp_path, "host:new.jsonl")
    assert task.train.example(0, 0).token_ids == (1, 2, 3)
    assert [one.token_labels for one in task.held_out] == [(-100, 5)]
    assert task.notes == ()

    write_host_rows(file, train, [])
    task = host_task("new", tmp_path, "host:new.jsonl")
    assert len(task.held_out) == 1
    assert "holds no rows out" in task.notes[0]
    assert len(host_task("new", tmp_path, "host:").held_out) == 0


@pytest.mark.parametrize(
    "line", ["{", "[]", '{"input_ids": [1, 2], "labels": [1], "split": "train"}']
)
def test_damaged_row_is_named(tmp_path: Path, line: str) -> None:
    (tmp_path / "host").mkdir()
    (tmp_path / "host" / "a.jsonl").write_text(line + "\n")
    with pytest.raises(DataError, match=r"a\.jsonl:1: not a row"):
        host_task("new", tmp_path, "host:a.jsonl")
