"""The first signal that asks for a stop is remembered, and a hang-up is not one."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator

import pytest

from sf_tui.worker.stop import PreparationStopped, StopSignals

TAKEN = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGHUP)


@pytest.fixture
def installed() -> Iterator[StopSignals]:
    before = {number: signal.getsignal(number) for number in TAKEN}
    signals = StopSignals()
    signals.install()
    yield signals
    for number, handler in before.items():
        signal.signal(number, handler)


def test_first_signal_is_the_one_that_counts(installed: StopSignals) -> None:
    assert installed.received is None
    os.kill(os.getpid(), signal.SIGHUP)
    assert installed.received is None
    os.kill(os.getpid(), signal.SIGUSR1)
    os.kill(os.getpid(), signal.SIGTERM)
    assert installed.received == "SIGUSR1"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGUSR1])
def test_a_signal_ends_the_preparation_even_if_a_library_swallows_it(
    installed: StopSignals, number: signal.Signals
) -> None:
    swallowed = 0
    with pytest.raises(PreparationStopped), installed.ending_preparation():  # noqa: PT012
        try:
            os.kill(os.getpid(), number)
        except BaseException:  # as a library's clean-up would
            swallowed += 1
        time.sleep(5)
    assert swallowed == 1
    assert installed.received == number.name
    assert signal.getsignal(signal.SIGALRM) == signal.SIG_DFL


def test_a_signal_before_the_preparation_is_heard_at_its_start(installed: StopSignals) -> None:
    os.kill(os.getpid(), signal.SIGTERM)
    with pytest.raises(PreparationStopped), installed.ending_preparation():
        pytest.fail("the preparation began")


def test_a_failed_preparation_without_a_signal_stays_what_it_is(installed: StopSignals) -> None:
    with pytest.raises(ValueError, match="x"), installed.ending_preparation():
        raise ValueError("x")
