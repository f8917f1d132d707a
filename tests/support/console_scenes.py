"""States of a run as the console may find it, with clocks that stand still."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tui.written_run import WrittenRun

MakeRun = Callable[..., WrittenRun]
Scene = Callable[[MakeRun], tuple[WrittenRun, dict[str, Any]]]
"""Makes a run, and names the console's options."""


def begun(make_run: MakeRun, until: int) -> WrittenRun:
    written = make_run()
    written.begin()
    written.begin_stage()
    written.steps(1, until)
    written.beat()
    return written


def past_the_window(make_run: MakeRun) -> tuple[WrittenRun, dict[str, Any]]:
    return begun(make_run, 230), {}


def in_danger(make_run: MakeRun) -> tuple[WrittenRun, dict[str, Any]]:
    return begun(make_run, 85), {}


def frozen(make_run: MakeRun) -> tuple[WrittenRun, dict[str, Any]]:
    written = begun(make_run, 45)
    written.freeze(45)
    written.steps(46, 120)
    return written, {}


def anchored(make_run: MakeRun) -> tuple[WrittenRun, dict[str, Any]]:
    written = begun(make_run, 45)
    written.take_anchor(45)
    written.steps(46, 120)
    return written, {}


def diagnosed(make_run: MakeRun) -> tuple[WrittenRun, dict[str, Any]]:
    written = begun(make_run, 85)
    written.command("c-3", "diagnose", "accepted", 85)
    written.waited_s += 42
    written.diagnose(85)
    written.command("c-3", "diagnose", "done", 85, reason="spurious")
    return written, {}


def dead(make_run: MakeRun) -> tuple[WrittenRun, dict[str, Any]]:
    written = begun(make_run, 120)
    written.beat(age_s=120)
    return written, {}


def read_only(make_run: MakeRun) -> tuple[WrittenRun, dict[str, Any]]:
    return begun(make_run, 85), {"read_only": True}


def plain_terminal(make_run: MakeRun) -> tuple[WrittenRun, dict[str, Any]]:
    return begun(make_run, 85), {"no_color": True, "ascii_only": True}


def light(make_run: MakeRun) -> tuple[WrittenRun, dict[str, Any]]:
    return begun(make_run, 85), {"light": True}


def three_stages(make_run: MakeRun) -> tuple[WrittenRun, dict[str, Any]]:
    written = make_run()
    written.begin(stages=("new", "new-2", "new-3"), steps=200)
    known: tuple[str, ...] = ("old",)
    for stage in ("new", "new-2"):
        written.begin_stage(stage, steps=200, known=known)
        written.steps(1, 200 if stage == "new" else 60, stage)
        known = (*known, stage)
    written.beat()
    return written, {}
