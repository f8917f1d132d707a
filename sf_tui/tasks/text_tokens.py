"""Encodes texts: splits tokens where an answer starts, and neutralizes control tokens in rows.

A question about `<|im_end|>` must not end a turn, and an answer that explains `</s>` must not teach
the model to stop mid-sentence. A stand-in replaces each control token in a row, and stand-ins are
encoded as ordinary text. Knows nothing of row schemas or of loss.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal

from sf_tui.errors import DataError
from sf_tui.tasks.task import Example, Message
from sf_tui.tasks.template import is_thought_mark

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


ControlTokens = Literal["text", "keep", "error"]
"""How control tokens in a row's text are handled: as text, as the token, or as an error."""

# Private-use areas: stand-ins come from the first area that a row does not use.
_AREAS = (0xF0000, 0x100000, 0xE000)


@dataclass
class ControlCount:
    """Counts control tokens in the text of rows."""

    rows: int = 0
    """Number of rows with at least one."""
    first: str = ""
    """The place of the first such row."""
    tokens: Counter[str] = field(default_factory=Counter)

    def add(self, example: Example, found: Counter[str]) -> None:
        """Count a row's control tokens."""
        self.rows += 1
        self.first = self.first or example.place
        self.tokens += found

    def note(self, given: str, handling: ControlTokens) -> str:
        """Return a note on what was found and how it is handled; empty if nothing was found.

        Args:
            given: the number of rows, in words.
            handling: the profile's setting.
        """
        if not self.rows:
            return ""
        names = [f"{token} ({count}x)" for token, count in self.tokens.most_common(3)]
        if len(self.tokens) > len(names):
            names.append("…")
        what = (
            "they are encoded as text and have no effect; for prompts that are already rendered, "
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
        end: the end of turn that the chat template writes; may be empty.
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
        """Return the control tokens in a row's text and their counts.

        A start token that opens a prompt, an end token that closes a completion and the marks of
        an assistant's thoughts are intended and not counted.
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
        """Return a row with a stand-in for each control token, and the token of each stand-in.

        Raises:
            DataError: the row uses characters of every private-use area.
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
                # A thought mark in one turn can be ordinary text in another.
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
        # `inline` repeats the parts in one text: count it once, change it in both.
        inline = change(message.inline, thoughts=own)
        if inline == message.inline:
            return message
        message = replace(message, inline=inline)
    return replace(
        message,
        content=change(message.content, thoughts=own),
        thoughts=change(message.thoughts, thoughts=own) if message.thoughts else "",
    )


# A piece of text is encoded after one of these anchors, whose tokens are then removed: tokenizers
# that start every text with a space would otherwise insert one between pieces. Which anchor does
# not merge with the following text depends on the tokenizer's rules and merges.
_ANCHORS = ("\n", ".", "a", "0", "?", "(", '"', ",", "x", "\u2581", "1")


class TextTokens:
    """Encodes texts with one tokenizer, and stand-ins in them as ordinary text.

    Args:
        tokenizer: the model's.
        hidden: stand-ins, each a single character that the row does not contain, and the control
            token of each: its text is encoded without becoming the token.
    """

    def __init__(
        self, tokenizer: PreTrainedTokenizerBase, hidden: Mapping[str, str] | None = None
    ) -> None:
        self._tokenizer = tokenizer
        self._hidden = hidden or {}

    def ids(self, text: str) -> list[int]:
        """Return the tokens of a text, without those that the tokenizer adds.

        Raises:
            DataError: the tokenizer can only encode a control token's text as the token.
        """
        if not any(sign in text for sign in self._hidden):
            return self._encode(text)
        ids: list[int] = []
        for number, piece in enumerate(self._pieces(text)):
            hidden = self._hidden.get(piece)
            if hidden is not None:
                ids += self._as_words(hidden, first=number == 0)
            else:
                ids += self._encode(piece) if number == 0 else self._behind(piece)
        return ids

    def join(self, texts: Sequence[str]) -> list[list[int]]:
        """Return the tokens of each text so that together they decode to the joined text.

        Where the tokenizer allows it, the tokens up to each border equal the encoding of the text
        up to it, so that a prompt is exactly what the model reads at generation.
        """
        if sum(map(bool, texts)) <= 1:
            # Plain text, whose prompt is empty: no border, and two encodings less of a long row.
            return [self.ids(text) if text else [] for text in texts]
        alone = [self.ids(text) for text in texts]
        whole = self.ids("".join(texts))
        if [token for part in alone for token in part] == whole:
            return alone
        # A token would cross a border, or the tokenizer marks the start of a text.
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

    def _pieces(self, text: str) -> list[str]:
        pieces, start = [], 0
        for at, sign in enumerate(text):
            if sign in self._hidden:
                pieces += [text[start:at], sign]
                start = at + 1
        return [piece for piece in [*pieces, text[start:]] if piece]

    def _continuation(
        self, before: list[int], piece: str, own: list[int], upto: list[int]
    ) -> list[int]:
        """Return tokens for `piece` after `before` that decode to the joined text."""
        wanted = self._read(upto)
        if self._read(before + own) == wanted:
            return own
        for anchor in _ANCHORS:
            candidate = self._behind_anchor(anchor, piece)
            if candidate is not None and self._read(before + candidate) == wanted:
                return candidate
        return own

    def _behind(self, piece: str) -> list[int]:
        """Return the tokens of a piece in the middle of a text."""
        for anchor in _ANCHORS:
            found = self._behind_anchor(anchor, piece)
            if found is not None:
                return found
        return self.ids(piece)

    def _behind_anchor(self, anchor: str, piece: str, *, words: bool = False) -> list[int] | None:
        """Return the tokens of `piece` after `anchor`; None if they merge."""
        head = self._encode(anchor, words=words)
        if words or not any(sign in piece for sign in self._hidden):
            both = self._encode(anchor + piece, words=words)
        else:
            both = self.ids(anchor + piece)
        return both[len(head) :] if both[: len(head)] == head else None

    def _as_words(self, token: str, *, first: bool) -> list[int]:
        """Return ordinary tokens that decode to a control token's text.

        Raises:
            DataError: this tokenizer has none.
        """
        control = self._tokenizer.convert_tokens_to_ids(token)
        unknown: list[int] | None = None
        # Try the whole text first; a Unigram vocabulary that has it as one piece needs it split in
        # two.
        for cut in range(len(token)):
            ids: list[int] = []
            for part in (token[:cut], token[cut:]):
                if not part:
                    continue
                if first and not ids:
                    ids += self._encode(part, words=True)
                    continue
                behind = (self._behind_anchor(anchor, part, words=True) for anchor in _ANCHORS)
                found = next((one for one in behind if one is not None), None)
                ids += self._encode(part, words=True) if found is None else found
            if not ids or control in ids:
                continue
            if self._tokenizer.unk_token_id not in ids:
                return ids
            unknown = unknown or ids
        if unknown is not None:
            return unknown
        raise DataError(
            f"{token} is in the text, and this tokenizer can read it as the control token only",
            "take it out of the row, or keep it as a control token: control_tokens = "
            '"keep" in [[tasks]]',
        )

    def _encode(self, text: str, *, words: bool = False) -> list[int]:
        if words:
            return list(
                self._tokenizer.encode(text, add_special_tokens=False, split_special_tokens=True)
            )
        return list(self._tokenizer.encode(text, add_special_tokens=False))

    def _read(self, ids: list[int]) -> str:
        return str(self._tokenizer.decode(ids, clean_up_tokenization_spaces=False))
