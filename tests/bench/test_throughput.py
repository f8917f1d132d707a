from __future__ import annotations

from pathlib import Path

from sf_tui.bench.harness import BenchReport
from sf_tui.bench.throughput import measure_throughput


def test_both_sides_do_the_same_work(tied_llama_directory: Path) -> None:
    report = BenchReport.from_plain(
        measure_throughput(str(tied_llama_directory), steps=6, batch_size=4, threads=1)
    ).as_json()
    assert report["ratio_to_trainer"] > 0
    assert "freeze_gain_share" in report
    assert report["conditions"]["repetitions"] == 6
    # The same rows, order, loss and optimizer, or the weights would be apart by as much as they
    # have moved.
    assert report["measured"]["weights_apart"] < 0.01
