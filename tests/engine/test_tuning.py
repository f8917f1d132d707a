"""One optimizer step: the loss that it says, the update that it makes, and what it depends on."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from transformers import PreTrainedModel

from sf_tui.engine.loop import NonFiniteLossError
from sf_tui.tasks.encoding import Encoded
from support.tiny_models import MakeModel, MakeTuner, make_rows, weights


def plain_loss(model: PreTrainedModel, rows: list[Encoded]) -> float:
    """Compute the mean loss of an answer token, a row at a time and without padding."""
    total = tokens = 0.0
    with torch.no_grad():
        for row in rows:
            logits = model(input_ids=torch.tensor([row.input_ids])).logits[0]
            chances = logits.log_softmax(-1)
            for at, label in enumerate(row.labels[1:]):
                if label != -100:
                    total -= float(chances[at, label])
                    tokens += 1
    return total / tokens


# Shapes without dropout, so that the pass of a step is the plain one.
@pytest.mark.parametrize("shape", ["llama", "qwen2", "bloom"])
def test_loss_is_the_mean_over_the_answer_tokens_of_the_batch(
    make_model: MakeModel, make_tuner: MakeTuner, shape: str
) -> None:
    model = make_model(shape).model
    rows = make_rows(6)
    model.eval()
    expected = plain_loss(model, rows)
    outcome = make_tuner(model, rows, batch_size=6).advance()
    assert outcome.loss == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("micro_batch_size", [1, 3, 5, 7, 8])
def test_accumulation_over_micro_batches_is_the_full_batch(
    make_model: MakeModel, make_tuner: MakeTuner, micro_batch_size: int
) -> None:
    whole, parts = make_model("llama").model, make_model("llama").model
    rows = make_rows(16, longest=40)
    # A large epsilon makes AdamW's update follow the gradient's size, which a wrong weight of a
    # micro-batch would change; 8 = 3 + 3 + 2 leaves a last one that is not full.
    settings = {"batch_size": 8, "epsilon": 1.0, "max_grad_norm": 0.0}
    full = make_tuner(whole, rows, **settings)
    split = make_tuner(parts, rows, micro_batch_size=micro_batch_size, **settings)
    for _ in range(3):
        one, other = full.advance(), split.advance()
        assert other.loss == pytest.approx(one.loss, rel=1e-5)
        assert other.grad_norm == pytest.approx(one.grad_norm, rel=1e-4)
    for name, expected in weights(whole).items():
        torch.testing.assert_close(weights(parts)[name], expected, rtol=1e-4, atol=1e-6)


def test_tuning_lowers_the_loss(make_model: MakeModel, make_tuner: MakeTuner) -> None:
    tuner = make_tuner(make_model("llama").model, make_rows(4))
    losses = [tuner.advance().loss for _ in range(30)]
    assert losses[-1] < 0.5 * losses[0]
    assert tuner.step == 30


def test_step_is_a_pure_function_of_weights_seed_and_step(
    make_model: MakeModel, make_tuner: MakeTuner
) -> None:
    # gpt_neox has dropout, so the random numbers of a step count too.
    first = make_model("gpt_neox").model
    one = make_tuner(first, make_rows(12))
    for _ in range(3):
        one.advance()
    then, moments = weights(first), copy.deepcopy(one.optimizer.state_dict())
    torch.rand(7)
    second = make_model("gpt_neox", seed=5).model
    second.load_state_dict(then)
    other = make_tuner(second, make_rows(12))
    other.optimizer.load_state_dict(moments)
    other.step = 3
    outcomes = [(one.advance(), other.advance()) for _ in range(3)]
    for left, right in outcomes:
        assert (left.loss, left.grad_norm) == (right.loss, right.grad_norm)
    now = weights(second)
    assert all(torch.equal(value, now[name]) for name, value in weights(first).items())


def test_another_seed_is_another_course(make_model: MakeModel, make_tuner: MakeTuner) -> None:
    losses = {
        make_tuner(make_model().model, make_rows(12), seed=seed).advance().loss for seed in (0, 1)
    }
    assert len(losses) == 2


def test_gradient_norm_is_told_before_clipping_and_clipped_for_the_update(
    make_model: MakeModel, make_tuner: MakeTuner
) -> None:
    norms, lengths = [], []
    for clip in (0.0, 0.01):
        model = make_model("llama").model
        before = weights(model)
        # With so large an epsilon the first update is rate · gradient / epsilon.
        tuner = make_tuner(model, make_rows(4), max_grad_norm=clip, epsilon=1e4, learning_rate=1e4)
        norms.append(tuner.advance().grad_norm)
        moves = [now - before[name] for name, now in weights(model).items()]
        lengths.append(math.sqrt(sum(float(move.square().sum()) for move in moves)))
    assert norms[0] == norms[1] > 0.1
    assert lengths[0] == pytest.approx(norms[0], rel=1e-2)
    assert lengths[1] == pytest.approx(0.01, rel=1e-2)


@pytest.mark.parametrize("micro_batch_size", [None, 2])
def test_update_of_a_loss_that_is_not_finite_is_never_made(
    make_model: MakeModel, make_tuner: MakeTuner, micro_batch_size: int | None
) -> None:
    model = make_model("llama").model
    tuner = make_tuner(model, make_rows(8), learning_rate=1e30, micro_batch_size=micro_batch_size)
    tuner.advance()
    before = weights(model)
    moments = {p: dict(state) for p, state in tuner.optimizer.state.items()}
    with pytest.raises(NonFiniteLossError) as caught:
        tuner.advance()
    assert caught.value.step == tuner.step + 1
    assert f"step {caught.value.step}" in caught.value.message
    now = weights(model)
    assert all(torch.equal(now[name], then) for name, then in before.items())
    assert all(p.grad is None for p in model.parameters())
    for parameter, state in moments.items():
        assert all(tuner.optimizer.state[parameter][key] is value for key, value in state.items())


def test_speed_counts_tokens_without_padding(make_model: MakeModel, make_tuner: MakeTuner) -> None:
    rows = make_rows(4)
    ticks = iter([10.0, 12.0])
    tuner = make_tuner(make_model().model, rows, clock=lambda: next(ticks))
    assert tuner.advance().tokens_per_second == sum(len(row.input_ids) for row in rows) / 2


class Pull:
    """A loss beside the step's own: so many times the squares of the weights of the output."""

    def __init__(self, model: PreTrainedModel, strength: float, tokens: int = 30) -> None:
        self.strength = strength
        self.steps: list[int] = []
        self._weight = model.get_output_embeddings().weight
        self._tokens = tokens

    def accumulate(self, step: int) -> tuple[float, int]:
        self.steps.append(step)
        loss = self.strength * self._weight.square().sum()
        loss.backward()
        return loss.item(), self._tokens


def test_added_loss_joins_the_gradient_of_a_step_before_it_is_clipped(
    make_model: MakeModel, make_tuner: MakeTuner
) -> None:
    rows = make_rows(8)
    norms, moves = [], []
    for strength in (0.0, 1e3):
        model = make_model("llama").model
        before = weights(model)
        tuner = make_tuner(model, rows, max_grad_norm=1.0, epsilon=1e4, learning_rate=1e4)
        tuner.added["pull"] = Pull(model, strength)
        outcome = tuner.advance()
        norms.append(outcome.grad_norm)
        assert outcome.added["pull"] == pytest.approx(
            strength * float(before["lm_head.weight"].square().sum()), rel=1e-5
        )
        moves.append(weights(model)["lm_head.weight"] - before["lm_head.weight"])
    assert norms[1] > 10 * norms[0]
    # As long as one clipped gradient, and nearly all of it the added one's.
    assert float(moves[1].norm()) == pytest.approx(1.0, rel=1e-2)
    start = make_model("llama").model.get_output_embeddings().weight.detach()
    assert float(torch.cosine_similarity(moves[1].flatten(), -start.flatten(), dim=0)) > 0.99


def test_added_loss_comes_and_goes_between_two_steps(
    make_model: MakeModel, make_tuner: MakeTuner
) -> None:
    model = make_model("llama").model
    tuner = make_tuner(model, make_rows(8))
    pull = Pull(model, 1.0)
    told = []
    for added in ({}, {"pull": pull}, {"pull": pull}, {}):
        tuner.added = added
        told.append(list(tuner.advance().added))
    assert pull.steps == [2, 3]
    assert told == [[], ["pull"], ["pull"], []]


def test_added_loss_of_nothing_leaves_the_course_as_it_is(
    make_model: MakeModel, make_tuner: MakeTuner
) -> None:
    plain, pulled = make_model().model, make_model().model
    one, other = make_tuner(plain, make_rows(12)), make_tuner(pulled, make_rows(12))
    other.added["pull"] = Pull(pulled, 0.0)
    for _ in range(3):
        assert one.advance().loss == other.advance().loss
    now = weights(pulled)
    assert all(torch.equal(value, now[name]) for name, value in weights(plain).items())


def test_update_of_an_added_loss_that_is_not_finite_is_never_made(
    make_model: MakeModel, make_tuner: MakeTuner
) -> None:
    model = make_model("llama").model
    before = weights(model)
    tuner = make_tuner(model, make_rows(8))
    tuner.added["pull"] = Pull(model, math.inf)
    with pytest.raises(NonFiniteLossError, match="pull loss inf"):
        tuner.advance()
    assert tuner.step == 0
    assert all(torch.equal(weights(model)[name], then) for name, then in before.items())
    assert all(p.grad is None for p in model.parameters())


def test_speed_counts_the_tokens_of_an_added_loss(
    make_model: MakeModel, make_tuner: MakeTuner
) -> None:
    rows = make_rows(4)
    ticks = iter([10.0, 12.0])
    model = make_model().model
    tuner = make_tuner(model, rows, clock=lambda: next(ticks))
    tuner.added["pull"] = Pull(model, 1.0, tokens=30)
    own = sum(len(row.input_ids) for row in rows)
    assert tuner.advance().tokens_per_second == (own + 30) / 2
