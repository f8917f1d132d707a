"""Examples as token ids with their labels, ready to be put into batches.

Knows where loss is carried and that nothing is ever cut. Knows nothing of tensors or padding.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Literal

from sf_tui.errors import DataError, ModelError
from sf_tui.tasks.chat import Closing, Segment, chat_segments, find_closing, plain_segments
from sf_tui.tasks.row_size import is_too_long
from sf_tui.tasks.rows import BadRow, bad_rows_error, count_rows
from sf_tui.tasks.task import Example

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

NO_LOSS = -100

# In tokens that carry loss. Longer answers are hardly ever reproduced to the last token, so their
# exact match would be a flat zero.
LONGEST_EXACT_ANSWER = 32


@dataclass(frozen=True, slots=True)
class Encoded:
    """One example as a causal model reads it."""

    input_ids: list[int]
    labels: list[int]
    """As long as `input_ids` and aligned with them; `NO_LOSS` where no loss is carried."""

    @property
    def answer_tokens(self) -> int:
        """Return how many tokens carry loss, end tokens included."""
        return sum(label != NO_LOSS for label in self.labels)


@dataclass(frozen=True)
class EncodedExamples:
    """Many examples as tokens, without those that can't be used, and what became of these."""

    rows: list[Encoded]
    kept: list[int]
    """For each of `rows`, which of the given examples it is."""
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

    def notes(self) -> tuple[str, ...]:
        """Say in sentences what was left out and why."""
        notes = []
        if self.too_long:
            notes.append(
                f"{self.too_long} of {count_rows(self.given)} have more than {self.max_length} "
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
        return tuple(notes)


class Encoder:
    """Turns examples into token ids for one tokenizer, whose habits it finds out once.

    A prompt and its completion are joined as they stand. A conversation goes through the chat
    template; without one its turns are joined by newlines. An end token closes every example and
    carries loss.

    Raises ModelError if the tokenizer has no end token, or a chat template without sense.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        if tokenizer.eos_token_id is None:
            raise ModelError(
                "the tokenizer has no end token, so no answer could ever end",
                "set eos_token in its tokenizer_config.json",
            )
        self.tokenizer = tokenizer
        self.end_id: int = tokenizer.eos_token_id
        self.has_chat_template = bool(getattr(tokenizer, "chat_template", None))

    @cached_property
    def _opening(self) -> list[int]:
        """The tokens that the tokenizer sets before a text by itself."""
        bare = self.ids("a")
        full = list(self.tokenizer.encode("a"))
        for start in range(len(full) - len(bare) + 1):
            if full[start : start + len(bare)] == bare:
                return full[:start]
        return []

    @cached_property
    def _closing(self) -> Closing:
        return find_closing(self.tokenizer)

    def ids(self, text: str) -> list[int]:
        """Return the tokens of a text alone, with none that the tokenizer would add."""
        return list(self.tokenizer.encode(text, add_special_tokens=False))

    def segments(self, example: Example) -> list[Segment]:
        """Return an example's text in pieces, without an end token that is only a token.

        Raises:
            DataError: if the chat template refuses the conversation.
        """
        if not example.messages:
            return [Segment(example.prompt, False), Segment(example.completion, True)]
        if self.has_chat_template:
            return chat_segments(example.messages, self.tokenizer, self._closing, example.place)
        return plain_segments(example.messages)

    def encode(self, example: Example) -> Encoded:
        """Return the tokens of an example and which of them carry loss.

        Raises:
            DataError: if the chat template refuses it, or an answer has no token.
        """
        segments = self.segments(example)
        parts = self._join([segment.text for segment in segments])
        input_ids: list[int] = []
        labels: list[int] = []
        for segment, part in zip(segments, parts, strict=True):
            if segment.learnt and not part:
                raise DataError(
                    f"{example.place}: the answer has no token in the model's vocabulary",
                    "mend the row, or use a tokenizer that knows its signs",
                )
            input_ids += part
            labels += part if segment.learnt else [NO_LOSS] * len(part)
        if not self._is_ended(example, input_ids):
            input_ids.append(self.end_id)
            labels.append(self.end_id)
        if not (example.messages and self.has_chat_template):
            # A template writes its own opening; a text that has one already gets no second.
            opening = self._opening
            if input_ids[: len(opening)] != opening:
                input_ids[:0] = opening
                labels[:0] = [NO_LOSS] * len(opening)
        # Nothing stands before the first token, so nothing can predict it.
        labels[0] = NO_LOSS
        return Encoded(input_ids, labels)

    def _is_ended(self, example: Example, input_ids: list[int]) -> bool:
        if example.messages and self.has_chat_template and self._closing.end:
            return True
        return input_ids[-1] == self.end_id

    def _join(self, texts: Sequence[str]) -> list[list[int]]:
        """Return the tokens of each text so that all together read as the joined text.

        The tokens up to each border are those of the text up to it, wherever a tokenizer allows
        that: so a prompt is exactly what the model sees when it is asked.
        """
        alone = [self.ids(text) for text in texts]
        whole = self.ids("".join(texts))
        if [token for part in alone for token in part] == whole:
            return alone
        # Either a token would reach over a border, or the tokenizer marks the start of a text.
        parts: list[list[int]] = []
        before: list[int] = []
        text = ""
        for piece, own in zip(texts, alone, strict=True):
            text += piece
            upto = self.ids(text)
            if upto[: len(before)] == before:
                part = upto[len(before) :]
            else:
                part = self._continuation(before, piece, own, upto)
            parts.append(part)
            before = before + part
        return parts

    def _continuation(
        self, before: list[int], piece: str, own: list[int], upto: list[int]
    ) -> list[int]:
        """Return tokens for `piece` after `before` that read as the text does.

        SentencePiece tokenizers open every text with a space of their own, which would come
        between: their tokens after a newline have none.
        """
        wanted = self._read(upto)
        newline = self.ids("\n")
        after_newline = self.ids("\n" + piece)
        candidates = [own]
        if after_newline[: len(newline)] == newline:
            candidates.append(after_newline[len(newline) :])
        for candidate in candidates:
            if self._read(before + candidate) == wanted:
                return candidate
        return own

    def _read(self, ids: list[int]) -> str:
        return str(self.tokenizer.decode(ids, clean_up_tokenization_spaces=False))


def encode_example(
    example: Example, tokenizer: PreTrainedTokenizerBase, max_length: int | None = None
) -> Encoded:
    """Encode one example; for many, an `Encoder` or `encode_all` is faster.

    Raises:
        DataError: if it has more than `max_length` tokens, or can't be encoded.
        ModelError: if the tokenizer has no end token.
    """
    encoded = Encoder(tokenizer).encode(example)
    if max_length is not None and len(encoded.input_ids) > max_length:
        raise DataError(
            f"{example.place}: has {len(encoded.input_ids)} tokens, more than {max_length}",
            "raise max_length, or leave the row out: nothing is ever cut",
        )
    return encoded


def encode_all(
    examples: Iterable[Example],
    tokenizer: PreTrainedTokenizerBase,
    max_length: int | None = None,
    on_bad_row: str = "error",
) -> EncodedExamples:
    """Encode examples, leaving out and counting those that are too long.

    Args:
        examples: what to encode.
        tokenizer: the model's.
        max_length: the most tokens that an example may have; None for no bound.
        on_bad_row: `error`, or `skip` to leave out and count what can't be encoded.

    Raises:
        DataError: if the chat template refuses rows and they are not to be skipped.
        ModelError: if the tokenizer has no end token.
    """
    encoder = Encoder(tokenizer)
    unknown_id = tokenizer.unk_token_id
    rows: list[Encoded] = []
    kept: list[int] = []
    refused: list[BadRow] = []
    hint = first_too_long = ""
    given = too_long = with_unknown = 0
    for number, example in enumerate(examples):
        given += 1
        try:
            if is_too_long(example, max_length):
                too_long += 1
                first_too_long = first_too_long or example.place
                continue
            encoded = encoder.encode(example)
        except DataError as error:
            refused.append(BadRow(example.place, error.message.removeprefix(f"{example.place}: ")))
            hint = hint or error.hint
            continue
        if max_length is not None and len(encoded.input_ids) > max_length:
            too_long += 1
            first_too_long = first_too_long or example.place
            continue
        rows.append(encoded)
        kept.append(number)
        # Some tokenizers name their end token as the unknown one too.
        if unknown_id not in (None, encoder.end_id) and unknown_id in encoded.input_ids:
            with_unknown += 1
    if refused and (on_bad_row == "error" or len(refused) == given):
        raise bad_rows_error(refused, len(refused), given, hint)
    return EncodedExamples(
        rows, kept, given, max_length, too_long, first_too_long, tuple(refused), with_unknown
    )


def choose_metric(rows: Sequence[Encoded]) -> Literal["exact", "token"]:
    """Return what `metric = "auto"` means for these examples, by their median answer."""
    if rows and statistics.median(row.answer_tokens for row in rows) > LONGEST_EXACT_ANSWER:
        return "token"
    return "exact"
