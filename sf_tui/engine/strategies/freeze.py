"""Freeze: hold the bottom of the model still from the first step on."""

from __future__ import annotations

from typing import ClassVar

from sf_tui.engine.strategies.base import StageContext, Strategy


class Freeze(Strategy):
    """Train only above the bottom n blocks.

    Old-data access: none.
    Cost: less than a plain step; with the embeddings frozen, backward ends at block n.
    Source: Zheng et al. 2025 (arXiv 2501.13453), section 5.
    """

    name: ClassVar[str] = "freeze"
    old_data_access: ClassVar[str] = "none"

    def begin(self, context: StageContext) -> None:
        """Freeze what `[train.freeze]` says."""
        wanted = context.settings.freeze
        if wanted is not None:
            context.freezer.freeze(wanted.layers, embeddings=wanted.embeddings)
