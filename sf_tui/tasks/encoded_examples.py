"""Rows that are too long by their characters alone: tokenizing them would fill the memory.

Knows lengths of texts. Knows nothing of tokenizers.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from sf_tui.errors import DataError
from sf_tui.tasks.encoding import Encoded, Encoder
from sf_tui.tasks.rows import BadRow, bad_rows_error, count_rows
from sf_tui.tasks.task import Example
from sf_tui.tasks.template import date_note
from sf_tui.tasks.text_tokens import ControlCount, ControlTokens

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


# In tokens that carry loss. Longer answers are hardly ever reproduced to the last token, so their
# exact match would be a flat zero.
LONGEST_EXACT_ANSWER = 32


@dataclass(frozen=True)
class EncodedExamples:
    """Many examples as tokens, without those that can't be used, and what became of these."""

    rows: list[Encoded]
    """In the order of the given examples; a split conversation gives several."""
    given: int
    """How many examples there were."""
    max_length: int | None
    too_long: int = 0
    """How many have more than `max_length` tokens and are left out."""
    first_too_long: str = ""
    """The place of the first of them."""
    refused: tuple[BadRow, ...] = ()
    """Examples that the tokenizer or its chat template can't take and that are left out."""
    with_unknown: int = 0
    """How many of `rows` hold a word that the tokenizer doesn't know."""
    split: int = 0
    """How many of the given examples became one for each of their turns."""
    made: int = 0
    """How many those became."""
    thoughts_lost: int = 0
    """Assistant turns whose thoughts the chat template can render nowhere."""
    ends: frozenset[int] = frozenset()
    """Token ids that answers end with."""
    control: ControlCount = field(default_factory=ControlCount)
    """Control tokens in the text of the given examples."""
    control_tokens: ControlTokens = "text"
    """What is done with them."""
    template_note: str = ""
    """What the chat template writes that no row says; empty where nothing."""

    def notes(self) -> tuple[str, ...]:
        """Say in sentences what was left out and why, and what became of rows."""
        notes = []
        if self.split:
            notes.append(
                f"{self.split} of {count_rows(self.given)} became {self.made} examples, one for "
                "each assistant turn: the model's chat template writes earlier turns otherwise "
                "than the last one"
            )
        if self.too_long:
            units = count_rows(self.given)
            if self.split:
                units = f"{self.given - self.split + self.made} examples"
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
    """Encode examples, leaving out and counting those that are too long.

    A conversation whose turns can't be learnt as one sequence becomes one example for each.

    Args:
        examples: what to encode.
        tokenizer: the model's.
        max_length: the most tokens that an example may have; None for no bound.
        on_bad_row: `error`, or `skip` to leave out and count what can't be encoded.
        control_tokens: what is done with control tokens in a row's text.

    Raises:
        DataError: if the chat template refuses rows and they are not to be skipped.
        ModelError: if the tokenizer has no end token.
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
            # Some tokenizers name their end token as the unknown one too.
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
    """Return what `metric = "auto"` means for these examples, by their median answer."""
    if rows and statistics.median(row.answer_tokens for row in rows) > LONGEST_EXACT_ANSWER:
        return "token_accuracy"
    return "exact_match"


# The longest tokens of today's vocabularies are runs of 128 spaces or dashes; twice that is safe.
MOST_CHARACTERS_PER_TOKEN = 256

# Tokenizers take about 30 bytes a character, so a row of this length takes a quarter of a GB.
LONGEST_ROW = 8 * 2**20


def characters(example: Example) -> int:
    """Return how many characters an example's texts have."""
    turns = sum(len(message.content) + len(message.thoughts) for message in example.messages)
    return len(example.prompt) + len(example.completion) + turns


def is_too_long(example: Example, max_length: int | None) -> bool:
    """Tell, without a tokenizer, whether an example can't have at most `max_length` tokens.

    Raises:
        DataError: there is no such limit, and the example is too long for any tokenizer.
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
