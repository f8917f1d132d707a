from __future__ import annotations

from pathlib import Path

import pytest

from sf_tui.bench.harness import BenchReport
from sf_tui.bench.overhead import measure_overhead
from sf_tui.errors import UsageError


@pytest.mark.slow
def test_the_report_holds_every_figure(llama_directory: Path) -> None:
    report = BenchReport.from_plain(
        measure_overhead(str(llama_directory), steps=50, batch_size=4, threads=1)
    ).as_json()
    assert report["agreement"] == 1.0
    conditions, measured = report["conditions"], report["measured"]
    assert conditions["steps"] == 50
    # Every 5 of the 25 in the window, and once in the 25 behind it.
    assert conditions["repetitions"] == measured["probes"] == 6
    assert measured["examples_a_probe"].keys() == {"old", "new"}
    assert measured["held_out"] == 128
    for figure, side in (
        ("times_faster_than_generate", "against_generate_long"),
        ("times_faster_than_generate_short", "against_generate_short"),
    ):
        assert [speed["batch_size"] for speed in measured[side]] == [1, 4, 8]
        assert report[figure] == measured[side][0]["times_faster"]
    added = measured["seconds_a_probe"]
    assert report["in_window"] == pytest.approx(added / (5 * measured["seconds_a_step_in_window"]))
    assert report["outside"] == pytest.approx(added / (25 * measured["seconds_a_step_outside"]))
    assert report["wanted"] == {
        "in_window": "at most 0.12",
        "outside": "at most 0.04",
        "times_faster_than_generate": "at least 5",
        "agreement": "1.0",
        "anchored_step": "at most 2.5",
    }
    anchor = measured["anchor"]
    assert report["anchored_step"] == anchor["times_a_plain_step"]
    # One prompt for each row of each of the stage's steps.
    assert 100 < anchor["cache_prompts"] <= 51 * 4
    assert anchor["cache_tokens"] > 0
    assert report["anchor_cache_seconds"] == anchor["cache_seconds"] > 0
    assert report["anchor_cache_steps"] == pytest.approx(
        anchor["cache_seconds"] / anchor["plain_seconds"]
    )


def test_too_few_steps_are_refused_before_anything_is_trained(llama_directory: Path) -> None:
    with pytest.raises(UsageError, match="too few"):
        measure_overhead(str(llama_directory), steps=49, batch_size=None, threads=1)
