"""Which checkpoints stay, which a resume takes up, and which a rollback puts aside."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from torch import nn

from sf_tui.engine.checkpoint import save_checkpoint
from sf_tui.engine.layout import Layer, ModelLayout
from sf_tui.errors import UsageError
from sf_tui.profile import CheckpointSettings
from sf_tui.run.directory import RunDirectory
from sf_tui.vocabulary.events import Rewound
from sf_tui.worker.checkpoints import CheckpointStore
from sf_tui.worker.resume_log import ResumeLog

# As a stage writes it.
STATE: dict[str, Any] = {
    "logged": 0,
    "frozen": [],
    "sticky_frozen": [],
    "strategies": {},
    "rules_crossed": [],
    "baseline": {},
    "right_at_start": {},
    "right_now": {},
    "watch": {"in_stage": {}, "since_run": {}, "best": None, "looked": False},
    "accuracy": {},
    "probed_at": None,
    "score": None,
    "asked_for": False,
    "threads": 1,
    "ranks": 1,
    "torch": "2",
}


class Shelf:
    """A shelf on disk with a layer of one number."""

    def __init__(self, path: Path, **settings: int) -> None:
        self.run = RunDirectory.create(path, profile_text="", profile_name="p", argv=[])
        self.shelf = CheckpointStore(self.run, CheckpointSettings(**settings))
        nothing = Layer("head", {})
        weights = nn.Linear(1, 1, bias=False).weight
        self._layout = ModelLayout(
            Layer("embeddings", {"w": weights}), (), nothing, False, frozenset("w"), frozenset("w")
        )
        self._seq = 0

    def put(self, step: int, stage: str = "new", **state: Any) -> None:
        self._seq += 1
        whole = STATE | {"stage": stage, "step": step, "seq": self._seq} | state
        save_checkpoint(self.shelf.path(stage, step), self._layout, None, whole)

    def names(self, stage: str = "new") -> list[str]:
        return sorted(entry.name for entry in (self.run.checkpoints / stage).iterdir())

    def steps(self, stage: str = "new") -> list[int]:
        return [checkpoint.step for checkpoint in self.shelf.current(stage)]


def rewound(seq: int, step: int, *, checkpoint: str, reason: str = "rollback") -> Rewound:
    return Rewound(stage="new", step=step, reason=reason, checkpoint=checkpoint, seq=seq)


def test_start_end_last_and_best_are_kept(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path / "run", keep_last=2, keep_best=1)
    scores = {0: 0.1, 10: 0.9, 20: 0.3, 30: 0.2, 40: 0.1, 50: None, 60: 0.3}
    for step, score in scores.items():
        shelf.put(step, score=score, asked_for=step == 30)
        shelf.shelf.prune("new", last_step=60)
    assert shelf.steps() == [0, 10, 30, 50, 60]
    assert shelf.names() == [f"step-{step:06d}" for step in (0, 10, 30, 50, 60)]


def test_of_equal_scores_the_newest_is_the_best(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path / "run", keep_last=1, keep_best=1)
    for step in (0, 10, 20, 30):
        shelf.put(step, score=0.5 if step in (10, 20) else 0.1)
    shelf.shelf.prune("new", last_step=90)
    assert shelf.steps() == [0, 20, 30]


def test_what_a_rollback_put_aside_pushes_out_nothing_that_counts(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path / "run", keep_last=2, keep_best=1)
    for step in (0, 10, 20, 30, 40):
        shelf.put(step, score=0.9 if step > 20 else 0.5)
    shelf.shelf.abandon_after("new", 20)
    assert shelf.steps() == [0, 10, 20]
    shelf.put(30, score=0.4)
    shelf.shelf.prune("new", last_step=90)
    assert shelf.steps() == [0, 20, 30]
    shelf.shelf.abandon_after("new", 20)
    assert "step-000030~2" in shelf.names()
    for step in (30, 40, 50, 60):
        shelf.put(step, score=0.1)
        shelf.shelf.prune("new", last_step=90)
    aside = [name for name in shelf.names() if "~" in name]
    assert len(aside) == 2


def test_folder_that_a_kill_left_half_deleted_is_in_nobodys_way(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path / "run", keep_last=1, keep_best=0)
    left = shelf.run.checkpoints / "new" / ".step-000010.deleting" / "weights"
    left.mkdir(parents=True)
    (left / "block-0.safetensors").write_bytes(b"x")
    for step in (0, 10, 20):
        shelf.put(step)
        shelf.shelf.prune("new", last_step=90)
    assert shelf.names() == ["step-000000", "step-000020"]


def test_resume_takes_the_newest_of_the_latest_stage(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path / "run")
    assert shelf.shelf.resume_point(["old", "new"], ResumeLog()) is None
    shelf.put(0, "old")
    shelf.put(30, "old")
    assert shelf.shelf.resume_point(["old", "new"], ResumeLog()).path.name == "step-000030"
    shelf.put(0, "new")
    found = shelf.shelf.resume_point(["old", "new"], ResumeLog())
    assert (found.stage, found.step) == ("new", 0)


@pytest.mark.parametrize("put_aside", [False, True])
def test_resume_after_a_rollback_takes_its_target_until_there_is_a_newer_one(
    tmp_path: Path, put_aside: bool
) -> None:
    # A kill may come between the rollback's event and the renaming of what it threw away.
    shelf = Shelf(tmp_path / "run")
    for step in (0, 10, 20, 30):
        shelf.put(step)
    ledger = ResumeLog([rewound(100, 10, checkpoint="step-000010")])
    if put_aside:
        shelf.shelf.abandon_after("new", 10)
    assert shelf.shelf.resume_point(["new"], ledger).step == 10
    shelf._seq = 100
    shelf.put(15)
    assert shelf.shelf.resume_point(["new"], ledger).step == 15


def test_rollback_in_an_earlier_stage_says_nothing_of_a_later_one(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path / "run")
    for step in (0, 10):
        shelf.put(step, "new")
    shelf.put(0, "new-2")
    ledger = ResumeLog([rewound(2, 0, checkpoint="step-000000")])
    assert shelf.shelf.resume_point(["new", "new-2"], ledger).stage == "new-2"


def test_last_good_checkpoint_lies_before_the_step(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path / "run")
    for step in (0, 10, 20):
        shelf.put(step)
    target = shelf.shelf.rollback_target
    assert [target("new", step, None).step for step in (25, 20, 11, 10, 1)] == [20, 10, 10, 0, 0]
    with pytest.raises(UsageError, match="before step 0"):
        target("new", 0, None)
    with pytest.raises(UsageError, match="before step 5"):
        target("old", 5, None)


@pytest.mark.parametrize("name", ["step-000010", "new/step-000010", "checkpoints/new/step-000010"])
def test_checkpoint_goes_by_its_name_with_or_without_its_stage(tmp_path: Path, name: str) -> None:
    shelf = Shelf(tmp_path / "run")
    for step in (0, 10, 20):
        shelf.put(step)
    assert shelf.shelf.rollback_target("new", 20, name).step == 10


@pytest.mark.parametrize("name", ["step-000020", "old/step-000010", "000010", "", "step-000010/"])
def test_name_that_fits_none_is_told_with_those_that_there_are(tmp_path: Path, name: str) -> None:
    shelf = Shelf(tmp_path / "run")
    for step in (0, 10, 20):
        shelf.put(step)
        shelf.put(step, "old")
    with pytest.raises(UsageError) as caught:
        shelf.shelf.rollback_target("new", 15, name)
    assert "step-000000, step-000010" in caught.value.hint


def test_first_checkpoint_kept_aside_stays_the_start_and_the_point_to_resume_from(
    tmp_path: Path,
) -> None:
    shelf = Shelf(tmp_path / "run")
    shelf.put(0)
    [first] = shelf.shelf.current("new")
    assert shelf.shelf.start("new") == first.path
    for _ in range(2):
        shelf.shelf.keep_aside(first)
        # A kill before the next one is written finds it in its place, and its copy.
        assert shelf.steps() == [0]
        assert shelf.names() == ["step-000000", "step-000000~1"]
        assert shelf.shelf.start("new").name == "step-000000~1"
    shelf.put(0)
    kept_state = (first.path.with_name("step-000000~1") / "state.json").read_bytes()
    assert kept_state != (first.path / "state.json").read_bytes()
    assert shelf.names() == ["step-000000", "step-000000~1"]
