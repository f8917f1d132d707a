"""Runs a command in the place of this process: same terminal, signals, and way of ending.

The command inherits stdin, stdout, stderr, the process group and the signal mask. A signal that
reaches this process alone is passed on to it. One that was sent to the whole group (Ctrl-C,
`timeout`, `kill -- -PGID`, a scheduler) is not: the command has it already, and a second Ctrl-C
would cut short what the first one started. A *sentry*, a forked process that only waits, tells the
two apart: it receives what the group receives. Knows nothing of trainings.
"""

from __future__ import annotations

import contextlib
import errno
import os
import resource
import select
import shutil
import signal
import time
from collections.abc import Callable, Mapping, Sequence

from sf_tui.errors import SfError

# How long the sentry may take to report a signal on a busy machine; it delays passing on, no more.
_SENTRY_WAIT_S = 0.3
_READY = 0
# More than a command line ever has open.
_HANDLES = 4096

# Raised by the process's own faults; what others send is passed on.
_OWN_FAULTS = {"SIGSEGV", "SIGBUS", "SIGFPE", "SIGILL", "SIGTRAP", "SIGSYS"}
_UNCATCHABLE = {"SIGKILL", "SIGSTOP"}
_STOPPING = {signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU}


class CommandNotFoundError(SfError):
    """The command does not exist; the exit code is a shell's."""

    exit_code = 127


class CommandNotExecutableError(SfError):
    """The command exists and can't be executed; the exit code is a shell's."""

    exit_code = 126


def run_in_place(
    command: Sequence[str], environ: Mapping[str, str], at_end: Callable[[int], None]
) -> int:
    """Run a command to its end and end as it did.

    Args:
        command: the program and its arguments; the program is looked up on PATH.
        environ: the command's environment.
        at_end: called with the exit code once the command has ended, -N if signal N ended it.

    Returns:
        The command's exit code. If a signal ended it, the same signal ends this process.

    Raises:
        CommandNotFoundError: there is no such program.
        CommandNotExecutableError: it can't be executed.
    """
    relayed = _relayed_signals()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [*relayed, signal.SIGCHLD])
    if signal.getsignal(signal.SIGCHLD) is signal.SIG_IGN:
        # Inherited; with it the exit code is lost.
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    try:
        sentry = Sentry(relayed)
        try:
            pid = _spawn(command, environ, before)
            sentry.forget()
            status = _Relay(pid, sentry, relayed).wait()
        finally:
            sentry.end()
        code = os.waitstatus_to_exitcode(status)
        at_end(code)
    finally:
        # What came for a command that had just ended: handled here it would change the exit code.
        while pending := signal.sigpending() & relayed:
            signal.sigwait(pending)
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    if code < 0:
        _end_by(-code)
    return code if code >= 0 else 128 - code


def _relayed_signals() -> set[int]:
    omitted = {
        int(getattr(signal, name)) for name in _OWN_FAULTS | _UNCATCHABLE if hasattr(signal, name)
    }
    return {int(number) for number in signal.valid_signals()} - omitted - {int(signal.SIGCHLD)}


def _spawn(command: Sequence[str], environ: Mapping[str, str], mask: set[int]) -> int:
    # Python ignores these two at its start; a command expects them at their defaults.
    restored = [signal.SIGPIPE, signal.SIGXFSZ]
    try:
        return os.posix_spawnp(
            command[0], list(command), dict(environ), setsigmask=mask, setsigdef=restored
        )
    except OSError as error:
        if shutil.which(command[0], path=environ.get("PATH")) is None and isinstance(
            error, FileNotFoundError
        ):
            raise CommandNotFoundError(
                f"{command[0]}: command not found", "check its name and PATH"
            ) from error
        hint = "give the program that runs it, as in `sf exec -- python train.py`"
        if error.errno not in {errno.EACCES, errno.ENOEXEC, errno.EISDIR, errno.ENOTDIR}:
            hint = "run it without `sf exec` to see whether it starts"
        raise CommandNotExecutableError(
            f"{command[0]}: can't be executed: {error.strerror}", hint
        ) from error


class Sentry:
    """A process that does nothing but report the signals it receives.

    Args:
        signals: the numbers to report; blocked in this process, so that none is lost.
    """

    def __init__(self, signals: set[int]) -> None:
        self._reported: dict[int, float] = {}
        self._reports, report = os.pipe()
        awake, self._awake = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            try:
                _stand_sentry(signals, report, awake)
            finally:
                os._exit(0)
        os.close(report)
        os.close(awake)
        # Handlers are in place once it reports ready.
        os.read(self._reports, 1)

    def saw(self, number: int) -> bool:
        """Return whether the sentry received a signal that has just come here."""
        deadline = time.monotonic() + _SENTRY_WAIT_S
        while not self._is_recent(number):
            left = deadline - time.monotonic()
            if left <= 0 or not self._read(left):
                return False
        return True

    def _is_recent(self, number: int) -> bool:
        # `timeout` sends a signal to this process and then to its group: one for the command.
        reported = self._reported.get(number)
        return reported is not None and time.monotonic() - reported < _SENTRY_WAIT_S

    def _read(self, wait_s: float) -> bool:
        """Take in reports; return whether there were any."""
        if not select.select([self._reports], [], [], wait_s)[0]:
            return False
        numbers = os.read(self._reports, 4096)
        self._reported.update(dict.fromkeys(numbers, time.monotonic()))
        return bool(numbers)

    def forget(self) -> None:
        """Drop what was reported so far: the command did not exist then."""
        while self._read(0):
            pass
        self._reported.clear()

    def end(self) -> None:
        """End the sentry."""
        os.close(self._awake)
        with contextlib.suppress(ChildProcessError, ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
        os.close(self._reports)


def _stand_sentry(signals: set[int], report: int, awake: int) -> None:
    """Report signals until the process that forked this one has ended."""
    # Nothing may hold the command's pipes open, least of all the other end of our own.
    low, high = sorted((report, awake))
    for first, end in ((0, low), (low + 1, high), (high + 1, _HANDLES)):
        os.closerange(first, end)
    os.set_blocking(report, False)
    signal.set_wakeup_fd(report, warn_on_full_buffer=False)
    for number in signals:
        with contextlib.suppress(OSError, ValueError):
            signal.signal(number, lambda *_: None)
    os.write(report, bytes([_READY]))
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
    while os.read(awake, 1):
        pass


class _Relay:
    """Waits for the command; passes signals on and stops with it."""

    def __init__(self, pid: int, sentry: Sentry, relayed: set[int]) -> None:
        self._pid = pid
        self._sentry = sentry
        self._awaited = [*relayed, signal.SIGCHLD]
        self._is_stopped = False
        self._stop_asked = False

    def wait(self) -> int:
        """Return the command's wait status once it has ended."""
        while True:
            status = self._changed()
            if status is not None:
                return status
            if self._is_stopped and self._stop_asked:
                self._stop_here()
                continue
            number = signal.sigwait(self._awaited)
            if number != signal.SIGCHLD:
                self._received(number)

    def _changed(self) -> int | None:
        """Take in what happened to the command; return its status if it has ended."""
        while True:
            pid, status = os.waitpid(self._pid, os.WNOHANG | os.WUNTRACED | os.WCONTINUED)
            if pid == 0:
                return None
            if os.WIFSTOPPED(status):
                self._is_stopped = True
            elif os.WIFCONTINUED(status):
                self._is_stopped = self._stop_asked = False
            else:
                return status

    def _received(self, number: int) -> None:
        if number in _STOPPING:
            self._stop_asked = True
        if number == signal.SIGCONT:
            # A second one does no harm, and the sentry may itself have been stopped.
            self._stop_asked = False
        elif self._sentry.saw(number):
            return
        with contextlib.suppress(ProcessLookupError):
            os.kill(self._pid, number)

    def _stop_here(self) -> None:
        """Stop as the command did, so that the shell shows the job as stopped."""
        self._stop_asked = False
        os.kill(os.getpid(), signal.SIGSTOP)


def _end_by(number: int) -> None:
    """End this process by a signal, without a second core file."""
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
    with contextlib.suppress(OSError, ValueError):
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [number])
    os.kill(os.getpid(), number)
