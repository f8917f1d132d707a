"""The interface of a strategy."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

from sf_tui.engine.freezing import Freezer
from sf_tui.profile import TrainSettings


@dataclass(frozen=True)
class StageContext:
    """What a strategy may take hold of."""

    freezer: Freezer
    settings: TrainSettings
    anchor: Callable[[float | None], None]
    """Holds the stage to the answers of its start model; takes the strength of that beside the
    stage's own loss, None for the profile's."""


class Strategy(ABC):
    """How a stage is trained.

    Attributes:
        name: what profiles call it.
        old_data_access: what it needs of earlier tasks: `none`, `10 examples`, `1%`, `10%`.
        needs_prompts: whether it can do nothing on a task whose rows ask nothing.
    """

    name: ClassVar[str]
    old_data_access: ClassVar[str]
    needs_prompts: ClassVar[bool] = False

    @abstractmethod
    def begin(self, context: StageContext) -> None:
        """Prepare a stage before its first step; not called again when a stage is resumed."""
