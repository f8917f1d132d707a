from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sf_tui.tui.axes import Scale, log_ticks, loss_scale, round_up, step_ticks, tick_label, ticks
from sf_tui.tui.chart import GUTTER, Chart, Curve, Mark, draw_chart, plot_width, share_ticks
from sf_tui.tui.lines import line_width
from sf_tui.tui.series import MinMaxSeries
from sf_tui.tui.theme import ASCII, UNICODE, Glyphs

SHARES = Scale(0.0, 1.0)


def chart_of(series: MinMaxSeries, end: int, **more: object) -> Chart:
    return Chart(
        0,
        end,
        [Curve("task-0", "", [(0, series)], SHARES)],
        y_ticks=share_ticks(8),
        x_ticks=[(0, "0"), (end, str(end))],
        **more,  # type: ignore[arg-type]
    )


def text_of(chart: Chart, width: int, height: int, glyphs: Glyphs) -> list[str]:
    return ["".join(text for text, _ in line) for line in draw_chart(chart, width, height, glyphs)]


@given(
    dip=st.integers(min_value=0, max_value=19_999),
    width=st.integers(min_value=20, max_value=200),
    glyphs=st.sampled_from([UNICODE, ASCII]),
)
@settings(max_examples=25, deadline=None)
def test_a_dip_of_one_step_reaches_the_foot_of_the_chart(
    dip: int, width: int, glyphs: Glyphs
) -> None:
    series = MinMaxSeries()
    for step in range(20_000):
        series.add(step, 0.0 if step == dip else 1.0)
    lines = text_of(chart_of(series, 20_000), width, 12, glyphs)
    columns = plot_width(width)
    foot = lines[9][GUTTER : GUTTER + columns]
    assert foot.strip(), "the dip is lost"
    expected = dip / 20_000 * (columns - 1)
    assert abs(foot.index(foot.strip()[0]) - expected) <= 2


@pytest.mark.parametrize("glyphs", [UNICODE, ASCII])
@pytest.mark.parametrize(("width", "height"), [(1, 1), (7, 2), (8, 3), (30, 4), (200, 50)])
def test_any_size_can_be_drawn(width: int, height: int, glyphs: Glyphs) -> None:
    series = MinMaxSeries()
    series.add(0, 1.0)
    series.add(9, 0.0)
    chart = chart_of(
        series, 10, bands=[(0, 5)], marks=[Mark(3, "freeze", "ok", "^")], cursor=4, walls=[6]
    )
    lines = draw_chart(chart, width, height, glyphs)
    assert len(lines) <= height
    for line in lines[:-2]:
        assert line_width(line) == max(width, GUTTER + 2)


def test_an_ascii_chart_is_ascii() -> None:
    series = MinMaxSeries()
    for step in range(50):
        series.add(step, step / 50)
    chart = chart_of(series, 50, bands=[(0, 20)], marks=[Mark(3, "freeze", "ok", "^")])
    assert all(line.isascii() for line in text_of(chart, 80, 20, ASCII))


def test_the_danger_window_is_shaded_labelled_and_bounded() -> None:
    series = MinMaxSeries()
    series.add(0, 1.0)
    chart = chart_of(series, 100, bands=[(0, 50)])
    lines = draw_chart(chart, 80, 12, UNICODE)
    foot = lines[9]
    assert any("danger window" in text and role == "danger+band" for text, role in foot)
    shaded = sum(len(text) for text, role in lines[0] if role.endswith("+band"))
    assert shaded == pytest.approx(37, abs=2)


def test_marks_of_one_step_get_labels_that_do_not_cover_each_other() -> None:
    series = MinMaxSeries()
    series.add(0, 0.0)
    marks = [Mark(50, "freeze", "ok", "▲"), Mark(51, "rollback", "warn", "<")]
    text = "\n".join(text_of(chart_of(series, 100, marks=marks), 80, 12, UNICODE))
    assert "freeze" in text
    assert "rollback" in text


def test_no_curve_takes_the_color_of_anothers_marker() -> None:
    low, high = MinMaxSeries(), MinMaxSeries()
    for step in range(100):
        low.add(step, 0.5)
        high.add(step, 0.5)
    chart = Chart(
        0,
        100,
        [Curve("task-1", "▲", [(0, low)], SHARES), Curve("task-0", "●", [(0, high)], SHARES)],
        y_ticks=share_ticks(8),
        x_ticks=[],
    )
    for line in draw_chart(chart, 120, 12, UNICODE):
        for text, role in line:
            assert "▲" not in text or role == "task-1"
            assert "●" not in text or role == "task-0"


def test_scales_hold_what_they_show_and_keep_still_between_extremes() -> None:
    assert loss_scale([(0.05, 5.2)], log=False) == Scale(0.0, 6.0)
    assert loss_scale([(0.05, 5.9)], log=False) == Scale(0.0, 6.0)
    assert loss_scale([(0.05, 5.2)], log=True) == Scale(0.01, 10.0, log=True)
    assert log_ticks(Scale(0.01, 10.0, log=True)) == pytest.approx([0.01, 0.1, 1, 10])
    assert loss_scale([], log=True).low > 0
    assert loss_scale([(0.0, 0.0)], log=True).low > 0
    assert loss_scale([(-2.0, 1.0)], log=False).low <= -2.0


def test_axes_have_round_numbers() -> None:
    assert step_ticks(0, 300, 7) == [0, 50, 100, 150, 200, 250, 300]
    assert ticks(0.0, 1.0, 4) == pytest.approx([0.0, 0.5, 1.0])
    assert [round_up(value) for value in (1, 97, 300, 310)] == [1, 100, 300, 400]
    assert tick_label(0.1) == "0.1"
    assert len(tick_label(12_345_678.0)) <= 4
