"""The state at a replay cursor is the fold of the log up to that place."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sf_tui.run.state import RunState, fold
from sf_tui.tui import history as history_module
from sf_tui.tui.live_state import LiveState, Place
from sf_tui.tui.replay import Replay
from sf_tui.vocabulary.declared import LayerDrift
from sf_tui.vocabulary.events import (
    CheckpointWritten,
    Drift,
    Event,
    Probe,
    RunStarted,
    StageStarted,
    Step,
)
from support.random_run import RandomRun


def facts(state: RunState) -> dict[str, Any]:
    """Return everything that a state tells, except of the newest step's rate and speed."""
    stages = {
        stage.name: {
            "task": stage.task,
            "known": stage.known,
            "first_loss": stage.first_loss,
            "probes": stage.probes,
            "drift": stage.drift,
            "windows": stage.windows,
            "danger": stage.danger,
            "weight_changes": stage.weight_changes,
            "finished": stage.finished,
            "anchor": stage.anchor,
            "anchors": stage.anchors,
            "frozen": stage.frozen,
            "saved": [
                (each.path, each.metrics, each.probed_at, each.drift) for each in stage.saved
            ],
        }
        for stage in state.stages.values()
    }
    return {
        "stages": stages,
        "stage": state.stage.name if state.stage else None,
        "step": state.stage.step if state.stage else None,
        "commands": state.commands,
        "alerts": state.alerts,
        "checkpoints": state.checkpoints,
        "rewinds": state.rewinds,
        "diagnosis": (state.diagnosis, state.diagnosis_holds),
        "finished": state.finished,
        "paused": (state.paused, state.ended_paused),
    }


def followed(log: list[Event]) -> LiveState:
    live = LiveState()
    for event in log:
        live.add(event)
    return live


@pytest.fixture(autouse=True)
def _small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    # So that a short log has many blocks and copies, and some copies are dropped.
    monkeypatch.setattr(history_module, "BLOCK_EVENTS", 4)
    monkeypatch.setattr(history_module, "COPIES_KEPT", 4)


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10**6), rewinds=st.booleans(), data=st.data())
def test_state_at_the_cursor_is_the_fold_of_the_log_up_to_it(
    seed: int, rewinds: bool, data: st.DataObject
) -> None:
    run = RandomRun(seed)
    run.play(12, rewinds=rewinds)
    live, replay = followed(run.log), Replay()
    places = sorted({(stage, step) for stage, step, _ in run.alive})
    for stage, step in data.draw(st.lists(st.sampled_from(places), min_size=1, max_size=8)):
        last = max(index for name, at, index in run.alive if (name, at) <= (stage, step))
        wanted, shown = fold(run.log[:last]), replay.at(live, Place(stage, step))
        assert facts(shown) == facts(wanted), (stage, step, last)
        wanted_stage, shown_stage = wanted.stages[stage], shown.stages[stage]
        if wanted_stage.last_step is not None:
            assert shown_stage.last_step is not None
            assert shown_stage.last_step.loss == wanted_stage.last_step.loss


def test_replay_does_not_change_the_newest_state() -> None:
    run = RandomRun(3)
    run.play(12, rewinds=True)
    live = followed(run.log)
    before = facts(live)
    replay = Replay()
    for stage, step, _ in run.alive:
        replay.at(live, Place(stage, step))
    assert facts(live) == before == facts(fold(run.log))


def test_memory_of_a_long_run_is_bounded() -> None:
    live = LiveState()
    tasks = ["old", "new"]
    metrics = dict.fromkeys(tasks, "exact_match")
    events: list[Event] = [
        RunStarted(tasks=tasks, run="r", watched=tasks, metrics=metrics),
        StageStarted("new", "new", 100_000, known=["old"]),
    ]
    for step in range(1, 3000):
        measures = {task: {"exact_match": step / 3000, "n": 64} for task in tasks}
        events.append(Step("new", step, 1.0, 1e-4, 1.0, 1.0))
        events.append(Probe("new", step, measures))
        events.append(Drift("new", step, [LayerDrift(f"block-{i}", 0.1, False) for i in range(8)]))
        if step % 100 == 0:
            events.append(CheckpointWritten("new", step, f"checkpoints/new/step-{step:06d}"))
    for seq, event in enumerate(events, 1):
        object.__setattr__(event, "seq", seq)
        live.add(event)
    history = live.history
    assert len(history._copies) <= history_module.COPIES_KEPT
    assert len(history._open) < history_module.BLOCK_EVENTS
    assert live.stage is not None
    assert len(live.stage.probes) <= 101
    at = Replay().at(live, Place("new", 1234))
    assert at.stage is not None
    assert (at.stage.step, at.stage.probes[-1].step) == (1234, 1234)
