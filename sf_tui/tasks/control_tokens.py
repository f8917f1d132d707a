"""Control tokens that stand in the words of a row: found, counted, and kept from taking effect.

A user who asks what `<|im_end|>` means does not end a turn, and an answer that explains `</s>`
must not teach the model to stop in mid-sentence. Knows tokens by their text; encodes nothing.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal

from sf_tui.errors import DataError
from sf_tui.tasks.task import Example, Message
from sf_tui.tasks.thoughts import is_thought_mark

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

ControlTokens = Literal["text", "keep", "error"]
"""What is done with control tokens in a row's text: encoded as text, kept, or a bad row."""

# Private-use areas: stand-ins are taken from the first that a row holds no character of.
_AREAS = (0xF0000, 0x100000, 0xE000)


@dataclass
class ControlCount:
    """Control tokens in the text of rows."""

    rows: int = 0
    """How many rows hold one."""
    first: str = ""
    """The place of the first."""
    tokens: Counter[str] = field(default_factory=Counter)

    def add(self, example: Example, found: Counter[str]) -> None:
        """Count a row's control tokens."""
        self.rows += 1
        self.first = self.first or example.place
        self.tokens += found

    def note(self, given: str, handling: ControlTokens) -> str:
        """Say what was found and what is done with it; empty where nothing was.

        Args:
            given: how many rows there are, in words.
            handling: the profile's.
        """
        if not self.rows:
            return ""
        names = [f"{token} ({count}x)" for token, count in self.tokens.most_common(3)]
        if len(self.tokens) > len(names):
            names.append("…")
        what = (
            "they are encoded as text and control nothing; for prompts that are rendered already, "
            'control_tokens = "keep" in [[tasks]] makes them control tokens'
            if handling == "text"
            else 'they are control tokens, as control_tokens = "keep" has it'
        )
        return (
            f"{self.rows} of {given} hold control tokens of the tokenizer in their text: "
            f"{', '.join(names)}, the first: {self.first}; {what}"
        )


class ControlTokenFinder:
    """Finds a tokenizer's control tokens in rows.

    Args:
        tokenizer: its special tokens are control tokens.
        end: an end of turn that a chat template writes; may be empty.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, end: str = "") -> None:
        added = getattr(tokenizer, "added_tokens_decoder", {}).values()
        tokens = {token.content for token in added if token.special} | {
            *tokenizer.all_special_tokens,
            *(token.content for token in added if end and token.content in end),
        }
        longest_first = sorted((t for t in tokens if t.strip()), key=lambda t: (-len(t), t))
        self._pattern = re.compile("|".join(map(re.escape, longest_first)) or "(?!)")
        self._bos, self._eos = tokenizer.bos_token or "", tokenizer.eos_token or ""

    def find(self, example: Example) -> Counter[str]:
        """Return the control tokens in a row's text, each with how often it stands there.

        A start token that opens a prompt, an end token that closes a completion and the marks of
        an assistant's thoughts are what they seem.
        """
        found: Counter[str] = Counter()

        def count(text: str, *, thoughts: bool) -> str:
            for token in self._pattern.findall(text):
                if not (thoughts and is_thought_mark(token)):
                    found[token] += 1
            return text

        self._rewrite(example, count)
        return found

    def hide(self, example: Example) -> tuple[Example, dict[str, str]]:
        """Return a row with a stand-in for each control token, and what each stands for.

        Raises:
            DataError: the row holds characters of every private-use area.
        """
        texts: list[str] = []

        def collect(text: str, *, thoughts: bool) -> str:  # noqa: ARG001  as `count`
            texts.append(text)
            return text

        self._rewrite(example, collect)
        held = set("".join(texts))
        for area in _AREAS:
            signs = {token: chr(area + 2 + at) for at, token in enumerate(self.find(example))}
            if held.isdisjoint(signs.values()):
                break
        else:
            raise DataError(
                f"{example.place}: it holds control tokens and private-use characters at once",
                "take the private-use characters out of the row",
            )

        def hide(text: str, *, thoughts: bool) -> str:
            def stand_in(match: re.Match[str]) -> str:
                token = match[0]
                # A mark that is thoughts' own in one turn may be a user's word in another.
                return token if thoughts and is_thought_mark(token) else signs[token]

            return self._pattern.sub(stand_in, text)

        return self._rewrite(example, hide), {sign: token for token, sign in signs.items()}

    def _rewrite(self, example: Example, change: Callable[..., str]) -> Example:
        if example.messages:
            return replace(example, messages=tuple(_rewritten(m, change) for m in example.messages))
        prompt, completion = example.prompt, example.completion
        opening = closing = ""
        if self._bos:
            if prompt.startswith(self._bos):
                opening, prompt = self._bos, prompt[len(self._bos) :]
            elif not prompt and completion.startswith(self._bos):
                opening, completion = self._bos, completion[len(self._bos) :]
        if self._eos and completion.endswith(self._eos):
            closing, completion = self._eos, completion[: -len(self._eos)]
        prompt = change(prompt, thoughts=False)
        completion = change(completion, thoughts=True) + closing
        if opening and example.prompt:
            return replace(example, prompt=opening + prompt, completion=completion)
        return replace(example, prompt=prompt, completion=opening + completion)


def _rewritten(message: Message, change: Callable[..., str]) -> Message:
    own = message.role == "assistant"
    if message.inline:
        # What stands in the one text stands in its parts: counted once, changed in both.
        inline = change(message.inline, thoughts=own)
        if inline == message.inline:
            return message
        message = replace(message, inline=inline)
    return replace(
        message,
        content=change(message.content, thoughts=own),
        thoughts=change(message.thoughts, thoughts=own) if message.thoughts else "",
    )
