"""What sf costs on one GPU, on a model of random weights: each figure is printed (`pytest -s`)."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from typing import Any

import pytest

pytestmark = pytest.mark.gpu

Measure = Callable[..., dict[str, Any]]


@pytest.fixture
def measure(run_sf: Callable[..., subprocess.CompletedProcess[str]], device: str) -> Measure:
    """Run a benchmark and return its report."""

    def run(name: str, model: str, steps: int) -> dict[str, Any]:
        line = ("bench", name, "--model", model, "--steps", str(steps), "--json")
        done = run_sf(*line)
        assert done.returncode == 0, done.stderr
        report: dict[str, Any] = json.loads(done.stdout)
        assert report["conditions"]["device"].startswith(device)
        print(json.dumps(report, indent=1))
        return report

    return run


def test_throughput_of_a_half_billion_parameters_against_trainer(measure: Measure) -> None:
    report = measure("throughput", "random:0.5b", 12)
    assert report["conditions"]["parameters"] > 450e6
    assert report["conditions"]["precision"] == "float32 weights, bf16 autocast"
    # The bound is 1; a tenth is for noise, the steps being few.
    assert report["ratio_to_trainer"] >= 0.9
    assert report["freeze_gain_share"] >= 0.7


def test_overhead_of_a_half_billion_parameters(measure: Measure) -> None:
    report = measure("overhead", "random:0.5b", 50)
    assert report["conditions"]["parameters"] > 450e6
    # The bounds are 0.12 and 0.04; the rest is for noise.
    assert report["in_window"] <= 0.15
    assert report["outside"] <= 0.06
    assert report["anchored_step"] <= 2.5


def test_peak_memory_against_trainer(measure: Measure) -> None:
    report = measure("memory", "random:135m", 20)
    assert report["ratio_to_trainer"] <= 1.1
    assert report["ratio_with_test"] <= 1.1
