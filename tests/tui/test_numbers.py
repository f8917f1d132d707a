from __future__ import annotations

from datetime import UTC

import pytest

from sf_tui.tui import numbers


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0.000"),
        (0.4273, "0.427"),
        (2.345, "2.35"),
        (57.31, "57.3"),
        (1234.5, "1234"),
        (0.00012, "1.2e-4"),
        (None, "–"),
        (float("nan"), "–"),
    ],
)
def test_values_are_short(value: float | None, text: str) -> None:
    assert numbers.format_value(value) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 s"),
        (59.4, "59 s"),
        (187, "3:07"),
        (7500, "2 h 05"),
        (200_000, "2 d 7 h"),
        (None, "–"),
    ],
)
def test_durations_have_their_unit(seconds: float | None, text: str) -> None:
    assert numbers.format_duration(seconds) == text


def test_times_are_those_of_the_reader() -> None:
    assert numbers.format_clock("2026-03-01T09:30:05.123Z", UTC) == "09:30:05"
    assert numbers.format_clock("yesterday", UTC) == " " * 8


def test_counts_are_in_the_nearest_unit() -> None:
    assert numbers.format_count(1_052_160) == "1.05 M"
    assert numbers.format_rate(17_720.0) == "17.7k"
    assert numbers.format_age(7300) == "2 h"
