"""A rollback brings back exactly what the checkpoint had, even between two acts at one step."""

from __future__ import annotations

from pathlib import Path

from sf_tui.run.checkpoint_folders import existing_checkpoints, existing_states, paths_on_disk
from sf_tui.run.directory import RunDirectory
from sf_tui.run.losses import worst_loss
from sf_tui.run.state import RunState, fold
from sf_tui.vocabulary.declared import LayerDrift
from sf_tui.vocabulary.events import (
    CheckpointWritten,
    CommandAnswered,
    Danger,
    DiagnosisMade,
    Drift,
    Event,
    Probe,
    Rewound,
    RunFinished,
    RunStarted,
    StageStarted,
    Step,
)


class Log:
    """Tells a run whose old task is lost, repaired at one step, and rolled back."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        tasks = ["old", "new"]
        self.tell(
            RunStarted(tasks=tasks, watched=tasks, metrics=dict.fromkeys(tasks, "exact_match"))
        )
        self.tell(StageStarted("new", "new", 1000, known=["old"]))
        self.tell(Danger("new", "entered", 0, 150))
        self.probe(0, 1.0)
        self.save(0)

    def tell(self, event: Event) -> int:
        seq = len(self.events) + 1
        object.__setattr__(event, "seq", seq)
        self.events.append(event)
        return seq

    def step(self, step: int, *, anchored: bool = False) -> None:
        losses = {"anchor": 0.1} if anchored else {}
        self.tell(Step("new", step, 1.0, losses=losses))

    def probe(self, step: int, old: float) -> None:
        metrics = {"old": {"exact_match": old, "n": 100}, "new": {"exact_match": 1.0, "n": 100}}
        self.tell(Probe("new", step, metrics))

    def drift(self, step: int, *, frozen: bool) -> None:
        self.tell(Drift("new", step, [LayerDrift("block-0", 0.1, frozen)]))

    def save(self, step: int, name: str = "") -> None:
        path = f"checkpoints/new/{name or f'step-{step:06d}'}"
        self.tell(CheckpointWritten("new", step, path))

    def command(self, op: str, step: int, status: str = "done") -> None:
        self.tell(CommandAnswered(op, status, op, op, {}, "user", stage="new", step=step))

    def repair(self, step: int, old: float) -> None:
        self.command("recover", step, "accepted")
        self.save(step)
        self.command("recover", step)
        self.tell(Danger("new", "entered", step, 50, "recover"))
        self.probe(step, old)

    def roll_back(self, step: int, name: str = "") -> None:
        self.tell(Rewound("new", step, "rollback", 1, name or f"step-{step:06d}"))

    @property
    def state(self) -> RunState:
        return fold(self.events)


def old_now(state: RunState) -> float:
    worst = worst_loss(state)
    assert worst is not None
    return worst.now.value


def repaired() -> Log:
    log = Log()
    log.step(700)
    log.probe(700, 0.26)
    log.repair(700, 0.98)
    return log


def test_state_after_a_rollback_is_the_checkpoints_own_not_the_repairs() -> None:
    log = repaired()
    assert old_now(log.state) == 0.98
    log.tell(DiagnosisMade("none", "old", 0.98, stage="new", step=700))
    log.step(800)
    log.roll_back(700)
    state = log.state
    assert state.stage is not None
    assert old_now(state) == 0.26
    assert state.stage.weight_changes == []
    assert [window.cause for window in state.stage.windows] == [""]
    assert not state.diagnosis_holds, "it judged the repaired weights"


def test_state_after_a_rollback_behind_the_repair_keeps_it() -> None:
    log = repaired()
    log.step(800)
    log.probe(800, 0.5)
    log.save(800)
    log.step(900)
    log.probe(900, 0.1)
    log.roll_back(800)
    state = log.state
    assert state.stage is not None
    assert old_now(state) == 0.5
    assert [change.step for change in state.stage.weight_changes] == [700]


def test_acts_at_the_checkpoints_own_step_are_undone_if_they_came_after_it() -> None:
    log = Log()
    log.step(100)
    log.drift(100, frozen=False)
    log.save(100)
    log.command("freeze", 100)
    log.drift(100, frozen=True)
    log.command("anchor", 100)
    log.step(101, anchored=True)
    state = log.state
    assert state.stage is not None
    assert (state.stage.frozen, state.stage.anchor is None) == (["block-0"], False)
    log.roll_back(100)
    state = log.state
    assert state.stage is not None
    assert (state.stage.frozen, state.stage.anchor) == ([], None)
    assert state.stage.last_step is not None
    assert state.stage.last_step.step == 100


def test_layers_that_were_frozen_at_the_checkpoint_are_so_again() -> None:
    log = Log()
    log.step(100)
    log.drift(100, frozen=True)
    log.save(100)
    log.step(110)
    log.drift(110, frozen=False)
    log.roll_back(100)
    state = log.state
    assert state.stage is not None
    assert state.stage.frozen == ["block-0"]


def test_a_window_that_a_repair_cut_short_is_whole_again() -> None:
    log = Log()
    log.step(50)
    log.save(50)
    log.step(100)
    log.repair(100, 0.9)
    state = log.state
    assert state.stage is not None
    assert [(w.start, w.length) for w in state.stage.windows] == [(0, 100), (100, 50)]
    log.roll_back(50)
    state = log.state
    assert state.stage is not None
    assert [(w.start, w.length) for w in state.stage.windows] == [(0, 150)]


def test_a_probe_that_was_not_kept_comes_back_with_its_checkpoint() -> None:
    log = Log()
    for step in range(200, 2000):
        log.probe(step, step / 2000)
        if step == 500:
            log.save(step)
    log.roll_back(500)
    assert old_now(log.state) == 0.25


def test_the_checkpoint_from_before_a_repair_is_found_where_it_was_put(tmp_path: Path) -> None:
    log = repaired()
    log.save(700, "step-000700~1")
    log.save(700)
    run = RunDirectory(tmp_path / "run")
    for name in ("step-000000", "step-000700~1", "step-000700", "step-000900~1"):
        (run.checkpoints / "new" / name).mkdir(parents=True)
    state = log.state
    found = existing_states(run, state, "new")
    values = {each.name: each.metrics["old"]["exact_match"] for each in found}
    assert values == {"step-000000": 1.0, "step-000700~1": 0.26, "step-000700": 0.98}
    log.step(800)
    log.roll_back(700, "step-000700~1")
    assert old_now(log.state) == 0.26
    assert [each.name for each in existing_states(run, log.state, "new")] == [
        "step-000000",
        "step-000700~1",
    ]


def test_only_checkpoints_that_are_there_are_counted(tmp_path: Path) -> None:
    log = Log()
    for step in (100, 200, 300, 400):
        log.step(step)
        log.save(step)
    log.roll_back(300)
    run = RunDirectory(tmp_path / "run")
    assert paths_on_disk(run, log.state) is None
    for name in ("step-000000", "step-000300", "step-000400~1"):
        (run.checkpoints / "new" / name).mkdir(parents=True)
    assert [event.step for event in log.state.current_checkpoints("new")] == [0, 100, 200, 300]
    assert [event.step for event in existing_checkpoints(run, log.state)] == [0, 300]
    assert paths_on_disk(run, log.state) == {
        f"checkpoints/new/{name}" for name in ("step-000000", "step-000300", "step-000400~1")
    }


def test_a_pause_that_the_end_of_the_worker_took_is_remembered_until_the_resume() -> None:
    log = Log()
    log.step(1)
    log.command("pause", 1)
    log.tell(RunFinished("stopped", 5))
    assert (log.state.status, log.state.ended_paused) == ("stopped", True)
    log.tell(Rewound("new", 0, "resumed", 1))
    assert (log.state.paused, log.state.ended_paused) == (False, False)
