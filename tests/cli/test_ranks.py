"""`sf run` as one of several processes and as what starts them; what it refuses."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import orjson
import psutil
import pytest

from sf_tui.cli import launching
from sf_tui.cli.app import main
from sf_tui.cli.doctor_launch import describe_exchange
from sf_tui.cli.ranks import launch_command, processes_of
from sf_tui.errors import SfError, UsageError
from sf_tui.profile import load_profile
from sf_tui.run.devices import DeviceReading
from sf_tui.run.directory import RunDirectory
from sf_tui.run.liveness import Heartbeat, RunLock
from sf_tui.run.rank_readings import RankReading
from sf_tui.vocabulary.events import Event, RunFinished, RunStarted, event_object
from sf_tui.worker.launched import is_launched
from sf_tui.worker.stop import StopSignals
from sf_tui.worker.try_ranks import try_exchange
from support import RUN_PATIENCE_S
from support.quick_run import PROFILE, events_of
from support.several_ranks import fork_ranks


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, False),
        ({"RANK": "0"}, False),
        ({"WORLD_SIZE": "4"}, False),
        ({"RANK": "0", "WORLD_SIZE": "1"}, False),
        ({"RANK": "3", "WORLD_SIZE": "4"}, True),
    ],
)
def test_a_process_is_a_rank_only_with_others(environment: dict[str, str], expected: bool) -> None:
    assert is_launched(environment) is expected


@pytest.mark.parametrize("engine", ["DEEPSPEED", "FSDP", "MEGATRON_LM"])
def test_engines_of_accelerate_are_refused_with_what_to_use(engine: str) -> None:
    with pytest.raises(UsageError) as refused:
        is_launched({f"ACCELERATE_USE_{engine}": "true", "RANK": "0", "WORLD_SIZE": "2"})
    assert refused.value.exit_code == 2
    assert "torchrun" in refused.value.hint
    assert '"fsdp2"' in refused.value.hint


def test_gpus_that_are_not_there_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    profile = load_profile("biography-tiny", ["launch.processes=gpus"])
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    with pytest.raises(UsageError, match="finds no GPU"):
        processes_of(profile)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)
    assert processes_of(profile) == 3
    assert launch_command(1, "sf_tui.worker", ["r"])[1:] == ["-m", "sf_tui.worker", "r"]
    assert "--max-restarts=0" in launch_command(3, "sf_tui.worker", ["r"])


def test_an_exchange_between_ranks_is_tried_and_described(tmp_path: Path) -> None:
    def work(ranks: object, report: Path) -> int:
        report.write_text(json.dumps(try_exchange(ranks)))  # type: ignore[arg-type]
        return 0

    for process in fork_ranks(work, tmp_path):
        assert process.wait(60) == 0
    found = json.loads((tmp_path / "0.json").read_text())
    assert found == json.loads((tmp_path / "1.json").read_text())
    first, *others = describe_exchange(found)
    assert (first.level, len(others)) == ("ok", 2)
    assert first.found.startswith("2 processes on 1 host exchange: 4 MiB summed in ")
    found[1]["right"] = False
    (wrong,) = describe_exchange(found)
    assert (wrong.level, wrong.found) == ("fail", "rank 1 got a wrong sum")


def run_in_two(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *events: Event
) -> tuple[RunDirectory, SfError]:
    """Return a new run whose two processes log these events and end, and the error of the call."""
    run = RunDirectory.create(tmp_path / "r", profile_text=PROFILE, profile_name="p", argv=["sf"])
    script = tmp_path / "worker.py"
    lines = [orjson.dumps(event_object(event)).decode() for event in events]
    written = "".join(f"{line}\n" for line in lines)
    script.write_text(
        f"open({str(run.events)!r}, 'w').write({written!r})\n"
        "raise SystemExit('RuntimeError: no socket to rank 1')\n"
    )
    monkeypatch.setattr(launching, "launch_command", lambda *_: [sys.executable, str(script)])
    with pytest.raises(SfError) as raised:
        launching.work_here(run, StopSignals(), json=False, created=True, processes=2)
    return run, raised.value


def test_processes_that_fail_at_once_leave_the_logs_that_the_error_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, error = run_in_two(tmp_path, monkeypatch)
    assert "no socket to rank 1" in error.message
    assert str(run.worker_log) in error.hint
    assert "no socket to rank 1" in run.worker_log.read_text()


def test_a_failure_of_all_processes_that_only_a_log_explains_keeps_the_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    failed = RunFinished("failed", 1, {}, "rank 1 ended: CUDA out of memory", seq=1, time="t")
    run, error = run_in_two(tmp_path, monkeypatch, failed)
    assert error.message == "rank 1 ended: CUDA out of memory"
    assert str(run.worker_log) in error.hint
    assert run.worker_log.exists()


def test_a_refused_model_leaves_nothing_of_a_run_of_several_processes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    failed = RunFinished("failed", 2, {}, "m: no config.json", seq=1, time="t")
    run, error = run_in_two(tmp_path, monkeypatch, failed)
    assert (error.exit_code, error.hint) == (2, "")
    assert not run.path.exists()


def test_show_lists_each_rank_and_names_the_one_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    gb = 1_000_000_000
    run = RunDirectory.create(tmp_path / "r", profile_text=PROFILE, profile_name="p", argv=["sf"])
    run.events.write_text(
        f"{orjson.dumps(event_object(RunStarted(['old'], seq=1, time='t'))).decode()}\n"
    )
    ranks = [
        RankReading(0, "gpu7", 11, "cuda:0", 85, waits_s=14.0),
        RankReading(1, "gpu8", 12, "cuda:0", 84, silent_s=14.0),
        RankReading(2, "gpu8", 13, "cpu", 85, 0.97, 400_000_000, 5 * gb, waits_s=13.0),
    ]
    devices = [
        DeviceReading("H200", 0, 0, "gpu7", 61 * gb, 150 * gb, None, 0.87, 71.0, 452.3),
        DeviceReading("H200", 0, 1, "gpu8", 61 * gb, 150 * gb),
    ]

    def show(*options: str) -> str:
        monkeypatch.setattr(sys, "argv", ["sf", "show", str(run.path), *options])
        with pytest.raises(SystemExit) as ended:
            main()
        assert ended.value.code in (0, None)
        return capfd.readouterr().out

    with RunLock(run):
        Heartbeat(run, lambda: (devices, ranks))._write()
        lines = show().splitlines()
        found = json.loads(show("--json"))["ranks"]
    at = next(at for at, line in enumerate(lines) if line.startswith("ranks "))
    assert lines[at : at + 3] == [
        "ranks    0  cuda:0 on gpu7, 87%, 61.0 GB used, 89.0 GB free, 71 °C, 452 W",
        "         1  cuda:0 on gpu8, behind: no sign for 14 s, at step 84",
        "         2  cpu on gpu8, 1.0 cores, 400 MB used, 5.0 GB free",
    ]
    assert [(one["rank"], one["state"], one["step"]) for one in found] == [
        (0, "ok", 85),
        (1, "behind", 84),
        (2, "ok", 85),
    ]
    assert found[0]["devices"][0]["temperature_c"] == 71
    # Nothing live is left of a run without a worker.
    Heartbeat(run, lambda: ((), ranks[:1]))._write()
    assert [one["state"] for one in json.loads(show("--json"))["ranks"]] == ["gone"]


def sf(*arguments: str | Path, launcher: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, *launcher, "-m", "sf_tui.cli", *map(str, arguments)]
    return subprocess.run(
        command, capture_output=True, text=True, timeout=RUN_PATIENCE_S, env=dict(os.environ)
    )


# Slow: torchrun and each of its processes import torch.
@pytest.mark.slow
def test_a_run_starts_its_processes_and_ends_with_its_own_code(tmp_path: Path) -> None:
    profile = tmp_path / "two.toml"
    profile.write_text(PROFILE + "[launch]\nprocesses = 2\n")
    run = RunDirectory(tmp_path / "run")
    ended = sf(
        *("run", profile, "--no-ui", "--run-dir", run.path),
        *("--set", "guard.new_accuracy=1.0", "--set", "train.steps=4"),
    )
    assert ended.returncode == 4, ended.stderr
    assert events_of(run)[-1]["status"] == "guard_failed"
    assert run.rank_log(1).exists()

    checked = sf("doctor", "--launch", profile, "--json")
    assert checked.returncode == 0, checked.stderr
    assert json.loads(checked.stdout)["findings"][0]["found"].startswith("2 processes on 1 host")


@pytest.mark.slow
def test_a_run_under_torchrun_is_one_run(tmp_path: Path) -> None:
    profile = tmp_path / "two.toml"
    profile.write_text(PROFILE)
    run = RunDirectory(tmp_path / "run")
    torchrun = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2")
    arguments = ("run", profile, "--json", "--resume", "--run-dir", run.path)
    ended = sf(*arguments, launcher=torchrun)
    assert ended.returncode == 0, ended.stderr
    printed = [json.loads(line) for line in ended.stdout.splitlines()]
    assert printed == events_of(run)
    again = sf(*arguments, launcher=torchrun)
    assert again.returncode == 0, again.stderr
    assert "is completed" in again.stderr


@pytest.mark.slow
@pytest.mark.parametrize("victim", [0, 1])
def test_a_killed_rank_ends_the_launch_and_the_run_can_be_resumed(
    tmp_path: Path, victim: int
) -> None:
    profile = tmp_path / "two.toml"
    profile.write_text(PROFILE + "[launch]\nprocesses = 2\n")
    run = RunDirectory(tmp_path / "run")
    more = ("--set", "train.steps=200", "--set", "checkpoint.every=50")
    command = [sys.executable, "-m", "sf_tui.cli", "run", str(profile), "--no-ui"]
    with (tmp_path / "log").open("w") as log:
        launch = psutil.Popen([*command, "--run-dir", str(run.path), *more], stdout=log, stderr=log)
    ranks: dict[str | None, psutil.Process] = {}
    try:
        deadline = time.monotonic() + RUN_PATIENCE_S
        while not (run.events.exists() and events_of(run, "checkpoint")[1:]):
            assert launch.poll() is None, (tmp_path / "log").read_text()
            assert time.monotonic() < deadline
            time.sleep(0.1)
        ranks = {one.environ().get("RANK"): one for one in launch.children(recursive=True)}
        ranks[str(victim)].kill()
        assert launch.wait(30) != 0
        assert not any(one.is_running() for one in ranks.values())
    finally:
        for process in (*ranks.values(), launch):
            if process.is_running():
                process.kill()
    shown = json.loads(sf("show", run.path, "--json").stdout)
    # Rank 0 reports the end of rank 1; no rank reports that of rank 0.
    assert (shown["worker"] if victim == 0 else shown["state"]) == ("dead", "failed")[victim]
    assert [(one["rank"], one["state"]) for one in shown["ranks"]] == [(victim, "gone")]
    resumed = sf("resume", run.path, "--no-ui")
    assert resumed.returncode == 0, resumed.stderr
    assert events_of(run)[-1]["status"] == "completed"
