from __future__ import annotations

from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from sf_tui.tui.series import EXACT_HEAD, EXACT_TAIL, MinMaxSeries

values = st.floats(min_value=-1e6, max_value=1e6, allow_nan=False)
gaps = st.integers(min_value=1, max_value=7)


def filled(points: list[tuple[int, float]], capacity: int = 8) -> MinMaxSeries:
    series = MinMaxSeries(capacity)
    for x, y in points:
        series.add(x, y)
    return series


def points_of(steps: list[int], heights: list[float]) -> list[tuple[int, float]]:
    x, points = 0, []
    for step, y in zip(steps, heights, strict=False):
        x += step
        points.append((x, y))
    return points


@given(st.lists(gaps, min_size=1, max_size=400), st.data())
def test_no_extreme_is_lost_however_often_the_series_is_halved(
    steps: list[int], data: st.DataObject
) -> None:
    heights = data.draw(st.lists(values, min_size=len(steps), max_size=len(steps)))
    points = points_of(steps, heights)
    series = filled(points)
    ys = [y for _, y in points]
    assert series.extremes(0, points[-1][0]) == (min(ys), max(ys))
    assert len(series) <= series.capacity
    assert series.last_value == ys[-1]
    assert series.last_x == points[-1][0]


@given(st.integers(min_value=1, max_value=2999), st.sampled_from([8, 64, 256]))
@settings(max_examples=30)
def test_a_dip_of_one_step_lies_in_the_bucket_of_its_step(dip: int, capacity: int) -> None:
    series = MinMaxSeries(capacity)
    for step in range(3000):
        series.add(step, 0.1 if step == dip else 0.9)
    holding = [bucket for bucket in series.buckets(0, 3000) if bucket.low == 0.1]
    assert len(holding) == 1
    assert dip // series.width == holding[0].x // series.width


@given(st.lists(gaps, min_size=2, max_size=200), st.data())
def test_a_cut_series_is_the_series_that_never_went_further(
    steps: list[int], data: st.DataObject
) -> None:
    heights = data.draw(st.lists(values, min_size=len(steps), max_size=len(steps)))
    points = points_of(steps, heights)
    cut = data.draw(st.integers(min_value=0, max_value=points[-1][0]))
    series = filled(points)
    series.truncate(cut)
    kept = [(x, y) for x, y in points if x <= cut]
    assert series.last_x == (kept[-1][0] if kept else None)
    ys = [y for _, y in kept]
    assert series.extremes(0, points[-1][0]) == ((min(ys), max(ys)) if ys else None)
    for x, y in kept[-1:]:
        assert series.value_at(x) == y


def test_a_point_that_comes_again_replaces_what_followed_it() -> None:
    series = filled([(1, 0.1), (2, 0.2), (3, 0.3)])
    series.add(2, 0.9)
    assert series.value_at(3) == 0.9
    assert series.extremes(0, 10) == (0.1, 0.9)


def test_a_cut_in_a_long_series_is_exact_as_far_as_the_newest_points_reach() -> None:
    series = MinMaxSeries(capacity=16)
    for step in range(20_000):
        series.add(step, 5.0 if step == 19_990 else 1.0)
    series.truncate(19_989)
    assert series.extremes(0, 20_000) == (1.0, 1.0)
    assert EXACT_TAIL > 20_000 - 19_989


def test_the_first_steps_of_a_long_series_stay_exact() -> None:
    series = MinMaxSeries(capacity=16)
    for step in range(100_000):
        series.add(step, float(step))
    near = list(series.buckets(0, 150))
    assert [bucket.x for bucket in near] == list(range(151))
    assert series.value_at(EXACT_HEAD - 1) == float(EXACT_HEAD - 1)
    assert series.step_after(10) == 11
    assert series.step_before(10) == 9


def test_room_stays_bounded_over_a_million_points() -> None:
    series = MinMaxSeries()
    for step in range(0, 4_000_000, 4):
        series.add(step, 1.0)
    assert len(series) <= series.capacity
    assert len(series._tail_x) < 2 * EXACT_TAIL


def test_buckets_come_in_order() -> None:
    series = filled([(step, float(step % 7)) for step in range(1000)], capacity=32)
    steps = [bucket.x for bucket in series.buckets(0, 1000)]
    assert all(a < b for a, b in pairwise(steps))
