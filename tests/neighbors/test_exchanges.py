"""A text is as likely whether what stands before an exchange was given once or always."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from transformers import (
    BloomConfig,
    Gemma3TextConfig,
    GPT2Config,
    MistralConfig,
    PreTrainedConfig,
    Qwen2Config,
)
from transformers.models.auto import AutoModelForCausalLM

from sf_tui.engine.forward import SHORTEST
from sf_tui.neighbors.anatomy import AnatomizedPrompt, Tokens
from sf_tui.neighbors.start_model import StartModel
from sf_tui.neighbors.substitution import Replacement, likely_replacements, shares_prefixes
from support.start_scene import Scene

LENGTHS = (0, 1, SHORTEST, SHORTEST + 1, 20)
SMALL = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
LLAMA_LIKE = {**SMALL, "intermediate_size": 64, "num_key_value_heads": 1, "head_dim": 16}

KEEP_ALL = [
    (GPT2Config, {"n_embd": 32, "n_layer": 2, "n_head": 2}),
    (Qwen2Config, LLAMA_LIKE),
]
KEEP_LESS = [
    (MistralConfig, {**LLAMA_LIKE, "sliding_window": 6}),
    (Gemma3TextConfig, {**LLAMA_LIKE, "sliding_window": 6}),
    # Counts what it sees: it can't be told where a row goes on.
    (BloomConfig, {"hidden_size": 32, "n_layer": 2, "n_head": 2}),
]


def prompts_behind(
    opening: Tokens, words: Sequence[int], closing: Tokens = ()
) -> list[AnatomizedPrompt]:
    """Return prompts with texts of several lengths behind one opening."""
    random = np.random.default_rng(0)
    found = []
    for length in (5, 3, 6, 1, 3):
        text = tuple(int(word) for word in random.choice(words, length))
        tokens = (*opening, *text, *closing)
        end = len(opening) + length
        found.append(AnatomizedPrompt(tokens, (False,) * len(tokens), len(opening), end))
    return found


def places_of(prompts: Sequence[AnatomizedPrompt]) -> list[list[int]]:
    """Return every position of the texts that something stands before."""
    return [list(range(max(prompt.first, 1), prompt.end)) for prompt in prompts]


def replacement_logprob(
    model: torch.nn.Module, prompt: AnatomizedPrompt, exchange: Replacement
) -> float:
    """Return the sum that a text's likelihood is, from the model's plain logits."""
    text = list(prompt.tokens[: prompt.end])
    text[exchange.at] = exchange.token
    with torch.no_grad():
        logits = model.eval()(input_ids=torch.tensor([text])).logits[0].double()
    chances = torch.log_softmax(logits, -1)
    return sum(float(chances[at - 1, text[at]]) for at in range(max(prompt.first, 1), len(text)))


def check(start: StartModel, prompts: Sequence[AnatomizedPrompt], count: int = 4) -> None:
    """Check every exchange of some prompts against the model's plain logits."""
    places = places_of(prompts)
    found = likely_replacements(start, prompts, places, count)
    for prompt, here, exchanges in zip(prompts, places, found, strict=True):
        assert [one.at for one in exchanges] == [at for at in here for _ in range(count)]
        assert not any(one.token == prompt.tokens[one.at] for one in exchanges)
        expected = [replacement_logprob(start.model, prompt, one) for one in exchanges]
        likelihoods = [one.likelihood for one in exchanges]
        np.testing.assert_allclose(likelihoods, expected, rtol=1e-4, atol=1e-4)


def small_start(scene: Scene, config: type[PreTrainedConfig], sizes: dict[str, Any]) -> StartModel:
    """Return an untrained model of some architecture, ready to be asked."""
    torch.manual_seed(0)
    tokenizer = scene.loaded.tokenizer
    model = AutoModelForCausalLM.from_config(config(vocab_size=len(tokenizer), **sizes)).eval()
    return StartModel(model, tokenizer, scene.compute, pad_id=scene.loaded.pad_id)


@pytest.mark.parametrize(
    ("scene", "length"),
    [
        *(("untrained", length) for length in LENGTHS),
        ("starter", 20),
        *(pytest.param("starter", length, marks=pytest.mark.slow) for length in LENGTHS[:-1]),
    ],
)
def test_the_sum_over_a_texts_tokens(
    scene: str, length: int, request: pytest.FixtureRequest
) -> None:
    found: Scene = request.getfixturevalue(scene)
    start = found.start()
    assert shares_prefixes(start)
    check(start, prompts_behind(tuple(start.words[:length].tolist()), start.words, closing=(3, 4)))


@pytest.mark.parametrize(("config", "sizes"), KEEP_ALL)
def test_models_that_keep_everything(
    config: type[PreTrainedConfig], sizes: dict[str, Any], untrained: Scene
) -> None:
    start = small_start(untrained, config, sizes)
    assert shares_prefixes(start)
    check(start, prompts_behind(tuple(start.words[:20].tolist()), start.words))


@pytest.mark.parametrize(("config", "sizes"), KEEP_LESS)
def test_a_model_that_keeps_less_is_given_all_every_time(
    config: type[PreTrainedConfig], sizes: dict[str, Any], untrained: Scene
) -> None:
    start = small_start(untrained, config, sizes)
    assert not shares_prefixes(start)
    check(start, prompts_behind(tuple(start.words[:20].tolist()), start.words))


def test_passes_of_any_size_give_the_same(starter: Scene) -> None:
    prompts = starter.anatomy.prompts[:6]
    loaded = starter.loaded
    several = [
        likely_replacements(
            StartModel(
                loaded.model,
                loaded.tokenizer,
                starter.compute,
                pad_id=loaded.pad_id,
                pass_tokens=tokens,
            ),
            prompts,
            places_of(prompts),
            5,
        )
        for tokens in (1, 16, 4096)
    ]
    for other in several[1:]:
        for ours, theirs in zip(several[0], other, strict=True):
            assert [(one.at, one.token) for one in ours] == [(one.at, one.token) for one in theirs]
            np.testing.assert_allclose(
                [one.likelihood for one in ours],
                [one.likelihood for one in theirs],
                rtol=1e-4,
                atol=1e-4,
            )


def test_what_stands_before_an_exchange_is_given_once(untrained: Scene) -> None:
    start = untrained.start()
    prompts = prompts_behind(tuple(start.words[:20].tolist()), start.words)
    likely_replacements(start, prompts, places_of(prompts), 4)
    asked = 1  # whether it can be
    opening = 19
    texts = sum(len(prompt.tokens) - 1 - opening for prompt in prompts)
    behind = sum(4 * (prompt.end - 1 - at) for prompt in prompts for at in range(20, prompt.end))
    assert start.forwarded == asked + opening + texts + behind


def test_texts_behind_different_openings_are_given_whole(untrained: Scene) -> None:
    start = untrained.start()
    words = start.words.tolist()
    prompts = [AnatomizedPrompt(tuple(words[at : at + 20]), (False,) * 20, 15, 20) for at in (0, 1)]
    check(start, prompts)


def test_no_token_that_text_is_not_made_of_is_exchanged_for(untrained: Scene) -> None:
    start = untrained.start()
    prompts = untrained.anatomy.prompts[:2]
    found = likely_replacements(start, prompts, places_of(prompts), start.vocabulary)
    words = set(start.words.tolist())
    assert len(words) < start.vocabulary
    for prompt, exchanges in zip(prompts, found, strict=True):
        for at in places_of([prompt])[0]:
            here = {one.token for one in exchanges if one.at == at}
            assert here == words - {prompt.tokens[at]}


def test_prompts_without_a_place_have_no_exchange(untrained: Scene) -> None:
    start = untrained.start()
    prompts = untrained.anatomy.prompts[:3]
    found = likely_replacements(start, prompts, [[], [prompts[1].first], []], 2)
    assert [len(here) for here in found] == [0, 2, 0]
