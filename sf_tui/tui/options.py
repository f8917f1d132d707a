"""How an operator wants the console: what tests, `sf attach` and `sf run` hand over."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import tzinfo


@dataclass(frozen=True)
class ConsoleOptions:
    """Choices that hold for the console's life.

    Attributes:
        read_only: send nothing to the run.
        lite: half the rate, no mouse: for slow links.
        ascii_only: no braille and no box signs.
        no_color: the terminal's own two colors only.
        light: begin with the light theme.
        zone: time zone of the times shown; None for the machine's own.
        wall_clock: seconds since the epoch.
        steady_clock: seconds that only ever rise.
    """

    read_only: bool = False
    lite: bool = False
    ascii_only: bool = False
    no_color: bool = False
    light: bool = False
    zone: tzinfo | None = None
    wall_clock: Callable[[], float] = time.time
    steady_clock: Callable[[], float] = time.monotonic
