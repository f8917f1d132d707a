"""How whole screens look: one of each layout, without color, and behind a dialog.

`test_panels.py` checks what each panel shows in each state of a run, line by line.
"""

from __future__ import annotations

import pytest
from syrupy.assertion import SnapshotAssertion
from syrupy.extensions.image import SVGImageSnapshotExtension

from sf_tui.tui.console import ConsoleApp
from sf_tui.tui.machine import Machine
from support.console_scenes import MakeRun, Scene, in_danger, plain_terminal, three_stages


@pytest.fixture
def svg(snapshot: SnapshotAssertion) -> SnapshotAssertion:
    return snapshot.use_extension(SVGImageSnapshotExtension)


@pytest.fixture(autouse=True)
def a_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give the disk a size of its own: this machine's changes."""
    sizes = lambda *_: (102_000_000, 35_000_000_000)  # noqa: E731
    monkeypatch.setattr(Machine, "_measure_disk", sizes)


@pytest.mark.parametrize(
    ("scene", "size", "keys"),
    [
        pytest.param(in_danger, (59, 19), "", id="card"),
        pytest.param(in_danger, (80, 24), "", id="compact"),
        pytest.param(in_danger, (120, 40), "", id="standard"),
        pytest.param(three_stages, (200, 60), "", id="wide"),
        pytest.param(plain_terminal, (80, 24), "", id="plain"),
        pytest.param(in_danger, (120, 40), "?", id="help"),
    ],
)
async def test_the_console_looks_right(
    scene: Scene, size: tuple[int, int], keys: str, make_run: MakeRun, svg: SnapshotAssertion
) -> None:
    written, options = scene(make_run)
    app = ConsoleApp(written.run, written.options(**options))
    async with app.run_test(size=size) as pilot:
        await pilot.press(*keys)
        await pilot.pause()
        assert app.export_screenshot(simplify=True) == svg
