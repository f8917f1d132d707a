from __future__ import annotations

from pathlib import Path

import pytest

from sf_tui.bench.harness import BenchReport
from sf_tui.bench.hosted import measure_hosted


@pytest.mark.slow  # two trainings of 50 steps
def test_a_watched_trainer_is_measured_beside_a_plain_one(llama_directory: Path) -> None:
    report = BenchReport.from_plain(
        measure_hosted(str(llama_directory), steps=50, batch_size=4, threads=1)
    ).as_json()
    measured = report["measured"]
    assert report["conditions"]["repetitions"] == measured["probes"] > 1
    assert report["hooks"] == pytest.approx(measured["legs_without_probe"] - 1)
    added = measured["seconds_a_probe"] / measured["seconds_a_step_outside"]
    every = int(report["conditions"]["probe every"].split()[2])
    assert report["outside"] == pytest.approx(added / every + report["hooks"])
    assert report["wanted"] == {"outside": "at most 0.03"}
