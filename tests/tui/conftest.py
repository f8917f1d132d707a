"""Runs for the console to show."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from support.idle_wait import wait_in_short_steps
from tui.written_run import WrittenRun

wait_in_short_steps()


@pytest.fixture
def make_run(sf_home: Path) -> Callable[..., WrittenRun]:
    """Make run directories in the test's own home."""

    def make(name: str = "20260301-093000-biography-mini-a1b2", **more: Any) -> WrittenRun:
        return WrittenRun(sf_home / "runs" / name, **more)

    return make


@pytest.fixture
def running(make_run: Callable[..., WrittenRun]) -> WrittenRun:
    """Return a run at step 85 of its danger window, whose worker lives on another host."""
    written = make_run()
    written.begin()
    written.begin_stage()
    written.steps(1, 85)
    written.beat()
    return written
