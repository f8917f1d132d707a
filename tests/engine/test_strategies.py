"""A strategy prepares its stage and nothing else."""

from __future__ import annotations

import pytest

from sf_tui.engine.freezing import Freezer
from sf_tui.engine.layout import read_layout
from sf_tui.engine.strategies import StageContext, strategy_named
from sf_tui.profile import FreezeSettings, TrainSettings
from support.tiny_models import MakeModel


def _no_anchor(strength: float | None) -> None:
    raise AssertionError(f"anchored with {strength}")


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
    strategy.begin(StageContext(freezer, settings, anchor=_no_anchor))
    assert freezer.frozen == frozen
    assert (strategy.name, strategy.old_data_access) == ("freeze", "none")


def test_seq_changes_nothing(make_model: MakeModel) -> None:
    freezer = Freezer(read_layout(make_model().model))
    strategy_named("seq").begin(StageContext(freezer, TrainSettings(), anchor=_no_anchor))
    assert freezer.frozen == []


def test_anchor_holds_its_stage_as_strongly_as_the_profile_says(make_model: MakeModel) -> None:
    freezer = Freezer(read_layout(make_model().model))
    asked: list[float | None] = []
    strategy = strategy_named("anchor")
    strategy.begin(StageContext(freezer, TrainSettings(strategy="anchor"), anchor=asked.append))
    assert asked == [None]
    assert freezer.frozen == []
    assert (strategy.old_data_access, strategy.needs_prompts) == ("none", True)
    assert not any(strategy_named(name).needs_prompts for name in ("seq", "freeze"))
