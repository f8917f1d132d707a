from __future__ import annotations

import pytest

from sf_tui.tui.terminal import ConsoleOptions, fit_options, has_light_background

XTERM = {"TERM": "xterm-256color"}


def test_a_terminal_that_can_do_everything_takes_nothing_off() -> None:
    assert fit_options(ConsoleOptions(), XTERM, "utf-8") == fit_options(
        ConsoleOptions(), XTERM, "UTF-8"
    )
    assert not fit_options(ConsoleOptions(), XTERM, "utf-8").ascii_only


@pytest.mark.parametrize(
    ("environ", "encoding"), [(XTERM, "ascii"), (XTERM, "iso8859-1"), ({"TERM": "linux"}, "utf-8")]
)
def test_without_braille_charts_are_ascii(environ: dict[str, str], encoding: str) -> None:
    assert fit_options(ConsoleOptions(), environ, encoding).ascii_only


def test_no_color_counts_only_when_it_is_not_empty() -> None:
    assert fit_options(ConsoleOptions(), XTERM | {"NO_COLOR": "1"}, "utf-8").no_color
    assert not fit_options(ConsoleOptions(), XTERM | {"NO_COLOR": ""}, "utf-8").no_color


def test_a_light_terminal_begins_light() -> None:
    assert has_light_background({"COLORFGBG": "0;15"})
    assert not has_light_background({"COLORFGBG": "15;0"})
    assert not has_light_background({})
