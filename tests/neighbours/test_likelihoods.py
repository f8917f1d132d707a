"""A text's likelihood is the same whether what stands before it was given once or every time."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from transformers import Gemma3TextConfig, MistralConfig
from transformers.models.auto import AutoModelForCausalLM

from neighbours.conftest import Scene
from sf_tui.neighbours.anatomy import Tokens
from sf_tui.neighbours.kept_prefix import SHORTEST, keep_prefix
from sf_tui.neighbours.start_model import StartModel

SMALL = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 16,
    "sliding_window": 6,
}


def texts_behind(opening: Tokens, words: Sequence[int], closing: Tokens = ()) -> list[Tokens]:
    """Return texts of three lengths behind one opening."""
    random = np.random.default_rng(0)
    return [
        (*opening, *(int(word) for word in random.choice(words, length)), *closing)
        for length in (5, 3, 5, 1, 3)
    ]


def reckoned(model: torch.nn.Module, text: Tokens, first: int, behind: int) -> float:
    """Return the sum that a text's likelihood is, from the model's plain logits."""
    with torch.no_grad():
        logits = model.eval()(input_ids=torch.tensor([text])).logits[0].double()
    chances = torch.log_softmax(logits, -1)
    return sum(float(chances[at - 1, text[at]]) for at in range(max(first, 1), len(text) - behind))


@pytest.mark.parametrize("length", [0, 1, SHORTEST, SHORTEST + 1, 20])
@pytest.mark.parametrize("scene", ["untrained", "starter"])
def test_the_sum_over_a_texts_tokens(
    scene: str, length: int, request: pytest.FixtureRequest
) -> None:
    found: Scene = request.getfixturevalue(scene)
    start = found.start()
    opening = tuple(start.words[:length].tolist())
    texts = texts_behind(opening, start.words, closing=(3, 4))
    likelihoods = start.likelihoods(texts, length, 2)
    expected = [reckoned(found.loaded.model, text, length, 2) for text in texts]
    np.testing.assert_allclose(likelihoods, expected, rtol=1e-4, atol=1e-4)


def test_an_opening_is_given_once(untrained: Scene) -> None:
    start = untrained.start()
    opening = tuple(start.words[:20].tolist())
    texts = texts_behind(opening, start.words)
    start.likelihoods(texts, 20, 0)
    # 19 once, and with each text the token that predicts its first.
    assert start.forwarded == 19 + sum(len(text) - 19 for text in texts)
    assert start.keeps_opening(20)
    assert not start.keeps_opening(SHORTEST)


def test_texts_behind_different_openings_are_given_whole(untrained: Scene) -> None:
    start = untrained.start()
    words = start.words.tolist()
    texts = [tuple(words[:20]), tuple(words[1:21])]
    likelihoods = start.likelihoods(texts, 15, 0)
    assert start.forwarded == 40
    expected = [reckoned(untrained.loaded.model, text, 15, 0) for text in texts]
    np.testing.assert_allclose(likelihoods, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("config", [MistralConfig, Gemma3TextConfig])
def test_a_model_that_forgets_is_given_all_every_time(
    config: type[MistralConfig | Gemma3TextConfig], untrained: Scene
) -> None:
    tokenizer = untrained.loaded.tokenizer
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config(vocab_size=len(tokenizer), **SMALL)).eval()
    assert keep_prefix(model, (5, 6, 7), torch.device("cpu")) is None
    start = StartModel(model, tokenizer, untrained.compute, pad_id=untrained.loaded.pad_id)
    assert not start.keeps_opening(20)
    texts = texts_behind(tuple(start.words[:20].tolist()), start.words)
    expected = [reckoned(model, text, 20, 0) for text in texts]
    np.testing.assert_allclose(start.likelihoods(texts, 20, 0), expected, rtol=1e-4, atol=1e-4)
