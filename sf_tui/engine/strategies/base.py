"""The interface of a strategy."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

from sf_tui.engine.freezing import Freezer
from sf_tui.profile import TrainSettings


@dataclass(frozen=True)
class StageContext:
    """What a strategy may take hold of."""

    freezer: Freezer
    settings: TrainSettings


class Strategy(ABC):
    """How a stage is trained.

    Attributes:
        name: what profiles call it.
        old_data_access: what it needs of earlier tasks: `none`, `10 examples`, `1%`, `10%`.
    """

    name: ClassVar[str]
    old_data_access: ClassVar[str]

    @abstractmethod
    def begin(self, context: StageContext) -> None:
        """Prepare a stage before its first step; not called again when a stage is resumed."""
