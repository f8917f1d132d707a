"""A run as a process: signals, kills, full disks, no memory, a second worker, exit codes."""

from __future__ import annotations

import shlex
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import pytest

from sf_tui.errors import RunError
from sf_tui.run.directory import RunDirectory
from sf_tui.run.liveness import WorkerState, probe_liveness
from support import PATIENCE_S
from support.fork_client import ForkHost, SfProcess
from support.quick_run import (
    Begin,
    Operator,
    assert_well_told,
    checkpoint_weights,
    checkpoints_of,
    equal,
    events_of,
    final_weights,
    live_course,
    work,
)
from support.run_process import Started, at, kill_and_resume, wait_for


@pytest.fixture
def started(
    fork_host: ForkHost, profile_file: Path, tmp_path: Path
) -> Callable[..., tuple[SfProcess, RunDirectory]]:
    """Start `sf run --no-ui` on the quick profile in a process of its own."""

    def start(*arguments: str, **options: Any) -> tuple[SfProcess, RunDirectory]:
        run = RunDirectory(tmp_path / "run")
        line = ("run", profile_file, "--no-ui", "--run-dir", run.path, *arguments)
        process = fork_host.start(*line, **options)
        return process, run

    return start


# SIGUSR1 stops a run below, too, which the same line goes on with.
@pytest.mark.parametrize(
    "number",
    [
        signal.SIGTERM,
        *(pytest.param(one, marks=pytest.mark.slow) for one in (signal.SIGINT, signal.SIGUSR1)),
    ],
)
def test_signal_stops_with_everything_saved_and_the_run_goes_on_later(
    started: Started, undisturbed: RunDirectory, number: signal.Signals
) -> None:
    process, run = started(signals_at=[(number, {"type": "step", "stage": "old", "step": 3})])
    assert process.wait() == 5
    finished = events_of(run)[-1]
    assert (finished["type"], finished["status"], finished["exit_code"]) == (
        "run_finished",
        "stopped",
        5,
    )
    assert number.name in finished["reason"]
    stopped_at = events_of(run, "checkpoint")[-1]
    assert (run.path / stopped_at["path"] / "state.json").is_file()
    assert (run.model / "config.json").is_file()
    assert (run.model / "tokenizer.json").is_file()
    assert probe_liveness(run).state is WorkerState.FINISHED
    assert "stopped (exit 5)" in process.stderr

    assert work(run) == 0
    assert_well_told(run)
    assert live_course(run) == live_course(undisturbed)
    assert equal(final_weights(run), final_weights(undisturbed))


def test_signal_while_the_model_is_loaded_is_remembered(
    started: Started, undisturbed: RunDirectory
) -> None:
    process, run = started()
    while not run.heartbeat.exists():
        assert process.poll() is None, process.stderr
        time.sleep(0.001)
    process.send(signal.SIGTERM)
    assert process.wait() == 5
    assert work(run) == 0
    assert equal(final_weights(run), final_weights(undisturbed))


def test_signal_reaches_a_paused_run(fork_host: ForkHost, started: Started) -> None:
    process, run = started("--set", "train.steps=5000")
    wait_for(run, process, at("old", 2))
    assert fork_host.run("act", run.path, "pause").wait() == 0
    paused_at = events_of(run)[-1]["step"]
    process.send(signal.SIGTERM)
    assert process.wait() == 5
    assert events_of(run, "checkpoint")[-1]["step"] == paused_at


def test_hangup_of_the_terminal_ends_nothing(started: Started, undisturbed: RunDirectory) -> None:
    hangups = [
        (signal.SIGHUP, {"type": "step", "stage": "old", "step": step}) for step in (3, 4, 5)
    ]
    process, run = started(signals_at=hangups)
    assert process.wait() == 0
    assert equal(final_weights(run), final_weights(undisturbed))


def test_kills_at_random_moments_change_no_bit(
    fork_host: ForkHost, started: Started, undisturbed: RunDirectory
) -> None:
    run = kill_and_resume(fork_host, started, kills=2, seed=1)
    assert_well_told(run)
    assert live_course(run) == live_course(undisturbed)
    assert equal(final_weights(run), final_weights(undisturbed))
    assert not [entry for entry in run.path.iterdir() if entry.name.startswith(".")]


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("seed", [2, 3])
def test_twenty_kills_at_random_moments_change_no_bit(
    fork_host: ForkHost, started: Started, begin: Begin, seed: int
) -> None:
    settings = ["train.steps=60", "checkpoint.keep_last=2"]
    whole = begin(*settings, name="whole")
    assert work(whole) == 0
    arguments = [part for setting in settings for part in ("--set", setting)]
    run = kill_and_resume(fork_host, started, 20, seed, *arguments)
    assert_well_told(run)
    assert live_course(run) == live_course(whole)
    assert equal(final_weights(run), final_weights(whole))


def test_second_worker_is_refused_while_the_first_lives(
    fork_host: ForkHost, started: Started
) -> None:
    process, run = started("--set", "train.steps=5000")
    wait_for(run, process, at("old", 1))
    resumed = fork_host.run("resume", run.path, "--no-ui")
    assert resumed.wait() == 2
    assert f"pid {process.pid}" in resumed.stderr
    again = fork_host.run("run", "quick", "--no-ui", "--resume", "--run-dir", run.path)
    assert again.wait() == 2
    with pytest.raises(RunError, match="another worker"):
        work(run)
    assert process.poll() is None
    assert fork_host.run("stop", run.path).wait() == 0
    assert process.wait() == 5
    assert_well_told(run)


def test_run_that_came_to_its_end_is_not_resumed(
    fork_host: ForkHost, undisturbed: RunDirectory
) -> None:
    before = undisturbed.events.read_bytes()
    for arguments in (
        ("resume", undisturbed.path, "--no-ui"),
        ("run", "--no-ui", "--resume", "--run-dir", undisturbed.path),
        ("run", undisturbed.profile, "--no-ui", "--resume", "--run-dir", undisturbed.path),
    ):
        process = fork_host.run(*arguments)
        assert process.wait() == 0
        assert "is completed (exit 0): no steps are left" in process.stderr
    assert undisturbed.events.read_bytes() == before


def test_one_line_starts_a_run_and_goes_on_with_it(
    fork_host: ForkHost, profile_file: Path, tmp_path: Path, undisturbed: RunDirectory
) -> None:
    run = RunDirectory(tmp_path / "run")
    line = ("run", profile_file, "--no-ui", "--json", "--resume", "--run-dir", run.path)
    step = {"type": "step", "stage": "old", "step": 5}
    first = fork_host.start(*line, signals_at=[(signal.SIGUSR1, step)])
    assert first.wait() == 5
    second = fork_host.run(*line)
    assert second.wait() == 0
    assert equal(final_weights(run), final_weights(undisturbed))
    # Every event was printed once, by the worker that wrote it.
    printed = [orjson.loads(line) for line in (first.stdout + second.stdout).splitlines()]
    assert printed == events_of(run)


@pytest.mark.parametrize(
    ("bound", "says", "last_checkpoint"),
    [
        # Room for a layer's weights and not for its two moments.
        (100_000, "can't write the checkpoint", ("old", 0)),
        # Room for every checkpoint and not for the whole model in one file.
        (150_000, "can't write the final model", ("new", 12)),
    ],
)
def test_full_disk_ends_the_run_with_earlier_checkpoints_intact(
    started: Started,
    undisturbed: RunDirectory,
    bound: int,
    says: str,
    last_checkpoint: tuple[str, int],
) -> None:
    process, run = started(limits={"RLIMIT_FSIZE": bound})
    assert process.wait() == 1
    assert says in process.stderr
    assert "make room" in process.stderr
    assert "Traceback" not in process.stderr
    finished = events_of(run)[-1]
    assert (finished["status"], finished["exit_code"]) == ("failed", 1)
    assert says in finished["reason"]
    assert not run.model.exists()
    last = events_of(run, "checkpoint")[-1]
    assert (last["stage"], last["step"]) == last_checkpoint
    assert not [name for name in checkpoints_of(run, "old") if name.startswith(".")]

    assert work(run) == 0
    assert_well_told(run)
    assert live_course(run) == live_course(undisturbed)
    assert equal(final_weights(run), final_weights(undisturbed))


def test_disk_that_takes_not_even_an_event_is_told_on_stderr(
    fork_host: ForkHost, begin: Begin
) -> None:
    run = begin("tasks.old.train.steps=6", "tasks.new.train.steps=1")
    assert work(run, Operator(run).at("old", 5, "stop")) == 5
    before = run.events.read_bytes()
    process = fork_host.run(
        "resume", run.path, "--no-ui", limits={"RLIMIT_FSIZE": len(before) + 10}
    )
    assert process.wait() == 1
    assert "sf: " in process.stderr
    assert "Traceback" not in process.stderr
    assert run.events.read_bytes() == before
    assert work(run) == 0
    assert_well_told(run)


def test_no_memory_names_the_levers_and_keeps_the_last_checkpoint(
    fork_host: ForkHost, started: Started
) -> None:
    room = fork_host.virtual_bytes + (256 << 20)
    process, run = started(
        *("--set", "tasks.new.train.batch_size=1024"),
        *("--set", "model.config.intermediate_size=8192"),
        limits={"RLIMIT_AS": room},
    )
    assert process.wait() == 1
    assert "Traceback" not in process.stderr
    finished = events_of(run)[-1]
    assert (finished["status"], finished["exit_code"]) == ("failed", 1)
    for said in (process.stderr, finished["reason"]):
        assert "out of memory" in said
        for lever in ("batch_size", "max_length", "gradient_checkpointing", "dtype"):
            assert lever in said
    last = events_of(run, "checkpoint")[-1]
    assert (last["stage"], last["step"]) == ("new", 0)
    assert (run.path / last["path"] / "state.json").is_file()


@pytest.mark.parametrize(
    ("setting", "says"),
    [
        ("guard.old_accuracy=0.5", "'old' ended at 0.000, below 0.5"),
        ("guard.new_accuracy=0.9", "'new' ended at"),
    ],
)
def test_failed_guard_is_exit_code_four_with_the_model_written(
    fork_host: ForkHost, begin: Begin, setting: str, says: str
) -> None:
    run = begin(setting, "train.steps=2")
    assert work(run) == 4
    finished = events_of(run)[-1]
    assert (finished["status"], finished["exit_code"]) == ("guard_failed", 4)
    assert says in finished["reason"]
    assert equal(final_weights(run), checkpoint_weights(run, "new", 2))
    process = fork_host.run("resume", run.path, "--no-ui")
    assert process.wait() == 4


def test_guard_that_holds_changes_nothing(begin: Begin) -> None:
    guarded = begin("guard.old_accuracy=0.0", "guard.new_accuracy=0.0", "train.steps=2")
    assert work(guarded) == 0


def test_guard_looks_at_the_end_of_the_recovery(begin: Begin) -> None:
    run = begin("replay_stage.steps=2", "guard.new_accuracy=1.0", "train.steps=2")
    assert work(run) == 4
    assert "'new' ended at" in events_of(run)[-1]["reason"]


@pytest.mark.parametrize(
    ("setting", "says"),
    [
        ("tasks.new.train.max_length=3", "max_length"),
        ("model.config.hiden_size=8", "hidden_size"),
        ('tasks.new.train.strategy="freeze"', "freeze"),
        ("actions.freeze.layers=9", "the model has 4"),
    ],
)
def test_run_that_cannot_begin_leaves_no_directory(
    started: Started, setting: str, says: str
) -> None:
    process, run = started("--set", setting)
    assert process.wait() == 2
    assert says in process.stderr
    assert "Traceback" not in process.stderr
    assert not run.path.exists()
    assert not list(run.path.parent.glob(".*"))


def test_log_that_was_damaged_by_hand_is_refused_and_left_alone(
    fork_host: ForkHost, begin: Begin
) -> None:
    run = begin("tasks.old.train.steps=6", "tasks.new.train.steps=1")
    assert work(run, Operator(run).at("old", 5, "stop")) == 5
    damaged = b"rubbish\n" + run.events.read_bytes()
    run.events.write_bytes(damaged)
    process = fork_host.run("resume", run.path, "--no-ui")
    assert process.wait() == 1
    assert "not JSON" in process.stderr
    assert run.events.read_bytes() == damaged
    with pytest.raises(RunError, match="not JSON"):
        work(run)
    # The lock is given back all the same.
    run.events.write_bytes(damaged.removeprefix(b"rubbish\n"))
    assert work(run) == 0


def test_damaged_checkpoint_is_told_with_a_way_out(begin: Begin, undisturbed: RunDirectory) -> None:
    run = begin()
    assert work(run, Operator(run).at("old", 10, "stop")) == 5
    file = run.checkpoints / "old" / "step-000010" / "weights" / "block-1.safetensors"
    file.write_bytes(file.read_bytes()[:-50])
    with pytest.raises(RunError, match="were written") as caught:
        work(run)
    assert str(file) in caught.value.message
    assert events_of(run)[-1]["status"] == "failed"
    # As the hint says.
    command = caught.value.hint.partition("(")[2].partition(")")[0]
    subprocess.run(shlex.split(command), check=True)
    assert not file.exists()
    assert work(run) == 0
    assert_well_told(run)
    assert equal(final_weights(run), final_weights(undisturbed))


def test_other_model_in_the_profile_is_refused_at_a_resume(begin: Begin) -> None:
    run = begin()
    assert work(run, Operator(run).at("old", 2, "stop")) == 5
    text = run.profile.read_text()
    assert "hidden_size = 16" in text
    run.profile.write_text(text.replace("hidden_size = 16", "hidden_size = 8"))
    with pytest.raises(RunError, match="other parameters than the model's"):
        work(run)


def test_final_model_is_the_last_checkpoint_and_anybody_can_load_it(
    undisturbed: RunDirectory,
) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(undisturbed.model)
    tokenizer = AutoTokenizer.from_pretrained(undisturbed.model)
    assert len(tokenizer) == model.config.vocab_size
    found = dict(model.named_parameters())
    assert all(
        bool((found[name] == weight).all()) for name, weight in final_weights(undisturbed).items()
    )
    assert not (undisturbed.path / ".model.writing").exists()


def test_run_json_says_who_owns_the_run(undisturbed: RunDirectory) -> None:
    facts = undisturbed.read_run_json()
    assert {"schema", "id", "profile", "argv", "created", "host", "pid", "versions"} <= set(facts)
    assert {"sf", "python", "torch", "transformers"} <= set(facts["versions"])


def test_detached_run_is_paused_frozen_stopped_and_resumed(
    fork_host: ForkHost, profile_file: Path, tmp_path: Path
) -> None:
    run = RunDirectory(tmp_path / "run")
    line = ("run", profile_file, "--detach", "--run-dir", run.path, "--set", "train.steps=20000")
    begun = fork_host.run(*line)
    assert begun.wait() == 0, begun.stderr
    assert begun.stdout.strip() == str(run.path)
    try:
        for action, code in (("pause", 0), ("pause", 1), ("freeze", 0), ("resume", 0), ("frez", 2)):
            assert fork_host.run("act", run.path, action).wait() == code, action
        assert probe_liveness(run).state is WorkerState.ALIVE
    finally:
        assert fork_host.run("stop", run.path).wait() == 0
    deadline = time.monotonic() + PATIENCE_S
    while probe_liveness(run).state is not WorkerState.FINISHED:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert events_of(run)[-1]["status"] == "stopped"
    assert fork_host.run("act", run.path, "pause").wait() == 1
    assert_well_told(run)


def test_llama_directory_and_two_files_in_different_schemas_run_to_the_end(
    fork_host: ForkHost,
    tied_llama_directory: Path,
    two_schemas: tuple[Path, Path],
    tmp_path: Path,
) -> None:
    old, new = two_schemas
    profile = tmp_path / "own.toml"
    profile.write_text(
        f'name = "own"\n[model]\nsource = "{tied_llama_directory}"\n'
        f'[[tasks]]\nname = "capitals"\ndata = "{old}"\nlearn = true\nheld_out = 4\n'
        f'[[tasks]]\nname = "countries"\ndata = "{new}"\nheld_out = 0.25\n'
        "[train]\nlearning_rate = 3e-3\nbatch_size = 4\nsteps = 8\n"
        "[actions.freeze]\nlayers = 1\n"
        '[[rules]]\nname = "protect"\nmetric = "loss"\nbelow = 100.0\naction = "freeze"\n'
    )
    run = RunDirectory(tmp_path / "run")
    process = fork_host.run("run", profile, "--no-ui", "--run-dir", run.path)
    assert process.wait() == 0, process.stderr
    assert_well_told(run)
    finished = events_of(run)[-1]
    assert {task: found["n"] for task, found in finished["metrics"].items()} == {
        "capitals": 4,
        "countries": 4,
    }
    table = process.stderr[process.stderr.index("worst in window") :]
    assert "capitals" in table
    assert "countries" in table
    # Tied: what holds the embeddings holds the output too.
    assert "tied" in events_of(run, "command")[1]["reason"]
    before = events_of(run, "checkpoint")[0]["path"]
    assert (run.path / before / "weights" / "embeddings.safetensors").is_file()


def test_run_whose_loss_burst_can_still_be_looked_at_and_gone_on_with(
    fork_host: ForkHost, begin: Begin, sf_home: Path
) -> None:
    # A likelihood that is no number is null in the log; here the worker was killed behind it.
    run = begin(
        "tasks.old.metric=nll",
        "probe.every=1",
        "probe.examples=12",
        "train.learning_rate=1e30",
        "checkpoint.every=1",
    )
    with pytest.raises(RunError):
        work(run)
    events = run.events.read_bytes().splitlines(keepends=True)
    burst = next(at for at, line in enumerate(events) if b'"nll":null' in line)
    run.events.write_bytes(b"".join(events[: burst + 1]))
    (sf_home / "runs").mkdir(parents=True)
    run.path.rename(sf_home / "runs" / "burst")
    for command in (("runs",), ("show", "last"), ("resume", "last", "--no-ui"), ("runs",)):
        process = fork_host.run(*command)
        assert process.wait() == (1 if command[0] == "resume" else 0), process.stderr
        assert "internal error" not in process.stderr
    assert "Error" not in process.stderr
