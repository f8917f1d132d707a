"""The bell: warnings and ends from now on, only if it is asked for."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from sf_tui.run.bell import Bell, wants_bell
from sf_tui.vocabulary.events import Alert, RunFinished
from tui.driving import console_of
from tui.written_run import PROFILE, WrittenRun


@pytest.fixture
def written(sf_home: Path) -> WrittenRun:
    run = WrittenRun(sf_home / "runs" / "a-run")
    run.begin()
    run.begin_stage()
    run.event(Alert("warn", "drop", "before", "new", 1))
    return run


def test_it_tells_warnings_and_the_end_but_no_notes_and_nothing_old(written: WrittenRun) -> None:
    bell = Bell(written.run)
    assert not bell.poll()
    written.step(2)
    written.event(Alert("info", "data", "a note", "new", 30))
    assert not bell.poll()
    written.event(Alert("warn", "drop", "old lost 48 points", "new", 30))
    assert bell.poll()
    assert not bell.poll()
    written.event(RunFinished("completed", 0))
    assert bell.poll()


def test_the_profile_may_ask_for_it(sf_home: Path, written: WrittenRun) -> None:
    assert not wants_bell(written.run)
    other = WrittenRun(sf_home / "runs" / "b", f"{PROFILE}\n[console]\nbell = true\n")
    assert wants_bell(other.run)
    other.run.profile.write_text("[console")
    assert not wants_bell(other.run)


@pytest.mark.parametrize("asked", [False, True])
async def test_a_console_rings_only_if_asked(
    written: WrittenRun, asked: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    rung: list[bool] = []
    app = console_of(written, bell=asked)
    monkeypatch.setattr(app, "bell", lambda: rung.append(True))
    alert: Callable[[], None] = lambda: written.event(  # noqa: E731
        Alert("error", "nan", "the loss is NaN", "new", 2)
    )
    async with app.run_test() as pilot:
        rung.clear()
        alert()
        app.poll()
        await pilot.pause()
    assert bool(rung) == asked
