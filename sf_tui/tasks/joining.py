"""Texts as tokens that read as one text, cut where a prompt ends and its answer begins.

Knows what tokenizers do at the beginning of a text and at a border. Knows nothing of rows or loss.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from sf_tui.errors import DataError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

# A piece of a text is encoded behind one of these, whose tokens are then taken away: tokenizers
# that open every text with a space of their own would put it between the pieces. Which of them
# keeps apart from what follows depends on the tokenizer's rules and merges.
_ANCHORS = ("\n", ".", "a", "0", "?", "(", '"', ",", "x", "\u2581", "1")


class TextTokens:
    """Encodes texts with one tokenizer, some stand-ins in them as ordinary words.

    Args:
        tokenizer: the model's.
        hidden: stand-ins, each one character that no row holds, and the control token whose text
            it stands for: that text is encoded without becoming the token.
    """

    def __init__(
        self, tokenizer: PreTrainedTokenizerBase, hidden: Mapping[str, str] | None = None
    ) -> None:
        self._tokenizer = tokenizer
        self._hidden = hidden or {}

    def ids(self, text: str) -> list[int]:
        """Return the tokens of a text alone, with none that the tokenizer would add.

        Raises:
            DataError: a control token's text can only be read as the token.
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
        """Return tokens for `piece` after `before` that read as the text does."""
        wanted = self._read(upto)
        if self._read(before + own) == wanted:
            return own
        for anchor in _ANCHORS:
            candidate = self._behind_anchor(anchor, piece)
            if candidate is not None and self._read(before + candidate) == wanted:
                return candidate
        return own

    def _behind(self, piece: str) -> list[int]:
        """Return the tokens of a piece from within a text."""
        for anchor in _ANCHORS:
            found = self._behind_anchor(anchor, piece)
            if found is not None:
                return found
        return self.ids(piece)

    def _behind_anchor(self, anchor: str, piece: str, *, words: bool = False) -> list[int] | None:
        """Return the tokens of `piece` where it follows `anchor`; None where they run together."""
        head = self._encode(anchor, words=words)
        if words or not any(sign in piece for sign in self._hidden):
            both = self._encode(anchor + piece, words=words)
        else:
            both = self.ids(anchor + piece)
        return both[len(head) :] if both[: len(head)] == head else None

    def _as_words(self, token: str, *, first: bool) -> list[int]:
        """Return ordinary tokens that read as a control token's text.

        Raises:
            DataError: this tokenizer knows none.
        """
        control = self._tokenizer.convert_tokens_to_ids(token)
        unknown: list[int] | None = None
        # The whole text first; vocabularies that hold it as one piece (Unigram) take it in two.
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
            f"{token} stands in the text, and this tokenizer can read it as the control token only",
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
