from __future__ import annotations

from pathlib import Path

import pytest

from sf_tui.bench.clock import Clock
from sf_tui.bench.freeze_gain import FreezeGain, measure_freeze_gain
from sf_tui.bench.scene import make_scene
from sf_tui.engine.prepare import prepare_run


def _gain(directory: Path, folder: Path) -> FreezeGain:
    profile = make_scene(str(directory), folder, batch_size=4, threads=1, settings={})
    prepared = prepare_run(profile, 1)
    rows = prepared.tasks["new"].held_out[:4]
    gain = measure_freeze_gain(
        prepared, rows, profile.stage_train("new"), Clock(True), repetitions=3
    )
    assert prepared.freezer.frozen == []
    return gain


def test_the_parts_lie_within_the_whole_step(llama_directory: Path, tmp_path: Path) -> None:
    gain = _gain(llama_directory, tmp_path)
    assert 0 < gain.backward_below + gain.update < gain.whole_step
    assert gain.tied_gradient == 0
    assert 0.2 < gain.parameters_below < 0.8


def test_with_tied_weights_the_output_gradient_counts(
    tied_llama_directory: Path, tmp_path: Path
) -> None:
    assert _gain(tied_llama_directory, tmp_path).tied_gradient > 0


def test_the_share_is_the_time_saved_by_the_time_that_could_be(
    llama_directory: Path, tmp_path: Path
) -> None:
    gain = _gain(llama_directory, tmp_path)
    allowed = gain.backward_below + gain.update * gain.parameters_below
    # Medians of each part, not of the quotient: near, not equal.
    assert gain.share == pytest.approx((gain.whole_step - gain.frozen_step) / allowed, abs=1.0)
