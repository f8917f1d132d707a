"""Strategies that add nothing to a step: seq and freeze."""

from __future__ import annotations

from sf_tui.engine.strategies.base import Strategy
from sf_tui.vocabulary.strategies import FreezeSettings


class Seq(Strategy):
    """Tune on the new task and nothing else: the baseline that forgets."""


class Freeze(Strategy):
    """Train only above the bottom n blocks.

    The checkpoint itself stores which layers are frozen.
    """

    settings: FreezeSettings

    def check_stage(self) -> None:
        """Raise ModelError if the model has fewer blocks, or nothing would be left to train."""
        self.stage.freezer.choose(self.settings.layers, embeddings=self.settings.embeddings)

    def begin(self) -> None:
        """Freeze what `[train.freeze]` names."""
        self.stage.freezer.freeze(self.settings.layers, embeddings=self.settings.embeddings)
