from __future__ import annotations

from pathlib import Path

import pytest

from sf_tui.bench.harness import BenchReport
from sf_tui.bench.hosted import measure_hosted


@pytest.mark.slow  # two rounds of two trainings of 50 steps
def test_a_watched_trainer_is_measured_beside_a_plain_one(llama_directory: Path) -> None:
    report = BenchReport.from_plain(
        measure_hosted(str(llama_directory), steps=50, batch_size=4, threads=1)
    ).as_json()
    first, second = report["measured"]["rounds"]
    assert report["conditions"]["repetitions"] == first["probes"] + second["probes"] > 2
    # A bias of a side multiplies one ratio and divides the other.
    ratios = first["legs_without_probe"], second["legs_without_probe"]
    assert (report["hooks"] + 1) ** 2 == pytest.approx(ratios[0] * ratios[1])
    assert (report["measured"]["side"] + 1) ** 2 == pytest.approx(ratios[0] / ratios[1])
    every = int(report["conditions"]["probe every"].split()[2])
    added = [one["seconds_a_probe"] / one["seconds_a_step_outside"] for one in (first, second)]
    assert report["outside"] == pytest.approx(sum(added) / 2 / every + report["hooks"])
    assert report["wanted"] == {"outside": "at most 0.03"}
