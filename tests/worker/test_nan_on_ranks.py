"""A loss that is not finite takes all ranks back at the same step, as it takes one process."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch

from sf_tui.engine.step import ExamplesLoss
from sf_tui.profile import dump_profile, parse_profile
from sf_tui.run.directory import RunDirectory
from sf_tui.worker.worker import Worker
from support.quick_run import assert_well_told, events_of, live_course, with_model
from support.several_ranks import work_in_ranks

# No dropout, which would fall on other rows; the ranks have shares of different sizes.
LLAMA = with_model(
    """\
[model.config]
model_type = "llama"
hidden_size = 16
num_hidden_layers = 2
num_attention_heads = 2
num_key_value_heads = 1
intermediate_size = 32
max_position_embeddings = 64
"""
)
BURSTS = (
    *("tasks.new.train.learning_rate=1e30", "train.batch_size=5"),
    *("tasks.old.train.steps=2", "tasks.new.train.steps=4"),
)
CONTINUES = ('tasks.new.train.on_nan="continue"', "tasks.new.train.nan_lr_factor=1e-33")


def begin(path: Path, *overrides: str) -> RunDirectory:
    text = dump_profile(parse_profile(LLAMA, overrides=overrides))
    return RunDirectory.create(path, profile_text=text, profile_name="quick", argv=["sf"])


def told(run: RunDirectory) -> list[tuple[str, int, str]]:
    """Return what a run tells of its losses that are not finite: stage, step, and what was done."""
    rewinds = [(e["stage"], e["step"], e["reason"]) for e in events_of(run, "rewound")]
    alerts = [e for e in events_of(run, "alert") if e["code"] == "nan"]
    return [*rewinds, *((e["stage"], e["step"], "alert") for e in alerts)]


# With whole weights, a loss of one rank alone is tested below.
@pytest.mark.parametrize("sharding", [pytest.param("ddp", marks=pytest.mark.slow), "fsdp2"])
@pytest.mark.parametrize(
    "then",
    [
        pytest.param((), id="stop"),
        pytest.param(CONTINUES, id="continue", marks=pytest.mark.slow),
    ],
)
def test_all_ranks_go_back_where_one_process_does(
    sharding: str, then: tuple[str, ...], tmp_path: Path
) -> None:
    settings = (*BURSTS, *then, f'launch.sharding="{sharding}"')
    one, two = begin(tmp_path / "one", *settings), begin(tmp_path / "two", *settings)
    assert work_in_ranks(one, world=1)[0].code == (0 if then else 1)
    ends = work_in_ranks(two)
    assert_well_told(two)
    assert {end.code for end in ends} == {0 if then else 1}
    assert told(two) == told(one)
    assert ("new", 0, "nan") in told(two)
    assert live_course(two).keys() == live_course(one).keys()
    if not then:
        last = events_of(two)[-1]
        assert "rolled back to step-000000" in last["reason"]
        assert events_of(one)[-1]["reason"].partition(":")[0] == last["reason"].partition(":")[0]


@pytest.mark.parametrize("sharding", ["ddp", pytest.param("fsdp2", marks=pytest.mark.slow)])
def test_a_loss_of_one_rank_alone_stops_all(sharding: str, tmp_path: Path) -> None:
    few = ("train.batch_size=5", "tasks.new.train.steps=1", "tasks.old.train.steps=6")
    run = begin(tmp_path / "run", *few, f'launch.sharding="{sharding}"')

    def break_later(worker: Worker) -> None:  # noqa: ARG001  the ranks' protocol
        forward = torch.nn.functional.cross_entropy

        def fail(*given: object, **named: object) -> torch.Tensor:
            return forward(*given, **named) * math.nan  # type: ignore[arg-type]

        accumulate = ExamplesLoss.accumulate

        def break_at(self: ExamplesLoss, step: int) -> tuple[float, int]:
            torch.nn.functional.cross_entropy = fail if step == 6 else forward
            return accumulate(self, step)

        ExamplesLoss.accumulate = break_at  # type: ignore[method-assign]

    ends = work_in_ranks(run, on_rank=(lambda _: None, break_later))
    assert [end.code for end in ends] == [1, 1]
    assert told(run) == [("old", 4, "nan"), ("old", 6, "alert")]
    last = events_of(run)[-1]
    assert (last["status"], last["exit_code"]) == ("failed", 1)
    assert "step 6: loss nan" in last["reason"]
    # Nothing of it is kept: the run goes on where it was.
    assert [end.code for end in work_in_ranks(run)] == [0, 0]
    assert_well_told(run)
