"""A repair has a floor for the new task: in what it chooses, and in what it leaves in the model."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from transformers import PreTrainedTokenizerBase

from sf_tui.engine.weights import Snapshot
from sf_tui.recovery.case import RecoveryCase
from sf_tui.recovery.outcome import Accuracies, RepairOutcome
from sf_tui.recovery.repair import Repair, edit_model
from sf_tui.recovery.repair_attempts import blend
from sf_tui.recovery.repair_search import JointScore, Parts
from sf_tui.recovery.scoring import eval_set
from sf_tui.tasks.encoding import Encoded
from support.forgotten_case import MakeCase, capital_row, forgotten_case
from support.start_scene import COUNTRIES


@pytest.fixture(scope="module")
def scene(llama_directory: Path, tmp_path_factory: pytest.TempPathFactory) -> MakeCase:
    """Make a Llama that learned the old task, then forgot it for the new one."""

    def new_rows(
        tokenizer: PreTrainedTokenizerBase,
    ) -> tuple[tuple[Encoded, ...], tuple[Encoded, ...]]:
        places = range(len(COUNTRIES))
        new = tuple(capital_row(tokenizer, "Name a capital of {}.", at, 1) for at in places)
        return new, new

    return forgotten_case(tmp_path_factory.mktemp("floor"), llama_directory, new_rows)


def weights(case: RecoveryCase) -> list[torch.Tensor]:
    return [parameter.detach().clone() for parameter in case.model.parameters()]


def same(case: RecoveryCase, before: list[torch.Tensor]) -> bool:
    return all(map(torch.equal, weights(case), before))


def test_an_edit_under_the_floor_leaves_the_weights_as_they_were(scene: MakeCase) -> None:
    case = scene()
    before = weights(case)

    found = edit_model(case, "interpolate", {"keep": 0.0})
    assert found.old.after is not None
    assert found.old.before is not None
    assert found.old.after > found.old.before
    assert found.new.before == 1.0
    assert found.floor_refusal is not None
    assert f"{len(COUNTRIES)} of {len(COUNTRIES)}" in found.floor_refusal.reason
    assert same(case, before)

    assert edit_model(case, "interpolate", {"keep": 0.0}, new_floor=0.0).floor_refusal is None
    assert not same(case, before)
    case = scene()
    forced = edit_model(case, "interpolate", {"keep": 0.0}, force=True)
    assert forced.floor_refusal is not None
    assert not same(case, before)


# Without a known stage, its rate isn't used.
@pytest.mark.parametrize(
    ("rate", "knows_stage"),
    [
        (50.0, True),
        (3e-3, False),
        # Repairs of runs have a rate that suits; one far too small leaves all as it was.
        pytest.param(3e-3, True, marks=pytest.mark.slow),
        pytest.param(1e-9, True, marks=pytest.mark.slow),
    ],
)
def test_what_a_repair_leaves_is_above_the_floor_at_any_rate(
    scene: MakeCase, rate: float, knows_stage: bool
) -> None:
    case = scene()
    case.learning_rate = rate
    case.stage_tokens = 2000 if knows_stage else None
    before = weights(case)

    found = Repair(case, steps=8).run()

    scorer = case.scorer()
    assert case.new is not None
    left = scorer.accuracy(case.new.held_out, "exact_match")
    assert found.new.before is not None
    assert left >= 0.98 * found.new.before
    if found.floor_refusal is not None:
        assert same(case, before)
    else:
        assert left == found.new.after
        assert found.learning_rate is not None
        assert 1e-7 < found.learning_rate < 1


def test_a_task_that_is_known_on_its_rows_alone_keeps_its_floor_there(scene: MakeCase) -> None:
    case = scene()
    assert case.new is not None
    # Facts that no other row tells: held out, they can't be known.
    never = case.new.held_out.rows
    wrong = tuple(replace(row, labels=[*row.labels[:-2], 0, row.labels[-1]]) for row in never)
    case.new = replace(case.new, held_out=eval_set(wrong))
    before = weights(case)
    edited = edit_model(case, "interpolate", {"keep": 0.0})
    assert (edited.new.before, edited.new.after, edited.fitted.before) == (0.0, 0.0, 1.0)
    assert edited.floor_refusal is not None
    assert edited.floor_refusal.hint.startswith("accept more loss with --new-floor")
    assert same(case, before)
    found = Repair(case, steps=8).run()
    assert (found.new.before, found.fitted.before) == (0.0, 1.0)
    assert found.fitted.examples == len(COUNTRIES)
    left = case.scorer().accuracy(eval_set(case.new.train), "exact_match")
    assert left >= 0.98
    told = replace(found, fitted=Accuracies(29 / 180, 11 / 180, 180)).refusal
    assert told is not None
    assert "trained on from 0.16" in told.reason
    assert "11 of 180, under its floor" in told.reason
    assert replace(found, fitted=Accuracies(29 / 180, 29 / 180, 180)).floor_refusal is None


def test_a_given_rate_that_wrecks_the_model_is_replaced(scene: MakeCase) -> None:
    case = scene()
    lines: list[str] = []
    found = Repair(case, steps=12, learning_rate=50.0, log=lines.append).run()
    assert found.learning_rate != 50.0
    assert "5.0e+01, as given" in found.rate_source
    assert any("other learning rates" in line for line in lines)


def test_a_state_under_the_floor_ranks_below_every_state_above_it(scene: MakeCase) -> None:
    case = scene()
    assert case.new is not None
    joint = JointScore(case, case.scorer(), None, None, case.new.held_out, 0.98)
    assert joint.before.new == 1.0
    assert joint.rank(Parts(0.02, 0.98)) < joint.rank(Parts(0.0, 1.0))
    assert joint.rank(Parts(1.0, 0.97)) < joint.rank(Parts(0.0, 1.0)) < joint.rank(Parts(0.1, 1.0))
    assert JointScore.shown(joint.rank(Parts(1.0, 0.9))) == pytest.approx(0.9)
    free = JointScore(case, case.scorer(), None, None, case.new.held_out, 0.0)
    assert free.rank(Parts(1.0, 0.1)) == pytest.approx(0.1)


def test_a_blend_is_exact_at_its_ends_and_where_nothing_changed(scene: MakeCase) -> None:
    case = scene()
    now, first = Snapshot(case.layout), weights(case)
    with torch.no_grad():
        moved = next(iter(case.model.parameters()))
        moved.add_(1.0)
    then, second = Snapshot(case.layout), weights(case)
    blend(case.layout, now, then, 0.0)
    assert same(case, first)
    blend(case.layout, now, then, 1.0)
    assert same(case, second)
    blend(case.layout, now, then, 0.5)
    assert torch.allclose(moved, first[0] + 0.5)
    assert all(map(torch.equal, weights(case)[1:], first[1:]))


def outcome(old: Accuracies, new: Accuracies, agreement: Accuracies | None = None) -> RepairOutcome:
    none = agreement or Accuracies(None, None)
    return RepairOutcome(old, new, 1.0, 0, 5, 1.0, 9, 9, None, none, 1e-4, (), "neighbors")


def test_an_outcome_tells_n_and_what_it_lacks() -> None:
    kept = Accuracies(1.0, 1.0, 11)
    good = outcome(Accuracies(0.0, 0.975, 40), kept)
    assert good.refusal is None
    assert good.summary == "It brought the old task from 0.00 to 0.97 ± 0.10, 39 of 40."
    worse = outcome(Accuracies(0.5, 0.5, 40), kept)
    assert worse.floor_refusal is None
    assert worse.refusal is not None
    assert "nothing is better" in worse.refusal.reason
    healthy = replace(worse, old=Accuracies(0.97, 0.97, 40), start=None).refusal
    assert healthy is not None
    assert "nothing seems to be lost" in healthy.hint
    lost = outcome(Accuracies(0.0, 1.0, 40), Accuracies(1.0, 10 / 11, 11))
    assert lost.refusal == lost.floor_refusal
    assert lost.refusal is not None
    assert "10 of 11" in lost.refusal.reason
    assert "one row" in lost.refusal.reason
    assert "--learning-rate" in lost.refusal.hint
    far = outcome(Accuracies(0.0, 0.89, 100), Accuracies(1.0, 24 / 33, 33)).refusal
    assert far is not None
    assert "one row" not in far.reason
    assert "--new-floor (0.72 allows this one)" in far.hint
    assert "old examples with --examples, " in far.hint
    part = replace(good, old=Accuracies(0.0, 0.4, 40), stepped_back=0.3, spare_examples=80)
    assert part.advice is not None
    assert part.advice.endswith("--examples 80 (80 are available)")
    assert "under its floor" in part.advice
    whole = replace(part, stepped_back=None).advice
    assert whole is not None
    assert "under its floor" not in whole
    assert replace(part, spare_examples=0, examples=80).advice is None
    assert replace(part, old=Accuracies(0.0, 0.6, 40)).advice is None
    assert lost.advice is None
    run = replace(lost, spare_examples=380)
    assert run.refusal is not None
    assert "old examples with --examples 100 (380 are available)" in run.refusal.hint
    assert replace(run, examples=90).suggested_examples == 180
    assert replace(run, spare_examples=7).suggested_examples == 7
    whole = outcome(Accuracies(1.0, 1.0, 40), kept).refusal
    assert whole is not None
    assert "nothing is to be repaired" in whole.hint
    assert "--steps" not in whole.hint
    alone = replace(outcome(Accuracies(0.0, 0.0, 40), kept), start=None, by="examples").refusal
    assert alone is not None
    assert "--start-model" in alone.hint
    unseen = outcome(Accuracies(None, None), kept)
    assert unseen.refusal is not None
    assert "nothing shows" in unseen.refusal.reason
    assert outcome(Accuracies(None, None), kept, Accuracies(0.2, 0.6, 50)).refusal is None
