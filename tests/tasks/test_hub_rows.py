from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sf_tui.errors import DataError
from sf_tui.tasks.data_sets import hub_rows
from sf_tui.tasks.task import Row


@pytest.fixture
def data_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A data set of two splits as the library loads it from the Hub, but in a folder."""
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    folder = tmp_path / "things"
    folder.mkdir()
    for split in ("train", "test"):
        rows = [{"question": f"{split} {n}", "answer": "a"} for n in range(3)]
        pq.write_table(pa.Table.from_pylist(rows), folder / f"{split}.parquet")
    return str(folder)


def test_rows_of_a_data_set_are_numbered(data_set: str) -> None:
    rows = list(hub_rows(data_set, split=None, subset=None))
    assert rows[1] == Row(f"{data_set} (train) row 2", {"question": "train 1", "answer": "a"})
    (first, *_) = hub_rows(data_set, split="test", subset=None)
    assert isinstance(first, Row)
    assert first.values["question"] == "test 0"


@pytest.mark.parametrize(("split", "subset"), [("validation", None), (None, "french")])
def test_a_part_that_is_not_there_is_told(
    data_set: str, split: str | None, subset: str | None
) -> None:
    with pytest.raises(DataError) as caught:
        list(hub_rows(data_set, split, subset))
    assert (split or subset or "") in caught.value.message
    assert 'split = "..."' in caught.value.hint


def test_without_a_network_the_remedy_is_told(tmp_path: Path) -> None:
    code = (
        "from sf_tui.tasks.data_sets import hub_rows; from sf_tui.errors import DataError\n"
        "try: list(hub_rows('nobody/nothing', None, None))\n"
        "except DataError as error: print(error)\n"
    )
    offline = {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | offline,
    )
    assert done.stdout.startswith("nobody/nothing: no such file, and the Hub can't be reached")
    assert "unset HF_HUB_OFFLINE" in done.stdout
