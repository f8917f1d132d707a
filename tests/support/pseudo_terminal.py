"""A pseudo-terminal whose other end is the test's: what stands on it, and keys for it."""

from __future__ import annotations

import fcntl
import os
import select
import struct
import subprocess
import sys
import termios
import time

import pyte

from support import PATIENCE_S


class Terminal:
    """A pseudo-terminal of which this test is the other end."""

    def __init__(
        self, arguments: list[str], environ: dict[str, str], size: tuple[int, int] = (120, 40)
    ) -> None:
        self.size = size
        self.master, slave = os.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", size[1], size[0], 0, 0))
        # The size is the pseudo-terminal's, whatever the terminal that the tests run in exports.
        ours = {"NO_COLOR", "COLUMNS", "LINES"}
        env = {name: value for name, value in os.environ.items() if name not in ours}
        env |= {"TERM": "xterm-256color", "LANG": "C.UTF-8", "PYTHONUTF8": "1"} | environ
        self.process = subprocess.Popen(
            [sys.executable, *arguments],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            env=env,
            start_new_session=True,
            # The pseudo-terminal becomes the controlling one: closing it hangs the process up.
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        )
        os.close(slave)
        self.data = b""
        self._screen = pyte.Screen(*size)
        self._stream = pyte.ByteStream(self._screen)

    def read(self, seconds: float) -> int:
        """Read what is written for a while; return the number of bytes."""
        before, end = len(self.data), time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            if not self._read_once(left):
                break
        return len(self.data) - before

    def _read_once(self, wait_s: float) -> bool:
        """Read what is there, waiting for it at most so long; False once the other end closed."""
        if not select.select([self.master], [], [], wait_s)[0]:
            return True
        try:
            chunk = os.read(self.master, 1 << 16)
        except OSError:
            return False
        self.data += chunk
        self._stream.feed(chunk)
        return bool(chunk)

    def read_until(self, text: str, timeout_s: float = PATIENCE_S) -> None:
        """Read until a text is on the screen.

        Raises:
            AssertionError: it did not come, or the process ended without it.
        """
        deadline = time.monotonic() + timeout_s
        is_open, seen = True, -1
        while time.monotonic() < deadline:
            if len(self.data) != seen:
                seen = len(self.data)
                if text in self.screen():
                    return
            if not is_open:
                break
            is_open = self._read_once(0.1)
            if is_open and len(self.data) != seen:
                # The rest of the frame, so that half of one is not drawn again and again.
                self.read(0.02)
        raise AssertionError(f"{text!r} is not on the screen:\n{self.screen()}")

    def read_until_quiet(self, quiet_s: float) -> None:
        """Read until nothing has been written for a while.

        Raises:
            AssertionError: the process keeps writing.
        """
        deadline = time.monotonic() + PATIENCE_S
        while self.read(quiet_s):
            assert time.monotonic() < deadline, f"never quiet for {quiet_s:g} s"

    def read_to_end(self) -> int:
        """Read all that is written until the process ends; return its exit code."""
        deadline = time.monotonic() + PATIENCE_S
        # Not until the terminal is closed: a worker that goes on may still hold it.
        while self.process.poll() is None:
            assert time.monotonic() < deadline, f"does not end:\n{self.screen()}"
            if not self._read_once(0.1):
                time.sleep(0.01)
        while self.read(0.1):
            pass
        return self.process.returncode

    def screen(self) -> str:
        return "\n".join(self._screen.display)

    def resize(self, size: tuple[int, int]) -> None:
        """Make the terminal larger or smaller, which its process is told by a signal."""
        self.size = size
        self._screen.resize(size[1], size[0])
        window = struct.pack("HHHH", size[1], size[0], 0, 0)
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, window)

    def press(self, keys: str) -> None:
        os.write(self.master, keys.encode())

    def hang_up(self) -> None:
        os.close(self.master)
        self.master = -1

    def end(self) -> None:
        if self.master >= 0:
            os.close(self.master)
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
