from __future__ import annotations

from typing import Any

import pytest

from sf_tui.tui.curves import Curves, DriftTrack, LayerDrift


def measures(**values: float) -> dict[str, dict[str, float]]:
    return {task: {"exact_match": value, "nll": 2.0} for task, value in values.items()}


def fold(*events: dict[str, Any]) -> Curves:
    curves = Curves()
    for event in events:
        curves.add(event)
    return curves


def stage(name: str, steps: int = 100, known: tuple[str, ...] = ("old",)) -> dict[str, Any]:
    return {
        "type": "stage_started",
        "stage": name,
        "task": name,
        "steps": steps,
        "known": list(known),
    }


def probe(name: str, step: int, **more: Any) -> dict[str, Any]:
    return {"type": "probe", "stage": name, "step": step} | more


@pytest.fixture
def two_stages() -> Curves:
    return fold(
        stage("new"),
        probe("new", 0, accuracy=measures(old=1.0)),
        probe("new", 50, accuracy=measures(old=0.4)),
        probe("new", 100, accuracy=measures(old=0.5)),
        stage("new-2", known=("old", "new")),
        probe("new-2", 0, accuracy=measures(old=0.5, new=1.0)),
        probe("new-2", 30, accuracy=measures(old=0.3, new=0.2)),
    )


def test_stages_lie_end_to_end_on_one_axis(two_stages: Curves) -> None:
    assert [two_stages.offset(name) for name in two_stages.stages] == [0, 100]
    assert two_stages.end == 200
    assert two_stages.x_of("new-2", 30) == 130
    place = two_stages.place_of(130)
    assert place is not None
    assert (place.stage, place.step) == ("new-2", 30)
    assert two_stages.x_of("replay", 3) is None


def test_a_rewind_takes_back_what_lay_behind_it(two_stages: Curves) -> None:
    two_stages.add({"type": "rewound", "stage": "new-2", "step": 10, "lost": 20})
    current = two_stages.stages["new-2"]
    assert current.accuracy["old"].last_x == 0
    two_stages.add(probe("new-2", 15, accuracy=measures(old=0.45)))
    assert current.accuracy["old"].extremes(0, 100) == (0.45, 0.5)
    assert two_stages.stages["new"].accuracy["old"].extremes(0, 100) == (0.4, 1.0)


def test_a_rewind_into_an_earlier_stage_drops_the_later_ones(two_stages: Curves) -> None:
    two_stages.add({"type": "rewound", "stage": "new", "step": 50, "lost": 80})
    assert list(two_stages.stages) == ["new"]
    assert two_stages.stages["new"].accuracy["old"].last_x == 50


def test_a_full_probe_is_charted_by_the_examples_that_every_probe_takes() -> None:
    curves = fold(
        stage("new"),
        probe("new", 0, accuracy=measures(old=0.9), paired=measures(old=0.8), full=True),
    )
    assert curves.stages["new"].accuracy["old"].last_value == 0.8


def test_a_drop_that_the_log_lacks_is_that_of_the_worst_earlier_task(two_stages: Curves) -> None:
    assert two_stages.stages["new-2"].drop.last_value == pytest.approx(0.8)


def test_a_task_measured_by_nll_is_charted_by_it() -> None:
    curves = fold({"type": "run_started", "metrics": {"old": "nll"}}, stage("new"))
    curves.add(probe("new", 0, accuracy=measures(old=0.9)))
    assert curves.stages["new"].accuracy["old"].last_value == 2.0
    worse = {"old": {"exact_match": 0.9, "nll": 3.5}}
    curves.add(probe("new", 5, accuracy=worse))
    assert curves.stages["new"].drop.last_value == 1.5


def test_a_loss_that_is_no_number_leaves_a_gap() -> None:
    curves = fold(stage("new"))
    for step, loss in enumerate((1.0, None, 2.0), start=1):
        curves.add({"type": "step", "stage": "new", "step": step, "loss": loss, "grad_norm": loss})
    assert curves.stages["new"].loss.last_value == 2.0
    assert len(curves.stages["new"].loss) == 2


def test_drift_keeps_its_newest_measurement_and_an_even_history_in_bounded_room() -> None:
    track = DriftTrack()
    for step in range(5000):
        track.add(step, (LayerDrift("block-0", step / 5000, step > 2500),))
    assert len(track.snapshots) <= 257
    assert track.at(None)[0].relative_update == 4999 / 5000
    middle = track.at(2400)[0]
    assert middle.relative_update == pytest.approx(0.48, abs=0.01)
    assert not middle.frozen
    track.truncate(1000)
    assert track.at(None)[0].relative_update <= 0.2
