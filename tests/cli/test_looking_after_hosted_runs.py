"""Runs that another program trains: its checkpoints stay, and its own resume goes on."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from sf_tui.cli.app import app
from sf_tui.engine.checkpoint_state import DamagedCheckpointError
from sf_tui.errors import RunError, SfError
from sf_tui.run.closing import closing_of
from sf_tui.run.events import EventLog
from sf_tui.run.liveness import WorkerState
from sf_tui.run.log_repair import check_log
from sf_tui.run.reading import read_state
from sf_tui.tui.actions import ActionSender, read_actions
from sf_tui.tui.session import closing_message
from sf_tui.vocabulary.events import CheckpointWritten, RunFinished
from sf_tui.worker.stop import as_run_error
from tui.written_run import PROFILE, WrittenRun


def sf(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture
def output(tmp_path: Path) -> Path:
    """Return the host's output folder, with three checkpoints of 1,000 bytes each."""
    return fill(tmp_path / "out")


def fill(folder: Path) -> Path:
    for step in (5, 10, 15):
        (folder / f"checkpoint-{step}").mkdir(parents=True)
        (folder / f"checkpoint-{step}" / "adapter_model.safetensors").write_bytes(b"w" * 1000)
    return folder


def hosted(
    home: Path, output: Path, status: str | None = "completed", host: str = "trl"
) -> WrittenRun:
    text = f'{PROFILE}\n[host]\nname = "{host}"\noutput_dir = {json.dumps(str(output))}\n'
    run = WrittenRun(home / "runs" / "one", text)
    run.begin(steps=20)
    run.begin_stage(steps=20)
    for step in range(1, 21):
        run.step(step)
        if step in (5, 10, 15):
            path = output / f"checkpoint-{step}"
            run.event(CheckpointWritten(stage="new", step=step, path=str(path), bytes=1000))
    run.checkpoint(20)
    (run.run.path / "host").mkdir()
    (run.run.path / "host" / "new.jsonl").write_text("{}\n")
    if status is not None:
        code = 0 if status == "completed" else 5
        run.event(RunFinished(status=status, exit_code=code, metrics={}, reason=None))
    return run


def kept(output: Path) -> list[str]:
    return sorted(path.parent.name for path in output.rglob("*.safetensors"))


ALL = ["checkpoint-10", "checkpoint-15", "checkpoint-5"]


@pytest.mark.parametrize("host", ["trl", "import"])
def test_checkpoints_of_the_host_are_neither_deleted_nor_counted(
    sf_home: Path, output: Path, host: str
) -> None:
    run = hosted(sf_home, output, host=host)
    (row,) = json.loads(sf("du", "--json").stdout)
    size = sum(file.stat().st_size for file in run.run.path.rglob("*") if file.is_file())
    assert (row["total"], row["count"], row["prunable"]) == (size, 2, 0)
    assert sf("prune", "--asked-for", "--yes").exit_code == 0
    assert kept(output) == ALL
    folders = sorted(each.name for each in (run.run.checkpoints / "new").iterdir())
    assert folders == ["step-000000", "step-000020"]
    done = sf("rm", "one", "--yes")
    assert done.exit_code == 0, done.output
    assert "sf did not write" not in done.stderr
    assert not run.run.path.exists()
    assert kept(output) == ALL


def test_run_that_holds_the_folder_of_its_host_is_not_deleted(
    sf_home: Path, tmp_path: Path
) -> None:
    run = hosted(sf_home, sf_home / "runs" / "one" / "out")
    fill(run.run.path / "out")
    assert sf("prune", "--asked-for", "--yes").exit_code == 0
    done = sf("rm", "one", "--yes")
    assert isinstance(done.exception, SfError)
    assert "trl writes its checkpoints into it" in done.exception.message
    assert kept(run.run.path / "out") == ALL
    (run.run.path / "out").rename(tmp_path / "moved")
    assert sf("rm", "one", "--yes").exit_code == 0


@pytest.mark.parametrize("status", ["stopped", None])
def test_nothing_sends_a_hosted_run_to_sf_resume(
    sf_home: Path, output: Path, status: str | None
) -> None:
    run = hosted(sf_home, output, status)
    if status is None:
        run.beat(age_s=1000)
    state, _ = read_state(run.run)
    told = [
        *(f"{command} {why}" for command, why in closing_of(run.run, state, "one").next_steps),
        closing_message(run.run, 0),
        sf("wait", "one").stderr,
        sf("log", "one", "-f").stderr,
        sf("prune", "one").stderr,
    ]
    for action in ("stop", "freeze", "diagnose"):
        done = sf("stop", "one") if action == "stop" else sf("act", "one", action)
        error = done.exception
        told.append(f"{done.output} {error} {getattr(error, 'hint', '')}")
    worker = WorkerState.DEAD if status is None else WorkerState.FINISHED
    sender = ActionSender(
        run.run, read_actions(run.run), read_only=False, steady_clock=time.monotonic
    )
    told.append(sender.why_not(worker, None, status or ""))
    assert not [line for line in told if "sf resume" in line]
    assert sum("trl's own resume" in line for line in told) >= 4


def test_damage_of_a_hosted_run_is_mended_without_training_it(sf_home: Path, output: Path) -> None:
    run = hosted(sf_home, output, None).run
    whole = run.events.read_bytes()
    run.events.write_bytes(whole + b"{cut\n")
    start = run.checkpoints / "new" / "step-000000"
    disk = as_run_error(OSError(28, "No space left on device", "file"), run.path)
    assert disk is not None
    with pytest.raises(RunError) as damaged:
        EventLog(run.events)
    hints = [damaged.value.hint, DamagedCheckpointError("state.json", start).hint, disk.hint]
    assert all("trl's own resume" in hint for hint in hints), hints
    assert ["sf resume" in hint for hint in hints] == [True, False, False]
    done = sf("resume", "one", "--repair-log")
    assert done.exit_code == 0, done.output
    assert "1 damaged line taken out" in done.stderr
    assert "trl's own resume continues it" in done.stderr
    assert run.events.read_bytes() == whole

    (run.checkpoints / "new" / "step-000020" / "state.json").write_text('{"seq": 900}')
    with pytest.raises(RunError) as cut:
        check_log(run, 3)
    assert "trl's own resume continues it" in cut.value.hint
