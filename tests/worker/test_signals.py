"""The first signal that asks for a stop is remembered, and a hang-up is not one."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import pytest

from sf_tui.worker.signals import StopSignals

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
