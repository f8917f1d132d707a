"""Prompts and answers out of a model's own vocabulary, for models that no data comes with.

The answers repeat words of their prompts, so that a model can learn them in a few steps and exact
match isn't false everywhere. Knows no model, only its tokenizer.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from sf_tui.errors import ModelError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

# Marks by which BPE and SentencePiece vocabularies write the space before a word.
_SPACES = "Ġ▁"
_FEWEST_WORDS = 20
_PROMPT_WORDS = (6, 40)
# A prompt of 40 words has an answer of 6, one of 6 words an answer of 1.
_PROMPT_WORDS_AN_ANSWER_WORD = 6


def own_words(tokenizer: PreTrainedTokenizerBase) -> list[str]:
    """Return the plain words that are one token each, in the vocabulary's order.

    Raises:
        ModelError: the tokenizer has hardly any.
    """
    vocabulary = tokenizer.get_vocab()
    marked = [token for token in vocabulary if token[0] in _SPACES]
    # A vocabulary without such marks parts words by itself.
    candidates = marked or [
        token for token in vocabulary if token not in tokenizer.all_special_tokens
    ]
    words = [
        (vocabulary[token], token.lstrip(_SPACES))
        for token in candidates
        if token.lstrip(_SPACES).isascii() and token.lstrip(_SPACES).isalpha()
    ]
    if len(words) < _FEWEST_WORDS:
        raise ModelError(
            f"the tokenizer has only {len(words)} plain words as tokens",
            "benchmarks make their rows of such words; take a model with a text tokenizer",
        )
    return [word for _, word in sorted(words)]


def write_word_rows(
    path: Path, words: list[str], count: int, *, seed: int, from_end: bool = False
) -> None:
    """Write `count` rows of several lengths as prompt/completion JSONL.

    Args:
        path: the file.
        words: what to choose from.
        count: how many rows.
        seed: decides words and lengths.
        from_end: whether answers repeat the prompt's last words rather than its first.
    """
    random = np.random.default_rng(seed)
    lines = []
    for _ in range(count):
        length = int(random.integers(_PROMPT_WORDS[0], _PROMPT_WORDS[1] + 1))
        prompt = [words[at] for at in random.integers(len(words), size=length)]
        answer = length // _PROMPT_WORDS_AN_ANSWER_WORD
        repeated = prompt[-answer:] if from_end else prompt[:answer]
        row = {"prompt": " ".join(prompt), "completion": " " + " ".join(repeated)}
        lines.append(json.dumps(row) + "\n")
    path.write_text("".join(lines), encoding="utf-8")
