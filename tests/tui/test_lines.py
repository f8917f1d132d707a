from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from sf_tui.tui.lines import Line, as_many_as_fit, changed_span, crop, fit, line_width, spread

pieces = st.tuples(
    st.text(st.sampled_from("abc é●表情"), max_size=6), st.sampled_from(["text", "muted"])
)
lines = st.lists(pieces, max_size=6)


@given(lines, st.integers(min_value=0, max_value=30))
def test_a_fitted_line_has_exactly_its_width(line: Line, width: int) -> None:
    assert line_width(fit(line, width)) == width
    assert line_width(crop(line, width)) <= width


@given(lines, lines, st.integers(min_value=1, max_value=30))
def test_cells_outside_the_changed_span_are_the_same(before: Line, after: Line, width: int) -> None:
    before, after = fit(before, width), fit(after, width)
    span = changed_span(before, after)
    if span is None:
        assert _painted(before) == _painted(after)
        return
    first, behind = span
    assert 0 <= first < behind <= width
    assert _painted(before)[:first] == _painted(after)[:first]
    assert _painted(before)[behind:] == _painted(after)[behind:]


def _painted(line: Line) -> list[tuple[str, str]]:
    """Return what stands in each cell; a wide sign stands in two."""
    return [
        (sign, role) for text, role in line for sign in text for _ in range(max(cell_len(sign), 1))
    ]


def test_of_two_ends_the_right_one_yields() -> None:
    assert spread([("left", "text")], [("right", "text")], 12)[1][0] == "   "
    assert line_width(spread([("left", "text")], [("right", "text")], 6)) == 6
    assert "".join(text for text, _ in spread([("left", "text")], [("right", "text")], 6)) == (
        "left  "
    )


def test_parts_that_do_not_fit_whole_are_left_out() -> None:
    parts: list[Line] = [[("one", "text")], [], [("two", "text")], [("three", "text")]]
    assert "".join(text for text, _ in as_many_as_fit(parts, 9)) == "one  two"
