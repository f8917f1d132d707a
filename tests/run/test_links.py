"""Nothing in a run directory leads a worker to somebody else's files."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from sf_tui.cli.launching import start_detached
from sf_tui.errors import ProfileError, RunError
from sf_tui.profile import load_profile
from sf_tui.run.commands import request_command
from sf_tui.run.directory import RunDirectory
from sf_tui.run.events import EventLog
from sf_tui.run.reading import check_links
from sf_tui.tui.actions import read_actions
from sf_tui.tui.worker_log import WorkerLogTail
from sf_tui.vocabulary.events import RunStarted


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    folder = tmp_path / "outside"
    (folder / "new").mkdir(parents=True)
    (folder / "new" / "thesis.txt").write_text("years of work")
    return folder


PLACES = [
    "checkpoints",
    "checkpoints/new",
    "checkpoints/new/step-000004",
    "checkpoints/new/.step-000004.deleting",
    "checkpoints/new/step-000004/weights",
    "checkpoints/new/step-000004/state.json",
    "neighbors",
    "neighbors/new",
    "neighbors/new/bank.json",
    "answers",
    "answers/new.json",
    "ranks",
    "ranks/1.log",
    "model",
    "model/model.safetensors",
    ".model.writing",
    ".model.replaced",
    "commands.jsonl",
    "heartbeat",
    "run.json",
    "inputs.json",
    "profile.toml",
    "worker.log",
]


@pytest.mark.parametrize("dangling", [False, True])
@pytest.mark.parametrize("place", PLACES)
def test_link_where_a_worker_writes_is_refused_by_name(
    run: RunDirectory, outside: Path, place: str, dangling: bool
) -> None:
    path = run.path / place
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    path.symlink_to(outside / "nowhere" if dangling else outside)
    with pytest.raises(RunError, match="a link to") as caught:
        check_links(run)
    assert str(path) in caught.value.message
    assert str(outside) in caught.value.message


@pytest.mark.parametrize("place", [*PLACES, "events.jsonl", "lock"])
def test_special_file_is_refused_by_name(run: RunDirectory, place: str) -> None:
    path = run.path / place
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    os.mkfifo(path)
    with pytest.raises(RunError, match="not a") as caught:
        check_links(run)
    assert str(path) in caught.value.message


@pytest.mark.parametrize("place", ["lock", "events.jsonl", "commands.jsonl", "worker.log"])
def test_folder_in_the_place_of_a_file_is_refused(run: RunDirectory, place: str) -> None:
    (run.path / place).unlink(missing_ok=True)
    (run.path / place).mkdir()
    with pytest.raises(RunError, match="not a file"):
        check_links(run)


def test_run_directory_itself_its_log_and_its_lock_may_be_links(
    run: RunDirectory, tmp_path: Path
) -> None:
    log = EventLog(run.events)
    log.append(RunStarted([]))
    log.close()
    for file in (run.events, run.lock):
        elsewhere = tmp_path / f"elsewhere-{file.name}"
        shutil.move(file, elsewhere)
        file.symlink_to(elsewhere)
    (tmp_path / "link").symlink_to(run.path)
    (run.path / "my-notes").symlink_to(tmp_path)
    check_links(RunDirectory(tmp_path / "link"))


@pytest.mark.parametrize("content", [b"", b"secret", b"secret\n", b"[1]\n", b'{"seq": 7}\n', None])
def test_log_that_is_a_link_to_something_else_is_refused(
    run: RunDirectory, tmp_path: Path, content: bytes | None
) -> None:
    other = tmp_path / "other"
    if content is not None:
        other.write_bytes(content)
    run.events.unlink()
    run.events.symlink_to(other)
    with pytest.raises(RunError, match="a link to") as caught:
        check_links(run)
    assert str(run.events) in caught.value.message


def test_command_is_never_appended_through_a_link(run: RunDirectory, tmp_path: Path) -> None:
    other = tmp_path / "bashrc"
    other.write_text("alias ls=ls\n")
    run.commands.unlink()
    run.commands.symlink_to(other)
    with pytest.raises(RunError, match="can't send a command"):
        request_command(run, "pause")
    assert other.read_text() == "alias ls=ls\n"


@pytest.mark.parametrize("kind", ["link", "folder"])
def test_worker_log_that_cannot_be_opened_starts_no_worker(
    run: RunDirectory, tmp_path: Path, kind: str
) -> None:
    if kind == "link":
        run.worker_log.symlink_to(tmp_path / "other")
    else:
        run.worker_log.mkdir()
    with pytest.raises(RunError, match=r"worker\.log: can't be opened"):
        start_detached(run)
    assert not (tmp_path / "other").exists()


def test_no_device_or_fifo_is_ever_read_in_the_place_of_a_file(run: RunDirectory) -> None:
    for path in (run.profile, run.commands, run.path / "inputs.json", run.worker_log):
        path.unlink(missing_ok=True)
        os.mkfifo(path)
    with pytest.raises(ProfileError, match=r"profile\.toml: not a file"):
        load_profile(run.profile)
    with pytest.raises(RunError, match=r"commands\.jsonl: can't send"):
        request_command(run, "pause")
    assert "can't be read" in read_actions(run).problem
    assert not WorkerLogTail(run.worker_log).poll()
    run.profile.unlink()
    run.profile.symlink_to("/dev/zero")
    with pytest.raises(ProfileError, match=r"profile\.toml: not a file"):
        load_profile(run.profile)


def test_profile_is_read_from_a_pipe_of_the_shell(run: RunDirectory) -> None:
    read, write = os.pipe()
    os.write(write, run.profile.read_bytes())
    os.close(write)
    with pytest.raises(ProfileError) as caught:
        load_profile(f"/dev/fd/{read}")
    os.close(read)
    assert "not a file" not in caught.value.message
