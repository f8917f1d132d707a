"""The values of a sweep: ranges, lists, quotes, and what is refused before anything is trained."""

from __future__ import annotations

import pytest

from sf_tui.errors import SfError
from sf_tui.profile.grid import parse_grid


def test_ranges_and_lists_are_expanded_and_single_values_are_fixed() -> None:
    grid = parse_grid(["train.freeze.layers=0..3", "train.learning_rate=1e-5, 3e-5", "seed=4"])
    assert grid.axes == {
        "train.freeze.layers": ("0", "1", "2", "3"),
        "train.learning_rate": ("1e-5", "3e-5"),
    }
    assert grid.fixed == ("seed=4",)
    points = grid.points()
    assert len(points) == 8
    assert points[1] == {"train.freeze.layers": "0", "train.learning_rate": "3e-5"}
    assert grid.overrides(points[-1]) == [
        "seed=4",
        "train.freeze.layers=3",
        "train.learning_rate=3e-5",
    ]


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("a.b=3..1", ("3", "2", "1")),
        ("a.b=1,4..6", ("1", "4", "5", "6")),
        ('a.b="x,y",z', ('"x,y"', "z")),
        ("a.b=[1, 2],[3]", ("[1, 2]", "[3]")),
        ('"a,b".c=1,2', ("1", "2")),
        ("a.b=1.5..2.5,x", ("1.5..2.5", "x")),
    ],
)
def test_commas_divide_values_only_outside_quotes_and_arrays(
    text: str, values: tuple[str, ...]
) -> None:
    assert list(parse_grid([text]).axes.values()) == [values]


@pytest.mark.parametrize(
    ("texts", "words"),
    [
        (["a.b=1"], "several values"),
        ([], "several values"),
        (["a.b=1,2", "a.b=3,4"], "given twice"),
        (["a.b=1,2", "a . b=3"], "given twice"),
        (["a.b=1,1"], "given twice"),
        (["a.b=1,,2"], "no value"),
        (["a.b"], "no value"),
        (["a.b=[1,2"], "not valid TOML"),
        (["a.b=0..5000"], "1000"),
        (["a.b=0..99", "a.c=0..99"], "10000 trials"),
    ],
)
def test_what_is_no_grid_is_refused(texts: list[str], words: str) -> None:
    with pytest.raises(SfError) as caught:
        parse_grid(texts)
    assert caught.value.exit_code == 2
    assert words in str(caught.value)
