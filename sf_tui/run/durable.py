"""Writing files so that a crash at any moment leaves either the old one or the new one."""

from __future__ import annotations

import os
from pathlib import Path


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


def replace_file(path: Path, content: bytes, *, durable: bool = True) -> None:
    """Write `content` aside and rename it to `path`.

    Args:
        path: the file to make or replace.
        content: all of its bytes.
        durable: also wait until the disk has it; needless for what is rewritten every second.

    Raises:
        OSError: the disk is full or the folder can't be written; `path` is as it was.
    """
    aside = path.with_name(f".{path.name}.{os.getpid()}.writing")
    try:
        aside.write_bytes(content)
        if durable:
            sync_file(aside)
        aside.replace(path)
    except OSError:
        aside.unlink(missing_ok=True)
        raise
    if durable:
        sync_directory(path.parent)
