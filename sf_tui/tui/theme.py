"""The look of the console: the glyphs it draws with and the color of each role, per theme.

Every color lies exactly on a cell of the xterm-256 palette: it looks the same with 256 colors as
with 24 bits, at half the bytes. Blue and orange carry the meaning, never color alone: each task has
a marker, danger and frozen have words. Knows signs and styles; knows nothing of panels.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from rich.color import Color, ColorType
from rich.color_triplet import ColorTriplet
from rich.style import Style
from textual.theme import Theme


@dataclass(frozen=True)
class Glyphs:
    """One set of glyphs; each but `plus_minus` is one cell wide."""

    name: str
    braille: bool
    tasks: tuple[str, ...]
    rule: str
    wall: str
    dotted: str
    tick: str
    corner: str
    tee: str
    arrow: str
    minus: str
    dash: str
    middot: str
    ellipsis: str
    filled: str
    empty: str
    bars: str
    """Eight heights, lowest first."""
    frozen: str
    pointer: str
    ring: str
    below: str
    """A value below the axis."""
    plus_minus: str

    def task(self, index: int) -> str:
        """Return the marker of the task at `index` of the profile."""
        return self.tasks[index % len(self.tasks)]

    def spell(self, text: str) -> str:
        """Return a text with the characters of this set."""
        if self.braille:
            return text.replace(" > ", f" {self.arrow} ")
        for sign, plain in _PLAIN_SIGNS.items():
            text = text.replace(sign, plain)
        return text.encode("ascii", "replace").decode("ascii")


UNICODE = Glyphs(
    name="unicode",
    braille=True,
    tasks=("●", "▲", "■", "◆", "★", "▼"),
    rule="─",
    wall="│",
    dotted="┊",
    tick="┤",
    corner="└",
    tee="┴",
    arrow="→",
    minus="−",
    dash="–",
    middot="·",
    ellipsis="…",
    filled="━",
    empty="─",
    bars="▁▂▃▄▅▆▇█",
    frozen="▪",
    pointer="▸",
    ring="○",
    below="▼",
    plus_minus="±",
)
LITE = replace(
    UNICODE,
    name="lite",
    rule="-",
    wall="|",
    dotted=":",
    tick="+",
    corner="+",
    tee="+",
    dash="-",
    filled="=",
    empty="-",
)
"""For slow links: braille and markers, but lines of one byte a sign instead of three."""
ASCII = Glyphs(
    name="ascii",
    braille=False,
    tasks=("o", "^", "#", "x", "*", "v"),
    rule="-",
    wall="|",
    dotted=":",
    tick="+",
    corner="+",
    tee="+",
    arrow=">",
    minus="-",
    dash="-",
    middot=".",
    ellipsis="~",
    filled="=",
    empty="-",
    bars="_..::=##",
    frozen="%",
    pointer=">",
    ring="o",
    below="v",
    plus_minus="+-",
)
_PLAIN_SIGNS = {
    "−": "-",
    "–": "-",
    "·": ".",
    "…": "~",
    "→": ">",
    "‖": "|",
    "×": "x",
    "‘": "'",
    "’": "'",
    "“": '"',
    "”": '"',
}


_LEVELS = (0, 95, 135, 175, 215, 255)
_CELLS: dict[ColorTriplet, int] = {
    ColorTriplet(*(8 + 10 * gray,) * 3): 232 + gray for gray in range(24)
} | {
    ColorTriplet(red, green, blue): 16 + 36 * r + 6 * g + b
    for r, red in enumerate(_LEVELS)
    for g, green in enumerate(_LEVELS)
    for b, blue in enumerate(_LEVELS)
}
TASK_ROLES = ("task-0", "task-1", "task-2", "task-3", "task-4", "task-5")
"""Roles of the tasks in profile order; a seventh task reuses the first."""


def task_role(index: int) -> str:
    """Return the role that paints the task at `index` of the profile."""
    return TASK_ROLES[index % len(TASK_ROLES)]


@dataclass(frozen=True)
class Paint:
    """A theme's colors, by role.

    Attributes:
        name: of the theme.
        background: of the whole screen; empty for the terminal's own.
        band: background of the danger window in charts; empty where there is no color.
        roles: role to style.
    """

    name: str
    background: str
    band: str
    roles: dict[str, Style] = field(hash=False)

    def style(self, role: str) -> Style:
        """Return the style of a role; `role+band` has the danger window's background."""
        found = self.roles.get(role)
        if found is None:
            base, _, on_band = role.partition("+")
            found = self.roles[base]
            if on_band and self.band:
                found += Style(bgcolor=cell_color(self.band))
            self.roles[role] = found
        return found


def cell_color(name: str) -> Color:
    """Return the cell of the 256-color palette that is exactly this color.

    It also carries the 24-bit value, which Textual needs. Rich's own rounding is off by one for
    light grays.

    Raises:
        KeyError: the palette has no such color after the 16 user-defined ones.
    """
    triplet = Color.parse(name).get_truecolor()
    return Color(name, ColorType.EIGHT_BIT, _CELLS[triplet], triplet)


def _cell_style(style: Style) -> Style:
    return style + Style(
        color=cell_color(style.color.name) if style.color else None,
        bgcolor=cell_color(style.bgcolor.name) if style.bgcolor else None,
    )


def _paint(name: str, background: str, band: str, roles: dict[str, str]) -> Paint:
    ground = Style(bgcolor=cell_color(background)) if background else Style.null()
    styles = {role: ground + _cell_style(Style.parse(text)) for role, text in roles.items()}
    return Paint(name, background, band, styles)


DARK = _paint(
    "sf-dark",
    "#121212",
    "#303030",
    {
        "text": "#d0d0d0",
        "strong": "bold #ffffff",
        "muted": "#949494",
        "faint": "#585858",
        "rule": "#3a3a3a",
        "title": "#b2b2b2",
        "focus": "bold #ffffff",
        "key": "bold #ffffff",
        "task-0": "#5fafff",
        "task-1": "#ffaf00",
        "task-2": "#d787d7",
        "task-3": "#afd787",
        "task-4": "#af87ff",
        "task-5": "#d7d7af",
        "danger": "bold #ff5f00",
        "ok": "#00afaf",
        "warn": "#ff5f00",
        "error": "bold #ff5f00",
        "cursor": "bold #121212 on #d0d0d0",
        "selected": "bold #ffffff on #005f87",
    },
)
LIGHT = _paint(
    "sf-light",
    "#ffffff",
    "#eeeeee",
    {
        "text": "#303030",
        "strong": "bold #000000",
        "muted": "#626262",
        "faint": "#9e9e9e",
        "rule": "#c6c6c6",
        "title": "#4e4e4e",
        "focus": "bold #000000",
        "key": "bold #000000",
        "task-0": "#005faf",
        "task-1": "#af5f00",
        "task-2": "#870087",
        "task-3": "#5f8700",
        "task-4": "#5f00af",
        "task-5": "#5f5f00",
        "danger": "bold #d75f00",
        "ok": "#008787",
        "warn": "#d75f00",
        "error": "bold #d75f00",
        "cursor": "bold #ffffff on #303030",
        "selected": "bold #000000 on #afd7ff",
    },
)
PLAIN = _paint(
    "sf-plain",
    "",
    "",
    {
        "text": "none",
        "strong": "bold",
        "muted": "none",
        "faint": "none",
        "rule": "none",
        "title": "none",
        "focus": "bold underline",
        "key": "bold",
        "task-0": "none",
        "task-1": "none",
        "task-2": "none",
        "task-3": "none",
        "task-4": "none",
        "task-5": "none",
        "danger": "bold",
        "ok": "none",
        "warn": "bold",
        "error": "bold",
        "cursor": "reverse",
        "selected": "reverse",
    },
)
"""For NO_COLOR: the terminal's own two colors, with bold and reverse."""


_MEANINGFUL = (*TASK_ROLES, "danger", "ok", "warn", "error")
"""Roles whose color tells something; all others are as in `PLAIN` on a slow link."""


def _without_background(paint: Paint) -> Paint:
    found = _paint(f"{paint.name}-lite", "", "", {})
    for role, style in PLAIN.roles.items():
        colored = paint.roles[role]
        found.roles[role] = (
            Style(color=colored.color, bold=colored.bold) if role in _MEANINGFUL else style
        )
    return found


LITE_DARK = _without_background(DARK)
LITE_LIGHT = _without_background(LIGHT)
"""For slow links: the colors that tell something, on the terminal's own background."""

PAINTS = (DARK, LIGHT, PLAIN, LITE_DARK, LITE_LIGHT)
_OTHER = {
    DARK.name: LIGHT,
    LIGHT.name: DARK,
    LITE_DARK.name: LITE_LIGHT,
    LITE_LIGHT.name: LITE_DARK,
}


def choose_glyphs(*, ascii_only: bool, lite: bool) -> Glyphs:
    """Return the glyphs of a session."""
    if ascii_only:
        return ASCII
    return LITE if lite else UNICODE


def choose_paint(*, no_color: bool, light: bool, lite: bool) -> Paint:
    """Return the colors of a session."""
    if no_color:
        return PLAIN
    if lite:
        return LITE_LIGHT if light else LITE_DARK
    return LIGHT if light else DARK


def other_paint(paint: Paint) -> Paint:
    """Return the light theme for a dark one and the reverse; `PLAIN` has no other."""
    return _OTHER.get(paint.name, paint)


def textual_theme(paint: Paint) -> Theme:
    """Return the Textual theme, which paints the screen's background and the dialogs' border."""
    if not paint.background:
        return Theme(
            name=paint.name,
            primary="ansi_default",
            foreground="ansi_default",
            background="ansi_default",
            surface="ansi_default",
            panel="ansi_default",
            boost="ansi_default",
            ansi=True,
            variables={
                "ansi-background": "ansi_default",
                "ansi-foreground": "ansi_default",
                "rule": "ansi_default",
            },
        )
    color = {role: style.color.name for role, style in paint.roles.items() if style.color}
    return Theme(
        name=paint.name,
        primary=color["task-0"],
        secondary=color["ok"],
        warning=color["warn"],
        error=color["warn"],
        success=color["ok"],
        accent=color["task-1"],
        foreground=color["text"],
        background=paint.background,
        surface=paint.background,
        panel=paint.background,
        boost=paint.background,
        dark=paint is DARK,
        variables={"rule": color["faint"]},
    )
