"""Recovery tests and repairs on whatever people bring: nothing is lost, nothing is made up."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel

from sf_tui.engine.compute import choose_compute
from sf_tui.engine.layout import read_layout
from sf_tui.engine.loading import load_model
from sf_tui.engine.start_weights import open_start_weights
from sf_tui.engine.step import ExamplesLoss
from sf_tui.errors import DataError, SfError
from sf_tui.profile import ModelSettings
from sf_tui.recovery.arms import NEIGHBOR_RATE_OF_BEST
from sf_tui.recovery.case import UNKNOWN_RATES, CaseTask, RecoveryCase
from sf_tui.recovery.recovery_test import RecoveryTest
from sf_tui.recovery.repair import Repair, edit_model
from sf_tui.recovery.repair_attempts import RATES
from sf_tui.recovery.scoring import eval_set, exchange_answers
from sf_tui.recovery.short_tuning import tune_briefly
from sf_tui.tasks.encoding import NO_LOSS, Encoded, encode_example
from sf_tui.tasks.task import Example
from sf_tui.worker.stop import StopRun
from support.short_ops import shorten_arms
from support.start_scene import CITIES, COUNTRIES

MakeCase = Callable[..., RecoveryCase]

RATE = 1e-3


@pytest.fixture
def make_case(llama_directory: Path, tmp_path: Path) -> MakeCase:
    """Make a case of a Llama that was moved away from its start, which lies in many files."""

    def make(metric: str = "exact_match", fixed: str = "-") -> RecoveryCase:
        compute = choose_compute("float32", 1)
        loaded = load_model(ModelSettings(source=str(llama_directory)), tmp_path, compute, seed=0)
        for name, parameter in loaded.model.named_parameters():
            parameter.requires_grad_(not name.startswith(fixed))
        layout = read_layout(loaded.model)
        loaded.model.save_pretrained(tmp_path / "start", max_shard_size="20KB")
        start = open_start_weights(tmp_path / "start", loaded.model, layout)
        torch.manual_seed(1)
        with torch.no_grad():
            for parameter in loaded.model.parameters():
                parameter += 0.02 * torch.randn_like(parameter)

        def rows(text: str) -> tuple[Encoded, ...]:
            return tuple(
                encode_example(Example(text.format(country), f" {city}"), loaded.tokenizer)
                for country, city in zip(COUNTRIES, CITIES, strict=True)
            )

        old, new = rows("What is the capital of {}?"), rows("Name a capital of {}.")
        return RecoveryCase(
            loaded,
            layout,
            compute,
            CaseTask("old", metric, eval_set(old), old[:4]),
            CaseTask("new", "exact_match", eval_set(new), new),
            start,
            RATE,
            batch_size=4,
            stage_tokens=2000,
        )

    return make


def weights(case: RecoveryCase) -> list[torch.Tensor]:
    return [parameter.detach().clone() for parameter in case.model.parameters()]


def test_an_edit_that_fails_half_way_leaves_the_weights_as_they_were(make_case: MakeCase) -> None:
    case = make_case()
    assert case.start is not None
    before = weights(case)
    shards = sorted(case.start.folder.glob("*.safetensors"))
    assert len(shards) > 2
    shards[-1].unlink()

    with pytest.raises(SfError, match=shards[-1].name):
        edit_model(case, "interpolate", {"keep": 0.5})

    assert all(map(torch.equal, weights(case), before))


def test_a_repair_with_nothing_to_learn_the_old_task_from_is_refused(make_case: MakeCase) -> None:
    case = make_case()
    text = Encoded([2, 5, 6, 7], [NO_LOSS, 5, 6, 7])
    bare = CaseTask("new", "exact_match", eval_set([text]), (text, text))
    for new in (None, bare):
        given = replace(case, new=new)
        before = weights(given)
        with pytest.raises(DataError, match="no evidence of the old task"):
            Repair(given, steps=3).run()
        assert all(map(torch.equal, weights(given), before))
        assert Repair(given, examples=4, steps=3).run().by == "examples"


def test_neither_a_test_nor_a_repair_trains_what_did_not_train(
    make_case: MakeCase, monkeypatch: pytest.MonkeyPatch
) -> None:
    shorten_arms(monkeypatch)
    case = make_case(fixed="lm_head")
    before = case.model.state_dict()["lm_head.weight"].clone()
    RecoveryTest(case, steps=2).run()
    assert Repair(case, examples=4, steps=3).run().tokens > 0
    head = case.model.get_output_embeddings()
    assert not head.weight.requires_grad
    assert torch.equal(head.weight, before)


def test_dropout_of_a_short_tuning_does_not_depend_on_what_was_drawn_before() -> None:
    ended = []
    for drawn in (0, 7):
        torch.manual_seed(0)
        model = GPT2LMHeadModel(GPT2Config(vocab_size=20, n_embd=8, n_layer=2, n_head=2))
        assert model.config.resid_pdrop > 0
        torch.manual_seed(drawn)
        part = ExamplesLoss.on_rows(
            model,
            choose_compute("float32", 1),
            [Encoded([1, 2, 3], [NO_LOSS, 2, 3])],
            batch=2,
            rows_a_pass=2,
            seed=0,
            name="part",
            pad_id=0,
        )
        tune_briefly(model, read_layout(model), [part], steps=4, learning_rate=1e-2)
        ended.append([parameter.detach().clone() for parameter in model.parameters()])
    assert all(map(torch.equal, *ended))


def test_an_exchanged_answer_fits_behind_its_prompt() -> None:
    long = Encoded([*range(1, 7), 8, 9], [NO_LOSS] * 6 + [8, 9])
    short = Encoded([1, 10, 11, 12, 13], [NO_LOSS, 10, 11, 12, 13])
    other = Encoded([2, 14], [NO_LOSS, 14])
    rows = eval_set([long, short, other])

    found = exchange_answers(rows, seed=0, max_length=8)

    assert len(found) == 3
    assert all(len(row.input_ids) <= 8 for row in found.rows)
    assert found.rows[0].input_ids == [*range(1, 7), 14]
    # Without an end there is room for any.
    lengths = {len(exchange_answers(rows, seed=seed).rows[0].input_ids) for seed in range(20)}
    assert lengths == {7, 10}
    assert len(exchange_answers(rows.subset([0, 1]), seed=0, max_length=8)) == 1


def test_what_parts_of_answers_reach_unaided_is_guessing(make_case: MakeCase) -> None:
    case = make_case("token_accuracy")
    # The end token is the same whoever's answer it closes: the model need know nothing for it.
    part = case.examples_loss("taught", case.new.train if case.new else (), 4)
    tune_briefly(case.model, case.layout, [part], steps=40, learning_rate=1e-2)
    outcome = RecoveryTest(case, steps=3).run()
    arms = {arm.name: arm for arm in outcome.arms}
    assert arms["edit"].control is not None
    assert arms["edit"].control > 0.4
    assert arms["edit"].allowed
    assert arms["neighbors"].allowed


def test_rates_of_several_sizes_are_tried_where_nobody_knows_the_stage(
    make_case: MakeCase, monkeypatch: pytest.MonkeyPatch
) -> None:
    shorten_arms(monkeypatch)
    known = make_case()
    unknown = replace(known, stage_tokens=None)
    (arm,) = [arm for arm in RecoveryTest(unknown, steps=3).run().arms if arm.name == "neighbors"]
    tried = [NEIGHBOR_RATE_OF_BEST * times * RATE for times in UNKNOWN_RATES]
    assert any(arm.learning_rate == pytest.approx(rate) for rate in tried)
    named = RecoveryTest(unknown, steps=3, learning_rate=1e-5).run().arms
    assert all(arm.learning_rate < 1e-4 for arm in named)

    searched = Repair(replace(make_case(), stage_tokens=None), steps=3, keep=1.0).run()
    assert searched.learning_rate in RATES
    assert "the stage's is unknown" in searched.rate_source


def test_a_stop_while_the_start_model_is_asked_leaves_the_weights_as_they_were(
    make_case: MakeCase,
) -> None:
    asked = []

    def check_stop() -> None:
        asked.append(True)
        if len(asked) == 3:
            raise StopRun("by signal SIGTERM")

    for attempt in (lambda case: Repair(case, steps=3), lambda case: RecoveryTest(case, steps=3)):
        case = replace(make_case(), check_stop=check_stop)
        before = weights(case)
        asked.clear()
        with pytest.raises(StopRun):
            attempt(case).run()
        assert all(map(torch.equal, weights(case), before))
