"""The gain of a freeze, by a clock under which every part of a step takes one second."""

from __future__ import annotations

from pathlib import Path

import pytest

from sf_tui.bench.freeze_gain import FreezeGain, measure_freeze_gain
from sf_tui.bench.scene import make_scene
from sf_tui.engine.prepare import prepare_run
from support.ticking_clock import TickingClock


def _gain(directory: Path, folder: Path) -> FreezeGain:
    profile = make_scene(str(directory), folder, batch_size=4, threads=1, settings={})
    prepared = prepare_run(profile, 1)
    rows = prepared.tasks["new"].held_out[:4]
    gain = measure_freeze_gain(
        prepared, rows, profile.stage_train("new"), TickingClock(), repetitions=3
    )
    assert prepared.freezer.frozen == []
    return gain


def test_a_frozen_step_has_no_backward_below_the_border(
    llama_directory: Path, tmp_path: Path
) -> None:
    gain = _gain(llama_directory, tmp_path)
    # Forward and backward above the border, backward below it, the update, and the step's end.
    assert gain.whole_step == 4
    assert gain.frozen_step == 3
    assert (gain.backward_below, gain.update) == (1, 1)
    assert gain.tied_gradient == 0
    assert 0.2 < gain.parameters_below < 0.8
    assert gain.share == pytest.approx((4 - 3) / (1 + 1 * gain.parameters_below))


def test_with_tied_weights_the_output_gradient_could_be_saved_too(
    tied_llama_directory: Path, tmp_path: Path
) -> None:
    gain = _gain(tied_llama_directory, tmp_path)
    assert gain.tied_gradient == 1
    assert gain.share == pytest.approx(
        (gain.whole_step - gain.frozen_step) / (1 + 1 * gain.parameters_below + 1)
    )
