from __future__ import annotations

import math
from pathlib import Path

from sf_tui.bench.harness import BenchReport
from sf_tui.bench.throughput import measure_throughput


def test_both_sides_do_the_same_work(tied_llama_directory: Path) -> None:
    report = BenchReport.from_plain(
        measure_throughput(str(tied_llama_directory), steps=6, batch_size=4, threads=1)
    ).as_json()
    assert report["wanted"] == {
        "ratio_to_trainer": "at least 1",
        "freeze_gain_share": "at least 0.8",
    }
    assert all(math.isfinite(report[figure]) for figure in report["wanted"])
    conditions = report["conditions"]
    assert (conditions["repetitions"], conditions["batch size"], conditions["threads"]) == (
        12,
        4,
        1,
    )
    assert report["measured"].keys() == {
        *("tokens_per_second", "trainer_tokens_per_second", "ratio_in_sum", "ratio_by_wall"),
        "side",
        *("weights_apart", "freeze_whole_step", "freeze_frozen_step", "freeze_backward_below"),
        *("freeze_update", "freeze_parameters_below", "freeze_tied_gradient"),
    }
    # The same rows, order, loss and optimizer, or the weights would be apart by as much as they
    # have moved.
    assert report["measured"]["weights_apart"] < 0.01
