from __future__ import annotations

from typing import Any

import pytest

from sf_tui.tui.live_state import DriftTrack, LiveState
from sf_tui.vocabulary.declared import LayerDrift
from sf_tui.vocabulary.events import (
    Drift,
    Event,
    Probe,
    Rewound,
    RunStarted,
    StageStarted,
    Step,
)


def measures(**values: float) -> dict[str, dict[str, float]]:
    return {task: {"exact_match": value, "nll": 2.0} for task, value in values.items()}


def fold(*events: Event) -> LiveState:
    state = LiveState()
    for event in events:
        state.add(event)
    return state


def stage(name: str, steps: int = 100, known: tuple[str, ...] = ("old",)) -> StageStarted:
    return StageStarted(name, name, steps, known=known)


def probe(name: str, step: int, **more: Any) -> Probe:
    return Probe(name, step, more.pop("metrics"), **more)


@pytest.fixture
def two_stages() -> LiveState:
    return fold(
        stage("new"),
        probe("new", 0, metrics=measures(old=1.0)),
        probe("new", 50, metrics=measures(old=0.4)),
        probe("new", 100, metrics=measures(old=0.5)),
        stage("new-2", known=("old", "new")),
        probe("new-2", 0, metrics=measures(old=0.5, new=1.0)),
        probe("new-2", 30, metrics=measures(old=0.3, new=0.2)),
    )


def test_stages_lie_end_to_end_on_one_axis(two_stages: LiveState) -> None:
    assert [two_stages.curves.offset(name) for name in two_stages.curves.stages] == [0, 100]
    assert two_stages.curves.end == 200
    assert two_stages.curves.x_of("new-2", 30) == 130
    place = two_stages.curves.place_of(130)
    assert place is not None
    assert (place.stage, place.step) == ("new-2", 30)
    assert two_stages.curves.x_of("replay", 3) is None


def test_a_rewind_takes_back_what_lay_behind_it(two_stages: LiveState) -> None:
    two_stages.add(Rewound("new-2", 10, "rollback", 20))
    current = two_stages.curves.stages["new-2"]
    assert current.accuracy["old"].last_x == 0
    two_stages.add(probe("new-2", 15, metrics=measures(old=0.45)))
    assert current.accuracy["old"].extremes(0, 100) == (0.45, 0.5)
    assert two_stages.curves.stages["new"].accuracy["old"].extremes(0, 100) == (0.4, 1.0)


def test_a_rewind_into_an_earlier_stage_drops_the_later_ones(two_stages: LiveState) -> None:
    two_stages.add(Rewound("new", 50, "rollback", 80))
    assert list(two_stages.curves.stages) == ["new"]
    assert two_stages.curves.stages["new"].accuracy["old"].last_x == 50


def test_a_full_probe_is_charted_by_the_examples_that_every_probe_takes() -> None:
    state = fold(
        stage("new"),
        probe("new", 0, metrics=measures(old=0.9), subset=measures(old=0.8), full=True),
    )
    assert state.curves.stages["new"].accuracy["old"].last_value == 0.8


def test_a_task_measured_by_nll_is_charted_by_it() -> None:
    state = fold(RunStarted(["old", "new"], metrics={"old": "nll"}), stage("new"))
    state.add(probe("new", 0, metrics=measures(old=0.9), drop=0.0))
    assert state.curves.stages["new"].accuracy["old"].last_value == 2.0
    state.add(probe("new", 5, metrics={"old": {"exact_match": 0.9, "nll": 3.5}}, drop=1.5))
    assert state.curves.stages["new"].drop.last_value == 1.5
    assert state.worst_known == "old"


def test_a_loss_that_is_no_number_leaves_a_gap() -> None:
    state = fold(stage("new"))
    for step, loss in enumerate((1.0, None, 2.0), start=1):
        state.add(Step("new", step, loss, grad_norm=loss))
    assert state.curves.stages["new"].loss.last_value == 2.0
    assert len(state.curves.stages["new"].loss) == 2


def test_drift_keeps_its_newest_measurement_and_an_even_history_in_bounded_room() -> None:
    track = DriftTrack()
    for step in range(5000):
        track.add(Drift("new", step, (LayerDrift("block-0", step / 5000, step > 2500),)))
    assert len(track.snapshots) <= 257
    assert track.at(None)[0].relative_update == 4999 / 5000
    middle = track.at(2400)[0]
    assert middle.relative_update == pytest.approx(0.48, abs=0.01)
    assert not middle.frozen
    track.truncate(1000)
    assert track.at(None)[0].relative_update <= 0.2
