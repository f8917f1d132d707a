"""Greedy answers end where the model's own turns do, not only where its texts do."""

from __future__ import annotations

import copy

from sf_tui.neighbors.start_model import StartModel, answer_ends
from support.start_scene import Scene


def test_an_answer_ends_at_what_the_generation_config_names(untrained: Scene) -> None:
    prompt = untrained.anatomy.prompts[0].tokens
    (whole,) = untrained.start().answer([prompt], 6)
    assert len(whole) == 6
    end = whole[2]
    model = copy.deepcopy(untrained.loaded.model)
    model.generation_config.eos_token_id = [end]
    start = StartModel(
        model,
        untrained.loaded.tokenizer,
        untrained.compute,
        pad_id=untrained.loaded.pad_id,
    )
    assert start.answer([prompt], 6) == [whole[: whole.index(end) + 1]]


def test_a_turn_ends_as_the_template_ends_it(untrained: Scene) -> None:
    model, tokenizer = untrained.loaded.model, copy.deepcopy(untrained.loaded.tokenizer)
    plain = answer_ends(model, tokenizer)
    assert plain[0] == tokenizer.eos_token_id
    turn_end = tokenizer.unk_token
    tokenizer.chat_template = (
        "{% for m in messages %}{{ m.role }} : {{ m.content }} " + turn_end + " {% endfor %}"
    )
    assert answer_ends(model, tokenizer) == (*plain, tokenizer.unk_token_id)
    tokenizer.chat_template = "{{ raise_exception('a system turn comes first') }}"
    assert answer_ends(model, tokenizer) == plain


def test_answers_are_the_same_in_passes_of_any_size(untrained: Scene) -> None:
    prompts = [prompt.tokens for prompt in untrained.anatomy.prompts]
    expected = untrained.start().answer(prompts, 4)
    for pass_tokens in (1, 40):
        start = StartModel(
            untrained.loaded.model,
            untrained.loaded.tokenizer,
            untrained.compute,
            pad_id=untrained.loaded.pad_id,
            pass_tokens=pass_tokens,
        )
        assert start.answer(prompts, 4) == expected
