"""What a stopped run promises on resume, and what a path may be written as, by the command line."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sf_tui.run.events import JsonObject, read_objects
from support import PATIENCE_S
from support.fork_client import ForkHost, SfProcess

STEPS = 60

PROFILE = """\
name = "promised"
[model]
source = "model"
[[tasks]]
name = "old"
data = "old.jsonl"
[[tasks]]
name = "new"
data = "new.jsonl"
held_out = "held.jsonl"
[diagnose]
control = "control.jsonl"
unrelated = "unrelated.jsonl"
[train]
learning_rate = 1e-3
batch_size = 4
steps = {steps}
threads = 1
[probe]
every = 1000
every_in_window = 1000
[checkpoint]
every = 1000
"""


def events(run: Path, kind: str) -> list[JsonObject]:
    return [event for event in read_objects(run / "events.jsonl") if event["type"] == kind]


def wait_for(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def stop_early(fork_host: ForkHost, *command: str | Path) -> None:
    """Run a command whose run gets SIGTERM when its first stage begins; the worker saves."""
    process = fork_host.start(*command, signals_at=[(signal.SIGTERM, {"type": "stage_started"})])
    assert process.wait() == 5, process.stderr


class Scene:
    """A profile with files of its own, and a run of it that SIGTERM stopped."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.profile = folder / "promised.toml"
        self.run = folder / "stopped"

    def __truediv__(self, name: str) -> Path:
        return self.folder / name


@pytest.fixture(scope="module")
def scene(
    tmp_path_factory: pytest.TempPathFactory,
    fork_host: ForkHost,
    llama_directory: Path,
    two_schemas: tuple[Path, Path],
) -> Scene:
    scene = Scene(tmp_path_factory.mktemp("promised"))
    shutil.copytree(llama_directory, scene / "model")
    old, new = (path.read_text().splitlines(keepends=True) for path in two_schemas)
    rows = {"old": old, "new": new[4:], "held": new[:4], "control": old[:8], "unrelated": old[8:]}
    for name, lines in rows.items():
        (scene / f"{name}.jsonl").write_text("".join(lines))
    scene.profile.write_text(PROFILE.format(steps=STEPS))
    stop_early(fork_host, "run", scene.profile, "--no-ui", "--run-dir", scene.run)
    return scene


@pytest.fixture
def run(scene: Scene, tmp_path: Path) -> Path:
    """Return a copy of the stopped run; a run directory can be moved."""
    return shutil.copytree(scene.run, tmp_path / "moved", symlinks=True)


@contextlib.contextmanager
def changed(path: Path, text: str | None = None) -> Iterator[None]:
    """Append to a file, here the last of its rows once more, and put it back at the end."""
    before = path.read_bytes()
    try:
        with path.open("ab") as file:
            file.write(before.splitlines(keepends=True)[-1] if text is None else text.encode())
        yield
    finally:
        path.write_bytes(before)


def refused(process: SfProcess, *said: object) -> None:
    assert process.wait() == 2, process.stderr
    for words in said:
        assert str(words) in process.stderr
    assert "internal error" not in process.stderr


@pytest.mark.parametrize(
    "name", ["old.jsonl", "new.jsonl", "held.jsonl", "control.jsonl", "unrelated.jsonl"]
)
def test_changed_data_are_refused_by_name(
    fork_host: ForkHost, scene: Scene, run: Path, name: str
) -> None:
    with changed(scene / name):
        process = fork_host.run("resume", run, "--no-ui")
        refused(process, scene / name, "bytes then, ", "--accept-changed-data")


def test_changed_model_is_refused_by_name(fork_host: ForkHost, scene: Scene, run: Path) -> None:
    with changed(scene / "model/config.json", " "):
        refused(fork_host.run("resume", run, "--no-ui"), scene / "model/config.json")


def test_every_way_to_resume_refuses_changed_data(
    fork_host: ForkHost, scene: Scene, run: Path
) -> None:
    with changed(scene / "new.jsonl"):
        said = (scene / "new.jsonl", "--accept-changed-data")
        refused(fork_host.run("resume", run, "--json"), *said)
        refused(fork_host.run("resume", run, "--detach"), *said)
        again = ("run", "--resume", "--run-dir", run)
        refused(fork_host.run(*again, "--no-ui"), *said)
        refused(fork_host.run("run", scene.profile, *again[1:], "--no-ui"), *said)


def test_accepted_change_goes_on_and_is_recorded(
    fork_host: ForkHost, scene: Scene, run: Path
) -> None:
    with changed(scene / "new.jsonl"):
        done = fork_host.run("resume", run, "--no-ui", "--accept-changed-data")
        assert done.wait() == 0, done.stderr
    [alert] = [event for event in events(run, "alert") if event["code"] == "data-changed"]
    assert str(scene / "new.jsonl") in alert["message"]
    shown = json.loads(fork_host.run("show", run, "--json").stdout)
    assert "data-changed" in [alert["code"] for alert in shown["alerts"]]


@pytest.mark.slow
def test_accepted_change_goes_on_detached(fork_host: ForkHost, scene: Scene, run: Path) -> None:
    with changed(scene / "new.jsonl"):
        started = fork_host.run(
            "run", "--resume", "--run-dir", run, "--detach", "--accept-changed-data"
        )
        assert started.wait() == 0, started.stderr
        wait_for(lambda: len(events(run, "run_finished")) > 1)
    assert "data-changed" in [event["code"] for event in events(run, "alert")]


def test_new_times_and_a_new_place_are_no_change(
    fork_host: ForkHost, scene: Scene, run: Path
) -> None:
    for path in (scene / "new.jsonl", scene / "held.jsonl", *(scene / "model").iterdir()):
        os.utime(path)
    done = fork_host.run("resume", run, "--no-ui")
    assert done.wait() == 0, done.stderr
    assert "data-changed" not in [event["code"] for event in events(run, "alert")]


def test_other_settings_are_refused_by_key_and_the_same_go_on(
    fork_host: ForkHost, scene: Scene, run: Path
) -> None:
    again = ("run", scene.profile, "--resume", "--run-dir", run, "--no-ui")
    refused(fork_host.run(*again, "--set", "train.steps=30"), "train.steps", STEPS, 30)
    refused(fork_host.run(*again, "--seed", "7"), "seed", 7)
    edited = PROFILE.format(steps=STEPS).replace("1e-3", "2e-3")
    with edited_profile(scene, edited):
        refused(fork_host.run(*again), "train.learning_rate", "0.001", "0.002")
        # Without one, the run's own counts.
        refused(fork_host.run("run", *again[2:], "--set", "train.steps=30"), "train.steps")
    done = fork_host.run(*again, "--set", f"train.steps={STEPS}")
    assert done.wait() == 0, done.stderr
    assert events(run, "run_finished")[-1]["status"] == "completed"


@contextlib.contextmanager
def edited_profile(scene: Scene, text: str) -> Iterator[None]:
    before = scene.profile.read_text()
    scene.profile.write_text(text)
    yield
    scene.profile.write_text(before)


def test_same_command_with_set_goes_on(fork_host: ForkHost, scene: Scene, tmp_path: Path) -> None:
    run = tmp_path / "run"
    command = (
        "run",
        scene.profile,
        "--no-ui",
        "--resume",
        "--run-dir",
        run,
        "--set",
        "train.steps=50",
    )
    stop_early(fork_host, *command)
    done = fork_host.run(*command)
    assert done.wait() == 0, done.stderr
    [stage] = events(run, "run_started")[0]["stages"]
    assert stage["steps"] == 50
    # A finished one gives its code again.
    assert fork_host.run(*command).wait() == 0


def test_home_is_expanded_wherever_a_path_is_given(
    fork_host: ForkHost, scene: Scene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("SF_HOME", "~/y")
    monkeypatch.chdir(tmp_path)
    shutil.copy(scene / "old.jsonl", home / "f.jsonl")
    shutil.copytree(scene.run, home / "y/runs/known")
    keys = ("--set", "tasks.new.held_out=~/f.jsonl", "--set", "model.source=~/model")
    shutil.copytree(scene / "model", home / "model")
    for arguments in (
        ("data", "check", "~/f.jsonl"),
        ("data", "biography", "--people", "6", "--out=~/z"),
        ("profile", "check", str(scene.profile), *keys),
        ("show", "known"),
        ("show", "~/y/runs/known"),
    ):
        done = fork_host.run(*arguments)
        assert done.wait() == 0, (arguments, done.stderr)
    stop_early(fork_host, "run", scene.profile, "--no-ui", "--run-dir=~/x")
    assert events(home / "x", "run_finished")
    assert (home / "z/pretrain.jsonl").is_file()
    assert not (tmp_path / "~").exists()


@pytest.mark.parametrize(
    "arguments",
    [
        ("run", "biography-tiny", "--no-ui", "--run-dir=~nosuchuser/x"),
        ("data", "check", "~nosuchuser/f.jsonl"),
        ("data", "biography", "--out=~nosuchuser/z"),
        ("profile", "init", "--out=~nosuchuser/p.toml"),
        ("profile", "check", "~nosuchuser/p.toml"),
        ("profile", "check", "biography-tiny", "--set", "tasks.new.data=~nosuchuser/f.jsonl"),
        ("profile", "check", "biography-mini", "--set", "model.source=~nosuchuser/m"),
    ],
)
def test_unknown_user_is_named_and_no_folder_is_made(
    fork_host: ForkHost, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...]
) -> None:
    monkeypatch.chdir(tmp_path)
    refused(fork_host.run(*arguments), "there is no user 'nosuchuser'")
    assert not list(tmp_path.glob("~*"))


def test_run_of_an_unknown_user_is_none(fork_host: ForkHost) -> None:
    for command in ("show", "resume"):
        done = fork_host.run(command, "~nosuchuser/x")
        assert done.wait() == 3
        assert "there is no user 'nosuchuser'" in done.stderr


def test_secret_on_the_command_line_is_masked(
    fork_host: ForkHost, scene: Scene, tmp_path: Path
) -> None:
    secret = "hf_AbCdEfGhIjKlMnOpQrStUvWx"
    more = ("--set", f"description={secret}", "--set", "seed=5")
    run = tmp_path / "run"
    stop_early(fork_host, "run", scene.profile, "--no-ui", "--run-dir", run, *more)
    argv = json.loads((run / "run.json").read_text())["argv"]
    assert "description=***" in argv
    assert "seed=5" in argv
    for name in ("run.json", "inputs.json", "events.jsonl"):
        assert secret not in (run / name).read_text()


def test_profile_whose_name_opens_with_a_dash(
    fork_host: ForkHost, scene: Scene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(scene.folder)
    shutil.copy(scene.profile, "-p.toml")
    run = tmp_path / "run"
    stop_early(fork_host, "run", "--no-ui", "--run-dir", run, "--", "-p.toml")
    assert fork_host.run("profile", "check", "--", "-p.toml").wait() == 0
    refused(fork_host.run("run", "-p.toml", "--no-ui"), "./-p.toml")


def test_bytes_that_are_no_utf8_are_told(
    fork_host: ForkHost, scene: Scene, run: Path, tmp_path: Path
) -> None:
    odd = os.fsdecode(bytes(tmp_path) + b"/\xff-run")
    new = fork_host.run("run", scene.profile, "--no-ui", "--run-dir", odd)
    refused(new, "not UTF-8", "--run-dir")
    assert not Path(odd).exists()
    run.rename(odd)
    refused(fork_host.run("resume", odd, "--no-ui"), "not UTF-8")
    for arguments in (("show", odd), ("show", odd, "--json")):
        assert fork_host.run(*arguments).wait() == 0
    folder = Path(os.fsdecode(bytes(tmp_path) + b"/\xff"))
    shutil.copytree(scene.folder, folder, ignore=shutil.ignore_patterns("stopped"))
    done = fork_host.run("run", folder / "promised.toml", "--no-ui", "--run-dir", tmp_path / "new")
    refused(done, "not UTF-8", "rename")


def test_run_that_was_stopped_while_preparing_has_no_stage(
    fork_host: ForkHost, scene: Scene, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    process = fork_host.start("run", scene.profile, "--no-ui", "--run-dir", run)
    wait_for(run.exists)
    process.send(signal.SIGTERM)
    assert process.wait() == 5, process.stderr
    if not events(run, "stage_started"):
        shown = fork_host.run("show", run)
        assert "no stage has begun" in shown.stdout
        assert "None" not in shown.stdout
