"""Tokenized train splits, the order of their examples over steps, and padded batches.

The order is a pure function of (seed, stage, step), so a resume needs no iterator state and
continues with exactly the next batch. Source: accelerate #4195 and torchdata #1437, where restored
iterator state was almost, but not exactly, the saved one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol
from zlib import crc32

import numpy as np
import torch

from sf_tui.tasks.encoding import Encoded, Encoder
from sf_tui.tasks.task import ExampleSource

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

IGNORED = -100

# Chunks of this many batches are sorted by length: long enough to save padding, short enough to
# keep the order random. 50 is what transformers' LengthGroupedSampler takes.
_BATCHES_PER_CHUNK = 50


class EncodedSource(Protocol):
    """A tokenized train split."""

    def __len__(self) -> int:
        """Return the number of entries in one epoch."""
        ...

    def encoded(self, index: int, draw: int) -> Encoded:
        """Return entry `index` as drawn in epoch `draw`."""
        ...

    @property
    def lengths(self) -> Sequence[int] | None:
        """Return the token count of each entry, or None if it changes with every draw."""
        ...


class FixedSource:
    """Examples encoded once, up front."""

    def __init__(self, rows: Sequence[Encoded]) -> None:
        self._rows = rows
        self.lengths: Sequence[int] | None = [len(row.input_ids) for row in rows]

    def __len__(self) -> int:
        """Return the number of examples."""
        return len(self._rows)

    def encoded(self, index: int, draw: int) -> Encoded:  # noqa: ARG002  the protocol's
        """Return example `index`; the epoch is ignored."""
        return self._rows[index]


class DrawnSource:
    """Entries that are redrawn in every epoch, encoded on access."""

    lengths: Sequence[int] | None = None

    def __init__(self, source: ExampleSource, tokenizer: PreTrainedTokenizerBase) -> None:
        self._source = source
        self._encoder = Encoder(tokenizer)

    def __len__(self) -> int:
        """Return the number of entries in one epoch."""
        return len(self._source)

    def encoded(self, index: int, draw: int) -> Encoded:
        """Return entry `index` as drawn in epoch `draw`."""
        return self._encoder.encode(self._source.example(index, draw))


class PooledSource:
    """Selected entries of several sources, combined into one source.

    Args:
        entries: source and index of each entry.
        redraw: whether each epoch redraws the entries; False always uses the first draw.
    """

    def __init__(
        self, entries: Sequence[tuple[EncodedSource, int]], *, redraw: bool = True
    ) -> None:
        self._entries = entries
        self._redraw = redraw
        known = {id(source): source.lengths for source, _ in entries}
        self.lengths: Sequence[int] | None = None
        if all(lengths is not None for lengths in known.values()):
            self.lengths = [(known[id(source)] or ())[index] for source, index in entries]

    def __len__(self) -> int:
        """Return the number of entries."""
        return len(self._entries)

    def encoded(self, index: int, draw: int) -> Encoded:
        """Return entry `index` as drawn in epoch `draw`."""
        source, place = self._entries[index]
        return source.encoded(place, draw if self._redraw else 0)


def derive_seed(*parts: int | str) -> int:
    """Return a 63-bit seed that depends on every part and is identical on every machine."""
    words = [crc32(part.encode()) if isinstance(part, str) else part & 0xFFFFFFFF for part in parts]
    return int(np.random.SeedSequence(words).generate_state(1, np.uint64)[0] >> np.uint64(1))


class BatchOrder:
    """Chooses the entries of each step: a new permutation per epoch that covers every entry."""

    def __init__(
        self, source: EncodedSource, batch_size: int, seed: int, stage: str, *, length_grouped: bool
    ) -> None:
        self._count = len(source)
        self._batch_size = batch_size
        self._seed = seed
        self._stage = stage
        self._lengths = source.lengths if length_grouped else None
        self._cached: tuple[int, np.ndarray] = (-1, np.empty(0, dtype=np.int64))

    def entries(self, step: int) -> list[tuple[int, int]]:
        """Return (index, epoch) of every example of step `step`, counted from 1."""
        first = (step - 1) * self._batch_size
        found = []
        for position in range(first, first + self._batch_size):
            epoch, place = divmod(position, self._count)
            found.append((int(self._epoch(epoch)[place]), epoch))
        return found

    def _epoch(self, epoch: int) -> np.ndarray:
        if self._cached[0] != epoch:
            self._cached = (epoch, self._permute(epoch))
        return self._cached[1]

    def _permute(self, epoch: int) -> np.ndarray:
        random = np.random.default_rng(derive_seed(self._seed, self._stage, "order", epoch))
        order = random.permutation(self._count)
        if self._lengths is None:
            return order
        lengths = np.asarray(self._lengths)
        # First complete the batch that the previous epoch began, so the others stay whole.
        head = min(-epoch * self._count % self._batch_size, self._count)
        chunk = self._batch_size * _BATCHES_PER_CHUNK
        batches = []
        for start in range(head, self._count, chunk):
            part = order[start : start + chunk]
            part = part[np.argsort(lengths[part], kind="stable")]
            batches += [
                part[at : at + self._batch_size] for at in range(0, len(part), self._batch_size)
            ]
        # The one partial batch goes last; the next epoch completes it.
        ragged = [batch for batch in batches if len(batch) < self._batch_size]
        full = [batch for batch in batches if len(batch) == self._batch_size]
        shuffled = [full[at] for at in random.permutation(len(full))]
        return np.concatenate([order[:head], *shuffled, *ragged])


@dataclass(frozen=True)
class Batch:
    """Examples stacked into tensors, padded on the right."""

    input_ids: torch.Tensor
    """(batch, length) token ids."""
    labels: torch.Tensor
    """(batch, length) token ids; -100 everywhere but at answer tokens."""
    tokens: int
    """Number of tokens without padding."""
    answer_tokens: int
    """Number of tokens that contribute to the loss and have a token before them."""

    def to(self, device: torch.device) -> Batch:
        """Return the batch on a device."""
        return Batch(
            self.input_ids.to(device), self.labels.to(device), self.tokens, self.answer_tokens
        )


def collate(rows: Sequence[Encoded], pad_id: int) -> Batch:
    """Pad encoded examples to one length.

    No attention mask is built: a causal model's real tokens never attend to padding on the right,
    and without a mask attention uses its fast path.
    """
    length = max(len(row.input_ids) for row in rows)
    input_ids = np.full((len(rows), length), pad_id, dtype=np.int64)
    labels = np.full((len(rows), length), IGNORED, dtype=np.int64)
    for at, row in enumerate(rows):
        input_ids[at, : len(row.input_ids)] = row.input_ids
        labels[at, : len(row.labels)] = row.labels
    return Batch(
        torch.from_numpy(input_ids),
        torch.from_numpy(labels),
        sum(len(row.input_ids) for row in rows),
        int((labels[:, 1:] != IGNORED).sum()),
    )


def count_targets(rows: Sequence[Encoded]) -> int:
    """Return the number of tokens that contribute to the loss and have a token before them."""
    return sum(int((np.asarray(row.labels[1:]) != IGNORED).sum()) for row in rows)


def passes_within(
    lengths: Sequence[int], most_tokens: int, most_rows: int | None = None
) -> list[list[int]]:
    """Split rows into forward passes of bounded size, grouping rows of similar length.

    Args:
        lengths: tokens of each row.
        most_tokens: largest number of tokens in a pass, padding included; a longer row gets a pass
            of its own.
        most_rows: largest number of rows in a pass; None for no limit.

    Returns:
        The row indices of each pass, shortest rows first.
    """
    found: list[list[int]] = []
    for at in sorted(range(len(lengths)), key=lambda place: (lengths[place], place)):
        fits = found and (len(found[-1]) + 1) * lengths[at] <= most_tokens
        if fits and (most_rows is None or len(found[-1]) < most_rows):
            found[-1].append(at)
        else:
            found.append([at])
    return found
