"""Ctrl-C ends a command with 130, also where the exception that it raises is lost on the way."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

from sf_tui.cli.output import (
    INTERRUPTED,
    check_interrupt,
    install_sigint,
    was_interrupted,
)
from support import PATIENCE_S

# A command whose work loses the interrupt, or has it come out as something else.
COMMAND = """
import os, signal
from sf_tui.cli import app as cli
from sf_tui.cli.output import check_interrupt
from sf_tui.errors import ModelError

@cli.app.command("lose")
def lose(how: str) -> None:
    try:
        os.kill(os.getpid(), signal.SIGINT)
    except KeyboardInterrupt:
        if how == "library":
            raise RuntimeError("the operation was stopped")
        if how == "told":
            raise ModelError("the weights can't be read", "look at them")
    check_interrupt()

import sys
sys.argv[1:] = ["lose", *sys.argv[1:]]
cli.main()
"""


@pytest.fixture(autouse=True)
def default_handler() -> Iterator[None]:
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, signal.default_int_handler)
    # Forget the interrupts of the test.
    install_sigint()
    signal.signal(signal.SIGINT, before)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_one_that_is_lost_while_a_generator_is_closed_is_raised_again() -> None:
    install_sigint()

    def numbers() -> Iterator[int]:
        try:
            yield 1
        finally:
            os.kill(os.getpid(), signal.SIGINT)

    lost = numbers()
    next(lost)
    # Python has no caller to raise it to here, and continues.
    del lost
    assert was_interrupted()
    with pytest.raises(KeyboardInterrupt):
        check_interrupt()


def test_nothing_is_raised_without_one() -> None:
    install_sigint()
    check_interrupt()
    assert not was_interrupted()


def test_a_command_that_was_started_to_ignore_it_still_does() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    install_sigint()
    os.kill(os.getpid(), signal.SIGINT)
    assert not was_interrupted()


@pytest.mark.parametrize("how", ["lost", "library", "told"])
def test_whatever_becomes_of_it_the_exit_code_says_interrupted(how: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", COMMAND, how],
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        # A parent that ignores it would hand that down.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    assert done.returncode == INTERRUPTED, done.stderr
    assert "Traceback" not in done.stderr
    assert "internal error" not in done.stderr


def test_one_during_the_imports_leaves_no_traceback() -> None:
    interrupting = """
import os, signal, sys

class Finder:
    def find_spec(self, name, path=None, target=None):
        if name == "sf_tui.cli.doctor":
            os.kill(os.getpid(), signal.SIGINT)

sys.meta_path.insert(0, Finder())
from sf_tui.cli.entry import main
main()
"""
    done = subprocess.run(
        [sys.executable, "-c", interrupting],
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    assert (done.returncode, done.stderr) == (INTERRUPTED, "")
