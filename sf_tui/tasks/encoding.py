"""Examples as token ids with their labels, ready to be put into batches.

Knows where loss is carried and that nothing is ever cut. Knows nothing of tensors or padding.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Literal

from sf_tui.errors import DataError, ModelError
from sf_tui.tasks.chat import ChatTurns, TurnText, plain_segments
from sf_tui.tasks.control_tokens import ControlCount, ControlTokenFinder, ControlTokens
from sf_tui.tasks.joining import TextTokens
from sf_tui.tasks.row_size import is_too_long
from sf_tui.tasks.rows import BadRow, bad_rows_error, count_rows
from sf_tui.tasks.task import Example
from sf_tui.tasks.template_date import date_note

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
class EncodedRow:
    """What one row becomes."""

    examples: list[Encoded]
    """One, or one for each learnt turn of a conversation that can't be learnt as a whole."""
    ends: frozenset[int]
    """Token ids that its answers end with."""
    thoughts_lost: int = 0
    """Turns whose thoughts the chat template can render nowhere."""


@dataclass(frozen=True)
class EncodedExamples:
    """Many examples as tokens, without those that can't be used, and what became of these."""

    rows: list[Encoded]
    kept: list[int]
    """For each of `rows`, which of the given examples it is; a split conversation stands here
    several times."""
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


class Encoder:
    """Turns examples into token ids for one tokenizer, whose habits it finds out once.

    A prompt and its completion are joined as they stand. A conversation goes through the chat
    template, turn by turn: each is learnt from the very prompt that generation would give, and
    as one sequence where those prompts only append to each other. Without a template its turns are
    joined by newlines. An end token closes every example and carries loss.

    Args:
        tokenizer: the model's.
        control_tokens: what is done with control tokens in a row's text.

    Raises ModelError if the tokenizer has no end token, or a chat template without sense.
    """

    def __init__(
        self, tokenizer: PreTrainedTokenizerBase, control_tokens: ControlTokens = "text"
    ) -> None:
        if tokenizer.eos_token_id is None:
            raise ModelError(
                "the tokenizer has no end token, so no answer could ever end",
                "set eos_token in its tokenizer_config.json",
            )
        self.tokenizer = tokenizer
        self.end_id: int = tokenizer.eos_token_id
        self.has_chat_template = bool(getattr(tokenizer, "chat_template", None))
        self.control = ControlCount()
        """Control tokens in the text of all rows that were encoded."""
        self._control_tokens = control_tokens
        self._turns = ChatTurns(tokenizer)

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
    def _plain_finder(self) -> ControlTokenFinder:
        return ControlTokenFinder(self.tokenizer)

    @cached_property
    def _chat_finder(self) -> ControlTokenFinder:
        return ControlTokenFinder(self.tokenizer, self._turns.closing.end)

    def ids(self, text: str) -> list[int]:
        """Return the tokens of a text alone, with none that the tokenizer would add."""
        return TextTokens(self.tokenizer).ids(text)

    def encode(self, example: Example) -> Encoded:
        """Return the tokens of an example that is learnt as a whole, and which carry loss.

        Raises:
            DataError: if the chat template refuses it, an answer has no token, or it is a
                conversation that becomes several examples.
        """
        made = self.encode_row(example).examples
        if len(made) > 1:
            raise DataError(
                f"{example.place}: the model's chat template makes {len(made)} examples of it",
                "encode its turns one by one",
            )
        return made[0]

    def encode_row(self, example: Example) -> EncodedRow:
        """Return the tokens of all examples that a row becomes.

        Raises:
            DataError: if the chat template refuses it, no turn is learnt, an answer has no token,
                or control tokens stand in its text that must not.
        """
        chat = bool(example.messages) and self.has_chat_template
        learnt = [m for m in example.messages if m.role == "assistant" and m.learnt]
        if example.messages and not learnt:
            raise DataError(
                f"{example.place}: no assistant turn is to be learnt",
                "mend the row, or leave it out",
            )
        hidden: dict[str, str] = {}
        finder = self._chat_finder if chat else self._plain_finder
        found = finder.find(example)
        if found:
            self.control.add(example, found)
            if self._control_tokens == "error":
                raise DataError(
                    f"{example.place}: the control token {next(iter(found))} stands in its text",
                    'control_tokens = "text" in [[tasks]] encodes it as text, "keep" as the token',
                )
            if self._control_tokens == "text":
                example, hidden = finder.hide(example)
        tokens = TextTokens(self.tokenizer, hidden)
        try:
            return self._chat_row(example, tokens) if chat else self._plain_row(example, tokens)
        except DataError as error:
            if not hidden:
                raise
            # Nobody knows the stand-ins.
            told = error.message
            for sign, token in hidden.items():
                told = told.replace(sign, token)
            place = f"{example.place}: "
            told = told if told.startswith(place) else place + told
            raise DataError(told, error.hint) from error

    def _chat_row(self, example: Example, tokens: TextTokens) -> EncodedRow:
        turns = self._turns.cut(example.messages, example.place)
        examples = [self._encode_turn(turn, tokens, example.place) for turn in turns]
        ends = frozenset(one.input_ids[-1] for one in examples)
        lost = sum(turn.thoughts_lost for turn in turns)
        return EncodedRow(_as_one_sequence(examples) or examples, ends, lost)

    def _encode_turn(self, turn: TurnText, tokens: TextTokens, place: str) -> Encoded:
        prompt, completion = tokens.join([turn.prompt, turn.completion])
        _check_answer(completion, place)
        if not turn.ended and completion[-1] != self.end_id:
            completion = [*completion, self.end_id]
        # A template writes its own opening.
        encoded = Encoded([*prompt, *completion], [NO_LOSS] * len(prompt) + completion)
        encoded.labels[0] = NO_LOSS
        return encoded

    def _plain_row(self, example: Example, tokens: TextTokens) -> EncodedRow:
        if example.messages:
            segments = [(one.text, one.learnt) for one in plain_segments(example.messages)]
        else:
            segments = [(example.prompt, False), (example.completion, True)]
        input_ids: list[int] = []
        labels: list[int] = []
        parts = tokens.join([text for text, _ in segments])
        for (_, learnt), part in zip(segments, parts, strict=True):
            if learnt:
                _check_answer(part, example.place)
            input_ids += part
            labels += part if learnt else [NO_LOSS] * len(part)
        if input_ids[-1] != self.end_id:
            input_ids.append(self.end_id)
            labels.append(self.end_id)
        opening = self._opening
        # A text that has an opening already gets no second.
        if input_ids[: len(opening)] != opening:
            input_ids[:0] = opening
            labels[:0] = [NO_LOSS] * len(opening)
        # Nothing stands before the first token, so nothing can predict it.
        labels[0] = NO_LOSS
        lost = sum(bool(m.thoughts) and not m.inline for m in example.messages)
        return EncodedRow([Encoded(input_ids, labels)], frozenset({self.end_id}), lost)


def _check_answer(part: Sequence[int], place: str) -> None:
    if not part:
        raise DataError(
            f"{place}: the answer has no token in the model's vocabulary",
            "mend the row, or use a tokenizer that knows its signs",
        )


def _as_one_sequence(examples: Sequence[Encoded]) -> list[Encoded] | None:
    """Return the turns of a conversation as one example, if that learns the very same tokens.

    It does where each turn's prompt goes on from the turn before and its end, token for token.
    """
    labels: list[int] = []
    before: list[int] = []
    for example in examples:
        if example.input_ids[: len(before)] != before:
            return None
        labels += example.labels[len(before) :]
        before = example.input_ids
    return [Encoded(before, labels)]


def encode_example(
    example: Example, tokenizer: PreTrainedTokenizerBase, max_length: int | None = None
) -> Encoded:
    """Encode one example; for many, an `Encoder` or `encode_all` is faster.

    Raises:
        DataError: if it has more than `max_length` tokens, can't be encoded, or is a conversation
            that becomes several examples.
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
    kept: list[int] = []
    refused: list[BadRow] = []
    ends: set[int] = set()
    hint = first_too_long = ""
    given = too_long = with_unknown = split = made = thoughts_lost = 0
    for number, example in enumerate(examples):
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
            kept.append(number)
            # Some tokenizers name their end token as the unknown one too.
            if unknown_id not in (None, encoder.end_id) and unknown_id in encoded.input_ids:
                with_unknown += 1
    if refused and (on_bad_row == "error" or len(refused) == given):
        raise bad_rows_error(refused, len(refused), given, hint)
    return EncodedExamples(
        rows,
        kept,
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
