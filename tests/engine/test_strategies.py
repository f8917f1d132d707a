"""What a strategy does to the stage that it begins."""

from __future__ import annotations

import pytest

from sf_tui.engine.freezing import Freezer
from sf_tui.engine.layout import read_layout
from sf_tui.engine.strategies import StageContext, strategy_named
from sf_tui.profile import FreezeSettings, TrainSettings
from support.tiny_models import MakeModel, MakeTuner, make_rows, weights


def _no_anchor(strength: float | None) -> None:
    raise AssertionError(f"anchored with {strength}")


@pytest.mark.parametrize(
    ("layers", "embeddings", "frozen"),
    [(0, True, {"embeddings"}), (2, True, {"embeddings", "block-0", "block-1"}),
     (2, False, {"block-0", "block-1"}), (0, False, set())],
)  # fmt: skip
def test_freeze_keeps_the_layers_of_the_profile_bit_for_bit_and_tunes_all_others(
    make_model: MakeModel,
    make_tuner: MakeTuner,
    layers: int,
    embeddings: bool,
    frozen: set[str],
) -> None:
    model = make_model().model
    layout = read_layout(model)
    settings = TrainSettings(
        strategy="freeze", freeze=FreezeSettings(layers=layers, embeddings=embeddings)
    )
    strategy_named("freeze").begin(StageContext(Freezer(layout), settings, anchor=_no_anchor))

    before = weights(model)
    make_tuner(model, make_rows(8), layout=layout).advance()
    after = weights(model)
    kept = {
        layer.name
        for layer in layout.layers
        if all(after[name].equal(before[name]) for name in layer.parameters)
    }
    assert kept == frozen


def test_seq_tunes_every_layer(make_model: MakeModel, make_tuner: MakeTuner) -> None:
    model = make_model().model
    layout = read_layout(model)
    strategy_named("seq").begin(StageContext(Freezer(layout), TrainSettings(), anchor=_no_anchor))

    before = weights(model)
    make_tuner(model, make_rows(8), layout=layout).advance()
    after = weights(model)
    for layer in layout.layers:
        assert any(not after[name].equal(before[name]) for name in layer.parameters), layer.name


def test_anchor_asks_for_an_anchor_of_the_profiles_strength_and_freezes_nothing(
    make_model: MakeModel,
) -> None:
    freezer = Freezer(read_layout(make_model().model))
    asked: list[float | None] = []
    strategy_named("anchor").begin(
        StageContext(freezer, TrainSettings(strategy="anchor"), anchor=asked.append)
    )
    assert asked == [None]
    assert freezer.frozen == []
