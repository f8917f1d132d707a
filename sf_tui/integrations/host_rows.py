"""The rows that a host trains on, as token ids with labels, from its own data loader.

The host's collator makes the labels, so that the rows are exactly what is trained on. Where it
takes loss on whole conversations, the answer is found behind the chat template's last opening of
an assistant turn: neighbor prompts need to know where a prompt ends.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from sf_tui.tasks.encoding import NO_LOSS, Encoded

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

MOST_ROWS = 1000
"""Most rows that are read: enough to find a task's prompts, and to score it."""

MOST_SCORED = 256


def rows_of_loader(
    loader: Any, tokenizer: PreTrainedTokenizerBase
) -> tuple[list[Encoded], list[str]]:
    """Return rows of a data loader's data set, spread evenly over it, and notes on what is missing.

    Args:
        loader: a torch data loader; its state is not used up. None gives no rows.
        tokenizer: finds where answers begin.
    """
    if loader is None:
        return [], []
    try:
        rows = _rows_of_loader(loader, tokenizer)
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        # Whatever a host's data set and collator do: they may hold pairs, images or nothing.
        return [], [f"its rows can't be read ({type(error).__name__}: {error}): {_WITHOUT}"]
    return rows, [] if rows else [f"its rows can't be read ahead: {_WITHOUT}"]


_WITHOUT = "the new task is not scored, and nothing can be anchored to its neighbors"


def _rows_of_loader(loader: Any, tokenizer: PreTrainedTokenizerBase) -> list[Encoded]:
    dataset, collate = getattr(loader, "dataset", None), getattr(loader, "collate_fn", None)
    if dataset is None or collate is None or not hasattr(dataset, "__getitem__"):
        return []
    count = len(dataset)
    taken = min(count, MOST_ROWS)
    found: list[Encoded] = []
    for place in range(taken):
        batch = collate([dataset[place * count // taken]])
        found += _rows_of_batch(batch, f"row {place * count // taken + 1}")
    return [row for row in _with_prompts(found, tokenizer) if row.answer_tokens]


def _rows_of_batch(batch: Any, place: str) -> Iterator[Encoded]:
    ids, labels = batch["input_ids"], batch.get("labels")
    if labels is None:
        labels = ids
    mask, positions = batch.get("attention_mask"), batch.get("position_ids")
    for at in range(len(ids)):
        row, wanted = ids[at].tolist(), labels[at].tolist()
        if mask is not None and mask[at].dim() == 1:
            kept = [token for token, given in enumerate(mask[at].tolist()) if given]
            row, wanted = [row[token] for token in kept], [wanted[token] for token in kept]
        starts = [0]
        if positions is not None and len(positions[at]) == len(row):
            # Several examples packed into one row: each begins at position 0.
            starts = [token for token, value in enumerate(positions[at].tolist()) if value == 0]
        for start, end in zip(starts, [*starts[1:], len(row)], strict=True):
            if end - start > 1:
                yield Encoded(row[start:end], wanted[start:end], place=place)


def _with_prompts(rows: Sequence[Encoded], tokenizer: PreTrainedTokenizerBase) -> list[Encoded]:
    """Take the loss off everything before the last answer, where a row takes it everywhere."""
    opening: tuple[int, ...] | None = None
    found = []
    for row in rows:
        if NO_LOSS not in row.labels[1:]:
            if opening is None:
                opening = _answer_opening(tokenizer)
            begin = _last_after(row.input_ids, opening)
            if begin:
                labels = [NO_LOSS] * begin + row.labels[begin:]
                row = Encoded(row.input_ids, labels, row.group, row.place)
        found.append(row)
    return found


def _answer_opening(tokenizer: PreTrainedTokenizerBase) -> tuple[int, ...]:
    """Return the tokens that open an assistant's turn; empty without a chat template."""
    if not getattr(tokenizer, "chat_template", None):
        return ()
    empty = tokenizer.apply_chat_template(
        [{"role": "user", "content": "§"}], tokenize=False, add_generation_prompt=False
    )
    opened = tokenizer.apply_chat_template(
        [{"role": "user", "content": "§"}], tokenize=False, add_generation_prompt=True
    )
    if not isinstance(opened, str) or not isinstance(empty, str) or not opened.startswith(empty):
        return ()
    return tuple(tokenizer.encode(opened[len(empty) :], add_special_tokens=False))


def _last_after(ids: Sequence[int], opening: Sequence[int]) -> int:
    """Return the place behind the last occurrence of some tokens; 0 if they don't occur."""
    size = len(opening)
    for at in range(len(ids) - size, -1, -1) if size else ():
        if tuple(ids[at : at + size]) == tuple(opening):
            return at + size
    return 0
