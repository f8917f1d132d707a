from __future__ import annotations

import pytest

from sf_tui.bench.overhead import Schedule, probe_cost

SCHEDULE = Schedule(window=4, every=4, every_in_window=2)
# Legs 1 and 3 hold the probes after steps 2 and 4, in the window; leg 7 that after step 8.
BARE = [1.0, 3.0, 1.0, 3.0, 1.0, 1.0, 1.0, 1.0]


def _probed(cost: float) -> list[float]:
    return [s + (cost if SCHEDULE.holds_probe(at) else 0.0) for at, s in enumerate(BARE)]


def test_probes_are_dense_up_to_the_windows_last_step() -> None:
    assert [at for at in range(8) if SCHEDULE.holds_probe(at)] == [1, 3, 7]


def test_the_cost_is_what_a_probe_adds_by_the_time_between_two() -> None:
    cost = probe_cost(SCHEDULE, _probed(0.4), BARE)
    assert cost.in_window == pytest.approx(0.4 / (2 * 2.0))
    assert cost.outside == pytest.approx(0.4 / (4 * 1.0))
    assert cost.seconds_a_probe == pytest.approx(0.4)
    assert (cost.seconds_a_step_in_window, cost.seconds_a_step_outside) == (2.0, 1.0)
    assert cost.probes == 3
    assert cost.legs_without_probe == 1.0


def test_one_disturbed_leg_does_not_count() -> None:
    probed = _probed(0.4)
    probed[3] += 60
    assert probe_cost(SCHEDULE, probed, BARE).seconds_a_probe == pytest.approx(0.4)


def test_what_hides_in_other_legs_is_told() -> None:
    probed = [1.2 * seconds for seconds in BARE]
    assert probe_cost(SCHEDULE, probed, BARE).legs_without_probe == pytest.approx(1.2)
