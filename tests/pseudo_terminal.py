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


class Terminal:
    """A pseudo-terminal of which this test is the other end."""

    def __init__(
        self, arguments: list[str], environ: dict[str, str], size: tuple[int, int] = (120, 40)
    ) -> None:
        self.size = size
        self.master, slave = os.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", size[1], size[0], 0, 0))
        env = {name: value for name, value in os.environ.items() if name != "NO_COLOR"}
        env |= {"TERM": "xterm-256color", "LANG": "C.UTF-8", "PYTHONUTF8": "1"} | environ
        self.began = time.monotonic()
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

    def read(self, seconds: float) -> int:
        """Take what is written for a while; return how many bytes that was."""
        before, end = len(self.data), time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            if select.select([self.master], [], [], left)[0]:
                try:
                    chunk = os.read(self.master, 1 << 16)
                except OSError:
                    break
                if not chunk:
                    break
                self.data += chunk
        return len(self.data) - before

    def read_until(self, text: str, timeout_s: float = 20.0) -> float:
        """Take what is written until a text is on the screen; return after how many seconds."""
        while time.monotonic() - self.began < timeout_s:
            self.read(0.02)
            if text in self.screen():
                return time.monotonic() - self.began
        raise AssertionError(f"{text!r} is not on the screen:\n{self.screen()}")

    def screen(self) -> str:
        screen = pyte.Screen(*self.size)
        pyte.ByteStream(screen).feed(self.data)
        return "\n".join(screen.display)

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
