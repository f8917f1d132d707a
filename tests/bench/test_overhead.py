from __future__ import annotations

from pathlib import Path

import pytest

from sf_tui.bench.harness import BenchReport
from sf_tui.bench.overhead import measure_overhead
from sf_tui.errors import UsageError


def test_the_report_holds_every_figure(llama_directory: Path) -> None:
    report = BenchReport.from_plain(
        measure_overhead(str(llama_directory), steps=75, batch_size=4, threads=1)
    ).as_json()
    assert report["agreement"] == 1.0
    assert report["times_faster_than_generate"] > 1
    assert report["times_faster_than_generate_short"] > 0
    assert {"in_window", "outside"} <= report.keys()
    conditions = report["conditions"]
    assert conditions["steps"] == 75
    assert conditions["repetitions"] == 11
    assert report["measured"]["examples_a_probe"].keys() == {"old", "new"}
    assert report["measured"]["held_out"] == 128
    assert 1.2 < report["anchored_step"] < 4
    assert report["wanted"]["anchored_step"] == "at most 2.5"
    anchor = report["measured"]["anchor"]
    # One prompt for each row of each of the stage's steps.
    assert 200 < anchor["cache_prompts"] <= 76 * 4
    assert anchor["cache_tokens"] > 0
    assert report["anchor_cache_seconds"] == anchor["cache_seconds"] > 0
    assert report["anchor_cache_steps"] == pytest.approx(
        anchor["cache_seconds"] / anchor["plain_seconds"]
    )


def test_too_few_steps_are_refused_before_anything_is_trained(llama_directory: Path) -> None:
    with pytest.raises(UsageError, match="too few"):
        measure_overhead(str(llama_directory), steps=49, batch_size=None, threads=1)
