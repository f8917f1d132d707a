"""A replaced file is the old one or the new one, never a part."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from sf_tui.run.directory import RunDirectory
from sf_tui.run.durable import (
    aside_name,
    create_file,
    follow_umask,
    new_folder,
    remove,
    remove_abandoned,
    replace_file,
)


@pytest.mark.parametrize("durable", [True, False])
def test_content_is_exchanged_and_nothing_else_stays(tmp_path: Path, durable: bool) -> None:
    path = tmp_path / "file"
    for content in (b"one", b"another", b""):
        replace_file(path, content, durable=durable)
        assert path.read_bytes() == content
        assert list(tmp_path.iterdir()) == [path]


def test_full_disk_leaves_the_old_file(
    tmp_path: Path, largest_file: Callable[[int], AbstractContextManager[None]]
) -> None:
    path = tmp_path / "file"
    replace_file(path, b"old")
    with largest_file(10), pytest.raises(OSError, match="too large"):
        replace_file(path, b"x" * 100)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_link_in_the_way_is_replaced_and_never_followed(tmp_path: Path) -> None:
    (tmp_path / "other").write_text("mine")
    path = tmp_path / "file"
    for name in ("file", f".file.{os.getpid()}.writing"):
        (tmp_path / name).symlink_to(tmp_path / "other")
    replace_file(path, b"new")
    assert path.read_bytes() == b"new"
    assert not path.is_symlink()
    assert (tmp_path / "other").read_text() == "mine"


def test_removing_a_link_leaves_what_it_points_to(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "file").write_text("mine")
    (tmp_path / "link").symlink_to(tmp_path / "folder")
    remove(tmp_path / "link")
    remove(tmp_path / "never there")
    assert [entry.name for entry in tmp_path.iterdir()] == ["folder"]
    assert (tmp_path / "folder" / "file").exists()


def test_file_is_created_once_and_never_written_over(tmp_path: Path) -> None:
    path = tmp_path / "file"
    create_file(path, b"one")
    with pytest.raises(FileExistsError):
        create_file(path, b"two")
    assert path.read_bytes() == b"one"
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    with pytest.raises(FileExistsError):
        create_file(tmp_path / "link", b"two")
    assert {entry.name for entry in tmp_path.iterdir()} == {"file", "link"}


def test_full_disk_creates_nothing(
    tmp_path: Path, largest_file: Callable[[int], AbstractContextManager[None]]
) -> None:
    with largest_file(10), pytest.raises(OSError, match="too large"):
        create_file(tmp_path / "file", b"x" * 100)
    assert not list(tmp_path.iterdir())
    create_file(tmp_path / "file", b"x" * 100)


def hidden(tmp_path: Path) -> tuple[Path, Path, Path]:
    return tmp_path / "folder", tmp_path / ".folder.writing", tmp_path / ".folder.replaced"


def test_folder_is_exchanged_whole(tmp_path: Path) -> None:
    path, aside, old = hidden(tmp_path)
    for content in ("one", "another"):
        with new_folder(path, aside, old) as folder:
            (folder / "inner").mkdir()
            (folder / "inner" / "file").write_text(content)
        assert (path / "inner" / "file").read_text() == content
        assert [entry.name for entry in tmp_path.iterdir()] == ["folder"]


def test_folder_that_must_be_new_replaces_nothing(tmp_path: Path) -> None:
    path, aside, _ = hidden(tmp_path)
    path.mkdir()
    with pytest.raises(FileExistsError), new_folder(path, aside) as folder:
        (folder / "file").write_text("new")
    assert not list(path.iterdir())
    assert [entry.name for entry in tmp_path.iterdir()] == ["folder"]


@pytest.mark.parametrize("fault", ["in the block", "on renaming"])
def test_failed_exchange_leaves_what_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    path, aside, old = hidden(tmp_path)
    path.mkdir()
    (path / "file").write_text("old")
    rename = Path.rename

    def renaming(self: Path, target: Path) -> Path:
        if self == aside:
            raise PermissionError("no")
        return rename(self, target)

    def write() -> None:
        with new_folder(path, aside, old) as folder:
            (folder / "file").write_text("new")
            if fault == "in the block":
                raise PermissionError("no")
            monkeypatch.setattr(Path, "rename", renaming)

    with pytest.raises(PermissionError):
        write()
    assert (path / "file").read_text() == "old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["folder"]


def of_a_dead_process(word: str) -> str:
    """Return an aside name of a process that has ended."""
    code = f"from sf_tui.run.durable import aside_name; print(aside_name('out', {word!r}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_what_dead_processes_left_goes_and_what_living_ones_write_stays(tmp_path: Path) -> None:
    dead, living = of_a_dead_process("writing"), aside_name("out", "writing")
    # Of another host, where no process can be looked up.
    elsewhere, long_ago = ".out.00000000-1.writing", ".out.00000000-2.writing"
    others = {".out.writing", ".another.00000000-3.writing", ".out.00000000-4.making", "out"}
    for name in (dead, living, elsewhere, long_ago, *others):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text("x")
    os.utime(tmp_path / long_ago, (time.time() - 90_000,) * 2)
    remove_abandoned(tmp_path, "out", "writing")
    assert {entry.name for entry in tmp_path.iterdir()} == {living, elsewhere, *others}
    remove_abandoned(tmp_path / "not there", "out", "writing")


def test_half_made_run_directory_of_a_dead_process_goes_with_the_next_run(tmp_path: Path) -> None:
    place, pid = of_a_dead_process("making").split(".")[2].split("-")
    dead, living = f".0a1b2c3d.{place}-{pid}.making", f".0a1b2c3d.{place}-{os.getpid()}.making"
    for name in (dead, living):
        (tmp_path / name).mkdir()
    RunDirectory.create(tmp_path / "run", profile_text="", profile_name="p", argv=[])
    assert {entry.name for entry in tmp_path.iterdir()} == {living, "run"}


@pytest.mark.parametrize("umask", [0o022, 0o002, 0o077, 0o027])
def test_permissions_follow_the_umask_and_a_run_is_its_owners_alone(
    tmp_path: Path, umask: int
) -> None:
    before = os.umask(umask)
    try:
        folder = tmp_path / "folder"
        folder.mkdir()
        plain = folder / "plain"
        plain.touch()
        tight = folder / "tight"
        tight.touch(mode=0o600)
        follow_umask(tight)
        replace_file(folder / "replaced", b"x")
        create_file(folder / "created", b"x")
        run = RunDirectory.create(tmp_path / "run", profile_text="", profile_name="p", argv=[])
    finally:
        os.umask(before)
    modes = {stat.S_IMODE(entry.stat().st_mode) for entry in folder.iterdir()}
    assert modes == {0o666 & ~umask}
    assert stat.S_IMODE(run.path.stat().st_mode) == 0o700
