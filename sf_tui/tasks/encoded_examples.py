"""Encodes many examples: keeps those that can be used and counts those left out.

Rows that are too long by character count alone are never tokenized, to save memory.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from sf_tui.errors import DataError
from sf_tui.tasks.encoding import Encoded, Encoder
from sf_tui.tasks.task import BadRow, Example, bad_rows_error, count_rows
from sf_tui.tasks.template import date_note
from sf_tui.tasks.text_tokens import ControlCount, ControlTokens
from sf_tui.vocabulary.sizes import counted

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


# In tokens that carry loss. A longer answer is hardly ever reproduced to the last token, so its
# exact match would stay at zero.
LONGEST_EXACT_ANSWER = 32


@dataclass(frozen=True)
class EncodedExamples:
    """The usable examples as tokens, and what happened to the others."""

    rows: list[Encoded]
    """In input order; a split conversation gives several."""
    given: int
    """Number of given examples."""
    max_length: int | None
    too_long: int = 0
    """Number of examples longer than `max_length` tokens; they are left out."""
    first_too_long: str = ""
    """The place of the first of them."""
    refused: tuple[BadRow, ...] = ()
    """Examples that can't be encoded; they are left out."""
    with_unknown: int = 0
    """Number of `rows` with a word that the tokenizer doesn't know."""
    split: int = 0
    """Number of given examples that were split into one per turn."""
    made: int = 0
    """Number of examples that these became."""
    thoughts_lost: int = 0
    """Number of assistant turns whose thoughts the chat template can't render."""
    ends: frozenset[int] = frozenset()
    """Token ids at the end of answers."""
    control: ControlCount = field(default_factory=ControlCount)
    """Control tokens in the text of the given examples."""
    control_tokens: ControlTokens = "text"
    """How control tokens are handled."""
    template_note: str = ""
    """A note on text that the chat template adds; empty if it adds none."""

    def notes(self) -> tuple[str, ...]:
        """Return notes on what was left out and why, and on rows that were split."""
        notes = []
        if self.split:
            notes.append(
                f"{self.split} of {count_rows(self.given)} became "
                f"{counted(self.made, 'example')}, one for each assistant turn: the model's "
                "chat template writes earlier turns otherwise than the last one"
            )
        if self.too_long:
            units = count_rows(self.given)
            if self.split:
                units = counted(self.given - self.split + self.made, "example")
            notes.append(
                f"{self.too_long} of {units} have more than {self.max_length} "
                f"tokens and are left out, not cut (the first: {self.first_too_long})"
            )
        if self.refused:
            notes.append(
                f"{len(self.refused)} of {count_rows(self.given)} can't be encoded and are left "
                f"out, the first: {self.refused[0]}"
            )
        if self.with_unknown:
            notes.append(
                f"{self.with_unknown} of {count_rows(len(self.rows))} hold words that the "
                "tokenizer doesn't know"
            )
        if self.thoughts_lost:
            notes.append(
                f"the thoughts of {self.thoughts_lost} assistant turns are left out: the model's "
                "chat template has no place for them"
            )
        control = self.control.note(count_rows(self.given), self.control_tokens)
        return (*notes, control) if control else tuple(notes)


def encode_all(
    examples: Iterable[Example],
    tokenizer: PreTrainedTokenizerBase,
    max_length: int | None = None,
    on_bad_row: str = "error",
    control_tokens: ControlTokens = "text",
) -> EncodedExamples:
    """Encode examples; leave out and count those that are too long.

    A conversation whose turns can't be learned as one sequence becomes one example per turn.

    Args:
        examples: the examples.
        tokenizer: the model's.
        max_length: largest number of tokens in an example; None for no limit.
        on_bad_row: `error`, or `skip` to leave out and count what can't be encoded.
        control_tokens: how control tokens in a row's text are handled.

    Raises:
        DataError: the chat template refuses rows and they are not skipped.
        ModelError: the tokenizer has no end token.
    """
    encoder = Encoder(tokenizer, control_tokens)
    unknown_id = tokenizer.unk_token_id
    rows: list[Encoded] = []
    refused: list[BadRow] = []
    ends: set[int] = set()
    hint = first_too_long = ""
    given = too_long = with_unknown = split = made = thoughts_lost = 0
    for example in examples:
        given += 1
        try:
            if is_too_long(example, max_length):
                too_long += 1
                first_too_long = first_too_long or example.place
                continue
            row = encoder.encode_row(example)
        except DataError as error:
            refused.append(BadRow(example.place, error.message.removeprefix(f"{example.place}: ")))
            hint = hint or error.hint
            continue
        ends |= row.ends
        thoughts_lost += row.thoughts_lost
        if len(row.examples) > 1:
            split += 1
            made += len(row.examples)
        for encoded in row.examples:
            if max_length is not None and len(encoded.input_ids) > max_length:
                too_long += 1
                first_too_long = first_too_long or example.place
                continue
            rows.append(encoded)
            # Some tokenizers use their end token as the unknown token too.
            if unknown_id not in (None, encoder.end_id) and unknown_id in encoded.input_ids:
                with_unknown += 1
    if refused and (on_bad_row == "error" or len(refused) == given):
        raise bad_rows_error(refused, len(refused), given, hint)
    return EncodedExamples(
        rows,
        given,
        max_length,
        too_long,
        first_too_long,
        tuple(refused),
        with_unknown,
        split,
        made,
        thoughts_lost,
        frozenset(ends),
        encoder.control,
        control_tokens,
        date_note(tokenizer),
    )


def choose_metric(rows: Sequence[Encoded]) -> Literal["exact_match", "token_accuracy"]:
    """Return the metric that `auto` selects, by the median answer length of these examples."""
    if rows and statistics.median(row.answer_tokens for row in rows) > LONGEST_EXACT_ANSWER:
        return "token_accuracy"
    return "exact_match"


# The longest tokens of current vocabularies are runs of 128 spaces or dashes; twice that is safe.
MOST_CHARACTERS_PER_TOKEN = 256

# Tokenizers take about 30 bytes per character, so a row of this length takes a quarter of a GB.
LONGEST_ROW = 8 * 2**20


def characters(example: Example) -> int:
    """Return the number of characters in an example's texts."""
    turns = sum(len(message.content) + len(message.thoughts) for message in example.messages)
    return len(example.prompt) + len(example.completion) + turns


def is_too_long(example: Example, max_length: int | None) -> bool:
    """Return whether an example surely exceeds `max_length` tokens, without a tokenizer.

    Raises:
        DataError: `max_length` is None and the example is too long for any tokenizer.
    """
    length = characters(example)
    if max_length is not None and length > max_length * MOST_CHARACTERS_PER_TOKEN:
        return True
    if length > LONGEST_ROW:
        if max_length is not None:
            return True
        raise DataError(
            f"{example.place}: has {length} characters, more than {LONGEST_ROW}",
            "split the row, or give a max_length: rows beyond it are left out and counted",
        )
    return False
