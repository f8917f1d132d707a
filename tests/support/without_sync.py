"""Makes `os.fsync` return at once in the processes that play many short runs.

Only a power cut loses what was written and not synced, and no test cuts the power: what a killed
process has written, the kernel still has. A sync takes 3 ms on the disk of a virtual machine and a
run of a second makes 150 of them. That they are made is shown where kills come at every one of
them (`worker/test_file_faults.py`), and `sf` processes of their own make them all.
"""

from __future__ import annotations

import os


def skip_sync() -> None:
    """Let `os.fsync` do nothing in this process and in those that it forks."""
    os.fsync = _do_nothing


def _do_nothing(fd: int) -> None:
    """Take a file as written."""
