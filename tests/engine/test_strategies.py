"""A strategy prepares its stage and nothing else."""

from __future__ import annotations

import pytest

from engine.conftest import MakeModel
from sf_tui.engine.freezing import Freezer
from sf_tui.engine.layout import read_layout
from sf_tui.engine.strategies import StageContext, strategy_named
from sf_tui.profile import FreezeSettings, TrainSettings


@pytest.mark.parametrize(
    ("layers", "embeddings", "frozen"),
    [(0, True, ["embeddings"]), (2, True, ["embeddings", "block-0", "block-1"]),
     (2, False, ["block-0", "block-1"]), (0, False, [])],
)  # fmt: skip
def test_freeze_holds_what_the_profile_says(
    make_model: MakeModel, layers: int, embeddings: bool, frozen: list[str]
) -> None:
    freezer = Freezer(read_layout(make_model().model))
    settings = TrainSettings(
        strategy="freeze", freeze=FreezeSettings(layers=layers, embeddings=embeddings)
    )
    strategy = strategy_named("freeze")
    strategy.begin(StageContext(freezer, settings))
    assert freezer.frozen == frozen
    assert (strategy.name, strategy.old_data_access) == ("freeze", "none")


def test_seq_changes_nothing(make_model: MakeModel) -> None:
    freezer = Freezer(read_layout(make_model().model))
    strategy_named("seq").begin(StageContext(freezer, TrainSettings()))
    assert freezer.frozen == []
