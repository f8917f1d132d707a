from __future__ import annotations

import pytest
from rich.color import Color, ColorSystem
from rich.style import Style

from sf_tui.tui.theme import DARK, LIGHT, PLAIN, TASK_ROLES, Paint


def colors_of(paint: Paint) -> list[Color]:
    styles: list[Style] = [*paint.roles.values(), paint.style("text+band")]
    return [color for style in styles for color in (style.color, style.bgcolor) if color]


@pytest.mark.parametrize("paint", [DARK, LIGHT])
def test_every_color_is_exactly_a_cell_of_the_256_color_palette(paint: Paint) -> None:
    for color in colors_of(paint):
        sent = color.downgrade(ColorSystem.EIGHT_BIT).get_ansi_codes()
        number = int(sent[-1])
        assert number >= 16, "the first 16 cells are the user's own"
        assert Color.from_ansi(number).get_truecolor() == Color.parse(color.name).get_truecolor()
        assert color.downgrade(ColorSystem.TRUECOLOR).get_ansi_codes() == sent


def test_the_colors_with_a_meaning_are_those_of_the_design() -> None:
    wanted = {"task-0": "#5fafff", "task-1": "#ffaf00", "danger": "#ff5f00", "ok": "#00afaf"}
    for role, color in wanted.items():
        found = DARK.roles[role].color
        assert found is not None
        assert found.name == color


@pytest.mark.parametrize("paint", [DARK, LIGHT])
def test_text_stands_out_from_its_background(paint: Paint) -> None:
    for role in ("text", "muted", "danger", "ok", "warn", *TASK_ROLES):
        for background in (paint.background, paint.band):
            color = paint.roles[role].color
            assert color is not None
            least = 4.5 if role in {"text", "muted"} and background == paint.background else 3.0
            assert contrast(color.name, background) >= least, (role, background)


def contrast(one: str, other: str) -> float:
    """Return the WCAG contrast ratio of two colors."""
    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def luminance(name: str) -> float:
    channels = [value / 255 for value in Color.parse(name).get_truecolor()]
    linear = [c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_without_color_there_is_none() -> None:
    assert colors_of(PLAIN) == []
