"""A repair that breaks the floor on held-out rows holds the new task beyond its rows."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from transformers import PreTrainedTokenizerBase

from sf_tui.engine.step import Loss
from sf_tui.engine.weights import Snapshot, StartWeights
from sf_tui.neighbors.anatomy import prompt_of
from sf_tui.neighbors.cache import TAUGHT
from sf_tui.recovery.case import CaseReferences, RecoveryCase, TaughtTask
from sf_tui.recovery.held_answers import answered, held_prompts
from sf_tui.recovery.held_attempts import HeldAttempts, RepairParts
from sf_tui.recovery.outcome import RepairOutcome
from sf_tui.recovery.repair import Repair
from sf_tui.recovery.repair_attempts import Attempt, RepairAttempts
from sf_tui.recovery.repair_check import HeldAttempt, HeldOutCheck
from sf_tui.recovery.repair_search import JointScore, Parts
from sf_tui.recovery.scoring import EvalSet, eval_set
from sf_tui.tasks.encoding import Encoded
from support.forgotten_case import MakeCase, capital_row, forgotten_case
from support.start_scene import COUNTRIES

FRAMES = ("Name a capital of {}.", "Name {}.")


@pytest.fixture(scope="module")
def scene(llama_directory: Path, tmp_path_factory: pytest.TempPathFactory) -> MakeCase:
    """Make a Llama that was taught a new task in two phrasings.

    Each country is asked about in one of them. The other one is held out for half of the countries.
    """

    def new_rows(
        tokenizer: PreTrainedTokenizerBase,
    ) -> tuple[tuple[Encoded, ...], tuple[Encoded, ...]]:
        places = range(len(COUNTRIES))
        new = [[capital_row(tokenizer, frame, at, 1) for at in places] for frame in FRAMES]
        trained = tuple(new[at % 2][at] for at in places)
        return trained, tuple(new[1 - at % 2][at] for at in places[: len(places) // 2])

    return forgotten_case(tmp_path_factory.mktemp("held"), llama_directory, new_rows)


def test_the_answers_held_are_the_models_own_to_what_its_rows_imply(scene: MakeCase) -> None:
    case = scene()
    assert case.new is not None
    mildest = next(iter(held_prompts(case, None)))
    held = answered(case, mildest.prompts)
    asked = {prompt_of(row) for row in (*case.new.train, *case.new.held_out.rows)}
    tokenizer = case.loaded.tokenizer
    every = {
        prompt_of(capital_row(tokenizer, frame, at))
        for frame in FRAMES
        for at in range(len(COUNTRIES))
    }
    assert {prompt_of(row) for row in held.rows} == every - asked
    assert len(held) == len(COUNTRIES) // 2
    assert case.scorer().accuracy(EvalSet(tuple(held.rows)), "exact_match") == 1.0


def test_nothing_that_a_repair_makes_up_is_a_held_out_prompt(scene: MakeCase) -> None:
    case = scene()
    assert case.old is not None
    assert case.new is not None
    tokenizer = case.loaded.tokenizer
    elsewhere = prompt_of(capital_row(tokenizer, "Name the capital of {}.", 0))
    case.other_held_out = (elsewhere,)
    case.control = EvalSet((capital_row(tokenizer, "Is {} a capital?", 0),))
    held_out = {
        prompt_of(row)
        for rows in (case.old.held_out.rows, case.new.held_out.rows, case.control.rows)
        for row in rows
    } - {prompt_of(row) for row in case.old.train}
    taught = TaughtTask("taught", (elsewhere, *sorted(held_out), (2, 3)), 4, started(case))
    bank = case.bank(400, references=CaseReferences(started(case), (taught,), 0.25))
    assert bank is not None
    made = [prompt_of(row) for row in bank.rows]
    assert len(made) > 100
    assert not {*held_out, elsewhere} & set(made)
    of_taught = [at for at, kind in enumerate(bank.kinds) if kind == TAUGHT]
    assert {made[at] for at in of_taught} == {(2, 3)}
    for wanted in held_prompts(case, bank):
        assert not {*held_out, elsewhere} & set(wanted.prompts)


def started(case: RecoveryCase) -> StartWeights:
    assert case.start is not None
    return case.start


def test_own_frames_are_held_last_and_their_neighbors_left_out(scene: MakeCase) -> None:
    case = scene()
    bank = case.bank(60)
    assert bank is not None
    first, second = held_prompts(case, bank)
    assert not first.framed
    assert second.framed
    assert second.prompts[: len(first.crossed)] == list(first.crossed)
    kept = first.without(bank)
    assert {"same_template", "substitution"} <= set(kept.kinds)
    assert not {prompt_of(row) for row in kept.rows} & set(first.crossed)
    assert "same_template" not in second.without(bank).kinds


def attempt(case: RecoveryCase, parts: Parts, rate: float = 1e-3) -> Attempt:
    return Attempt(Snapshot(case.layout), parts, parts.product, rate, 1, (), diverged=False)


def wrecked(case: RecoveryCase) -> Attempt:
    with torch.no_grad():
        for parameter in case.model.parameters():
            parameter.fill_(float("nan"))
    return attempt(case, Parts(1.0, 1.0))


def test_what_breaks_the_floor_gives_way_to_the_first_that_keeps_it(scene: MakeCase) -> None:
    case = scene()
    scorer = case.scorer()
    now, intact = Snapshot(case.layout), attempt(case, Parts(0.9, 1.0))
    joint = JointScore(case, scorer, case.bank(40), None, None, 0.98)
    lines: list[str] = []
    check = HeldOutCheck(case, scorer, now, joint, 1.0, 0.98, lines.append)
    asked: list[float] = []

    def other(found: Attempt, prompts: int) -> HeldAttempt:
        def run(rate: float) -> Attempt:
            asked.append(rate)
            return found

        return HeldAttempt(run, prompts, with_old_lost(joint))

    bad = wrecked(case)
    assert check.run(intact, [other(bad, 1)], None).held == 0
    assert not asked
    found = check.run(bad, [other(bad, 1), other(intact, 2), other(intact, 3)], None)
    assert (found.held, found.share, found.new) == (2, 1.0, 1.0)
    assert asked == [bad.rate] * 2
    assert lines


def test_held_out_rows_that_were_never_known_excuse_no_loss_on_the_rows_that_choose(
    scene: MakeCase,
) -> None:
    case = scene()
    scorer = case.scorer()
    assert case.new is not None
    now, intact = Snapshot(case.layout), attempt(case, Parts(0.9, 1.0))
    joint = JointScore(case, scorer, case.bank(40), None, eval_set(case.new.train), 0.98)
    known = joint.before.new
    assert HeldOutCheck(case, scorer, now, joint, known, 0.98, str).tells
    check = HeldOutCheck(case, scorer, now, joint, 0.0, 0.98, str)
    assert not check.tells
    bad = replace(wrecked(case), rank=-0.5)
    held = HeldAttempt(lambda _: intact, 2, with_old_lost(joint))
    assert check.run(bad, [held], None).held == 2


def with_old_lost(joint: JointScore) -> JointScore:
    joint.before = Parts(0.0, 1.0)
    return joint


def test_old_examples_take_the_place_of_neighbors_where_own_frames_are_held(
    scene: MakeCase,
) -> None:
    case = scene()
    assert case.old is not None
    assert case.new is not None
    now, bank = Snapshot(case.layout), case.bank(60)
    assert bank is not None
    joint = JointScore(case, case.scorer(), bank, None, eval_set(case.new.train), 0.98)
    attempts = RepairAttempts(
        case, [], joint, now, joint.before, steps=15, score_every=15, log=str, on_step=None
    )

    def on_examples(weight: float) -> list[Loss]:
        assert case.old is not None
        assert case.new is not None
        return [
            case.examples_loss("new", case.new.train, 8, weight),
            case.examples_loss("old", case.old.held_out.rows, 8),
        ]

    # The attempts before it are only prepared, so that they need no loss.
    parts = RepairParts(lambda *_: [], on_examples, bank, bank, case.old.held_out)
    *_, last = HeldAttempts(case, attempts, joint, parts, now, str)
    was = case.scorer().accuracy(case.old.held_out, "exact_match")
    assert last.joint.before.old == was < 0.5
    found = last.run(1e-2)
    assert found.parts.old > was + 0.3
    assert found.parts.new >= 0.98


def test_the_search_left_for_later_is_made_if_nothing_held_keeps_the_floor(scene: MakeCase) -> None:
    case = scene()
    scorer = case.scorer()
    now, intact = Snapshot(case.layout), attempt(case, Parts(0.9, 1.0), 1e-5)
    joint = with_old_lost(JointScore(case, scorer, None, None, None, 0.98))
    check = HeldOutCheck(case, scorer, now, joint, 1.0, 0.98, lambda _: None)
    bad = wrecked(case)
    found = check.run(bad, [HeldAttempt(lambda _: bad, 1, joint)], lambda: intact)
    assert (found.attempt.rate, found.held, found.new) == (1e-5, 0, 1.0)


def test_a_repair_that_holds_is_a_function_of_weights_and_arguments(scene: MakeCase) -> None:
    def repaired() -> tuple[RepairOutcome, list[torch.Tensor], list[str]]:
        case = scene()
        lines: list[str] = []
        found = Repair(case, steps=3, learning_rate=1e-2, log=lines.append).run()
        return found, [one.detach().clone() for one in case.model.parameters()], lines

    first, weights, lines = repaired()
    second, again, _ = repaired()
    assert any("holding the new task harder" in line for line in lines)
    assert replace(first, seconds=0.0) == replace(second, seconds=0.0)
    assert all(map(torch.equal, weights, again))
