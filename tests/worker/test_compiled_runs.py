"""`[train] torch_compile`: compiled steps train as plain ones, and nothing else is compiled."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

from sf_tui.errors import ModelError
from sf_tui.run.directory import RunDirectory
from support.adapter_runs import ADAPTER, begin_adapter_run, make_base
from support.quick_run import (
    Begin,
    Operator,
    assert_course_close,
    assert_well_told,
    checkpoint_weights,
    commands_of,
    equal,
    events_of,
    final_weights,
    live_probes,
    work,
)
from support.several_ranks import work_in_ranks
from support.short_ops import SHORT
from worker.test_ranks import PLAIN, operate

COMPILED = "train.torch_compile=true"
HAS_COMPILER = pytest.mark.skipif(
    shutil.which("g++") is None, reason="torch.compile needs g++ on a CPU"
)


@pytest.mark.slow  # imports the compiler
def test_without_a_compiler_a_run_is_refused_before_its_first_step(
    begin: Begin,
) -> None:
    import torch._inductor.config as inductor

    run = begin(COMPILED)
    # By torch's own means: what pytest restores in these modules is gone for torch.
    with (
        inductor.patch({"cpp.cxx": ("no-such-compiler",), "force_disable_caches": True}),
        pytest.raises(ModelError, match="nothing can be compiled for cpu here") as caught,
    ):
        work(run)
    assert "install a C++ compiler (g++)" in caught.value.hint
    assert "[train] torch_compile = false" in caught.value.hint
    last = events_of(run)[-1]
    assert (last["type"], last["exit_code"]) == ("run_finished", 2)
    assert events_of(run, "step") == []


def assert_same_course(run: RunDirectory, other: RunDirectory) -> None:
    assert_course_close(run, other, rel=1e-3, abs=1e-5)


@HAS_COMPILER
@pytest.mark.slow  # compiles
def test_a_compiled_run_obeys_and_measures_as_the_plain_one(begin: Begin) -> None:
    from torch._dynamo.utils import counters

    plain, compiled = begin(*PLAIN, *SHORT, name="plain"), begin(*PLAIN, *SHORT, COMPILED)
    assert work(plain, operate(plain)) == 0
    counters.clear()
    assert work(compiled, operate(compiled)) == 0
    # The four blocks share their code: one form for one row and one for several, for each way in
    # which something of a block trains.
    assert 1 <= counters["stats"]["unique_graphs"] <= 8
    assert_well_told(compiled)
    assert commands_of(compiled) == commands_of(plain)
    assert_same_course(compiled, plain)
    alone, together = live_probes(plain), live_probes(compiled)
    for place, (metrics, _) in alone.items():
        for task, measures in metrics.items():
            assert together[place][0][task] == pytest.approx(measures, rel=1e-3), place
    with safe_open(compiled.model / "model.safetensors", "pt") as file:
        names = set(file.keys())
    with safe_open(plain.model / "model.safetensors", "pt") as file:
        assert set(file.keys()) == names


FREEZE = ('tasks.new.train.strategy="freeze"', "tasks.new.train.freeze.layers=2")


@HAS_COMPILER
@pytest.mark.slow
def test_a_frozen_block_stays_bit_identical_in_compiled_steps(begin: Begin) -> None:
    more = (*PLAIN, *FREEZE)
    plain, compiled = begin(*more, name="plain"), begin(*more, COMPILED)
    assert (work(plain), work(compiled)) == (0, 0)
    assert_same_course(compiled, plain)
    before, after = (checkpoint_weights(compiled, "new", step) for step in (0, 12))
    same = {name for name in before if torch.equal(before[name], after[name])}
    frozen = {n for n in before if ".layers.0." in n or ".layers.1." in n or "embed_in" in n}
    assert same == frozen != set()


@HAS_COMPILER
@pytest.mark.slow
def test_measuring_does_not_change_a_compiled_training(begin: Begin) -> None:
    watched = begin(COMPILED, "probe.every=1", "probe.every_in_window=1", name="watched")
    bare = begin(COMPILED, "probe.every=50", "probe.every_in_window=50", name="bare")
    for run in (watched, bare):
        torch._dynamo.reset()
        assert work(run) == 0
    assert equal(final_weights(watched), final_weights(bare))


@HAS_COMPILER
@pytest.mark.slow
def test_an_adapter_and_two_ranks_train_compiled(tmp_path: Path, begin: Begin) -> None:
    base = make_base(tmp_path / "base", attention_dropout=0.0)
    adapter = ADAPTER.replace("dropout = 0.1", "dropout = 0.0")
    plain = begin_adapter_run(tmp_path / "plain", base, adapter)
    compiled = begin_adapter_run(tmp_path / "compiled", base, adapter, COMPILED)
    assert (work(plain), work(compiled)) == (0, 0)
    assert_same_course(compiled, plain)

    alone, two = begin(*PLAIN, COMPILED, name="alone"), begin(*PLAIN, COMPILED, name="two")
    assert work(alone) == 0
    assert [end.code for end in work_in_ranks(two)] == [0, 0]
    assert_same_course(two, alone)


@HAS_COMPILER
@pytest.mark.slow
def test_a_resumed_compiled_run_says_how_exact_it_is(begin: Begin) -> None:
    whole, parts = begin(*PLAIN, COMPILED, name="whole"), begin(*PLAIN, COMPILED)
    assert work(whole) == 0
    assert work(parts, Operator(parts).at("new", 5, "stop")) == 5
    torch._dynamo.reset()
    assert work(parts) == 0
    assert_same_course(parts, whole)
    (alert,) = [e for e in events_of(parts, "alert") if e["code"] == "compiled"]
    assert "same samples in the same order" in alert["message"]
    assert "float tolerance" in alert["message"]
    assert [e for e in events_of(whole, "alert") if e["code"] == "compiled"] == []
