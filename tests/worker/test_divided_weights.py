"""Two processes that hold half of the weights each, against one that holds them all."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from sf_tui.profile import dump_profile, parse_profile
from sf_tui.recovery.scoring import Scorer
from sf_tui.run.commands import request_command
from sf_tui.run.directory import RunDirectory
from sf_tui.run.events import JsonObject
from sf_tui.worker.worker import Worker
from support import PATIENCE_S
from support.composite_models import write_composite
from support.newcomer import write_newcomer
from support.quick_run import (
    Operator,
    assert_course_close,
    checkpoint_weights,
    equal,
    events_of,
    live_probes,
    with_model,
)
from support.several_ranks import Listener, work_in_ranks

# Sizes that two ranks can't halve, and a batch that they can't either; no dropout, which would
# fall on other rows.
LLAMA = with_model(
    """\
[model.config]
model_type = "llama"
hidden_size = 18
num_hidden_layers = 3
num_attention_heads = 3
num_key_value_heads = 1
head_dim = 6
intermediate_size = 35
max_position_embeddings = 64
tie_word_embeddings = false
"""
)
DIVIDED = (
    *('launch.sharding="fsdp2"', "train.batch_size=5", "train.steps=8"),
    *('tasks.new.train.strategy="freeze"', "tasks.new.train.freeze.layers=1"),
)
CLOSE = {"rtol": 1e-4, "atol": 1e-5}

Make = Callable[..., RunDirectory]


@pytest.fixture(scope="module")
def make(tmp_path_factory: pytest.TempPathFactory) -> Make:
    def made(*overrides: str) -> RunDirectory:
        text = dump_profile(parse_profile(LLAMA, overrides=[*DIVIDED, *overrides]))
        path = tmp_path_factory.mktemp("divided") / "run"
        return RunDirectory.create(path, profile_text=text, profile_name="divided", argv=["sf"])

    return made


def moments_of(run: RunDirectory, stage: str, step: int) -> dict[str, torch.Tensor]:
    found: dict[str, torch.Tensor] = {}
    for file in (run.checkpoints / stage / f"step-{step:06d}" / "optimizer").iterdir():
        found |= load_file(file)
    return found


def assert_close(left: dict[str, torch.Tensor], right: dict[str, torch.Tensor]) -> None:
    assert left.keys() == right.keys()
    for name in left:
        torch.testing.assert_close(left[name], right[name], **CLOSE, msg=name)


def assert_same_course(run: RunDirectory, other: RunDirectory) -> None:
    assert_course_close(run, other, rel=1e-3, abs=1e-6)


def at_step(stage: str, step: int, act: Callable[[], object]) -> Listener:
    done: list[bool] = []

    def hear(event: JsonObject) -> None:
        here = event["type"] == "step" and (event["stage"], event["step"]) == (stage, step)
        if here and not done:
            done.append(True)
            act()

    return hear


@pytest.fixture(scope="module")
def one(make: Make) -> RunDirectory:
    run = make()
    assert [end.code for end in work_in_ranks(run, world=1)] == [0]
    return run


@pytest.fixture(scope="module")
def two(make: Make) -> RunDirectory:
    run = make()
    assert [end.code for end in work_in_ranks(run)] == [0, 0]
    return run


def test_the_course_is_that_of_one_process(one: RunDirectory, two: RunDirectory) -> None:
    assert_same_course(one, two)
    assert live_probes(one).keys() == live_probes(two).keys()
    for place, (metrics, _) in live_probes(one).items():
        for task, measures in metrics.items():
            expected = pytest.approx(measures, rel=1e-3)
            assert live_probes(two)[place][0][task] == expected, place
    for stage in ("old", "new"):
        assert_close(checkpoint_weights(one, stage, 8), checkpoint_weights(two, stage, 8))
        assert_close(moments_of(one, stage, 4), moments_of(two, stage, 4))
    for ours, theirs in zip(events_of(one, "drift"), events_of(two, "drift"), strict=True):
        drifts = [layer["relative_update"] for layer in ours["layers"]]
        assert [layer["relative_update"] for layer in theirs["layers"]] == pytest.approx(
            drifts, rel=1e-3
        )


def test_a_frozen_block_stays_and_its_moments_are_kept(two: RunDirectory) -> None:
    before, after = checkpoint_weights(two, "new", 0), checkpoint_weights(two, "new", 8)
    frozen = {name for name in before if ".layers.0." in name or "embed" in name}
    assert frozen
    for name in before:
        assert torch.equal(before[name], after[name]) == (name in frozen), name


def test_the_model_is_a_plain_directory(two: RunDirectory) -> None:
    from transformers import AutoModelForCausalLM

    assert json.loads((two.model / "config.json").read_text())["architectures"] == [
        "LlamaForCausalLM"
    ]
    weights = AutoModelForCausalLM.from_pretrained(two.model).state_dict()
    assert equal(weights, checkpoint_weights(two, "new", 8))
    assert not list(two.checkpoints.rglob(".*"))


def test_a_model_with_a_vision_part_is_refused_on_both_ranks(tmp_path: Path) -> None:
    source = write_composite("gemma3", tmp_path / "source")
    model = with_model("", f'source = "{source}"\ntokenizer = "biography"')
    text = dump_profile(parse_profile(model, overrides=['launch.sharding="fsdp2"']))
    path = tmp_path / "run"
    run = RunDirectory.create(path, profile_text=text, profile_name="vision", argv=["sf"])
    ends = work_in_ranks(run)
    assert [end.code for end in ends] == [2, 2]
    assert "does not divide a model with a vision or audio part" in ends[0].error
    assert 'sharding = "ddp"' in ends[0].error
    last = events_of(run)[-1]
    assert (last["type"], last["status"], last["exit_code"]) == ("run_finished", "failed", 2)
    assert "vision or audio part" in last["reason"]


@pytest.mark.slow  # two more runs
def test_a_killed_rank_ends_both_and_the_resume_is_byte_identical(
    make: Make, two: RunDirectory
) -> None:
    run = make()
    kill = at_step("new", 6, lambda: os.kill(os.getpid(), signal.SIGKILL))
    ends = work_in_ranks(run, kill, patience_s=60)
    assert all(end.code != 0 for end in ends)
    assert [end.code for end in work_in_ranks(run)] == [0, 0]
    for stage in ("old", "new"):
        assert equal(checkpoint_weights(run, stage, 8), checkpoint_weights(two, stage, 8))
        assert equal(moments_of(run, stage, 8), moments_of(two, stage, 8))


@pytest.mark.slow
def test_an_unfreeze_after_a_resume_has_its_moments_back(make: Make) -> None:
    whole, broken = make("train.steps=12"), make("train.steps=12")
    for run, stops in ((whole, False), (broken, True)):
        unfreeze = at_step("new", 8, lambda run=run: request_command(run, "unfreeze"))
        stop = at_step("new", 6, lambda run=run: request_command(run, "stop"))
        listeners = [unfreeze, stop] if stops else [unfreeze]
        codes = [end.code for end in work_in_ranks(run, *listeners)]
        if stops:
            assert codes == [5, 5]
            codes = [end.code for end in work_in_ranks(run, unfreeze)]
        assert codes == [0, 0]
    assert equal(checkpoint_weights(whole, "new", 12), checkpoint_weights(broken, "new", 12))
    thawed = ".layers.0."
    before, after = checkpoint_weights(broken, "new", 4), checkpoint_weights(broken, "new", 12)
    assert any(not torch.equal(before[n], after[n]) for n in before if thawed in n)


def test_a_run_goes_on_with_one_rank_and_with_two_again(make: Make, one: RunDirectory) -> None:
    run = make()
    for world, stage, step in ((2, "old", 5), (1, "new", 3)):
        stop = at_step(stage, step, lambda: request_command(run, "stop"))
        assert {end.code for end in work_in_ranks(run, stop, world=world)} == {5}
    assert {end.code for end in work_in_ranks(run)} == {0}
    assert_same_course(one, run)
    told = [event["message"] for event in events_of(run, "alert") if event["code"] == "ranks"]
    told = [text for text in told if text.startswith("resumed")]
    assert [text.partition(":")[0] for text in told] == [
        "resumed on 1 rank, written by 2 ranks",
        "resumed on 2 ranks, written by 1 rank",
    ]
    assert all("same samples" in text for text in told)


LOST = """\
name = "lost"
[model]
source = "{0}/model"
[[tasks]]
name = "old"
data = "{0}/old.jsonl"
[[tasks]]
name = "new"
data = "{0}/new.jsonl"
learn = true
[launch]
sharding = "fsdp2"
[train]
learning_rate = 3e-3
batch_size = 8
steps = 30
warmup_steps = 2
[probe]
every = 10
every_in_window = 10
[checkpoint]
every = 30
[diagnose]
time = 0.0
[recover]
steps = 10
new_floor = 0.0
[anchor]
cache_size = 64
"""


@pytest.mark.slow  # two recovery tests and two repairs
def test_a_lost_task_is_diagnosed_and_recovered_as_in_one_process(tmp_path: Path) -> None:
    write_newcomer(tmp_path, steps=80)
    text = dump_profile(parse_profile(LOST.format(tmp_path)))
    runs = []
    for world in (1, 2):
        run = RunDirectory.create(
            tmp_path / f"of-{world}", profile_text=text, profile_name="lost", argv=["sf"]
        )
        asked = Operator(run).at("new", 20, "diagnose").at("new", 20, "recover")
        ends = work_in_ranks(run, asked, world=world, patience_s=2 * PATIENCE_S)
        assert [end.code for end in ends] == [0] * world
        runs.append(run)
    one, two = runs
    assert_same_course(one, two)
    alone, together = (events_of(run, "diagnosis")[0] for run in runs)
    assert alone["start"] - alone["now"] > 0.5
    assert together["verdict"] == alone["verdict"]
    assert {arm: found["steps_taken"] for arm, found in together["arms"].items()} == {
        arm: found["steps_taken"] for arm, found in alone["arms"].items()
    }
    for run in runs:
        mended = live_probes(run)["new", 20][0]["old"]["exact_match"]
        assert mended > alone["now"] + 0.3
        (last,) = [e for e in events_of(run, "command") if e["op"] == "recover"][-1:]
        assert last["status"] == "done"
        assert "held by an anchor" in last["reason"]


@pytest.mark.slow
def test_an_op_that_fails_on_one_rank_alone_ends_the_run(make: Make) -> None:
    run = make()

    def break_later(worker: Worker) -> None:  # noqa: ARG001  the ranks' protocol
        def fail(self: Scorer, *given: object) -> object:  # noqa: ARG001
            raise MemoryError

        Scorer._probe = fail  # type: ignore[assignment,method-assign]

    asked = at_step("new", 6, lambda: request_command(run, "diagnose"))
    ends = work_in_ranks(run, asked, on_rank=(lambda _: None, break_later))
    assert [end.code for end in ends] == [1, 1]
    last = events_of(run)[-1]
    assert (last["type"], last["status"]) == ("run_finished", "failed")
    assert "rank 1" in last["reason"]
    assert [end.code for end in work_in_ranks(run)] == [0, 0]


@pytest.mark.slow
def test_a_diagnosis_is_cancelled_on_every_rank(make: Make) -> None:
    run = make()

    def hear(event: JsonObject) -> None:
        if event["type"] == "operation" and event["part"]:
            request_command(run, "cancel", by="test:cancel")

    asked = at_step("new", 6, lambda: request_command(run, "diagnose"))
    assert [end.code for end in work_in_ranks(run, asked, hear)] == [0, 0]
    statuses = [e["status"] for e in events_of(run, "command") if e["op"] == "diagnose"]
    assert statuses == ["accepted", "cancelled"]


@pytest.mark.slow
def test_a_rollback_restores_every_part(make: Make) -> None:
    run = make()
    to_step_4 = at_step(
        "new", 7, lambda: request_command(run, "rollback", {"to": "new/step-000004"})
    )
    assert [end.code for end in work_in_ranks(run, to_step_4)] == [0, 0]
    assert [e["step"] for e in events_of(run, "rewound")] == [4]
