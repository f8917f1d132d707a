"""Every file operation of a process as a numbered point at which it can be killed.

Opening for writing, writing, syncing, renaming, linking, deleting, making and changing files all
count, in the order in which the main thread does them below one folder. A kill comes before the
operation; torn, half of the bytes have reached the file when it comes.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import safetensors.numpy
import safetensors.torch

# By audit event: which of its arguments are paths.
_EVENTS = {
    "os.rename": (0, 1),
    "os.remove": (0,),
    "os.mkdir": (0,),
    "os.rmdir": (0,),
    "os.link": (0, 1),
    "os.symlink": (1,),
    "os.truncate": (0,),
    "os.chmod": (0,),
}
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND


class FaultPoints:
    """Counts this process's file operations below a folder and kills it at one of them."""

    def __init__(self, folder: Path, at: int, *, torn: bool, log: Path) -> None:
        """Begin to count; can't be undone in this process.

        Args:
            folder: operations elsewhere don't count.
            at: number of the operation at which the process kills itself; 0 only counts.
            torn: tear the write there; where nothing is written, it is a plain kill.
            log: gets a line for each operation: whether it can be torn, its kind, its path.
        """
        self._folder = str(folder.resolve())
        self._at = at
        self._torn = torn
        self._thread = threading.get_ident()
        self._count = 0
        self._log = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        self._write, self._fsync = os.write, os.fsync
        for module in (safetensors.torch, safetensors.numpy):
            self._patch_serializer(module)
        os.write = self._writing
        os.fsync = self._syncing
        sys.addaudithook(self._audit)

    def _audit(self, event: str, arguments: tuple[Any, ...]) -> None:
        if threading.get_ident() != self._thread:
            return
        if event == "open":
            path, _, flags = arguments
            if isinstance(path, str) and flags & _WRITING:
                self._reach("open", path)
            return
        if event in _EVENTS:
            paths = [self._path_of(arguments[at]) for at in _EVENTS[event]]
            tear = self._halving(paths[0]) if event == "os.rename" else None
            self._reach(event, " to ".join(paths), tear)

    def _path_of(self, named: Any) -> str:
        if isinstance(named, int):
            return str(Path(f"/proc/self/fd/{named}").readlink())
        return os.fspath(named)

    def _below(self, path: str) -> bool:
        return path.startswith(self._folder)

    def _reach(self, kind: str, path: str, tear: Callable[[], None] | None = None) -> None:
        # Deleting a folder names what is in it relative to a handle: it counts wherever it is.
        if path.startswith("/") and not self._below(path):
            return
        self._count += 1
        self._write(self._log, f"{'torn' if tear else 'whole'} {kind} {path}\n".encode())
        if self._count == self._at:
            if self._torn and tear:
                tear()
            os.kill(os.getpid(), signal.SIGKILL)

    def _halving(self, path: str) -> Callable[[], None] | None:
        if not Path(path).is_file() or Path(path).stat().st_size < 2:
            return None

        def halve() -> None:
            self._at = 0
            os.truncate(path, Path(path).stat().st_size // 2)

        return halve

    def _writing(self, handle: int, content: bytes) -> int:
        path = self._path_of(handle)
        if threading.get_ident() == self._thread and self._below(path):
            half = content[: len(content) // 2]
            self._reach("write", path, tear=lambda: self._write(handle, half) and None)
        return self._write(handle, content)

    def _syncing(self, handle: int) -> None:
        path = self._path_of(handle)
        if threading.get_ident() == self._thread and self._below(path):
            # Before it was synced it was written: a kill in there leaves a part of it.
            self._reach("fsync", path, tear=None if "jsonl" in path else self._halving(path))
        self._fsync(handle)

    def _patch_serializer(self, module: Any) -> None:
        """Count what the safetensors library writes by itself: aside, then renamed."""
        serialize_file = module.serialize_file

        def counted(tensors: Any, filename: Any, *arguments: Any, **options: Any) -> None:
            aside = Path(filename).with_name(".tmpZ9aF3k")

            def tear() -> None:
                serialize_file(tensors, aside, *arguments, **options)
                self._at = 0
                os.truncate(aside, aside.stat().st_size // 2)

            self._reach("serialize", str(Path(filename).absolute()), tear)
            serialize_file(tensors, filename, *arguments, **options)

        module.serialize_file = counted
