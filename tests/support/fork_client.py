"""The tests' end of `fork_host.py`: start an `sf` process, look at it, signal it, wait for it."""

from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import psutil

from support import PATIENCE_S

HOST = Path(__file__).with_name("fork_host.py")


SignalAt = tuple[signal.Signals, dict[str, Any]]
"""A signal, and fields of the event behind which it comes."""


class ForkHost:
    """A process that has torch imported and forks."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._numbers = itertools.count()
        self._process: subprocess.Popen[str] | None = None
        self._asking = threading.Lock()

    def __enter__(self) -> ForkHost:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._process is not None:
            self._process.communicate(timeout=PATIENCE_S)

    @property
    def virtual_bytes(self) -> int:
        """Address space that every process has from the start; for RLIMIT_AS."""
        self.ask(reap=0)
        assert self._process is not None
        status = Path(f"/proc/{self._process.pid}/status").read_text()
        return int(status.partition("VmSize:")[2].split()[0]) << 10

    def start(
        self,
        *arguments: str | Path,
        limits: dict[str, int] | None = None,
        signals_at: Sequence[SignalAt] = (),
    ) -> SfProcess:
        """Start `sf` with these arguments.

        Args:
            arguments: of the command line.
            limits: by name in the module `resource`, such as RLIMIT_FSIZE.
            signals_at: signals that the process gets in this order, each as soon as it has
                written an event with its fields to the log. A signal that a test sends when it
                has read the event may come after the run's end.
        """
        number = next(self._numbers)
        out, err = self._folder / f"{number}.out", self._folder / f"{number}.err"
        pid = self.ask(
            arguments=[str(argument) for argument in arguments],
            stdout=str(out),
            stderr=str(err),
            # Fixtures of a module start before a test has a home; they name their run directories.
            environment={
                name: os.environ[name]
                for name in ("HOME", "SF_HOME", "OMP_NUM_THREADS")
                if name in os.environ
            },
            folder=str(Path.cwd()),
            limits=limits or {},
            signals_at=list(signals_at),
        )
        return SfProcess(self, pid, out, err)

    def run(
        self, *arguments: str | Path, timeout_s: float = PATIENCE_S, **options: Any
    ) -> SfProcess:
        """Start `sf`, with options as for `start`, and wait for its end."""
        process = self.start(*arguments, **options)
        process.wait(timeout_s)
        return process

    def ask(self, **request: Any) -> Any:
        """Send a request and return its answer."""
        # A sweep asks from several threads.
        with self._asking:
            if self._process is None:
                self._process = subprocess.Popen(
                    [sys.executable, str(HOST)],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    text=True,
                )
                self._read()
            assert self._process.stdin is not None
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()
            return self._read()

    def _read(self) -> Any:
        assert self._process is not None
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, "the fork host has died"
        return json.loads(line)


class SfProcess:
    """One `sf` process."""

    def __init__(self, host: ForkHost, pid: int, out: Path, err: Path) -> None:
        self.pid = pid
        self._host = host
        self._out = out
        self._err = err
        self._code: int | None = None

    @property
    def stdout(self) -> str:
        """What it has printed so far."""
        return self._out.read_text() if self._out.exists() else ""

    @property
    def stderr(self) -> str:
        """What it has told so far."""
        return self._err.read_text() if self._err.exists() else ""

    def poll(self) -> int | None:
        """Return the exit code, minus the signal that ended it; None while it runs."""
        if self._code is None:
            self._code = self._host.ask(reap=self.pid)
        return self._code

    def wait(self, timeout_s: float = PATIENCE_S) -> int:
        """Wait for its end and return the exit code."""
        deadline = time.monotonic() + timeout_s
        while (code := self.poll()) is None:
            if time.monotonic() > deadline:
                self.send(signal.SIGKILL)
                raise AssertionError(f"sf did not end within {timeout_s:g} s: {self.stderr}")
            time.sleep(0.01)
        return code

    def send(self, number: signal.Signals) -> None:
        """Send it a signal."""
        os.kill(self.pid, number)

    def wait_until_stopped(self) -> None:
        """Wait until SIGSTOP has stopped it; `send(SIGCONT)` lets it go on."""
        deadline = time.monotonic() + PATIENCE_S
        while psutil.Process(self.pid).status() != psutil.STATUS_STOPPED:
            assert self.poll() is None, self.stderr
            assert time.monotonic() < deadline, f"sf was not stopped: {self.stderr}"
            time.sleep(0.01)

    def kill(self) -> None:
        """Kill it at once and wait until it is gone."""
        if self.poll() is None:
            self.send(signal.SIGKILL)
            self.wait()
