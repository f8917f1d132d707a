"""How the console looks: every state of a run at three sizes, with clocks that stand still."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from syrupy.assertion import SnapshotAssertion
from syrupy.extensions.image import SVGImageSnapshotExtension

from sf_tui.tui.console import ConsoleApp
from tui.written_run import WrittenRun

SIZES = {"80x24": (80, 24), "120x40": (120, 40), "200x60": (200, 60)}


@pytest.fixture
def svg(snapshot: SnapshotAssertion) -> SnapshotAssertion:
    return snapshot.use_extension(SVGImageSnapshotExtension)


def begun(make_run: Callable[..., WrittenRun], until: int) -> WrittenRun:
    written = make_run()
    written.begin()
    written.begin_stage()
    written.steps(1, until)
    written.beat()
    return written


def past_the_window(make_run: Callable[..., WrittenRun]) -> tuple[WrittenRun, dict[str, Any]]:
    return begun(make_run, 230), {}


def in_danger(make_run: Callable[..., WrittenRun]) -> tuple[WrittenRun, dict[str, Any]]:
    return begun(make_run, 85), {}


def frozen(make_run: Callable[..., WrittenRun]) -> tuple[WrittenRun, dict[str, Any]]:
    written = begun(make_run, 45)
    written.freeze(45)
    written.steps(46, 120)
    return written, {}


def anchored(make_run: Callable[..., WrittenRun]) -> tuple[WrittenRun, dict[str, Any]]:
    written = begun(make_run, 45)
    written.take_anchor(45)
    written.steps(46, 120)
    return written, {}


def at_risk(make_run: Callable[..., WrittenRun]) -> tuple[WrittenRun, dict[str, Any]]:
    written = begun(make_run, 0)
    written.name_neighbors()
    written.steps(1, 12)
    return written, {}


def diagnosed(make_run: Callable[..., WrittenRun]) -> tuple[WrittenRun, dict[str, Any]]:
    written = begun(make_run, 85)
    written.command("c-3", "diagnose", "accepted", 85)
    written.waited_s += 42
    written.diagnose(85)
    written.command("c-3", "diagnose", "done", 85, reason="spurious")
    return written, {}


def dead(make_run: Callable[..., WrittenRun]) -> tuple[WrittenRun, dict[str, Any]]:
    written = begun(make_run, 120)
    written.beat(age_s=120)
    return written, {}


def read_only(make_run: Callable[..., WrittenRun]) -> tuple[WrittenRun, dict[str, Any]]:
    return begun(make_run, 85), {"read_only": True}


def no_color(make_run: Callable[..., WrittenRun]) -> tuple[WrittenRun, dict[str, Any]]:
    return begun(make_run, 85), {"no_color": True}


def ascii_only(make_run: Callable[..., WrittenRun]) -> tuple[WrittenRun, dict[str, Any]]:
    return begun(make_run, 85), {"ascii_only": True}


def light(make_run: Callable[..., WrittenRun]) -> tuple[WrittenRun, dict[str, Any]]:
    return begun(make_run, 85), {"light": True}


def four_tasks(make_run: Callable[..., WrittenRun]) -> tuple[WrittenRun, dict[str, Any]]:
    written = make_run()
    written.begin(stages=("new", "new-2", "new-3"), steps=200)
    known: tuple[str, ...] = ("old",)
    for stage in ("new", "new-2"):
        written.begin_stage(stage, steps=200, known=known)
        written.steps(1, 200 if stage == "new" else 60, stage)
        known = (*known, stage)
    written.beat()
    return written, {}


async def picture(
    view: Callable[..., tuple[WrittenRun, dict[str, Any]]],
    make_run: Callable[..., WrittenRun],
    size: tuple[int, int],
) -> str:
    written, options = view(make_run)
    app = ConsoleApp(written.run, written.options(**options))
    async with app.run_test(size=size) as pilot:
        await pilot.pause()
        return app.export_screenshot(simplify=True)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(
    "view",
    [
        past_the_window,
        in_danger,
        frozen,
        anchored,
        at_risk,
        diagnosed,
        dead,
        read_only,
        no_color,
        four_tasks,
    ],
)
async def test_the_console_looks_right(
    view: Callable[..., tuple[WrittenRun, dict[str, Any]]],
    size: str,
    make_run: Callable[..., WrittenRun],
    svg: SnapshotAssertion,
) -> None:
    assert await picture(view, make_run, SIZES[size]) == svg


@pytest.mark.parametrize("view", [ascii_only, light])
async def test_other_terminals_look_right(
    view: Callable[..., tuple[WrittenRun, dict[str, Any]]],
    make_run: Callable[..., WrittenRun],
    svg: SnapshotAssertion,
) -> None:
    assert await picture(view, make_run, SIZES["120x40"]) == svg


@pytest.mark.parametrize("view", [in_danger, dead])
@pytest.mark.parametrize("size", [(59, 19), (30, 8)])
async def test_the_narrow_card_looks_right(
    view: Callable[..., tuple[WrittenRun, dict[str, Any]]],
    size: tuple[int, int],
    make_run: Callable[..., WrittenRun],
    svg: SnapshotAssertion,
) -> None:
    assert await picture(view, make_run, size) == svg
