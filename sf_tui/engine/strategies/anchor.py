"""Anchor: hold the model to its start's answers beside the new task from the first step on."""

from __future__ import annotations

from typing import ClassVar

from sf_tui.engine.strategies.base import StageContext, Strategy


class Anchor(Strategy):
    """Add the divergence from the start model's answers to neighbor prompts to every step.

    Old-data access: none; the prompts are made from the start model and the new task's prompts.
    Cost: about a second plain step for each step, and the start model's answers once before.
    Source: this project's experiment; distillation (Hinton et al. 2015, arXiv 1503.02531) towards
    the model's own past (Li and Hoiem 2016, arXiv 1606.09282) on other prompts than theirs.
    """

    name: ClassVar[str] = "anchor"
    old_data_access: ClassVar[str] = "none"
    needs_prompts: ClassVar[bool] = True

    def begin(self, context: StageContext) -> None:
        """Anchor the stage as strongly as the profile says."""
        context.anchor(None)
