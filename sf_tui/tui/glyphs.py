"""The signs that the console draws with, and their ASCII stand-ins."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Glyphs:
    """One set of signs; each is one cell wide."""

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

    def task(self, index: int) -> str:
        """Return the marker of the task at `index` of the profile."""
        return self.tasks[index % len(self.tasks)]

    def spell(self, text: str) -> str:
        """Write a text with the signs of this set."""
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
)
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


def draws_braille(environ: Mapping[str, str], encoding: str) -> bool:
    """Tell whether a terminal can be expected to show braille and box signs.

    The Linux console's fonts have no braille, and a locale that is not UTF-8 garbles both.

    Args:
        environ: the environment.
        encoding: of the locale, such as `UTF-8`.
    """
    if environ.get("TERM", "") in {"linux", "dumb", "vt100", "vt220"}:
        return False
    return encoding.lower().replace("-", "") == "utf8"
