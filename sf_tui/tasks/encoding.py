"""One example as token ids with labels, ready for a batch.

Decides which tokens carry loss, and never cuts an example. Knows nothing of tensors or padding.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

from sf_tui.errors import DataError, ModelError
from sf_tui.tasks.chat import ChatTurns, TurnText
from sf_tui.tasks.task import Example, Message
from sf_tui.tasks.text_tokens import ControlCount, ControlTokenFinder, ControlTokens, TextTokens

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


NO_LOSS = -100


@dataclass(frozen=True, slots=True)
class Encoded:
    """One example as tokens, with its group and place."""

    input_ids: list[int]
    labels: list[int]
    """Aligned with `input_ids`; `NO_LOSS` for tokens that carry no loss."""
    group: str = field(default="", compare=False)
    """The group of its example. Equality compares tokens and labels only."""
    place: str = field(default="", compare=False)
    """Where that example was read: file:line, or a name from the generator."""
    question: str = field(default="", compare=False)
    """What a reader takes for its question: the prompt, or the user's turns before its answers.
    Empty if the row was tokenized elsewhere."""

    @property
    def answer_tokens(self) -> int:
        """Return the number of tokens that carry loss, end tokens included."""
        return sum(label != NO_LOSS for label in self.labels)


@dataclass(frozen=True)
class EncodedRow:
    """The examples made from one row."""

    examples: list[Encoded]
    """One, or one per learned turn of a conversation that can't be learned as a whole."""
    ends: frozenset[int]
    """Token ids at the end of its answers."""
    thoughts_lost: int = 0
    """Number of turns whose thoughts the chat template can't render."""


class Encoder:
    """Turns examples into token ids for one tokenizer, whose behavior it examines once.

    A prompt and its completion are joined unchanged. A conversation goes through the chat template
    turn by turn: each turn is learned from the prompt that generation would use, and all as one
    sequence if each prompt extends the one before. Without a template, newlines join the turns. An
    end token closes every example and carries loss.

    Args:
        tokenizer: the model's.
        control_tokens: how control tokens in a row's text are handled.

    Raises ModelError if the tokenizer has no end token or its chat template is unusable.
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
        """Control tokens in the text of all rows encoded so far."""
        self._control_tokens = control_tokens
        self._turns = ChatTurns(tokenizer)

    @cached_property
    def _opening(self) -> list[int]:
        """The tokens that the tokenizer adds before a text."""
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
        """Return the tokens of a text, without those that the tokenizer adds."""
        return TextTokens(self.tokenizer).ids(text)

    def encode(self, example: Example) -> Encoded:
        """Encode an example that becomes a single sequence.

        Raises:
            DataError: the chat template refuses it, an answer has no token, or it is a
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
        """Encode all examples that a row becomes.

        Raises:
            DataError: the chat template refuses it, no turn is learned, an answer has no token, or
                its text holds control tokens that are errors.
        """
        if example.token_ids:
            ids, labels = list(example.token_ids), list(example.token_labels)
            return EncodedRow([Encoded(ids, labels, example.group, example.place)], frozenset())
        chat = bool(example.messages) and self.has_chat_template
        learnt = [m for m in example.messages if m.role == "assistant" and m.learnt]
        if example.messages and not learnt:
            raise DataError(
                f"{example.place}: no assistant turn is to be learnt",
                "fix the row, or skip it",
            )
        questions = _questions_of(example)
        hidden: dict[str, str] = {}
        finder = self._chat_finder if chat else self._plain_finder
        found = finder.find(example)
        if found:
            self.control.add(example, found)
            if self._control_tokens == "error":
                raise DataError(
                    f"{example.place}: the control token {next(iter(found))} is in its text",
                    'control_tokens = "text" in [[tasks]] encodes it as text, "keep" as the token',
                )
            if self._control_tokens == "text":
                example, hidden = finder.hide(example)
        tokens = TextTokens(self.tokenizer, hidden)
        try:
            row = self._chat_row(example, tokens) if chat else self._plain_row(example, tokens)
        except DataError as error:
            if not hidden:
                raise
            # Stand-ins mean nothing to a user.
            message = error.message
            for sign, token in hidden.items():
                message = message.replace(sign, token)
            place = f"{example.place}: "
            message = message if message.startswith(place) else place + message
            raise DataError(message, error.hint) from error
        if len(row.examples) != len(questions):
            questions = ["\n".join(questions)] * len(row.examples)
        asked = zip(row.examples, questions, strict=True)
        return replace(row, examples=[replace(one, question=text) for one, text in asked])

    def _chat_row(self, example: Example, tokens: TextTokens) -> EncodedRow:
        turns = self._turns.cut(example.messages, example.place)
        examples = [self._encode_turn(turn, tokens, example) for turn in turns]
        ends = frozenset(one.input_ids[-1] for one in examples)
        lost = sum(turn.thoughts_lost for turn in turns)
        return EncodedRow(_as_one_sequence(examples) or examples, ends, lost)

    def _encode_turn(self, turn: TurnText, tokens: TextTokens, example: Example) -> Encoded:
        prompt, completion = tokens.join([turn.prompt, turn.completion])
        _check_answer(completion, example.place)
        if not turn.ended and completion[-1] != self.end_id:
            completion = [*completion, self.end_id]
        # The template writes the opening.
        labels = [NO_LOSS] * len(prompt) + completion
        labels[0] = NO_LOSS
        return Encoded([*prompt, *completion], labels, example.group, example.place)

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
        # Add no second opening.
        if input_ids[: len(opening)] != opening:
            input_ids[:0] = opening
            labels[:0] = [NO_LOSS] * len(opening)
        # Nothing predicts the first token.
        labels[0] = NO_LOSS
        lost = sum(bool(m.thoughts) and not m.inline for m in example.messages)
        encoded = Encoded(input_ids, labels, example.group, example.place)
        return EncodedRow([encoded], frozenset({self.end_id}), lost)


def _questions_of(example: Example) -> list[str]:
    """Return what is asked before each learned answer of an example."""
    if not example.messages:
        return [example.prompt]
    questions: list[str] = []
    asked: list[str] = []
    for message in example.messages:
        if message.role == "user":
            asked.append(message.content)
        elif message.role == "assistant":
            if message.learnt:
                questions.append("\n".join(asked))
            asked = []
    return questions


def _check_answer(part: Sequence[int], place: str) -> None:
    if not part:
        raise DataError(
            f"{place}: the answer has no token in the model's vocabulary",
            "fix the row, or use a tokenizer that has its characters",
        )


def _as_one_sequence(examples: Sequence[Encoded]) -> list[Encoded] | None:
    """Return the turns of a conversation as one example, if that learns the same tokens.

    It does if each turn's prompt starts with the tokens of the turn before it.
    """
    labels: list[int] = []
    before: list[int] = []
    for example in examples:
        if example.input_ids[: len(before)] != before:
            return None
        labels += example.labels[len(before) :]
        before = example.input_ids
    return [replace(examples[-1], input_ids=before, labels=labels)]


def encode_example(
    example: Example, tokenizer: PreTrainedTokenizerBase, max_length: int | None = None
) -> Encoded:
    """Encode one example; for many, an `Encoder` or `encode_all` is faster.

    Raises:
        DataError: it has more than `max_length` tokens, can't be encoded, or is a conversation
            that becomes several examples.
        ModelError: the tokenizer has no end token.
    """
    encoded = Encoder(tokenizer).encode(example)
    if max_length is not None and len(encoded.input_ids) > max_length:
        raise DataError(
            f"{example.place}: has {len(encoded.input_ids)} tokens, more than {max_length}",
            "raise max_length, or leave the row out: nothing is ever cut",
        )
    return encoded


class Segment(NamedTuple):
    """A piece of text; the tokens of a `learnt` one carry loss."""

    text: str
    learnt: bool


def plain_segments(messages: Sequence[Message]) -> list[Segment]:
    """Return the turns joined by newlines, for a model without a chat template."""
    segments: list[Segment] = []
    unlearnt = ""
    for message in messages:
        if message.role == "assistant" and message.learnt:
            segments += [Segment(unlearnt, False), Segment(message.inline or message.content, True)]
            unlearnt = "\n"
        else:
            unlearnt += (message.inline or message.content) + "\n"
    return segments
