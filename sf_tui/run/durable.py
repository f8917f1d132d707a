"""Write files and folders so that a crash at any moment leaves either the old one or the new one.

Also names the files that are written aside, finds those that a dead process left, and opens files
that may have been replaced: never a FIFO that blocks, nor a device.
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
    """Open a regular file (or a link to one) for reading, without ever waiting for a writer.

    Raises:
        OSError: it can't be opened, or it is something other than a regular file.
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
        OSError: as `open_regular`.
    """
    with open_regular(path) as file:
        return file.read()


def check_regular(mode: int, path: Path) -> None:
    """Raise OSError where a file's mode says that it is no regular file."""
    if not stat.S_ISREG(mode):
        kind = _KINDS.get(stat.S_IFMT(mode), "no regular file")
        raise OSError(errno.EINVAL, f"it is {kind}, not a file", str(path))


def reason_of(error: OSError) -> str:
    """Return why a file can't be used, in words, without its path."""
    return error.strerror or str(error)


# No write takes longer. Applies to files whose process can't be looked up.
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
    """Give a file the permissions that `open` would have given it.

    safetensors makes its files readable by their owner alone, whatever the umask says. The umask
    is read off the folder, which was made under it: asking the process for it means changing it,
    and other threads write files meanwhile.
    """
    file.chmod(file.parent.stat().st_mode & 0o666)


def remove(path: Path) -> None:
    """Delete a file, a link (never what it points to) or a whole folder; nothing there is fine.

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
    """Give a folder to fill; when the block ends, sync all of it and rename it to `path`.

    A block that raises leaves nothing of the new folder, and `path` as it was. A kill leaves
    `aside` or `old`; `finish_exchange` completes the exchange.

    Args:
        path: the folder to make.
        aside: a name beside it to write under; whatever has that name is deleted first.
        old: a name beside it for the folder that is replaced, until the new one is in its place.
            Without it nothing is replaced.

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
        # The disk may refuse this too; the next process tries again.
        with suppress(OSError):
            remove(aside)
        raise


def _sync_folder(folder: Path) -> None:
    """Make everything in a folder survive a power cut."""
    for entry in sorted(folder.iterdir()):
        if entry.is_dir():
            _sync_folder(entry)
            continue
        if entry.suffix == ".safetensors":
            follow_umask(entry)
        sync_file(entry)
    sync_directory(folder)


def _exchange(aside: Path, path: Path, old: Path) -> None:
    """Rename a folder to `path` and delete what was there before.

    A kill in between leaves `old`; `finish_exchange` completes it.

    Raises:
        OSError: it can't be renamed; what was there before still is.
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
    """Complete or undo the exchange of a `new_folder` that a kill interrupted.

    Raises:
        OSError: it can't be renamed or deleted.
    """
    if os.path.lexists(old) and not os.path.lexists(path):
        old.rename(path)
        sync_directory(path.parent)
    else:
        remove(old)


def replace_file(path: Path, content: bytes, *, durable: bool = True) -> None:
    """Write `content` aside and rename it to `path`.

    Args:
        path: the file to make or replace; a link is replaced, not followed.
        content: all of its bytes.
        durable: also wait until the disk has it; not needed for what is rewritten every second.

    Raises:
        OSError: the disk is full or the folder can't be written; `path` is as it was.
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
    """Write a file that is not there yet; it appears with all of its bytes or not at all.

    Raises:
        FileExistsError: something of that name is there; it is as it was.
        OSError: the disk is full or the folder can't be written; nothing was left behind.
    """
    aside = path.with_name(aside_name(path.name, "writing"))
    remove_abandoned(path.parent, path.name, "writing")
    try:
        _write_new(aside, content, durable=True)
        try:
            # Unlike a rename, a link never replaces what is there.
            path.hardlink_to(aside)
        except OSError as error:
            if error.errno not in (errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS):
                raise
            # A file system without hard links.
            if os.path.lexists(path):
                raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path)) from None
            aside.rename(path)
    finally:
        remove(aside)
    sync_directory(path.parent)


def _write_new(path: Path, content: bytes, *, durable: bool) -> None:
    # O_EXCL: a link of that name is not followed.
    remove(path)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    with os.fdopen(os.open(path, flags, 0o666), "wb") as file:
        file.write(content)
        file.flush()
        if durable:
            os.fsync(file.fileno())


@cache
def _place() -> str:
    """Return a short name of where this process's number means something."""
    try:
        space = os.readlink("/proc/self/ns/pid")  # noqa: PTH115  not a path
    except OSError:
        space = ""
    return hashlib.sha256(f"{socket.gethostname()} {space}".encode()).hexdigest()[:8]


def aside_name(name: str, word: str) -> str:
    """Return a hidden name to write `name` aside; it identifies this process.

    Args:
        name: the final name.
        word: what is being done, "writing" for one.
    """
    return f".{name}.{_place()}-{os.getpid()}.{word}"


def remove_abandoned(folder: Path, name: str | None, word: str) -> None:
    """Delete what processes that are gone have left under `aside_name(name, word)` in a folder.

    A process of another host or container can't be looked up: its files are deleted after a day.

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
