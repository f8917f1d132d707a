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


def test_a_reading_is_of_the_wall_and_of_this_process() -> None:
    clocks = (time.perf_counter, time.process_time)
    earliest = [clock() for clock in clocks]
    reading = read_clocks()
    latest = [clock() for clock in clocks]
    for before, found, after in zip(earliest, reading, latest, strict=True):
        assert before <= found <= after


def test_what_has_passed_is_told_for_each_clock() -> None:
    assert Reading(7.0, 2.5).since(Reading(4.0, 2.0)) == Reading(3.0, 0.5)


def test_a_clock_takes_its_own_part_of_a_reading() -> None:
    readings = [Reading(2.0, 1.0), Reading(4.0, 3.0)]
    assert Clock(by_processor=True).seconds(readings) == [1.0, 3.0]
    assert Clock(by_processor=False).seconds(readings) == [2.0, 4.0]
