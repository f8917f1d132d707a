"""Logits of answer tokens alone are those of a full forward pass."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch
from transformers import MistralConfig, MistralForCausalLM, PreTrainedModel

from sf_tui.engine.batches import collate
from sf_tui.engine.forward import SHORTEST, AnswerForward
from sf_tui.tasks.encoding import Encoded
from support.tiny_models import SHAPES, MakeModel, make_rows


@pytest.mark.parametrize("shape", SHAPES)
@torch.no_grad()
def test_logits_of_answer_tokens_are_those_of_a_full_pass(
    make_model: MakeModel, shape: str
) -> None:
    model = make_model(shape).model.eval()
    batch = collate(make_rows(6), pad_id=0)
    logits, targets = AnswerForward(model)(batch)
    whole = model(input_ids=batch.input_ids).logits
    expected, wanted = [], []
    for row, labels in enumerate(batch.labels.tolist()):
        for at, label in enumerate(labels[1:]):
            if label != -100:
                expected.append(whole[row, at])
                wanted.append(label)
    assert targets.tolist() == wanted
    assert logits.dtype == torch.float32
    torch.testing.assert_close(logits, torch.stack(expected))


@pytest.mark.parametrize("shape", SHAPES)
@torch.no_grad()
def test_padding_changes_no_logit(make_model: MakeModel, shape: str) -> None:
    model = make_model(shape).model.eval()
    rows = make_rows(5)
    together, _ = AnswerForward(model)(collate(rows, pad_id=7))
    alone = torch.cat([AnswerForward(model)(collate([row], pad_id=0))[0] for row in rows])
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-5)


def behind(opening: list[int], rows: list[Encoded]) -> list[Encoded]:
    """Return rows with an opening that nothing is asked of."""
    return [
        Encoded([*opening, *row.input_ids], [*[-100] * len(opening), *row.labels]) for row in rows
    ]


@contextmanager
def counted(model: PreTrainedModel) -> Iterator[list[int]]:
    """Count the tokens that a model is given, pass by pass."""
    seen: list[int] = []
    handle = model.get_input_embeddings().register_forward_hook(
        lambda _, inputs, __: seen.append(inputs[0].numel())
    )
    try:
        yield seen
    finally:
        handle.remove()


@pytest.mark.parametrize("shape", SHAPES)
@torch.no_grad()
def test_what_all_rows_open_with_is_given_once(make_model: MakeModel, shape: str) -> None:
    model = make_model(shape).model.eval()
    opening = list(range(10, 10 + 2 * SHORTEST))
    rows = behind(opening, make_rows(6))
    batch = collate(rows, pad_id=0)
    forward = AnswerForward(model)
    with counted(model) as seen:
        logits, targets = forward(batch)
    width = batch.input_ids.shape[1]
    # Asked once whether it goes on behind a prefix: two tokens, and two more.
    assert seen == [2, 2, len(opening), len(rows) * (width - len(opening))]
    alone = [AnswerForward(model)(collate([row], pad_id=0)) for row in rows]
    torch.testing.assert_close(logits, torch.cat([one for one, _ in alone]), rtol=1e-4, atol=1e-5)
    assert targets.tolist() == [target for _, part in alone for target in part.tolist()]


@pytest.mark.parametrize("length", [0, 1, SHORTEST - 1])
@torch.no_grad()
def test_a_short_opening_is_not_worth_a_pass(make_model: MakeModel, length: int) -> None:
    model = make_model("llama").model.eval()
    batch = collate(behind(list(range(10, 10 + length)), make_rows(6)), pad_id=0)
    with counted(model) as seen:
        AnswerForward(model)(batch)
    assert seen == [batch.input_ids.numel()]


@torch.no_grad()
def test_rows_that_are_all_alike(make_model: MakeModel) -> None:
    model = make_model("llama").model.eval()
    row = Encoded(list(range(10, 40)), [*[-100] * 29, 39])
    (twice, _), (alone, _) = (
        AnswerForward(model)(collate([row] * count, pad_id=0)) for count in (2, 1)
    )
    torch.testing.assert_close(twice, torch.cat([alone, alone]), rtol=1e-4, atol=1e-5)
    silent = Encoded(row.input_ids, [-100] * 30)
    logits, targets = AnswerForward(model)(collate([silent] * 2, pad_id=0))
    assert (len(logits), len(targets)) == (0, 0)


@torch.no_grad()
def test_an_answer_in_the_opening_is_scored_all_the_same(make_model: MakeModel) -> None:
    """A text that is all answer opens like the others."""
    model = make_model("llama").model.eval()
    opening = list(range(10, 26))
    rows = [Encoded([*opening, 40 + at], [-100, *opening[1:], 40 + at]) for at in range(3)]
    together, targets = AnswerForward(model)(collate(rows, pad_id=0))
    alone = torch.cat([AnswerForward(model)(collate([row], pad_id=0))[0] for row in rows])
    assert len(targets) == 3 * 16
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("training", [True, False])
def test_training_gives_every_row_whole(make_model: MakeModel, training: bool) -> None:
    model = make_model("llama").model.train(training)
    batch = collate(behind(list(range(10, 26)), make_rows(4)), pad_id=0)
    with counted(model) as seen, torch.set_grad_enabled(not training):
        AnswerForward(model)(batch)
    assert seen == [batch.input_ids.numel()]


@torch.no_grad()
def test_a_model_that_forgets_is_given_every_row_whole() -> None:
    config = MistralConfig(
        vocab_size=100,
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        sliding_window=6,
    )
    torch.manual_seed(0)
    model = MistralForCausalLM(config).eval()
    rows = behind(list(range(10, 26)), make_rows(4))
    forward = AnswerForward(model)
    forward(collate(rows, pad_id=0))
    batch = collate(rows, pad_id=0)
    with counted(model) as seen:
        logits, _ = forward(batch)
    # It was tried once, and never again.
    assert seen == [batch.input_ids.numel()]
    alone = torch.cat([AnswerForward(model)(collate([row], pad_id=0))[0] for row in rows])
    torch.testing.assert_close(logits, alone, rtol=1e-4, atol=1e-5)
