from __future__ import annotations

import time

import pytest

from sf_tui.bench.harness import Clock, Reading, read_clocks


@pytest.mark.parametrize(
    ("device", "threads", "name"),
    [("cpu", 1, "processor"), ("cpu", 2, "wall"), ("cuda", 1, "wall")],
)
def test_the_processor_counts_on_one_cpu_thread_alone(device: str, threads: int, name: str) -> None:
    assert Clock.for_device(device, threads).name == name


def test_sleep_takes_no_processor_time() -> None:
    before = read_clocks()
    time.sleep(0.2)
    passed = read_clocks().since(before)
    assert passed.wall >= 0.2
    assert passed.processor < 0.15


def test_a_clock_takes_its_own_part_of_a_reading() -> None:
    readings = [Reading(2.0, 1.0), Reading(4.0, 3.0)]
    assert Clock(by_processor=True).seconds(readings) == [1.0, 3.0]
    assert Clock(by_processor=False).seconds(readings) == [2.0, 4.0]
