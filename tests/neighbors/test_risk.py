"""The model itself names the tasks that lie nearest to a new one, told apart from that one."""

from __future__ import annotations

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from sf_tui.neighbors.anatomy import anatomize
from sf_tui.neighbors.risk import (
    OTHER_TASK,
    SAME_TASK,
    choose_sources,
    name_tasks_at_risk,
    template_text,
)
from sf_tui.neighbors.substitution import substitution_cost
from support.start_scene import COUNTRIES, Scene


def test_a_model_names_what_it_knows_without_being_told(taught: Scene) -> None:
    anatomy = taught.anatomy
    groups = name_tasks_at_risk(anatomy, anatomy.prompts[:3], taught.start())
    nearest = groups[0]
    # What all prompts end with passes for the answer mark: no chat template parts it from the text.
    assert (nearest.template, nearest.kind) == ("What is the capital of …", OTHER_TASK)
    assert nearest.example in {f"What is the capital of {country}" for country in COUNTRIES[:3]}
    assert len(nearest.members) == 3


def test_groups_are_by_frame_and_the_tasks_own_is_told_apart(starter: Scene) -> None:
    anatomy = starter.anatomy
    groups = name_tasks_at_risk(anatomy, anatomy.prompts[:8], starter.start())
    assert [g.likelihood for g in groups] == sorted((g.likelihood for g in groups), reverse=True)
    assert len({group.template for group in groups}) == len(groups)
    (own,) = [group for group in groups if group.kind == SAME_TASK]
    assert own.template == "Question: birthday of …?"
    prompts = {prompt.tokens for prompt in anatomy.prompts}
    for group in groups:
        assert not prompts & set(group.members)
        before, _, behind = group.template.partition("…")
        assert group.example.startswith(before)
        assert group.example.endswith(behind)


def test_the_same_prompts_give_the_same_names(starter: Scene) -> None:
    anatomy = starter.anatomy
    first, second = (
        name_tasks_at_risk(anatomy, anatomy.prompts[:2], starter.start()) for _ in range(2)
    )
    assert first == second


def test_likelihood_is_the_mean_of_the_texts_tokens(untrained: Scene) -> None:
    anatomy = untrained.anatomy
    start = untrained.start()
    opening, closing = len(anatomy.chat_format.opening), len(anatomy.chat_format.closing)
    assert opening == 1
    for group in name_tasks_at_risk(anatomy, anatomy.prompts[:1], start)[:4]:
        text = group.members[0][: len(group.members[0]) - closing]
        with torch.no_grad():
            logits = start.model(input_ids=torch.tensor([text])).logits[0, :-1]
        chances = torch.log_softmax(logits, -1)
        own = chances[opening - 1 :].gather(1, torch.tensor(text[opening:])[:, None])
        assert group.likelihood == pytest.approx(float(own.mean()), rel=1e-4)


def test_budget_pays_for_prompts_and_three_budgets_for_the_first(untrained: Scene) -> None:
    anatomy = untrained.anatomy
    cost = substitution_cost(anatomy.prompts[0], shared=False)
    assert {substitution_cost(one, shared=False) for one in anatomy.prompts} == {cost}
    paid = {
        budget: len(choose_sources(anatomy, budget * cost))
        for budget in (0.0, 0.33, 0.34, 1.0, 1.99, 2.0, 3.5, 1000.0)
    }
    assert paid == {0.0: 0, 0.33: 0, 0.34: 1, 1.0: 1, 1.99: 1, 2.0: 2, 3.5: 3, 1000.0: 8}


def test_task_without_prompts_has_no_sources(untrained: Scene) -> None:
    assert choose_sources(anatomize([], untrained.loaded.tokenizer), 1e9) == []


@pytest.fixture(scope="module")
def subwords() -> PreTrainedTokenizerFast:
    """Return a byte-level tokenizer, whose words carry the space before them."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    texts = ["What is the capital of Chile?", "What is the capital of (Peru)?"]
    tokenizer.train_from_iterator(
        texts,
        trainers.BpeTrainer(initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), vocab_size=400),
    )
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer)


@pytest.mark.parametrize(
    ("pieces", "shown"),
    [
        (["What is the capital of", "* Chile", "?"], "What is the capital of …?"),
        (["What is the capital of (", "*Perú", ")?"], "What is the capital of (…)?"),
        (["*Chile", " is", "* Chile"], "… is …"),
        (["What is", " it?"], "What is it?"),
        (["*Chile"], "…"),
    ],
)
def test_frame_is_spaced_as_its_text_is(
    subwords: PreTrainedTokenizerFast, pieces: list[str], shown: str
) -> None:
    text: list[int] = []
    slot: list[bool] = []
    for piece in pieces:
        ids = subwords.encode(piece.removeprefix("*"))
        text += ids
        slot += [piece.startswith("*")] * len(ids)
    assert template_text(tuple(text), tuple(slot), subwords) == shown


def test_a_template_that_refuses_a_lone_question_leaves_the_rows_to_show_their_format(
    subwords: PreTrainedTokenizerFast,
) -> None:
    prompts = [tuple(subwords.encode(f"What is {what}?")) for what in ("Chile", "Peru", "capital")]
    expected = anatomize(prompts, subwords)
    subwords.chat_template = "{{ raise_exception('a system turn comes first') }}"
    try:
        assert anatomize(prompts, subwords) == expected
    finally:
        subwords.chat_template = None


def test_a_lone_prompt_is_not_all_format(untrained: Scene) -> None:
    tokenizer = untrained.loaded.tokenizer
    prompt = tuple(tokenizer.encode("What is the capital of Chile?"))
    assert prompt[0] == tokenizer.bos_token_id
    form = anatomize([prompt], tokenizer).chat_format
    assert form.opening == prompt[:1]
    assert form.closing == prompt[-2:]
