"""Train splits as tokens: encoded once where every epoch reads the same, else drawn and encoded."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from sf_tui.tasks.encoding import Encoded, Encoder
from sf_tui.tasks.task import ExampleSource

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


class FixedSource:
    """Examples that were encoded once."""

    def __init__(self, rows: Sequence[Encoded]) -> None:
        self._rows = rows
        self.lengths: Sequence[int] | None = [len(row.input_ids) for row in rows]

    def __len__(self) -> int:
        """Return the number of examples."""
        return len(self._rows)

    def encoded(self, index: int, draw: int) -> Encoded:  # noqa: ARG002  the protocol's
        """Return example `index`, whatever the epoch."""
        return self._rows[index]


class DrawnSource:
    """Entries that every epoch reads anew, encoded as they are drawn."""

    lengths: Sequence[int] | None = None

    def __init__(self, source: ExampleSource, tokenizer: PreTrainedTokenizerBase) -> None:
        self._source = source
        self._encoder = Encoder(tokenizer)

    def __len__(self) -> int:
        """Return the number of entries in one epoch."""
        return len(self._source)

    def encoded(self, index: int, draw: int) -> Encoded:
        """Return entry `index` as it reads in epoch `draw`."""
        return self._encoder.encode(self._source.example(index, draw))
