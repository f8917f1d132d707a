"""What training takes of a device: exact where it can be, refused where it can't fit."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from typer.testing import CliRunner

from sf_tui.cases.data_facts import DataFacts
from sf_tui.cases.memory_plan import MemoryPlan, plan_memory, remedies
from sf_tui.cases.model_size import ModelSize
from sf_tui.cli.app import app
from sf_tui.profile import TrainSettings, load_profile

SIZE = ModelSize("llama", 1_000_000, 128, 4, 500, tied=True, max_length=None)
FACTS = DataFacts(
    name="new",
    data="new.jsonl",
    train=100,
    held_out=10,
    mean_tokens=20.0,
    longest=40,
    answer_tokens=4.0,
    held_out_tokens=20.0,
    metric="exact_match",
    too_long=0,
    sampled=False,
    guessed=False,
)
TRAIN = TrainSettings(batch_size=8)


def test_one_process_holds_four_numbers_a_parameter() -> None:
    plan = plan_memory(SIZE, FACTS, TRAIN)
    assert (plan.weights, plan.gradients, plan.optimizer) == (4e6, 4e6, 8e6)
    half = plan_memory(SIZE, FACTS, TRAIN, dtype="bfloat16")
    assert half.exact == plan.exact / 2
    adapter = plan_memory(SIZE, FACTS, TRAIN, trained=1000)
    assert adapter.exact == 4e6 + 16 * 1000


def test_fsdp2_divides_what_ddp_repeats() -> None:
    alone = plan_memory(SIZE, FACTS, TRAIN)
    ddp = plan_memory(SIZE, FACTS, TRAIN, ranks=4)
    fsdp = plan_memory(SIZE, FACTS, TRAIN, ranks=4, sharded=True)
    assert ddp.exact == alone.exact
    assert fsdp.gradients + fsdp.optimizer == (alone.gradients + alone.optimizer) / 4
    block = 4 * SIZE.block_parameters / SIZE.layers
    assert fsdp.weights == pytest.approx(alone.weights / 4 + block)
    # Each has a quarter of the batch.
    assert ddp.activations == pytest.approx(alone.activations / 4)


def test_checkpointing_and_smaller_passes_take_less_for_activations() -> None:
    plan = plan_memory(SIZE, FACTS, TRAIN)
    small = plan_memory(SIZE, FACTS, TrainSettings(batch_size=8, micro_batch_size=2))
    assert small.activations == pytest.approx(plan.activations / 4)
    checkpointed = TrainSettings(batch_size=8, gradient_checkpointing=True)
    assert plan_memory(SIZE, FACTS, checkpointed).activations < plan.activations / 4


def test_only_what_is_exact_is_refused() -> None:
    plan = plan_memory(SIZE, FACTS, TRAIN)
    assert plan.fits
    assert replace(plan, device_bytes=plan.exact).fits
    assert not replace(plan, device_bytes=plan.exact - 1).fits
    assert not replace(plan, device_bytes=plan.exact, processes_a_device=2).fits


def test_a_remedy_makes_it_fit() -> None:
    profile = load_profile("biography-tiny")

    def told(share: float) -> str:
        plan: MemoryPlan = plan_memory(SIZE, FACTS, TRAIN)
        return "; ".join(remedies(profile, replace(plan, device_bytes=plan.exact * share)))

    assert "bfloat16" in told(0.6)
    assert "adapter" in told(0.6)
    assert "bfloat16" not in told(0.4)
    assert "adapter" in told(0.4)
    assert "adapter" not in told(0.2)


def test_a_profile_that_cannot_fit_is_refused_with_its_plan() -> None:
    huge = ["model.config.hidden_size=16384", "model.config.num_hidden_layers=200"]
    options = [option for text in huge for option in ("--set", text)]
    arguments = ["profile", "check", "biography-tiny", *options]
    done = CliRunner().invoke(app, [*arguments, "--json"])
    found = json.loads(done.stdout)
    assert found["ok"] is False
    assert "3.5 TB a process" in found["errors"][0]["message"]
    plan = found["estimate"]["memory_plan"]
    assert plan["rows"] == 32
    assert plan["weights"] == 4 * plan["parameters"] > 1e11
    assert done.exit_code != 0
    fine = CliRunner().invoke(app, ["profile", "check", "biography-tiny"])
    assert fine.exit_code == 0
    assert "gradients" in fine.stdout


def test_processes_on_one_device_share_its_memory() -> None:
    two = replace(plan_memory(SIZE, FACTS, TRAIN, ranks=2), processes_a_device=2)
    assert two.device_total == 2 * two.total


def test_the_parts_that_are_printed_add_up_to_the_estimate() -> None:
    options = ["--set", "launch.processes=2", "--json"]
    done = CliRunner().invoke(app, ["profile", "check", "biography-tiny", *options])
    estimate = json.loads(done.stdout)["estimate"]
    plan = estimate["memory_plan"]
    parts = ("weights", "gradients", "optimizer", "activations", "process")
    assert estimate["memory_bytes"] == plan["processes_a_device"] * sum(map(plan.get, parts))
