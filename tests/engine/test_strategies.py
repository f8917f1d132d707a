"""What each strategy adds to a step: its rows, its gradient, its state; seq adds nothing."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from sf_tui.engine.batches import FixedSource
from sf_tui.engine.compute import ComputeSetting
from sf_tui.engine.layout import Freezer, ModelLayout, read_layout
from sf_tui.engine.loading import LoadedModel
from sf_tui.engine.strategies import StageStrategies, StrategyStage
from sf_tui.engine.strategies.penalties import Ewc, L2Start
from sf_tui.errors import DataError, ModelError
from sf_tui.profile import TrainSettings
from sf_tui.tasks.encoding import Encoded
from sf_tui.vocabulary.strategies import (
    STRATEGIES,
    EwcSettings,
    FreezeSettings,
    L2StartSettings,
    ReplaySettings,
)
from support.tiny_models import MakeModel, MakeTuner, make_rows, weights

SETTINGS: dict[str, Any] = {
    "freeze": FreezeSettings(layers=1),
    "replay": ReplaySettings(),
    "ewc": EwcSettings(strength=3.0),
    "l2-start": L2StartSettings(strength=3.0),
}


class Start:
    """The weights that a model has now."""

    def __init__(self, layout: ModelLayout) -> None:
        self._layers = {
            layer.name: {name: p.detach().clone() for name, p in layer.parameters.items()}
            for layer in layout.layers
        }

    def tensors(self, layer: str) -> Iterator[tuple[str, torch.Tensor]]:
        yield from self._layers[layer].items()


def lend() -> AbstractContextManager[None]:
    raise AssertionError("the model has its start weights")


def stage_of(
    loaded: LoadedModel,
    compute: ComputeSetting,
    *,
    new: list[Encoded] | None = None,
    old: Mapping[str, list[Encoded]] | None = None,
    **train: Any,
) -> StrategyStage:
    layout = read_layout(loaded.model)
    start = Start(layout)
    return StrategyStage(
        name="new",
        seed=0,
        train=TrainSettings(**{"batch_size": 8, "steps": 50} | train),
        model=loaded.model,
        layout=layout,
        freezer=Freezer(layout),
        compute=compute,
        pad_id=0,
        source=FixedSource(new or make_rows(20)),
        old={name: FixedSource(rows) for name, rows in (old or {}).items()},
        start=lambda: start,
        lend_start=lend,
        between=lambda: None,
    )


def strategies_of(
    stage: StrategyStage, own: str, settings: Any = None, carried: Any = None
) -> StageStrategies:
    """Return the strategies of a stage that has begun."""
    found = StageStrategies(stage, own, lambda name: settings or SETTINGS.get(name))
    found.begin(carried or {})
    found.open(at_start=True)
    return found


@pytest.mark.parametrize(
    ("layers", "embeddings", "frozen"),
    [(0, True, ["embeddings"]), (2, True, ["embeddings", "block-0", "block-1"]),
     (2, False, ["block-0", "block-1"]), (0, False, [])],
)  # fmt: skip
def test_freeze_holds_what_the_profile_says(
    make_model: MakeModel,
    compute: ComputeSetting,
    layers: int,
    embeddings: bool,
    frozen: list[str],
) -> None:
    stage = stage_of(make_model(), compute)
    strategies_of(stage, "freeze", FreezeSettings(layers=layers, embeddings=embeddings))
    assert stage.freezer.frozen == frozen


def test_freeze_of_more_blocks_than_there_are_is_found_before_training(
    make_model: MakeModel, compute: ComputeSetting
) -> None:
    stage = stage_of(make_model(), compute)
    strategies = StageStrategies(stage, "freeze", lambda _: FreezeSettings(layers=9))
    with pytest.raises(ModelError, match="the model has 3"):
        strategies.get("freeze").check_stage()


def test_seq_adds_nothing(make_model: MakeModel, compute: ComputeSetting) -> None:
    stage = stage_of(make_model(), compute)
    strategies = strategies_of(stage, "seq")
    assert stage.freezer.frozen == []
    assert (strategies.losses(), strategies.rows(1)) == ({}, None)
    assert strategies.stored() == ({"seq": {"on": True, "facts": {}}}, {})


def marked(rows: list[Encoded], mark: int) -> list[Encoded]:
    return [Encoded([mark, *row.input_ids], [-100, *row.labels]) for row in rows]


@pytest.mark.parametrize(
    ("settings", "old_rows"),
    [({}, 2), ({"share": 0.5}, 4), ({"rows": 3}, 3), ({"share": 0.01}, 1), ({"share": 0.99}, 7)],
)
def test_replay_gives_that_many_rows_of_each_batch_to_old_examples(
    make_model: MakeModel, compute: ComputeSetting, settings: dict[str, Any], old_rows: int
) -> None:
    stage = stage_of(
        make_model(), compute, new=marked(make_rows(20), 2), old={"old": marked(make_rows(9), 3)}
    )
    strategies = strategies_of(stage, "replay", ReplaySettings(**settings))
    for step in range(1, 30):
        rows = strategies.rows(step)
        assert rows is not None
        assert [row.input_ids[0] for row in rows] == [2] * (8 - old_rows) + [3] * old_rows
    # All of them, over and over.
    seen = {tuple(r.input_ids) for step in range(1, 60) for r in strategies.rows(step) or ()}
    assert seen == {tuple(r.input_ids) for part in (stage.source, stage.old["old"])
                    for r in (part.encoded(at, 0) for at in range(len(part)))}  # fmt: skip


def test_replayed_rows_are_a_pure_function_of_seed_stage_and_step(
    make_model: MakeModel, compute: ComputeSetting
) -> None:
    stage = stage_of(make_model(), compute, old={"old": make_rows(9, seed=1)})
    forward, backward = strategies_of(stage, "replay"), strategies_of(stage, "replay")
    there = [forward.rows(step) for step in range(1, 12)]
    assert there == [backward.rows(step) for step in range(11, 0, -1)][::-1]


def test_replay_keeps_to_as_many_different_old_examples_as_it_may_use(
    make_model: MakeModel, compute: ComputeSetting
) -> None:
    old = {name: marked(make_rows(30, seed=mark), mark) for name, mark in (("a", 3), ("b", 4))}
    stage = stage_of(make_model(), compute, new=marked(make_rows(20), 2), old=old)
    strategies = strategies_of(stage, "replay", ReplaySettings(share=0.5, examples=5))
    seen = [tuple(r.input_ids) for step in range(1, 20) for r in strategies.rows(step) or ()]
    assert {mark: len({ids for ids in seen if ids[0] == mark}) for mark in (3, 4)} == {3: 5, 4: 5}


def test_replay_takes_the_steps_and_the_batch_of_plain_tuning(
    make_model: MakeModel, make_tuner: MakeTuner, compute: ComputeSetting
) -> None:
    loaded = make_model()
    stage = stage_of(loaded, compute, new=make_rows(20), old={"old": make_rows(9)}, epochs=3.0)
    plain = make_tuner(make_model().model, make_rows(20), batch_size=8, epochs=3.0)
    tuner = make_tuner(loaded.model, make_rows(20), batch_size=8, epochs=3.0)
    tuner.attach(strategies_of(stage, "replay"))
    assert tuner.total_steps == plain.total_steps == math.ceil(3 * 20 / 8)
    one, other = plain.advance(), tuner.advance()
    assert other.loss != one.loss
    assert other.added == {}


def test_replay_without_an_old_example_is_found_before_training(
    make_model: MakeModel, compute: ComputeSetting
) -> None:
    stage = stage_of(make_model(), compute, old={"old": []})
    with pytest.raises(DataError, match="no earlier task has a row"):
        StageStrategies(stage, "replay", SETTINGS.get).get("replay").check_stage()


def moved(stage: StrategyStage) -> dict[str, torch.Tensor]:
    """Move every weight by a random amount and return how far."""
    torch.manual_seed(1)
    by = {}
    with torch.no_grad():
        for name, parameter in stage.model.named_parameters():
            before = parameter.clone()
            parameter += 0.1 * torch.randn_like(parameter)
            by[name] = parameter - before
    return by


def test_l2_start_pulls_every_weight_by_exactly_twice_its_strength_times_its_way(
    make_model: MakeModel, compute: ComputeSetting
) -> None:
    stage = stage_of(make_model("llama"), compute)
    strategies = strategies_of(stage, "l2-start", L2StartSettings(strength=0.75))
    by = moved(stage)
    value, tokens = strategies.losses()["l2_start"].accumulate(1)
    total = sum(float(way.double().square().sum()) for way in by.values())
    assert (value, tokens) == (pytest.approx(0.75 * total, rel=1e-6), 0)
    for name, parameter in stage.model.named_parameters():
        assert parameter.grad is not None
        assert torch.equal(parameter.grad, 1.5 * by[name]), name


def test_penalty_is_added_to_the_gradient_of_the_step_and_spares_what_is_frozen(
    make_model: MakeModel, compute: ComputeSetting
) -> None:
    stage = stage_of(make_model("llama"), compute)
    strategies = strategies_of(stage, "l2-start")
    by = moved(stage)
    stage.freezer.freeze(1, embeddings=True)
    own = {n: torch.randn_like(p) for n, p in stage.model.named_parameters() if p.requires_grad}
    for name, parameter in stage.model.named_parameters():
        parameter.grad = own[name].clone() if name in own else None
    strategies.losses()["l2_start"].accumulate(1)
    assert 0 < len(own) < len(by)
    for name, parameter in stage.model.named_parameters():
        if name in own:
            assert parameter.grad is not None
            torch.testing.assert_close(parameter.grad, own[name] + 6.0 * by[name])
        else:
            assert parameter.grad is None


def test_l2_start_brings_weights_back_that_no_other_loss_holds(
    make_model: MakeModel, compute: ComputeSetting
) -> None:
    stage = stage_of(make_model("llama"), compute)
    strategies = strategies_of(stage, "l2-start", L2StartSettings(strength=0.5))
    start = weights(stage.model)
    moved(stage)
    strategies.losses()["l2_start"].accumulate(1)
    # W - 2 λ (W - W_start) is W_start with λ = 1/2.
    torch.optim.SGD(stage.model.parameters(), lr=1.0).step()
    for name, now in weights(stage.model).items():
        torch.testing.assert_close(now, start[name], rtol=0, atol=1e-6)


def fisher_by_hand(stage: StrategyStage, rows: list[Encoded]) -> dict[str, torch.Tensor]:
    """Return the mean of each example's squared gradient, from plain forward passes."""
    sums = {name: torch.zeros_like(p) for name, p in stage.model.named_parameters()}
    stage.model.eval()
    for row in rows:
        logits = stage.model(input_ids=torch.tensor([row.input_ids])).logits[0, :-1]
        loss = F.cross_entropy(logits, torch.tensor(row.labels[1:]), reduction="sum")
        parameters = list(stage.model.parameters())
        gradients = torch.autograd.grad(loss, parameters, allow_unused=True)
        for (name, _), gradient in zip(stage.model.named_parameters(), gradients, strict=True):
            if gradient is not None:
                sums[name] += gradient.square()
    return {name: total / len(rows) for name, total in sums.items()}


# gpt_neox has dropout, which a Fisher must not see.
@pytest.mark.parametrize("shape", ["llama", "gpt_neox"])
def test_fisher_is_the_mean_of_each_old_examples_own_squared_gradient(
    make_model: MakeModel, compute: ComputeSetting, shape: str
) -> None:
    rows = make_rows(6, seed=3)
    stage = stage_of(make_model(shape), compute, old={"old": rows})
    ewc = strategies_of(stage, "ewc").get("ewc")
    assert isinstance(ewc, Ewc)
    expected = fisher_by_hand(stage, rows)
    assert ewc.fisher.keys() == expected.keys()
    for name, fisher in ewc.fisher.items():
        torch.testing.assert_close(fisher, expected[name], rtol=1e-4, atol=1e-9)
    # Of batches it would be another: gradients of two examples partly cancel.
    whole = sum(float(f.sum()) for f in ewc.fisher.values())
    assert whole > 0
    assert all(parameter.grad is None for parameter in stage.model.parameters())


def test_ewc_penalty_has_the_gradient_strength_times_fisher_times_way(
    make_model: MakeModel, compute: ComputeSetting
) -> None:
    stage = stage_of(make_model("llama"), compute, old={"old": make_rows(6, seed=3)})
    strategies = strategies_of(stage, "ewc", EwcSettings(strength=20.0))
    ewc = strategies.get("ewc")
    assert isinstance(ewc, Ewc)
    by = moved(stage)
    value, _ = strategies.losses()["ewc"].accumulate(1)
    half = sum(float((ewc.fisher[n].double() * by[n].double().square()).sum()) for n in by) / 2
    assert value == pytest.approx(20.0 * half, rel=1e-5)
    for name, parameter in stage.model.named_parameters():
        assert parameter.grad is not None
        torch.testing.assert_close(
            parameter.grad, 20.0 * ewc.fisher[name] * by[name], rtol=1e-6, atol=0
        )


def test_fisher_runs_over_tasks_with_its_decay(
    make_model: MakeModel, compute: ComputeSetting
) -> None:
    first, second = make_rows(4, seed=3), make_rows(5, seed=4)
    settings = EwcSettings(decay=0.25)
    stage = stage_of(make_model("llama"), compute, old={"a": first})
    before = strategies_of(stage, "ewc", settings)
    carried = before.carried()
    # A stage with another strategy in between passes it on.
    between = strategies_of(stage_of(make_model("llama"), compute), "seq", None, carried)
    assert between.losses() == {}
    later = stage_of(make_model("llama", seed=7), compute, old={"a": first, "b": second})
    ewc = strategies_of(later, "ewc", settings, between.carried()).get("ewc")
    assert isinstance(ewc, Ewc)
    assert ewc.covered == ["a", "b"]
    at_a, at_b = fisher_by_hand(stage, first), fisher_by_hand(later, second)
    for name, fisher in ewc.fisher.items():
        torch.testing.assert_close(fisher, 0.25 * at_a[name] + at_b[name], rtol=1e-4, atol=1e-9)


def test_weights_frozen_while_the_fisher_is_taken_are_not_pulled(
    make_model: MakeModel, compute: ComputeSetting
) -> None:
    stage = stage_of(make_model("llama"), compute, old={"old": make_rows(4)})
    stage.freezer.freeze(1, embeddings=True)
    strategies = strategies_of(stage, "ewc")
    stage.freezer.unfreeze()
    moved(stage)
    strategies.losses()["ewc"].accumulate(1)
    for layer in stage.layout.layers:
        held = layer.name in ("embeddings", "block-0")
        assert all((p.grad is None) == held for p in layer.parameters.values())


def test_restored_ewc_is_the_one_that_was_stored(
    make_model: MakeModel, compute: ComputeSetting
) -> None:
    stage = stage_of(make_model("llama"), compute, old={"old": make_rows(6)})
    one = strategies_of(stage, "ewc")
    facts, tensors = one.stored()
    assert facts == {"ewc": {"on": True, "facts": {"covered": ["old"]}}}
    other = StageStrategies(stage, "ewc", SETTINGS.get)
    assert other.problem(facts) is None
    other.restore(facts, lambda name: tensors.get(name, {}))
    assert other.open(at_start=False) == []
    moved(stage)
    gradients = []
    for strategies in (one, other):
        stage.model.zero_grad()
        strategies.losses()["ewc"].accumulate(1)
        gradients.append([p.grad for p in stage.model.parameters()])
    assert all(torch.equal(a, b) for a, b in zip(*gradients, strict=True))


def test_strategy_is_switched_on_and_off_between_two_steps(
    make_model: MakeModel, make_tuner: MakeTuner, compute: ComputeSetting
) -> None:
    loaded = make_model("llama")
    stage = stage_of(loaded, compute)
    tuner = make_tuner(loaded.model, make_rows(20))
    strategies = strategies_of(stage, "seq")
    tuner.attach(strategies)
    told = []
    for change in (None, "on", None, "off"):
        if change == "on":
            strategies.switch_on("l2-start")
        elif change == "off":
            strategies.switch_off("l2-start")
        told.append(tuner.advance().added)
    assert [list(added) for added in told] == [[], ["l2_start"], ["l2_start"], []]
    assert told[2]["l2_start"] > 0
    assert isinstance(strategies.get("l2-start"), L2Start)


def test_facts_that_no_strategy_stored_are_named(
    make_model: MakeModel, compute: ComputeSetting
) -> None:
    strategies = StageStrategies(stage_of(make_model(), compute), "seq", SETTINGS.get)
    assert strategies.problem({"no-such": {"facts": {}}}) == (
        "strategies names 'no-such', a strategy that there is not"
    )
    said = strategies.problem({"ewc": {"on": True, "facts": {"covered": 3}}})
    assert said == "strategies.ewc.covered: input should be a valid list"


def test_every_declared_strategy_has_its_implementation(
    make_model: MakeModel, compute: ComputeSetting
) -> None:
    stage = stage_of(make_model(), compute, old={"old": make_rows(4)})
    strategies = StageStrategies(stage, "seq", SETTINGS.get)
    for name in STRATEGIES:
        # The anchor needs the run around its stage; its tests are the worker's.
        if name != "anchor":
            strategies.get(name).check_stage()
