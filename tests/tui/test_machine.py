"""The machine panel: devices from the heartbeat, the disk, and what was trained on."""

from __future__ import annotations

from collections.abc import Callable

from sf_tui.run.devices import DeviceReading
from sf_tui.run.liveness import Heartbeat, RunLock
from sf_tui.tui.console import ConsoleApp
from sf_tui.tui.panels.machine import MachinePanel, machine_rows
from sf_tui.tui.terminal import ConsoleOptions
from sf_tui.vocabulary.events import RunFinished, StageStarted
from tui.written_run import WrittenRun

MakeRun = Callable[..., WrittenRun]
GB = 1_000_000_000
H200 = DeviceReading(
    "NVIDIA H200", 0, 0, "gpu7", 61 * GB, 150 * GB, 58 * GB, 0.87, 71.0, 452.3, 700.0
)


def rows_of(written: WrittenRun, *devices: DeviceReading, width: int = 44) -> list[str]:
    lines = MachinePanel(sampled(written, *devices).view).compose_lines(width, 30)
    return ["".join(text for text, _ in line) for line in lines]


def sampled(written: WrittenRun, *devices: DeviceReading) -> ConsoleApp:
    """Return a console on a run whose worker is this process and has reported these devices."""
    lock = RunLock(written.run)
    lock.acquire()
    Heartbeat(written.run, lambda: devices)._write()
    app = ConsoleApp(written.run, ConsoleOptions())
    app.check_worker()
    app.sample_machine()
    lock.release()
    return app


def live(make_run: MakeRun) -> WrittenRun:
    written = make_run()
    written.begin()
    written.event(
        StageStarted("new", "new", 600, known=["old"], rows=101, rows_per_step=8, tokens_per_row=12)
    )
    written.steps(1, 85)
    return written


def test_a_device_has_load_headroom_heat_power_and_peak(make_run: MakeRun) -> None:
    text = "\n".join(rows_of(live(make_run), H200))
    assert "87% NVIDIA H200" in text
    assert "61.0 GB of 150 GB, 89.0 GB free" in text
    assert "71 °C   452 of 700 W   peak 58.0 GB" in text


def test_memory_alone_is_shown_without_the_library(make_run: MakeRun) -> None:
    rows = rows_of(live(make_run), DeviceReading("GPU", 0, 0, "h", 61 * GB, 150 * GB))
    assert rows[0].split() == ["gpu", "0", "GPU"]
    assert "89.0 GB free" in rows[1]
    assert not any("°C" in row or " W" in row for row in rows)


def test_ranks_are_told_apart(make_run: MakeRun) -> None:
    other = DeviceReading("NVIDIA H200", 0, 1, "gpu8", 1, 2, utilization=0.5)
    rows = rows_of(live(make_run), H200, other, width=60)
    assert any(row.startswith(" gpu 0:0") and "on gpu7" in row for row in rows)
    assert any(row.startswith(" gpu 1:0") and "on gpu8" in row for row in rows)


def test_epochs_examples_and_tokens_are_those_of_the_step(make_run: MakeRun) -> None:
    text = "\n".join(rows_of(live(make_run)))
    assert "6.7 of 101 rows" in text
    assert "680 examples, about 8.16 k tokens" in text
    assert "this run" in text


def test_nothing_live_is_left_after_the_end(make_run: MakeRun) -> None:
    written = live(make_run)
    written.event(RunFinished(status="completed", exit_code=0, metrics={}, reason=""))
    rows = rows_of(written, H200)
    assert rows[0].startswith("  the run ended")
    assert not any("gpu" in row or "cpu" in row or "memory" in row for row in rows)
    assert any("this run" in row for row in rows)


def test_the_panel_is_as_high_as_its_rows(make_run: MakeRun) -> None:
    written = live(make_run)
    rows = rows_of(written, H200)
    app = sampled(written, H200)
    assert machine_rows(app.view, 40) == len(rows) + 1
    assert machine_rows(app.view, 24) == len(rows) - 2
