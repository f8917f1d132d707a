"""Atomic writes: a crash at any moment leaves either the old file or folder, or the new one.

Also names temporary files, finds those that a dead process left, and opens files that may have been
replaced, never a FIFO that blocks or a device.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
import shutil
import socket
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import BinaryIO

_KINDS = {
    stat.S_IFDIR: "a directory",
    stat.S_IFIFO: "a FIFO",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


def open_regular(path: Path) -> BinaryIO:
    """Open a regular file (or a link to one) for reading, without ever blocking on a FIFO.

    Raises:
        OSError: it can't be opened or is not a regular file.
    """
    handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        check_regular(os.fstat(handle).st_mode, path)
    except OSError:
        os.close(handle)
        raise
    return os.fdopen(handle, "rb")


def read_regular(path: Path) -> bytes:
    """Return the bytes of a regular file.

    Raises:
        OSError: as for `open_regular`.
    """
    with open_regular(path) as file:
        return file.read()


def check_regular(mode: int, path: Path) -> None:
    """Raise OSError unless a mode is that of a regular file."""
    if not stat.S_ISREG(mode):
        kind = _KINDS.get(stat.S_IFMT(mode), "no regular file")
        raise OSError(errno.EINVAL, f"it is {kind}, not a file", str(path))


def reason_of(error: OSError) -> str:
    """Return the reason for an error in words, without the path."""
    return error.strerror or str(error)


# Longer than any write. Applies to files whose process can't be looked up.
_ABANDONED_AFTER_S = 24 * 3600.0


def sync_directory(path: Path) -> None:
    """Make a rename inside `path` survive a power cut."""
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sync_file(path: Path) -> None:
    """Make the bytes of `path` survive a power cut."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def follow_umask(file: Path) -> None:
    """Set the permissions of a file to those that `open` would have given it.

    safetensors makes its files readable by their owner alone, whatever the umask. The umask is
    derived from the folder, which was created under it: querying it from the process means changing
    it, which would affect files that other threads are writing.
    """
    file.chmod(file.parent.stat().st_mode & 0o666)


def remove(path: Path) -> None:
    """Delete a file, a link (never its target) or a whole folder; a missing path is ignored.

    Raises:
        OSError: it can't be deleted.
    """
    with suppress(FileNotFoundError, NotADirectoryError):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()


@contextmanager
def new_folder(path: Path, aside: Path, old: Path | None = None) -> Iterator[Path]:
    """Yield an empty folder to fill; on exit, sync all of it and rename it to `path`.

    If the block raises, the new folder is deleted and `path` is unchanged. A kill leaves `aside` or
    `old`; `finish_exchange` completes the exchange.

    Args:
        path: the folder to create.
        aside: a name beside it to write under; an existing file or folder of this name is deleted.
        old: a name beside it that the replaced folder keeps until the new one is in place. Without
            it nothing is replaced.

    Yields:
        The empty folder, under its name `aside`.

    Raises:
        FileExistsError: `path` exists, and no `old` was given.
        OSError: the folder can't be written, synced or renamed.
    """
    try:
        remove(aside)
        aside.mkdir(parents=True)
        yield aside
        _sync_folder(aside)
        if old is not None:
            _exchange(aside, path, old)
            return
        if os.path.lexists(path):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path))
        aside.rename(path)
        sync_directory(path.parent)
    except BaseException:
        # The disk may fail here too; the next process tries again.
        with suppress(OSError):
            remove(aside)
        raise


def _sync_folder(folder: Path) -> None:
    """Make the contents of a folder survive a power cut."""
    for entry in sorted(folder.iterdir()):
        if entry.is_dir():
            _sync_folder(entry)
            continue
        if entry.suffix == ".safetensors":
            follow_umask(entry)
        sync_file(entry)
    sync_directory(folder)


def _exchange(aside: Path, path: Path, old: Path) -> None:
    """Rename a folder to `path` and delete the one it replaces.

    A kill in between leaves `old`; `finish_exchange` completes it.

    Raises:
        OSError: it can't be renamed; the previous folder is still in place.
    """
    if os.path.lexists(path):
        remove(old)
        path.rename(old)
        try:
            aside.rename(path)
        except OSError:
            old.rename(path)
            raise
    else:
        aside.rename(path)
    sync_directory(path.parent)
    remove(old)


def finish_exchange(path: Path, old: Path) -> None:
    """Complete or undo a folder exchange (`new_folder`) that a kill interrupted.

    Raises:
        OSError: it can't be renamed or deleted.
    """
    if os.path.lexists(old) and not os.path.lexists(path):
        old.rename(path)
        sync_directory(path.parent)
    else:
        remove(old)


def replace_file(path: Path, content: bytes, *, durable: bool = True) -> None:
    """Write `content` to a temporary file and rename it to `path`.

    Args:
        path: the file to create or replace; a link is replaced, not followed.
        content: the whole file.
        durable: also wait for the disk; unnecessary for files that are rewritten every second.

    Raises:
        OSError: the disk is full or the folder can't be written; `path` is unchanged.
    """
    aside = path.with_name(f".{path.name}.{os.getpid()}.writing")
    try:
        _write_new(aside, content, durable=durable)
        aside.replace(path)
    except OSError:
        remove(aside)
        raise
    if durable:
        sync_directory(path.parent)


def create_file(path: Path, content: bytes) -> None:
    """Create a file that must not exist yet; it appears complete or not at all.

    Raises:
        FileExistsError: the path exists; it is unchanged.
        OSError: the disk is full or the folder can't be written; no file was left behind.
    """
    aside = path.with_name(aside_name(path.name, "writing"))
    remove_abandoned(path.parent, path.name, "writing")
    try:
        _write_new(aside, content, durable=True)
        try:
            # Unlike a rename, a hard link never replaces an existing file.
            path.hardlink_to(aside)
        except OSError as error:
            if error.errno not in (errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS):
                raise
            # The file system has no hard links.
            if os.path.lexists(path):
                raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path)) from None
            aside.rename(path)
    finally:
        remove(aside)
    sync_directory(path.parent)


def _write_new(path: Path, content: bytes, *, durable: bool) -> None:
    # O_EXCL: a link of this name is not followed.
    remove(path)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    with os.fdopen(os.open(path, flags, 0o666), "wb") as file:
        file.write(content)
        file.flush()
        if durable:
            os.fsync(file.fileno())


@cache
def _place() -> str:
    """Return a short name of the PID namespace and host in which this process's id is valid."""
    try:
        space = os.readlink("/proc/self/ns/pid")  # noqa: PTH115  not a path
    except OSError:
        space = ""
    return hashlib.sha256(f"{socket.gethostname()} {space}".encode()).hexdigest()[:8]


def aside_name(name: str, word: str) -> str:
    """Return a hidden temporary name for `name`; it identifies this process.

    Args:
        name: the final name.
        word: the kind of operation, such as "writing".
    """
    return f".{name}.{_place()}-{os.getpid()}.{word}"


def remove_abandoned(folder: Path, name: str | None, word: str) -> None:
    """Delete the files that dead processes left under `aside_name(name, word)` in a folder.

    A process of another host or container can't be looked up; its files are deleted after a day.

    Args:
        folder: where to look.
        name: the final name; None matches any eight hexadecimal digits (a folder without a name).
        word: as for `aside_name`.

    Raises:
        OSError: something can't be deleted.
    """
    final = "[0-9a-f]{8}" if name is None else re.escape(name)
    pattern = re.compile(rf"\.{final}\.([0-9a-f]{{8}})-(\d+)\.{re.escape(word)}")
    if not folder.is_dir():
        return
    for entry in folder.iterdir():
        found = pattern.fullmatch(entry.name)
        if found and _is_abandoned(entry, found[1], int(found[2])):
            remove(entry)


def _is_abandoned(path: Path, place: str, pid: int) -> bool:
    if place == _place():
        return not Path(f"/proc/{pid}").exists() if Path("/proc/self").exists() else False
    try:
        return time.time() - path.lstat().st_mtime > _ABANDONED_AFTER_S
    except FileNotFoundError:
        return False
