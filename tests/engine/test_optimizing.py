"""The learning rate rises, holds or falls as the profile says; decay takes matrices only."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st

from sf_tui.engine.layout import read_layout
from sf_tui.engine.step import build_optimizer, learning_rate_at
from sf_tui.profile import TrainSettings
from support.tiny_models import MakeModel, MakeTuner, make_rows, weights


def rates(steps: int, **settings: object) -> list[float]:
    wanted = TrainSettings.model_validate({"learning_rate": 1.0, **settings})
    return [learning_rate_at(step, steps, wanted) for step in range(1, steps + 1)]


def test_warm_up_is_a_straight_line_that_ends_at_the_rate() -> None:
    assert rates(6, warmup_steps=4) == pytest.approx([0.25, 0.5, 0.75, 1.0, 1.0, 1.0])
    assert rates(3, warmup_steps=0) == [1.0, 1.0, 1.0]
    assert rates(3, warmup_steps=1) == [1.0, 1.0, 1.0]


def test_linear_schedule_falls_towards_its_floor() -> None:
    assert rates(4, warmup_steps=0, lr_schedule="linear") == pytest.approx([1.0, 0.75, 0.5, 0.25])
    found = rates(10, warmup_steps=2, lr_schedule="linear", min_lr_ratio=0.2)
    assert found == pytest.approx([0.5, 1.0, *(1 - 0.1 * done for done in range(8))])


def test_cosine_schedule_falls_towards_its_floor() -> None:
    found = rates(102, warmup_steps=2, lr_schedule="cosine", min_lr_ratio=0.05)
    assert found[52] == pytest.approx(0.05 + 0.95 / 2)
    expected = [0.05 + 0.95 * (1 + math.cos(math.pi * done / 100)) / 2 for done in range(100)]
    assert found[2:] == pytest.approx(expected)


@pytest.mark.parametrize("lr_schedule", ["linear", "cosine"])
@pytest.mark.parametrize(
    ("steps", "warmup_steps"), [(1, 0), (2, 0), (20, 0), (20, 5), (5, 20), (3, 3)]
)
def test_decay_is_that_of_transformers(lr_schedule: str, steps: int, warmup_steps: int) -> None:
    parameter = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([parameter], lr=1.0)
    peer = transformers.get_scheduler(lr_schedule, optimizer, warmup_steps, steps)
    theirs = []
    for _ in range(steps):
        theirs.append(peer.get_last_lr()[0])
        optimizer.step()
        peer.step()
    ours = rates(steps, warmup_steps=warmup_steps, lr_schedule=lr_schedule)
    assert ours[warmup_steps:] == pytest.approx(theirs[warmup_steps:])
    assert min(ours) > 0


@settings(deadline=None, max_examples=100)
@given(
    steps=st.integers(1, 300),
    warmup_steps=st.integers(0, 400),
    lr_schedule=st.sampled_from(["constant", "linear", "cosine"]),
    floor=st.floats(0, 1),
)
def test_rate_never_leaves_its_bounds_and_never_rises_after_the_warm_up(
    steps: int, warmup_steps: int, lr_schedule: str, floor: float
) -> None:
    found = rates(steps, warmup_steps=warmup_steps, lr_schedule=lr_schedule, min_lr_ratio=floor)
    assert all(0 <= rate <= 1 + 1e-9 for rate in found)
    assert all(rate > 0 for rate in found)
    after = found[max(warmup_steps - 1, 0) :]
    assert all(later <= earlier + 1e-9 for earlier, later in pairwise(after))


def test_every_parameter_has_an_optimizer_even_where_it_is_frozen(make_model: MakeModel) -> None:
    model = make_model("gpt2").model
    layout = read_layout(model)
    model.transformer.wte.weight.requires_grad_(False)
    optimizer = build_optimizer(layout, TrainSettings(weight_decay=0.1))
    inside = {id(p) for group in optimizer.param_groups for p in group["params"]}
    assert inside == {id(p) for p in model.parameters()}
    decays = {group["weight_decay"]: group["params"] for group in optimizer.param_groups}
    assert all(parameter.dim() >= 2 for parameter in decays[0.1])
    assert all(parameter.dim() < 2 for parameter in decays[0.0])


def test_step_takes_the_scheduled_rate(make_model: MakeModel, make_tuner: MakeTuner) -> None:
    tuner = make_tuner(
        make_model().model, make_rows(8), warmup_steps=2, steps=4, lr_schedule="linear"
    )
    found = [tuner.advance().learning_rate for _ in range(4)]
    assert found == pytest.approx([0.005, 0.01, 0.01, 0.005])
    assert tuner.optimizer.param_groups[0]["lr"] == pytest.approx(0.005)


@pytest.mark.parametrize("lr_schedule", ["constant", "linear", "cosine"])
def test_a_stage_of_one_step_without_warm_up_trains_at_the_full_rate(
    make_model: MakeModel, make_tuner: MakeTuner, lr_schedule: str
) -> None:
    model = make_model().model
    tuner = make_tuner(model, make_rows(8), warmup_steps=0, steps=1, lr_schedule=lr_schedule)
    before = weights(model)
    assert tuner.advance().learning_rate == pytest.approx(0.01)
    assert not all(torch.equal(now, before[name]) for name, now in weights(model).items())


def test_step_at_rate_zero_moves_nothing(make_model: MakeModel, make_tuner: MakeTuner) -> None:
    model = make_model().model
    tuner = make_tuner(model, make_rows(8), steps=1, lr_schedule="linear", weight_decay=0.5)
    tuner.learning_rate_factor = 0.0
    before = weights(model)
    tuner.advance()
    assert all(torch.equal(now, before[name]) for name, now in weights(model).items())
