"""Splits conversations into prompts and completions, using the model's chat template.

Knows templates and locates an assistant's turn in their output. Knows nothing of token ids.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

from sf_tui.errors import DataError
from sf_tui.tasks.messages import ThoughtMarks, split_thoughts
from sf_tui.tasks.task import Message
from sf_tui.tasks.template import (
    ANSWER_STAND_IN,
    Closing,
    OpenedThoughts,
    RefusalError,
    ThoughtStyle,
    between_turns,
    closed_thoughts,
    closing_of,
    find_closing,
    find_marks,
    opened_thoughts,
    render_turns,
)

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True)
class TurnText:
    """One assistant's turn as the model reads it."""

    prompt: str
    """The output of `apply_chat_template` for the turns before it, with a generation prompt."""
    completion: str
    """The text that the model has to generate, with the token that ends the turn."""
    ended: bool
    """Whether the completion ends with an end token that the template writes."""
    thoughts_lost: bool
    """Whether the row has thoughts for this turn that the template can't render."""


_THOUGHT_STAND_IN = "QXZJ7THOUGHT7JZXQ"


class ChatTurns:
    """Cuts conversations into prompts and completions for one tokenizer's chat template."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self._tokenizer = tokenizer

    @cached_property
    def closing(self) -> Closing:
        """The text that the template writes after an answer; ModelError if it can't write one."""
        return find_closing(self._tokenizer)

    @cached_property
    def _between(self) -> str:
        return between_turns(self._tokenizer)

    @cached_property
    def _source(self) -> str:
        return str(self._tokenizer.get_chat_template())

    @cached_property
    def _own_marks(self) -> ThoughtMarks | None:
        """The marks that this template uses around thoughts."""
        found = find_marks(self._source)
        if found is None:
            try:
                prompt = render_turns(self._tokenizer, [Message("user", "Hello")], generation=True)
            except RefusalError:
                # The template refuses a lone question; each row's own prompt is examined instead.
                return None
            opened = opened_thoughts(prompt, self._source)
            found = opened.marks if opened is not None else None
        return found

    @property
    def _marks(self) -> ThoughtMarks:
        return self._own_marks or ThoughtMarks()

    @cached_property
    def _style(self) -> ThoughtStyle:
        turns = [Message("user", "Hello"), Message("assistant", ANSWER_STAND_IN, _THOUGHT_STAND_IN)]
        styles: tuple[ThoughtStyle, ...] = ("keys", "inline")
        for style in styles:
            try:
                if _THOUGHT_STAND_IN in render_turns(
                    self._tokenizer, turns, False, style, self._marks
                ):
                    return style
            except RefusalError:
                # A template may refuse thoughts in one place and accept them in another.
                continue
        return "left out"

    def cut(self, messages: Sequence[Message], place: str) -> list[TurnText]:
        """Return every learned assistant turn as a prompt and a completion.

        Args:
            messages: the turns; the last one is an assistant's.
            place: the row's place, for errors.

        Raises:
            DataError: if the template refuses the roles, or omits or changes a turn.
            ModelError: if the template is unusable.
        """
        turns = [self._with_own_marks(message) for message in messages]
        attempts = [turns]
        if any(turn.role == "tool" for turn in turns):
            # Many templates have no tool role: retry with the tool's output as a user turn.
            attempts.append([replace(t, role="user") if t.role == "tool" else t for t in turns])
        problem = ""
        for attempt in attempts:
            try:
                return [
                    self._turn(attempt, at)
                    for at, message in enumerate(attempt)
                    if message.role == "assistant" and message.learnt
                ]
            except RefusalError as error:
                problem = problem or str(error)
        raise DataError(
            f"{place}: the model's chat template refuses this conversation: {problem}",
            'fix the row, skip such rows with on_bad_row = "skip", or give '
            "prompt/completion rows, which are joined as they are",
        )

    def _with_own_marks(self, message: Message) -> Message:
        """Read thoughts between marks that only this template uses."""
        if message.role != "assistant" or message.thoughts or self._own_marks is None:
            return message
        split = split_thoughts(message.content, self._own_marks)
        if split is None or not all(split):
            return message
        return replace(message, thoughts=split[0], content=split[1], inline=message.content)

    def _render(
        self, messages: Sequence[Message], generation: bool = False, **options: bool
    ) -> str:
        return render_turns(
            self._tokenizer, messages, generation, self._style, self._marks, **options
        )

    def _turn(self, messages: Sequence[Message], at: int) -> TurnText:
        closing, before, turn = self.closing, messages[:at], messages[at]
        prompt = self._render(before, generation=True)
        for number, message in enumerate(before, 1):
            if message.role != "assistant" and not _stands_in(message.content, prompt):
                raise RefusalError(f"it leaves out or changes turn {number} ({message.role})")
        text = self._render(messages[: at + 1])
        # Search from the end: the text before an answer depends on thoughts and channels.
        body = self._without_closing(messages[: at + 1], text)
        if body is None:
            raise RefusalError(f"it leaves out or changes turn {at + 1} (assistant)")
        text, closing = body
        completion = self._completion(prompt, text, before, turn)
        if completion is None:
            raise RefusalError(
                f"the prompt of turn {at + 1} isn't how the conversation up to it begins"
            )
        return TurnText(
            prompt,
            completion + closing.end,
            bool(closing.end),
            bool(turn.thoughts) and turn.thoughts not in _before_answer(completion, turn),
        )

    def _without_closing(
        self, messages: Sequence[Message], text: str
    ) -> tuple[str, Closing] | None:
        """Return a text up to the end of its last answer, and the text after it."""
        answer = messages[-1].content.strip()
        closing = self.closing
        for attempt in range(2):
            body = text.removesuffix(closing.whole)
            if text.endswith(closing.whole) and body.rstrip().endswith(answer):
                return body, closing
            if attempt == 0:
                # It closes this conversation differently from a single question and answer.
                marked = replace(messages[-1], content=ANSWER_STAND_IN)
                if marked.inline:
                    marked = replace(marked, inline=marked.inline.replace(answer, ANSWER_STAND_IN))
                whole = self._render([*messages[:-1], marked]).rpartition(ANSWER_STAND_IN)[2]
                closing = closing_of(whole, self._tokenizer, self._between)
        return None

    def _completion(
        self, prompt: str, text: str, before: Sequence[Message], turn: Message
    ) -> str | None:
        """Return the text that a model has to generate after `prompt`, without its end.

        Args:
            prompt: the turns before the answer, with the opening of the answer.
            text: the same turns and the answer, without its closing.
            before: the turns before the answer.
            turn: the assistant's turn.

        Returns:
            None if the rendered turn does not continue its prompt.
        """
        if text.startswith(prompt):
            completion = text[len(prompt) :]
            if turn.thoughts and turn.thoughts not in _before_answer(completion, turn):
                return self._with_cut_thoughts(prompt, completion, turn)
            return completion
        if not turn.thoughts:
            # The prompt opens thoughts; the template writes no marks for a turn without thoughts.
            known = self._emptied_thoughts(prompt, before, turn)
            if known is not None:
                return known
        opened = opened_thoughts(prompt, self._source)
        if opened is not None and text.startswith(opened.before):
            return self._after_opened(prompt, opened, text[len(opened.before) :], before, turn)
        closed = closed_thoughts(prompt)
        if closed is not None and text.startswith(closed):
            # The prompt has an empty block of thoughts that the rendered history omits.
            return self._answer_alone(text[len(closed) :], turn)
        return _from_last_turn_on(prompt, text, before, turn)

    def _with_cut_thoughts(self, prompt: str, completion: str, turn: Message) -> str:
        """Restore thoughts that the template removes even from the last turn.

        Templates of reasoning models do that (DeepSeek-R1). If the prompt has already closed the
        thoughts, the model has none to write.
        """
        marks, written = self._own_marks, _before_answer(completion, turn)
        if marks is None or marks.closing in written or closed_thoughts(prompt) is not None:
            return completion
        answer = completion[len(written) :]
        return written.rstrip("\n") + marks.around(turn.thoughts, answer)

    def _emptied_thoughts(
        self, prompt: str, before: Sequence[Message], turn: Message
    ) -> str | None:
        """Return the completion with an empty block of thoughts; None if it can't be rendered."""
        if self._style == "left out":
            return None
        messages = [*before, replace(turn, thoughts=_THOUGHT_STAND_IN, inline="")]
        found = self._without_closing(messages, self._render(messages))
        if found is None or not found[0].startswith(prompt + _THOUGHT_STAND_IN):
            return None
        return found[0][len(prompt + _THOUGHT_STAND_IN) :]

    def _after_opened(
        self,
        prompt: str,
        opened: OpenedThoughts,
        rest: str,
        before: Sequence[Message],
        turn: Message,
    ) -> str:
        """Return thoughts, closing mark and answer, for a prompt that opens thoughts."""
        marks, space = opened.marks, opened.space
        thoughts, answer = turn.thoughts, self._answer_alone(rest, turn)
        gap = "\n\n" if "\n" in space else ""
        off = self._thoughts_off(before)
        if off is not None and marks.closing in off:
            behind = off.rpartition(marks.closing)[2]
            if not behind.strip():
                gap = behind
            if not thoughts and off.startswith(prompt):
                return off[len(prompt) :] + answer
        return thoughts + space + marks.closing + gap + answer

    def _answer_alone(self, text: str, turn: Message) -> str:
        """Return the rendered turn without thoughts and their marks."""
        written = _before_answer(text, turn)
        if self._marks.closing in written:
            text = text[len(written) :]
        # Drop the whitespace that separated the thoughts from the answer.
        return text.lstrip() if turn.thoughts else text

    def _thoughts_off(self, before: Sequence[Message]) -> str | None:
        """Return the prompt that the template writes with thinking turned off."""
        try:
            return self._render(before, generation=True, enable_thinking=False, thinking=False)
        except RefusalError:
            # The template can't render that.
            return None


def _before_answer(completion: str, turn: Message) -> str:
    return completion[: completion.rfind(turn.content.strip())]


def _from_last_turn_on(
    prompt: str, text: str, before: Sequence[Message], turn: Message
) -> str | None:
    """Return the completion if both texts agree from the last turn before the answer onward.

    Mistral's templates write the system text into the last user turn, but only if that turn ends
    the conversation. The prompt then contains it; the same conversation with its answer does not.
    """
    asked = before[-1].content.strip() if before else ""
    head = _before_answer(text, turn)
    _, in_prompt, opening = prompt.rpartition(asked) if asked else ("", "", "")
    _, in_text, behind = head.rpartition(asked) if asked else ("", "", "")
    if not in_prompt or not in_text or not behind.startswith(opening):
        return None
    return behind[len(opening) :] + text[len(head) :]


def _stands_in(content: str, text: str) -> bool:
    """Return whether a text contains a content, verbatim or as a JSON string."""
    content = content.strip()
    if content in text:
        return True
    return any(json.dumps(content, ensure_ascii=plain)[1:-1] in text for plain in (True, False))
