"""Strategies that add no loss: seq, freeze, and replay, which changes a step's rows."""

from __future__ import annotations

from collections.abc import Sequence

from sf_tui.engine.batches import BatchOrder, EncodedSource
from sf_tui.engine.strategies.base import Strategy, StrategyStage
from sf_tui.errors import DataError
from sf_tui.tasks.encoding import Encoded
from sf_tui.vocabulary.strategies import FreezeSettings, ReplaySettings


class Seq(Strategy):
    """Train on the new task alone: the baseline that forgets."""


class Freeze(Strategy):
    """Train only above the bottom n blocks.

    The checkpoint itself records which layers are frozen.
    """

    settings: FreezeSettings

    def check_stage(self) -> None:
        """Raise ModelError if the model has fewer blocks, or nothing would be left to train."""
        self.stage.freezer.choose(self.settings.layers, embeddings=self.settings.embeddings)

    def begin(self) -> None:
        """Freeze the layers that `[train.freeze]` selects."""
        self.stage.freezer.freeze(self.settings.layers, embeddings=self.settings.embeddings)


class Replay(Strategy):
    """Replace a share of each batch's rows with old examples.

    The loss is the mean over all answer tokens of the mixed batch. New and old rows each follow
    their own permutation, a pure function of (seed, stage, step), so a resume needs no state.
    """

    settings: ReplaySettings

    def __init__(self, stage: StrategyStage, settings: ReplaySettings) -> None:
        super().__init__(stage, settings)
        train = stage.train
        self.old_rows = settings.rows_of(train.batch_size)
        """Number of old examples in each batch."""
        self._orders: list[tuple[EncodedSource, BatchOrder]] = []

    def check_stage(self) -> None:
        """Raise DataError if no earlier task has an example to train on."""
        if not any(map(len, self.stage.old.values())):
            raise DataError(
                f"stage '{self.stage.name}': strategy 'replay' has no old example: no earlier task "
                "has a row left to train on",
                "hold fewer rows of the old task out, or train with another strategy",
            )

    def rows(self, step: int) -> Sequence[Encoded]:
        """Return the new rows of a step's batch, then the old ones."""
        if not self._orders:
            stage, grouped = self.stage, self.stage.train.length_grouped
            old = stage.old_examples(list(stage.old), self.settings.examples)
            new_rows = stage.train.batch_size - self.old_rows
            self._orders = [
                (source, BatchOrder(source, count, stage.seed, name, length_grouped=grouped))
                for source, count, name in (
                    (stage.source, new_rows, stage.name),
                    (old, self.old_rows, f"{stage.name}/replay"),
                )
            ]
        return [
            source.encoded(*entry)
            for source, order in self._orders
            for entry in order.entries(step)
        ]
