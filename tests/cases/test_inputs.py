"""What a run is started with outside its folder is recorded, and what changes is told by name."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from sf_tui.cases.inputs import changed_inputs, check_inputs, read_record
from sf_tui.errors import DataError, RunError
from sf_tui.profile import Profile, dump_profile, parse_profile
from sf_tui.run.directory import RunDirectory

TEXT = """name = "inputs"
[model]
source = "./model"
[[tasks]]
name = "old"
data = "shards/"
[[tasks]]
name = "new"
data = "new.jsonl"
held_out = "held.jsonl"
"""


@pytest.fixture
def scene(tmp_path: Path) -> tuple[RunDirectory, Profile]:
    for name in ("new.jsonl", "held.jsonl", "shards/a.jsonl", "model/config.json"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(f'{{"of": "{name}"}}\n')
    (tmp_path / "model" / "model.safetensors").write_bytes(bytes(1000))
    profile = parse_profile(TEXT, base_dir=tmp_path)
    run = RunDirectory.create(
        tmp_path / "run", profile_text=dump_profile(profile), profile_name="inputs", argv=[]
    )
    assert check_inputs(run, profile, begun=False, accept_changed=False) == []
    return run, profile


def append(path: Path) -> None:
    with path.open("a") as file:
        file.write("{}\n")


def same_size(path: Path) -> None:
    path.write_bytes(bytes([1]) + path.read_bytes()[1:])


def remove(path: Path) -> None:
    path.unlink()


CHANGES: list[tuple[str, Callable[[Path], None], str]] = [
    ("new.jsonl", append, "bytes then, "),
    ("new.jsonl", same_size, "the same size, other content"),
    ("held.jsonl", append, "bytes then, "),
    ("shards/a.jsonl", append, "bytes then, "),
    ("shards/b.jsonl", append, "is new"),
    ("model/model.safetensors", same_size, "the same size, other content"),
    ("model/config.json", append, "bytes then, "),
    ("model/config.json", remove, "is gone"),
]


@pytest.mark.parametrize(("name", "change", "what"), CHANGES)
def test_change_is_refused_by_name_and_accepted_on_request(
    scene: tuple[RunDirectory, Profile],
    tmp_path: Path,
    name: str,
    change: Callable[[Path], None],
    what: str,
) -> None:
    run, profile = scene
    change(tmp_path / name)
    with pytest.raises(DataError) as caught:
        check_inputs(run, profile, begun=True, accept_changed=False)
    assert str(tmp_path / name) in caught.value.message
    assert what in caught.value.message
    assert "--accept-changed-data" in caught.value.hint
    assert [one.path for one in changed_inputs(run, profile)] == [str(tmp_path / name)]
    accepted = check_inputs(run, profile, begun=True, accept_changed=True)
    assert [one.path for one in accepted] == [str(tmp_path / name)]
    assert check_inputs(run, profile, begun=True, accept_changed=False) == []
    record = read_record(run)
    assert record is not None
    assert len(record["replaced"]) == 1


def test_time_alone_and_other_files_are_no_change(
    scene: tuple[RunDirectory, Profile], tmp_path: Path
) -> None:
    _, profile = scene
    os.utime(tmp_path / "new.jsonl", (1, 1))
    (tmp_path / "model" / "README.md").write_text("words")
    (tmp_path / "run").rename(tmp_path / "moved")
    moved = RunDirectory(tmp_path / "moved")
    assert check_inputs(moved, profile, begun=True, accept_changed=False) == []


def test_data_that_are_gone_are_left_to_their_reader(
    scene: tuple[RunDirectory, Profile], tmp_path: Path
) -> None:
    run, profile = scene
    (tmp_path / "new.jsonl").unlink()
    assert check_inputs(run, profile, begun=True, accept_changed=False) == []


def test_run_of_a_version_without_a_record_gets_one(scene: tuple[RunDirectory, Profile]) -> None:
    run, profile = scene
    (run.path / "inputs.json").unlink()
    assert check_inputs(run, profile, begun=True, accept_changed=False) == []
    assert read_record(run) is not None


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"inputs": {"a": {"b": 1}}}', "\0"])
def test_damaged_record_is_told_with_the_way_on(
    scene: tuple[RunDirectory, Profile], content: str
) -> None:
    run, profile = scene
    (run.path / "inputs.json").write_text(content)
    with pytest.raises(RunError, match=r"inputs\.json") as caught:
        check_inputs(run, profile, begun=True, accept_changed=False)
    assert "move it away" in caught.value.hint
    (run.path / "inputs.json").unlink()
    os.mkfifo(run.path / "inputs.json")
    with pytest.raises(RunError, match="it is a FIFO, not a file"):
        check_inputs(run, profile, begun=True, accept_changed=False)
