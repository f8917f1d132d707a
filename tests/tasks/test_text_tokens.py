"""The tokens of the texts that make up a row."""

from __future__ import annotations

import pytest
from transformers import PreTrainedTokenizerFast

from sf_tui.tasks.text_tokens import TextTokens


@pytest.fixture(params=["plain_tokenizer", "metaspace_tokenizer"])
def tokenizer(request: pytest.FixtureRequest) -> PreTrainedTokenizerFast:
    found: PreTrainedTokenizerFast = request.getfixturevalue(request.param)
    return found


@pytest.mark.parametrize("texts", [["", "a text"], ["a text", ""], ["a text"], ["", "a text", ""]])
def test_a_text_between_empty_ones_has_its_own_tokens_and_is_encoded_once(
    tokenizer: PreTrainedTokenizerFast, texts: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    alone = tokenizer.encode("a text", add_special_tokens=False)
    encoded: list[str] = []
    encode = TextTokens._encode

    def counted(self: TextTokens, text: str, *, words: bool = False) -> list[int]:
        encoded.append(text)
        return encode(self, text, words=words)

    monkeypatch.setattr(TextTokens, "_encode", counted)
    assert TextTokens(tokenizer).join(texts) == [alone if text else [] for text in texts]
    assert encoded == ["a text"]


def test_empty_texts_have_no_tokens(tokenizer: PreTrainedTokenizerFast) -> None:
    assert TextTokens(tokenizer).join(["", ""]) == [[], []]
