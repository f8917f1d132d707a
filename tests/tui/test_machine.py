"""The machine panel: devices from the heartbeat, the disk, and what was trained on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from sf_tui.run.devices import DeviceReading
from sf_tui.run.liveness import Heartbeat, RunLock, probe_liveness
from sf_tui.run.rank_readings import RankReading
from sf_tui.tui.console import ConsoleApp
from sf_tui.tui.machine import Machine
from sf_tui.tui.panels.card import Card
from sf_tui.tui.panels.header_footer import Header
from sf_tui.tui.panels.machine import MachinePanel, machine_rows
from sf_tui.tui.side_heights import side_heights
from sf_tui.tui.terminal import ConsoleOptions
from sf_tui.vocabulary.events import RunFinished, StageStarted
from tui.written_run import WrittenRun

MakeRun = Callable[..., WrittenRun]
GB = 1_000_000_000
H200 = DeviceReading(
    "NVIDIA H200", 0, 0, "gpu7", 61 * GB, 150 * GB, 58 * GB, 0.87, 71.0, 452.3, 700.0
)


def rows_of(
    written: WrittenRun,
    *devices: DeviceReading,
    ranks: Sequence[RankReading] = (),
    width: int = 44,
    height: int = 30,
) -> list[str]:
    app = sampled(written, *devices, ranks=ranks)
    lines = MachinePanel(app.view).compose_lines(width, height)
    return ["".join(text for text, _ in line) for line in lines]


def sampled(
    written: WrittenRun, *devices: DeviceReading, ranks: Sequence[RankReading] = ()
) -> ConsoleApp:
    """Return a console on a run whose worker is this process and has reported these readings."""
    lock = RunLock(written.run)
    lock.acquire()
    Heartbeat(written.run, lambda: (devices, ranks))._write()
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


ON_GPUS = (RankReading(0, "gpu7", 1, "cuda:0", 85), RankReading(1, "gpu8", 1, "cuda:0", 85))
ON_CPUS = (
    RankReading(0, "box", 7, "cpu", 85, 0.97, 400_000_000, 5 * GB),
    RankReading(1, "box", 8, "cpu", 85, 0.5, 380_000_000, 5 * GB),
)


def test_each_rank_on_a_gpu_has_its_host_load_headroom_heat_and_power(make_run: MakeRun) -> None:
    other = replace(H200, rank=1, host="gpu8", used_bytes=8 * GB, utilization=0.5)
    rows = rows_of(live(make_run), H200, other, ranks=ON_GPUS)
    assert max(map(len, rows[:5])) <= 44
    assert [row.split() for row in rows[:5]] == [
        ["rank", "device", "load", "used", "free", "°C", "W"],
        ["gpu7:", "NVIDIA", "H200"],
        ["0", "cuda:0", "87%", "61.0", "GB", "89.0", "GB", "71", "452"],
        ["gpu8:", "NVIDIA", "H200"],
        ["1", "cuda:0", "50%", "8.0", "GB", "142", "GB", "71", "452"],
    ]


def test_each_rank_on_a_cpu_has_its_cores_and_memory(make_run: MakeRun) -> None:
    rows = rows_of(live(make_run), ranks=ON_CPUS)
    assert max(map(len, rows[:4])) <= 44
    assert [row.split() for row in rows[:4]] == [
        ["rank", "device", "load", "used", "free"],
        ["box"],
        ["0", "cpu", "1.0", "cores", "400", "MB", "5.0", "GB"],
        ["1", "cpu", "0.5", "cores", "380", "MB", "5.0", "GB"],
    ]


def test_a_rank_without_a_sign_is_behind_in_header_card_and_panel(make_run: MakeRun) -> None:
    ranks = (ON_CPUS[0], replace(ON_CPUS[1], silent_s=14.2, step=12))
    written = live(make_run)
    rows = rows_of(written, ranks=ranks)
    app = sampled(written, ranks=ranks)
    assert " ".join(rows[3].split()) == "1 behind: no sign for 14 s, at step 12"
    assert max(map(len, rows[:4])) <= 44
    for panel in (Header, Card):
        text = "".join(t for line in panel(app.view).compose_lines(50, 15) for t, _ in line)
        assert "rank 1 behind" in text, panel


def test_a_rank_that_the_others_wait_for_keeps_its_figures(make_run: MakeRun) -> None:
    rows = rows_of(live(make_run), ranks=(replace(ON_CPUS[0], waits_s=25.0), ON_CPUS[1]))
    assert rows[3].split()[:4] == ["1", "cpu", "0.5", "cores"]
    assert rows[4].strip() == "behind: the others have waited 25 s"


def test_of_many_ranks_those_behind_are_shown_first(make_run: MakeRun) -> None:
    ranks = [replace(ON_CPUS[0], rank=rank) for rank in range(40)]
    ranks[33] = replace(ranks[33], silent_s=20.0)
    written = live(make_run)
    app = sampled(written, ranks=ranks)
    for terminal, left in ((40, 36), (60, 32)):
        height = machine_rows(app.view, terminal) - 1
        rows = rows_of(written, ranks=ranks, height=height)
        assert len(rows) == height
        assert any(row.strip().startswith("33") and "behind" in row for row in rows)
        assert any(row.strip() == f"and {left} more" for row in rows)
        assert "examples" in rows[-1]
        assert sum(side_heights(app.view, terminal, wide=False).values()) + 3 + 14 <= terminal + 1
    whole = rows_of(written, ranks=ranks, height=60)
    assert not any("more" in row for row in whole)


def test_a_rank_that_was_gone_is_shown_after_the_end(make_run: MakeRun) -> None:
    written = live(make_run)
    written.event(RunFinished(status="failed", exit_code=1, metrics={}, reason="rank 1 is gone"))
    rows = rows_of(written, ranks=(ON_CPUS[0], replace(ON_CPUS[1], gone=True)))
    assert [row.split() for row in rows[:2]] == [["box"], ["1", "gone"]]
    assert rows[2].startswith("  the run ended")


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


def test_the_size_of_a_run_follows_its_checkpoints(make_run: MakeRun) -> None:
    written = live(make_run)
    machine, liveness = Machine(), probe_liveness(written.run)
    first = machine.sample(written.run, liveness).run_bytes
    folder = written.run.checkpoints / "new" / "step-000400"
    folder.mkdir(parents=True)
    (folder / "weights").write_bytes(bytes(9_000_000))
    second = machine.sample(written.run, liveness).run_bytes
    assert first is not None
    assert second is not None
    assert second - first == 9_000_000


def test_the_panel_is_as_high_as_its_rows(make_run: MakeRun) -> None:
    written = live(make_run)
    rows = rows_of(written, H200)
    app = sampled(written, H200)
    assert machine_rows(app.view, 40) == len(rows) + 1
    assert machine_rows(app.view, 24) == len(rows) - 2
