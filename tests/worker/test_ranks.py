"""Several processes train as one does: what they compute, obey, survive and leave behind.

The ranks are forked and connected by gloo, so a run of two takes about as long as a run of one.
"""

from __future__ import annotations

import json
import math
import os
import signal
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

from sf_tui.engine.ranks import RankLostError, Ranks
from sf_tui.profile import dump_profile, parse_profile
from sf_tui.run.directory import RunDirectory
from sf_tui.run.events import JsonObject
from sf_tui.run.liveness import probe_liveness
from sf_tui.worker.lockstep import ending_alike
from sf_tui.worker.stop import CommandFailedError
from support.quick_run import (
    PROFILE,
    Begin,
    Operator,
    assert_course_close,
    assert_well_told,
    commands_of,
    equal,
    events_of,
    final_weights,
    live_probes,
    work,
)
from support.several_ranks import RankEnd, fork_ranks, work_in_ranks
from support.short_ops import SHORT

PLAIN = (
    *("model.config.attention_dropout=0.0", "model.config.hidden_dropout=0.0"),
    # No multiple of two: the ranks have shares of different sizes.
    *("train.batch_size=5", "train.micro_batch_size=2"),
)
ROWS_OF_ONE = ("train.batch_size=1", "train.micro_batch_size=1")
LLAMA = PROFILE.replace("gpt_neox", "llama").replace(
    "attention_dropout = 0.1\nhidden_dropout = 0.1\n",
    "num_key_value_heads = 1\ntie_word_embeddings = true\n",
)


def assert_same_everywhere(ends: list[RankEnd], code: int = 0) -> None:
    assert [(end.code, end.error) for end in ends] == [(code, "")] * len(ends)
    assert len({end.weights for end in ends}) == 1
    assert len({end.frozen for end in ends}) == 1


def assert_same_course(one: RunDirectory, other: RunDirectory, tolerance: float = 1e-4) -> None:
    assert_course_close(one, other, rel=tolerance, abs=tolerance)


@pytest.mark.parametrize("world", [1, 2, 3, 5])
@pytest.mark.parametrize("count", [1, 2, 7, 12])
def test_every_row_and_pass_has_one_rank(world: int, count: int) -> None:
    ranks = [_rank(number, world, lockstep=False) for number in range(world)]
    assert [at for one in ranks for at in one.share(count)] == list(range(count))
    dealt = sorted(at for one in ranks for at, counts in one.turns(count) if counts)
    assert dealt == list(range(count))
    rows = [at for one in ranks for places, weight in one.passes(count, 3) for at in places]
    assert rows == list(range(count))


@pytest.mark.parametrize("world", [1, 2, 3, 5])
@pytest.mark.parametrize("count", [1, 2, 7, 12])
def test_in_lockstep_all_ranks_run_as_many_passes(world: int, count: int) -> None:
    ranks = [_rank(number, world, lockstep=True) for number in range(world)]
    assert len({len(one.passes(count, 2)) for one in ranks}) == 1
    assert len({len(one.turns(count)) for one in ranks}) == 1
    weighed = [
        at for one in ranks for places, weight in one.passes(count, 2) for at in places if weight
    ]
    assert weighed == list(range(count))
    dealt = sorted(at for one in ranks for at, counts in one.turns(count) if counts)
    assert dealt == list(range(count))


def _rank(number: int, world: int, *, lockstep: bool) -> Ranks:
    one = Ranks()
    one.rank, one.world, one.lockstep = number, world, lockstep
    return one


def test_two_ranks_train_and_measure_as_one_process(begin: Begin) -> None:
    assert_two_are_one(*(begin(*PLAIN, "train.steps=8", name=name) for name in ("one", "two")))


@pytest.mark.slow  # what a family changes is tested with divided weights, too
def test_two_ranks_train_a_model_with_shared_weights_as_one_process(tmp_path: Path) -> None:
    text = dump_profile(parse_profile(LLAMA, overrides=PLAIN[2:]))
    runs = [
        RunDirectory.create(tmp_path / name, profile_text=text, profile_name="llama", argv=["sf"])
        for name in ("one", "two")
    ]
    assert_two_are_one(*runs)


def test_a_failure_of_one_rank_alone_is_one_of_all(tmp_path: Path) -> None:
    def work(ranks: Ranks, report: Path) -> int:
        ranks.keep_step()
        said = []
        for failing in ((), (1,), (0, 1)):
            try:
                with ending_alike(ranks):
                    if ranks.rank in failing:
                        raise CommandFailedError("the disk is full")
                said.append("")
            except (CommandFailedError, RankLostError) as error:
                said.append(f"{type(error).__name__}: {error}".partition("\n")[0])
        said.append(str(ranks.of_main([0.1 + ranks.rank, math.nan])))
        report.write_text(json.dumps(said))
        return 0

    for process in fork_ranks(work, tmp_path):
        assert process.wait(60) == 0
    for rank in range(2):
        well, alone, alike, numbers = json.loads((tmp_path / f"{rank}.json").read_text())
        assert well == ""
        assert alone.startswith("RankLostError: rank 1 alone failed in what all ranks do together")
        assert alone.endswith("the disk is full")
        assert alike == "CommandFailedError: the disk is full"
        assert numbers == "[0.1, nan]"


def assert_two_are_one(one: RunDirectory, two: RunDirectory) -> None:
    assert work(one) == 0
    assert_same_everywhere(work_in_ranks(two))
    assert_well_told(two)
    assert_same_course(one, two)
    alone, together = live_probes(one), live_probes(two)
    assert together.keys() == alone.keys()
    for place, (metrics, _) in alone.items():
        assert together[place][0].keys() == metrics.keys()
        for task, measures in metrics.items():
            assert together[place][0][task] == pytest.approx(measures, rel=1e-4), place
    assert sorted(path.name for path in two.path.iterdir()) == sorted(
        path.name for path in one.path.iterdir()
    )


@pytest.mark.slow
def test_ranks_without_a_row_take_part(begin: Begin) -> None:
    one = begin(*PLAIN, *ROWS_OF_ONE, name="one")
    assert work(one) == 0
    three = begin(*PLAIN, *ROWS_OF_ONE, name="three")
    assert_same_everywhere(work_in_ranks(three, world=3))
    assert_same_course(one, three)


def operate(run: RunDirectory) -> Operator:
    operator = Operator(run).at("new", 1, "freeze", layers=1).at("new", 2, "anchor", strength=0.5)
    operator.at("new", 3, "unfreeze").at("new", 4, "pause").after("pause", "resume")
    operator.at("new", 5, "checkpoint").at("new", 6, "rollback")
    operator.at("new", 8, "diagnose").at("new", 9, "recover", steps=4).at("new", 10, "unanchor")
    return operator


@pytest.mark.slow  # a recovery test and a repair, twice
def test_an_operator_has_the_same_effect_on_every_rank(begin: Begin) -> None:
    one = begin(*PLAIN, *SHORT, name="one")
    assert work(one, operate(one)) == 0
    two = begin(*PLAIN, *SHORT, name="two")
    assert_same_everywhere(work_in_ranks(two, operate(two)))
    assert_well_told(two)
    assert commands_of(two) == commands_of(one)
    done = [(e["action"], e["step"]) for e in events_of(two, "command") if e["status"] == "done"]
    assert done == [
        (e["action"], e["step"]) for e in events_of(one, "command") if e["status"] == "done"
    ]
    assert {action for action, _ in done} >= {"freeze", "rollback", "diagnose", "recover"}


RULES = """
[[rules]]
name = "hold"
metric = "drift"
above = 0.001
action = "freeze"
arguments = {layers = 2}
[[rules]]
name = "enough"
metric = "drift"
above = 0.03
action = "stop"
"""


def test_rules_act_on_every_rank_at_the_same_step(begin: Begin) -> None:
    one = begin(*PLAIN, more=RULES, name="one")
    code = work(one)
    two = begin(*PLAIN, more=RULES, name="two")
    ends = work_in_ranks(two)
    assert_same_everywhere(ends, code)
    assert code == 5
    assert ends[1].frozen
    assert commands_of(two) == commands_of(one)
    assert [e["step"] for e in events_of(two, "step")][-1] == events_of(one, "step")[-1]["step"]


@pytest.mark.slow  # seven runs
def test_a_stopped_run_goes_on_byte_for_byte_and_on_other_numbers_of_ranks(begin: Begin) -> None:
    # With dropout: each rank draws for its own rows, again after a resume.
    whole = begin("train.batch_size=5", name="whole")
    assert_same_everywhere(work_in_ranks(whole))
    stopped = begin("train.batch_size=5", name="stopped")
    assert_same_everywhere(work_in_ranks(stopped, Operator(stopped).at("new", 5, "stop")), 5)
    assert_same_everywhere(work_in_ranks(stopped))
    assert equal(final_weights(stopped), final_weights(whole))

    alone = begin(*PLAIN, name="alone")
    assert work(alone) == 0
    changing = begin(*PLAIN, name="changing")
    operator = Operator(changing).at("old", 6, "stop")
    assert_same_everywhere(work_in_ranks(changing, operator), 5)
    assert work(changing, Operator(changing).at("new", 5, "stop")) == 5
    assert_same_everywhere(work_in_ranks(changing))
    assert_well_told(changing)
    assert_same_course(alone, changing)
    told = [e["message"] for e in events_of(changing, "alert") if e["code"] == "ranks"]
    assert told[0].startswith("2 ranks on 1 host (rank 0: cpu on ")
    told = [text for text in told if text.startswith("resumed")]
    assert [text.partition(":")[0] for text in told] == [
        "resumed on 1 rank, written by 2 ranks",
        "resumed on 2 ranks, written by 1 rank",
    ]


FEW = "train.steps=6"


def interrupting(number: signal.Signals, victim: int, step: int) -> tuple[object, ...]:
    """Return a listener and what the ranks do first, so that a rank gets a signal at a step."""
    note = Path(tempfile.mkdtemp()) / "pid"

    def tell(worker: object) -> None:  # noqa: ARG001  the ranks' protocol
        note.write_text(str(os.getpid()))

    def listen(event: JsonObject) -> None:
        if event["type"] == "step" and (event["stage"], event["step"]) == ("new", step):
            os.kill(os.getpid() if victim == 0 else int(note.read_text()), number)

    return listen, (lambda _: None, tell)


@pytest.mark.parametrize("victim", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_a_killed_rank_ends_all_and_the_run_can_be_resumed(begin: Begin, victim: int) -> None:
    run = begin(*PLAIN, FEW)
    listen, first = interrupting(signal.SIGKILL, victim, 5)
    ends = work_in_ranks(run, listen, on_rank=first, patience_s=30)
    assert ends[victim].code == -signal.SIGKILL
    other = ends[1 - victim]
    assert other.code == 1
    assert f"rank {victim} is gone" in other.error
    left = probe_liveness(run).ranks_now
    assert [one.rank for one in left if one.gone] == [victim]
    if victim == 1:
        last = events_of(run)[-1]
        assert (last["type"], last["status"]) == ("run_finished", "failed")
        assert "rank 1 is gone" in last["reason"]
    assert_same_everywhere(work_in_ranks(run))
    whole = begin(*PLAIN, FEW, name="whole")
    assert_same_everywhere(work_in_ranks(whole))
    assert equal(final_weights(run), final_weights(whole))


def test_a_signal_to_any_rank_stops_all_at_the_same_step(begin: Begin) -> None:
    run = begin(*PLAIN, FEW)
    listen, first = interrupting(signal.SIGUSR1, 1, 3)
    assert_same_everywhere(work_in_ranks(run, listen, on_rank=first), 5)
    last = events_of(run)[-1]
    assert last["reason"].startswith("stopped by signal SIGUSR1")
    assert_same_everywhere(work_in_ranks(run))
    assert_well_told(run)


def test_a_rank_that_fails_says_why_in_the_run(begin: Begin) -> None:
    run = begin(*PLAIN, FEW)

    def break_later(worker: object) -> None:  # noqa: ARG001  the ranks' protocol
        from sf_tui.engine.loop import StageTuner

        advance: Callable[[StageTuner], object] = StageTuner.advance

        def fail(self: StageTuner) -> object:
            if self.step == 3:
                raise RuntimeError("CUDA out of memory. Tried to allocate 2 GiB")
            return advance(self)

        StageTuner.advance = fail  # type: ignore[assignment]

    ends = work_in_ranks(run, on_rank=(lambda _: None, break_later), patience_s=30)
    assert [end.code for end in ends] == [1, 1]
    last = events_of(run)[-1]
    assert (last["type"], last["status"]) == ("run_finished", "failed")
    assert "rank 1 ended: CUDA out of memory" in last["reason"]
    assert_same_everywhere(work_in_ranks(run))
