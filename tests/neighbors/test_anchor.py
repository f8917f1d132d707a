"""The anchor pulls towards the start's answers and not at all where the model still gives them."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable

import pytest
import torch
import torch.nn.functional as F

from sf_tui.engine.batches import FixedSource, collate
from sf_tui.engine.forward import AnswerForward
from sf_tui.engine.layout import Freezer, read_layout
from sf_tui.engine.loop import StageTuner
from sf_tui.neighbors.anchor import Anchor, DivergenceMeter
from sf_tui.neighbors.cache import TeacherCache, build_cache
from sf_tui.neighbors.propose import propose
from sf_tui.profile import TrainSettings
from support.start_scene import Scene

KINDS = {"substitution": 1.0, "same_template": 1.0, "random_words": 1.0, "random_tokens": 1.0}


def copied(scene: Scene) -> Scene:
    """Return a scene whose model may be trained."""
    loaded = copy.copy(scene.loaded)
    object.__setattr__(loaded, "model", copy.deepcopy(scene.loaded.model))
    return Scene(loaded, scene.compute, scene.rows)


_BANKS: dict[tuple[int, int], TeacherCache] = {}


def bank_of(scene: Scene, count: int = 192) -> TeacherCache:
    """Return the bank of a scene that has not been trained yet; nothing changes it."""
    # Copies of a scene share its rows, which last as long as the session.
    key = id(scene.rows), count
    if key not in _BANKS:
        start = scene.start()
        anatomy = scene.anatomy
        _BANKS[key] = build_cache(
            None, {}, lambda: propose(anatomy, start, KINDS, count, 0), start, longest=4, top_k=64
        )
    return _BANKS[key]


def anchor_of(scene: Scene, bank: TeacherCache, rows_a_pass: int = 16, rows: int = 16) -> Anchor:
    return Anchor(
        scene.loaded.model,
        scene.compute,
        bank,
        strength=1.0,
        rows=rows,
        rows_a_pass=rows_a_pass,
        seed=0,
        stage="new",
        pad_id=scene.loaded.pad_id,
    )


def gradient_norm(parameters: Iterable[torch.nn.Parameter]) -> float:
    """Return the norm of the gradients and take them away."""
    total = 0.0
    for parameter in parameters:
        if parameter.grad is not None:
            total += float(parameter.grad.square().sum())
            parameter.grad = None
    return math.sqrt(total)


@pytest.fixture(params=["starter", "untrained"])
def scene(request: pytest.FixtureRequest) -> Scene:
    return copied(request.getfixturevalue(request.param))


def test_gradient_is_zero_at_the_start_weights(scene: Scene) -> None:
    model = scene.loaded.model
    model.train()
    value, tokens = anchor_of(scene, bank_of(scene)).accumulate(1)
    pulled = gradient_norm(model.parameters())
    logits, targets = AnswerForward(model)(collate(scene.rows, scene.loaded.pad_id))
    F.cross_entropy(logits, targets).backward()
    assert pulled < 1e-4 * gradient_norm(model.parameters())
    assert abs(value) < 1e-5
    assert tokens > 0


def tune(scene: Scene, anchor: Anchor | None, steps: int) -> None:
    tuner = StageTuner(
        scene.loaded.model,
        read_layout(scene.loaded.model),
        FixedSource(scene.rows),
        TrainSettings(learning_rate=1e-3, batch_size=16, steps=steps, warmup_steps=0),
        scene.compute,
        stage="new",
        seed=0,
        pad_id=scene.loaded.pad_id,
    )
    tuner.added = {"anchor": anchor} if anchor else {}
    for _ in range(steps):
        tuner.advance()


def test_anchored_model_keeps_answers_that_plain_tuning_loses(starter: Scene) -> None:
    plain, anchored = copied(starter), copied(starter)
    bank = bank_of(starter)
    kept = {}
    for name, one in (("plain", plain), ("anchored", anchored)):
        tune(one, anchor_of(one, bank) if name == "anchored" else None, 25)
        meter = DivergenceMeter(one.loaded.model, one.compute, pad_id=one.loaded.pad_id)
        divergence, share = meter.measure(bank, range(len(bank)))
        kept[name] = (divergence, share)
    assert kept["anchored"][0] < 0.5 * kept["plain"][0]
    assert kept["anchored"][1] > kept["plain"][1] + 0.1


def test_pull_of_a_step_is_the_same_in_passes_of_any_size(scene: Scene) -> None:
    bank = bank_of(scene)
    tune(scene, None, 3)
    norms, values = [], []
    for rows_a_pass in (16, 5, 1):
        value, _ = anchor_of(scene, bank, rows_a_pass).accumulate(2)
        values.append(value)
        norms.append(gradient_norm(scene.loaded.model.parameters()))
    assert norms == pytest.approx([norms[0]] * 3, rel=1e-3)
    assert values == pytest.approx([values[0]] * 3, rel=1e-4)
    assert values[0] > 1e-3


def test_prompts_are_a_pure_function_of_the_step_and_fresh_at_each(untrained: Scene) -> None:
    scene = copied(untrained)
    bank = bank_of(scene)
    tune(scene, None, 3)
    one, other = anchor_of(scene, bank), anchor_of(scene, bank)
    values = {step: one.accumulate(step) for step in range(1, 13)}
    assert {step: other.accumulate(step) for step in (7, 2, 12)} == {
        step: values[step] for step in (7, 2, 12)
    }
    assert len({value for value, _ in values.values()}) == 12


def test_each_step_mixes_short_answers_and_long_ones(starter: Scene) -> None:
    bank = bank_of(starter)
    places = sorted(range(len(bank)), key=lambda at: bank.lengths[at])
    halves = places[:48], places[-48:]
    anchor = anchor_of(starter, bank.part([*halves[0], *halves[1]]))
    short = sorted(bank.lengths[at] for at in halves[0])
    long = sorted(bank.lengths[at] for at in halves[1])
    for step in range(1, 7):
        _, tokens = anchor.accumulate(step)
        assert sum(short[-16:]) < tokens < sum(long[:16])


def test_frozen_bottom_takes_no_gradient_and_the_rest_does(starter: Scene) -> None:
    scene = copied(starter)
    bank = bank_of(scene)
    tune(scene, None, 2)
    layout = read_layout(scene.loaded.model)
    freezer = Freezer(layout)
    freezer.freeze(len(layout.blocks), embeddings=True)
    anchor_of(scene, bank).accumulate(1)
    for layer in layout.layers:
        for parameter in layer.parameters.values():
            assert (parameter.grad is None) == freezer.is_frozen(layer)


def test_nothing_that_trains_and_nothing_to_pull_are_no_mistake(untrained: Scene) -> None:
    scene = copied(untrained)
    bank = bank_of(scene)
    for parameter in scene.loaded.model.parameters():
        parameter.requires_grad_(False)
    value, tokens = anchor_of(scene, bank).accumulate(1)
    assert abs(value) < 1e-5
    assert tokens > 0


def test_bank_of_fewer_prompts_than_a_steps_rows_is_used_again(untrained: Scene) -> None:
    scene = copied(untrained)
    bank = bank_of(scene, count=5)
    tune(scene, None, 2)
    value, _ = anchor_of(scene, bank, rows=12).accumulate(1)
    assert value > 0
