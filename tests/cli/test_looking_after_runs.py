"""Runs are waited for, labeled, measured, pruned and deleted, and none is harmed on the way."""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from sf_tui.cli.app import app
from sf_tui.cli.wait import DIED
from sf_tui.errors import SfError
from sf_tui.run.directory import find_run
from sf_tui.run.durable import aside_name
from sf_tui.run.liveness import RunLock
from sf_tui.vocabulary.events import CheckpointWritten, Rewound, RunFinished
from support import PATIENCE_S, RUN_PATIENCE_S
from support.fork_client import ForkHost
from support.pseudo_terminal import Terminal
from tui.written_run import WrittenRun


def sf(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def refused(*arguments: object) -> SfError:
    done = sf(*arguments)
    assert isinstance(done.exception, SfError), done.output
    return done.exception


@pytest.fixture
def home(sf_home: Path) -> Path:
    return sf_home / "runs"


def written(home: Path, name: str = "one", *, status: str | None = "completed") -> WrittenRun:
    """Write a run with checkpoints at 0, 5, 10, 15 and 20, each with a file of 1,000 bytes."""
    run = WrittenRun(home / name)
    run.begin(steps=20)
    run.begin_stage(steps=20)
    for step in range(1, 21):
        run.step(step)
        if step % 5 == 0:
            run.checkpoint(step)
    for folder in (run.run.checkpoints / "new").iterdir():
        (folder / "weights").write_bytes(b"w" * 1000)
        (folder / "state.json").write_text('{"asked_for": false}')
    run.run.model.mkdir()
    (run.run.model / "config.json").write_text("{}")
    bank = run.run.path / "neighbors" / "new"
    bank.mkdir(parents=True)
    (bank / "bank.safetensors").write_bytes(b"b" * 500)
    if status is not None:
        code = {"completed": 0, "guard_failed": 4, "stopped": 5, "failed": 1}[status]
        run.event(RunFinished(status=status, exit_code=code, metrics={}, reason=None))
    return run


def steps_on_disk(run: WrittenRun) -> list[str]:
    return sorted(each.name for each in (run.run.checkpoints / "new").iterdir())


# Waiting


@pytest.mark.parametrize(
    ("status", "code"), [("completed", 0), ("guard_failed", 4), ("stopped", 5), ("failed", 1)]
)
def test_wait_exits_with_the_code_of_the_run(home: Path, status: str, code: int) -> None:
    written(home, status=status)
    assert sf("wait", "one").exit_code == code


def test_wait_for_several_runs_exits_with_the_first_failure(home: Path) -> None:
    for name, status in (("a", "completed"), ("b", "guard_failed"), ("c", "failed")):
        written(home, name, status=status)
    assert sf("wait", "a", "c", "b").exit_code == 1
    done = sf("wait", "a", "b", "c", "a", "--json")
    assert done.exit_code == 4
    assert [row["exit_code"] for row in json.loads(done.stdout)] == [0, 4, 1]


def test_a_dead_worker_ends_waiting_with_a_code_of_its_own(home: Path) -> None:
    written(home, status=None).beat(age_s=1000)
    done = sf("wait", "one")
    assert done.exit_code == DIED
    assert "`sf resume one` continues it" in done.stderr


def test_an_exit_code_that_no_process_has_is_a_failure(home: Path) -> None:
    written(home, status=None).event(RunFinished(status="failed", exit_code=256, metrics={}))
    assert sf("wait", "one").exit_code == 1


def test_wait_ends_with_the_run_and_not_before(home: Path) -> None:
    run = written(home, status=None)
    lock = RunLock(run.run)
    lock.acquire()
    assert refused("wait", "one", "--timeout", 0.3).exit_code == 124

    def end() -> None:
        time.sleep(0.3)
        run.event(RunFinished(status="stopped", exit_code=5, metrics={}))
        lock.release()

    thread = threading.Thread(target=end)
    thread.start()
    assert sf("wait", "one", "--timeout", PATIENCE_S).exit_code == 5
    thread.join()


# Names, notes and tags


def test_a_name_stands_for_the_id_and_moves_nothing(home: Path) -> None:
    run = written(home, "20261129-a")
    lock = RunLock(run.run)
    lock.acquire()
    before = run.run.run_json.read_bytes()
    assert sf("rename", "20261129-a", "baseline").exit_code == 0
    lock.release()
    assert find_run("baseline").path == run.run.path == find_run("20261129").path
    assert run.run.run_json.read_bytes() == before
    assert json.loads(sf("runs", "--json").stdout)[0]["name"] == "baseline"
    assert sf("rename", "baseline", "").exit_code == 0
    assert isinstance(refused("show", "baseline"), SfError)


def test_a_name_means_one_run(home: Path) -> None:
    written(home, "a")
    written(home, "b")
    sf("rename", "a", "best")
    for name in ("best", "a", "last", "x/y", "-x", "..", "two words", "\x1b[2J", "n" * 300):
        done = sf("rename", "b", "--", name)
        assert done.exit_code == 2 or isinstance(done.exception, SfError), name
    assert find_run("best").id == "a"
    assert sf("rename", "a", "best").exit_code == 0


def test_notes_and_tags_are_kept_filtered_and_removed(home: Path) -> None:
    written(home, "a")
    written(home, "b")
    sf("note", "a", "rate halved\nagain", "--tag", "sweep", "--tag", "x")
    sf("note", "b", "--tag", "x")
    sf("note", "a", "--untag", "x")
    shown = json.loads(sf("note", "a", "--json").stdout)
    assert (shown["note"], shown["tags"]) == ("rate halved\nagain", ["sweep"])
    assert [row["run"] for row in json.loads(sf("runs", "--json", "--tag", "x").stdout)] == ["b"]
    assert "note     rate halved" in sf("show", "a").stdout


def test_damaged_labels_are_reported_and_not_written_over(home: Path) -> None:
    labels = written(home).run.path / "labels.json"
    labels.write_text("{")
    assert "labels.json: not JSON" in sf("show", "one").stderr
    assert "labels.json" in refused("note", "one", "x").message
    assert labels.read_text() == "{"


# The list of runs


def test_in_a_pipe_rows_are_tab_separated_below_a_header(home: Path) -> None:
    for number in range(25):
        written(home, f"run-{number:02d}")
    lines = sf("runs").stdout.splitlines()
    assert len(lines) == 26
    header = lines[0].split("\t")
    assert header[:5] == ["run", "name", "state", "stage", "step"]
    assert {len(line.split("\t")) for line in lines} == {len(header)}
    chosen = sf("runs", "--columns", "state,run", "--limit", 1).stdout.splitlines()
    assert chosen[0] == "state\trun"
    assert chosen[1].startswith("completed\trun-")


def test_runs_are_filtered(home: Path) -> None:
    written(home, "a")
    written(home, "b", status="failed")
    names = sf("runs", "--state", "failed", "--columns", "run").stdout.split()
    assert names == ["run", "b"]
    assert sf("runs", "--profile", "other", "--columns", "run").stdout.split() == ["run"]
    assert len(sf("runs", "--since", "1h", "--columns", "run").stdout.split()) == 3
    assert sf("runs", "--since", "2099-01-01", "--columns", "run").stdout.split() == ["run"]
    assert refused("runs", "--columns", "stat").exit_code == 2
    assert refused("runs", "--since", "soon").exit_code == 2


@pytest.mark.parametrize("width", [40, 80])
def test_no_terminal_breaks_an_id(home: Path, width: int) -> None:
    identity = "20261129-180142-a-profile-of-some-length-3f2a"
    written(home, identity)
    terminal = Terminal(["-m", "sf_tui.cli", "runs"], {}, size=(width, 24))
    assert terminal.read_to_end() == 0
    terminal.end()
    lines = terminal.data.decode().replace("\r\n", "\n").splitlines()
    assert any(line.startswith(identity) for line in lines)
    assert all(len(line) <= max(width, len(identity)) for line in lines)


# Disk


def test_du_counts_every_byte_once(home: Path) -> None:
    run = written(home)
    (run.run.checkpoints / "new" / "step-000005" / "again").hardlink_to(
        run.run.checkpoints / "new" / "step-000005" / "weights"
    )
    (run.run.path / "link").symlink_to("/usr")
    [row] = json.loads(sf("du", "--json").stdout)
    assert (row["count"], row["neighbors"], row["model"]) == (5, 500, 2)
    assert row["checkpoints"] == 5 * (1000 + len('{"asked_for": false}'))
    parts = ("model", "checkpoints", "neighbors", "logs", "other")
    assert row["total"] == sum(row[part] for part in parts)
    assert row["prunable"] == 3 * 1020 + 500
    assert sf("du").stdout.splitlines()[1].split("\t")[1] == str(row["total"])


def test_prune_shows_first_and_then_keeps_first_last_model_and_log(home: Path) -> None:
    run = written(home)
    log, model = run.run.events.read_bytes(), run.run.model / "config.json"
    shown = sf("prune")
    assert len(shown.stdout.splitlines()) == 5
    assert "nothing was deleted" in shown.stderr
    assert len(steps_on_disk(run)) == 5
    done = sf("prune", "--yes")
    assert done.stdout == shown.stdout
    assert "3 rollback targets are gone" in done.stderr
    assert steps_on_disk(run) == ["step-000000", "step-000020"]
    assert run.run.events.read_bytes() == log
    assert model.exists()
    assert not (run.run.path / "neighbors" / "new").exists()
    assert "3 deleted, so no rollback reaches them" in sf("show", "one").stdout
    assert "nothing to prune" in sf("prune", "--yes").stderr


def test_prune_keeps_the_newest_and_those_that_were_asked_for(home: Path) -> None:
    run = written(home)
    (run.run.checkpoints / "new" / "step-000005" / "state.json").write_text('{"asked_for": true}')
    sf("prune", "one", "--keep", 1, "--yes")
    assert steps_on_disk(run) == [f"step-{step:06d}" for step in (0, 5, 15, 20)]
    sf("prune", "one", "--asked-for", "--yes")
    assert steps_on_disk(run) == ["step-000000", "step-000020"]


def test_prune_keeps_what_a_resume_and_a_diagnosis_need(home: Path) -> None:
    run = written(home, status=None)
    # A start that an edit replaced, and a rollback that was killed before it put 20 aside.
    (run.run.checkpoints / "new" / "step-000000~1").mkdir()
    run.event(Rewound(stage="new", step=10, lost=10, reason="rollback", checkpoint="step-000010"))
    run.event(RunFinished(status="stopped", exit_code=5, metrics={}))
    sf("prune", "--yes")
    names = ["step-000000", "step-000000~1", "step-000010", "step-000020"]
    assert steps_on_disk(run) == names
    # A stopped run may be resumed and would have to build it again.
    assert (run.run.path / "neighbors" / "new").exists()


def test_prune_leaves_runs_that_have_not_ended_or_are_damaged(home: Path) -> None:
    dead = written(home, "dead", status=None)
    dead.beat(age_s=1000)
    live = written(home, "live", status=None)
    lock = RunLock(live.run)
    lock.acquire()
    damaged = written(home, "damaged")
    lines = damaged.run.events.read_bytes().splitlines(keepends=True)
    damaged.run.events.write_bytes(b"".join([*lines[:5], b"x\n", *lines[5:]]))
    young = written(home, "young")
    sf("prune", "dead", "live", "damaged", "--yes")
    sf("prune", "--older-than", "1d", "--yes")
    lock.release()
    for run in (dead, live, damaged, young):
        assert len(steps_on_disk(run)) == 5


def test_prune_follows_no_link(home: Path, tmp_path: Path) -> None:
    run = written(home)
    outside = tmp_path / "outside"
    (outside / "step-000007").mkdir(parents=True)
    (run.run.checkpoints / "away").symlink_to(outside)
    (run.run.checkpoints / "new" / "step-000012").symlink_to(outside)
    (run.run.path / "neighbors" / "linked").symlink_to(outside)
    sf("prune", "--yes")
    assert (outside / "step-000007").is_dir()
    assert (run.run.checkpoints / "new" / "step-000012").is_symlink()


def test_a_checkpoint_written_again_later_is_the_last(home: Path) -> None:
    run = written(home, status=None)
    run.event(CheckpointWritten(stage="new", step=10, path="checkpoints/new/step-000010", bytes=1))
    run.event(RunFinished(status="completed", exit_code=0, metrics={}))
    sf("prune", "--yes")
    assert {"step-000010", "step-000020"} <= set(steps_on_disk(run))


# Deleting


def test_rm_deletes_nothing_without_yes_and_no_terminal(home: Path) -> None:
    run = written(home)
    assert refused("rm", "one").exit_code == 2
    assert run.run.path.exists()
    assert sf("rm", "one", "--yes").exit_code == 0
    assert list(home.iterdir()) == []


def test_rm_asks_on_a_terminal(home: Path) -> None:
    run = written(home)
    for answer, code in (("\n", 1), ("y\n", 0)):
        terminal = Terminal(["-m", "sf_tui.cli", "rm", "one"], {})
        terminal.read_until("delete this run for good? [y/N]")
        terminal.press(answer)
        assert terminal.read_to_end() == code
        terminal.end()
        assert run.run.path.exists() == bool(code)


def test_rm_deletes_no_living_run_and_then_no_other_either(home: Path) -> None:
    idle, live = written(home, "idle"), written(home, "live", status=None)
    lock = RunLock(live.run)
    lock.acquire()
    assert "a worker has this run" in refused("rm", "idle", "live", "--yes").message
    lock.release()
    # A worker on another host, where flock may not reach.
    live.beat(age_s=live.now_s - time.time())
    assert "a worker has this run" in refused("rm", "live", "--yes").message
    young = WrittenRun(home / "young")
    assert "may be starting" in refused("rm", "young", "--yes").message
    # A diagnosis of an ended run holds its lock.
    lock = RunLock(idle.run)
    lock.acquire()
    refused("rm", "idle", "--yes")
    lock.release()
    assert all(run.run.path.exists() for run in (idle, live, young))


def test_a_killed_rm_leaves_no_half_run_and_is_finished_by_the_next(home: Path) -> None:
    written(home, "one")
    rest = home / aside_name("0123abcd", "removing").replace("-", "-9", 1)
    written(home, "two").run.path.rename(rest)
    assert [row["run"] for row in json.loads(sf("runs", "--json").stdout)] == ["one"]
    sf("rm", "one", "--yes")
    assert list(home.iterdir()) == []


def test_rm_deletes_no_link_and_nothing_that_is_no_run(home: Path, tmp_path: Path) -> None:
    run = written(home)
    (home / "linked").symlink_to(run.run.path)
    assert "a link to" in refused("rm", home / "linked", "--yes").message
    project = tmp_path / "project"
    project.mkdir()
    (project / "run.json").write_text("{}")
    refused("rm", project, "--yes")
    assert project.exists()
    outside = tmp_path / "precious"
    outside.mkdir()
    (outside / "file").touch()
    (run.run.path / "inside").symlink_to(outside)
    assert "files that sf did not write: inside" in sf("rm", "one", "--yes").stderr
    assert (outside / "file").exists()


def test_a_real_run_is_looked_after_while_it_trains_and_when_it_is_killed(
    home: Path, fork_host: ForkHost
) -> None:
    path = home / "real"
    worker = fork_host.start("run", "biography-tiny", "--no-ui", "--run-dir", path)
    try:
        deadline = time.monotonic() + RUN_PATIENCE_S
        while '"checkpoint"' not in (path / "events.jsonl").read_text() if path.exists() else True:
            assert worker.poll() is None, worker.stderr
            assert time.monotonic() < deadline
            time.sleep(0.05)
        assert sf("rename", "real", "mine").exit_code == 0
        assert "a worker has this run" in refused("rm", "mine", "--yes").message
        assert "it is running" in sf("prune", "mine").stderr
        assert int(json.loads(sf("du", "mine", "--json").stdout)[0]["total"]) > 100_000
        assert refused("wait", "mine", "--timeout", "0").exit_code == 124
    finally:
        worker.kill()
    assert sf("wait", "mine").exit_code == DIED
    assert "its worker died" in sf("prune", "mine").stderr
    assert sf("note", "mine", "killed").exit_code == 0
    assert sf("rm", "mine", "--yes").exit_code == 0
    assert not path.exists()
