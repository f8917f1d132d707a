"""A start model and a new task for it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from sf_tui.engine.compute import ComputeSetting
from sf_tui.engine.loading import LoadedModel
from sf_tui.neighbors.anatomy import Anatomy, anatomize, prompts_of
from sf_tui.neighbors.start_model import StartModel
from sf_tui.tasks.encoding import Encoded

COUNTRIES = ("Austria", "Belgium", "Chile", "Denmark", "Egypt", "France", "Greece", "Hungary")


CITIES = ("Vienna", "Brussels", "Santiago", "Copenhagen", "Cairo", "Paris", "Athens", "Budapest")


@dataclass(frozen=True)
class Scene:
    """A model and a new task for it."""

    loaded: LoadedModel
    compute: ComputeSetting
    rows: list[Encoded]

    @property
    def anatomy(self) -> Anatomy:
        return anatomize(prompts_of(self.rows), self.loaded.tokenizer)

    def start(self, between: Callable[[], None] | None = None) -> StartModel:
        return StartModel(
            self.loaded.model,
            self.loaded.tokenizer,
            self.compute,
            pad_id=self.loaded.pad_id,
            between=between,
        )
