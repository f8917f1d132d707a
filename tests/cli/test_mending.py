"""`sf diagnose`, `sf recover` and `sf analyze neighbors` on runs and on bare models."""

from __future__ import annotations

import hashlib
import json
import shlex
import shutil
import signal
import time
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from sf_tui.run.directory import RunDirectory
from sf_tui.run.events import read_objects
from sf_tui.run.liveness import RunLock, WorkerState, probe_liveness
from sf_tui.tasks.biography import Settings, biography_task
from support import PATIENCE_S
from support.fork_client import ForkHost, SfProcess

# Rounds are shown in `recovery/test_rounds.py` and in the journeys.
ONCE = ("--time", "0")
QUICK = ("--steps", "4", "--examples", "4", *ONCE)
TINY = Settings(people=48, new_people=10)


@pytest.fixture(scope="module")
def spoiled(finished_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a copy of a finished run that has lost its old task; diagnoses may be added to it."""
    return Path(shutil.copytree(finished_run, tmp_path_factory.mktemp("runs") / "spoiled"))


def digests(run: Path) -> dict[str, str]:
    """Return a digest of every file of a run but the log."""
    return {
        str(file.relative_to(run)): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in sorted(run.rglob("*"))
        if file.is_file() and file.name != "events.jsonl"
    }


def output(done: SfProcess) -> dict[str, Any]:
    """Return the one JSON object that a command printed."""
    assert done.poll() == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def refused(done: SfProcess, code: int, *said: str) -> None:
    """Assert that a command ended with a message for people."""
    assert done.poll() == code, (done.stdout, done.stderr)
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    for part in said:
        assert part in done.stderr


def write_rows(path: Path, rows: list[tuple[str, str]]) -> Path:
    path.write_text(
        "".join(json.dumps({"prompt": ask, "completion": said}) + "\n" for ask, said in rows)
    )
    return path


@pytest.fixture(scope="module")
def questions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the old task's held-out questions of `biography-tiny` as a file."""
    held_out = biography_task("old", TINY).held_out
    return write_rows(
        tmp_path_factory.mktemp("data") / "questions.jsonl",
        [(example.prompt, example.completion) for example in held_out],
    )


def test_a_diagnosis_adds_one_event_behind_the_runs_end_and_touches_nothing_else(
    fork_host: ForkHost, spoiled: Path
) -> None:
    run = RunDirectory(spoiled)
    before, log = digests(spoiled), run.events.read_bytes()

    line = ("diagnose", spoiled, *ONCE, "--json", "--set", "cost.gpu_hour=2")
    found = output(fork_host.run(*line))

    assert digests(spoiled) == before
    written = run.events.read_bytes()
    assert written[: len(log)] == log
    assert written.count(b"\n") == log.count(b"\n") + 1
    event = list(read_objects(run.events))[-1]
    assert event == {key: value for key, value in found.items() if key in event}
    assert (event["type"], event["task"], event["stage"], event["step"]) == (
        *("diagnosis", "old", "new"),
        150,
    )
    assert event["start"] > 0.8 > 0.6 > event["now"]
    assert event["recovered"] > event["now"] + 0.2
    # Too few examples to tell whether all of it came back, and enough to see that most did.
    assert event["verdict"] in {"spurious", "partial", "inconclusive"}
    assert event["spurious_share"] > 0.5
    assert event["arm"] == "neighbors"
    assert set(event["arms"]) == {"examples", "neighbors", "unrelated", "edit"}
    assert "skipped" in event["arms"]["unrelated"]
    assert event["cost"]["old_task"]["tokens"] == pytest.approx(100 * 32 * 12.3, rel=0.05)
    assert event["cost"]["recipe"]["tokens"] > 5 * event["cost"]["old_task"]["tokens"]
    assert event["cost"]["money"] == pytest.approx(event["seconds"] * 2 / 3600, abs=1e-5)
    assert found["start_weights"].endswith("new/step-000000")
    shown = output(fork_host.run("show", spoiled, "--json"))
    assert shown["diagnosis"] == event
    told = fork_host.run("show", spoiled).stdout
    assert f"old {event['verdict']}: {event['now']:.2f} (" in told

    # Without time no round is made, and an open verdict is a bound.
    assert (found["rounds"], found["round_steps"], found["rounds_ended"]) == (0, 0, "time")
    assert found["new_learned"] is True
    if found["verdict"] == "inconclusive":
        least = int(100 * found["interval"][0])
        assert found["evidence"][0].startswith(f"At least {least} % of the loss is spurious")


def test_the_run_is_as_finished_as_before(fork_host: ForkHost, spoiled: Path) -> None:
    assert probe_liveness(RunDirectory(spoiled)).state is WorkerState.FINISHED
    shown = output(fork_host.run("show", spoiled, "--json"))
    assert (shown["state"], shown["exit_code"]) == ("completed", 0)
    again = fork_host.run("resume", spoiled, "--no-ui")
    assert again.poll() == 0
    assert "no steps are left" in again.stderr


def test_a_card_says_the_verdict_first_and_what_to_do_next(
    fork_host: ForkHost, spoiled: Path
) -> None:
    done = fork_host.run("diagnose", spoiled, *QUICK, "--control", "biography:unseen")

    assert done.poll() == 0, done.stderr
    first, second = done.stdout.splitlines()[:2]
    event = list(read_objects(spoiled / "events.jsonl"))[-1]
    assert event["verdict"].upper() in first
    assert "'old'" in first
    assert second
    said = " ".join(done.stdout.split())
    assert "Next: " in said
    arm = event["arms"]["neighbors"]
    assert arm["steps"] <= arm["steps_taken"]
    assert arm["steps_taken"] >= 4
    assert "chosen on other held-out rows than those scored here" in said
    for arm in event["arms"]:
        assert arm in said
    assert "unrelated was not run" in said
    assert "the old task again" in said
    assert all(" ".join(sentence.split()) in said for sentence in event["evidence"])
    assert "neighbors: 4 steps" in done.stderr


def test_a_run_that_lost_nothing_has_the_verdict_none(
    fork_host: ForkHost, finished_run: Path, tmp_path: Path
) -> None:
    profile = tmp_path / "gentle.toml"
    profile.write_text(
        f'name = "gentle"\n[model]\nsource = "{finished_run / "model"}"\n'
        '[biography]\npeople = 48\nnew_people = 10\n[[tasks]]\nname = "old"\n'
        'data = "biography:new-1"\n[[tasks]]\nname = "next"\ndata = "biography:new-2"\n'
        "[train]\nlearning_rate = 1e-7\nbatch_size = 8\nsteps = 3\nthreads = 1\n"
    )
    run = tmp_path / "gentle"
    assert fork_host.run("run", profile, "--no-ui", "--run-dir", run).poll() == 0

    found = output(fork_host.run("diagnose", run, *QUICK, "--json"))
    assert (found["verdict"], found["start"], found["now"]) == ("none", 1.0, 1.0)
    assert found["cost"]["recipe"] is None
    assert (found["new_task"], found["new_learned"]) == ("next", False)
    assert found["new_start"] < 0.2
    assert "nothing was tested" in found["evidence"][0]
    told = " ".join(fork_host.run("diagnose", run, *QUICK).stdout.split())
    assert "the new task was not learned: nothing was tested." in told
    assert "Next: train again with a higher [train] learning_rate (it is 1e-07)" in told
    assert "continue with the model" not in told


def test_what_was_written_over_is_told_as_gone(
    fork_host: ForkHost, finished_run: Path, tmp_path: Path
) -> None:
    """The same questions with other answers, until none of the old ones is left."""
    asked = biography_task("new", TINY).held_out
    by_group: dict[str, list[str]] = {}
    for example in asked:
        by_group.setdefault(example.group, []).append(example.completion)
    # Each person is told the facts of the one before.
    rows = [
        (example.prompt, by_group[example.group][at // 6 - 1]) for at, example in enumerate(asked)
    ]
    data = write_rows(tmp_path / "contradicting.jsonl", rows)
    profile = tmp_path / "over.toml"
    profile.write_text(
        f'name = "over"\n[model]\nsource = "{finished_run / "model"}"\n'
        '[biography]\npeople = 48\nnew_people = 10\n[[tasks]]\nname = "old"\n'
        f'data = "biography:new-1"\n[[tasks]]\nname = "next"\ndata = "{data}"\n'
        "held_out = 6\n[train]\nlearning_rate = 2e-3\nbatch_size = 24\nsteps = 120\nthreads = 1\n"
    )
    run = tmp_path / "over"
    assert fork_host.run("run", profile, "--no-ui", "--run-dir", run).poll() == 0

    found = output(fork_host.run("diagnose", run, "--examples", "4", *ONCE, "--json"))
    assert found["start"] == 1.0
    assert found["real_share"] > 0.75
    # Of 48 questions the interval may be too wide to say more.
    assert found["verdict"] in {"real", "inconclusive"}


def test_what_a_card_says_to_do_next_with_a_model_can_be_done(
    fork_host: ForkHost, finished_run: Path, questions: Path, tmp_path: Path
) -> None:
    start = finished_run / "checkpoints" / "new" / "step-000000"
    model = finished_run / "model"
    named = ("--old", questions, "--new", "biography:new", "--start-model", start, *ONCE)
    done = fork_host.run("diagnose", model, *named, "--steps", "40", "--learning-rate", "2e-3")
    assert done.poll() == 0, done.stderr
    said = " ".join(done.stdout.split())
    next_step = said[said.index("Next: ") :]
    words = shlex.split(next_step.split("`")[1])
    assert words[:3] == ["sf", "recover", str(model)]
    words[words.index("DIR")] = str(tmp_path / "fixed")
    repaired = fork_host.run(*words[1:], "--steps", "2", "--force")
    assert repaired.poll() == 0, repaired.stderr
    assert (tmp_path / "fixed" / "config.json").is_file()


def test_a_model_without_a_start_is_told_what_can_be_concluded(
    fork_host: ForkHost, finished_run: Path, questions: Path
) -> None:
    model = finished_run / "model"

    bare = output(fork_host.run("diagnose", model, "--old", questions, *QUICK, "--json"))
    assert (bare["verdict"], bare["start"], bare["stage"]) == ("inconclusive", None, None)
    assert any("start" in sentence for sentence in bare["evidence"])
    assert "before the stage" in bare["arms"]["neighbors"]["skipped"]
    assert bare["examples"] == 4
    # A fifth of the scored rows chooses the step.
    assert bare["held_out"] == len(questions.read_text().splitlines()) - 4 - 14

    told = fork_host.run("diagnose", model, "--old", questions, *QUICK, "--start-accuracy", "0.9")
    assert told.poll() == 0, told.stderr
    assert "0.900" in told.stdout


@pytest.mark.slow
def test_a_model_with_its_start_weights_is_diagnosed_like_a_run(
    fork_host: ForkHost, finished_run: Path, questions: Path
) -> None:
    done = fork_host.run(
        *("diagnose", finished_run / "model", "--old", questions, "--new", "biography:new"),
        *("--start-model", finished_run / "checkpoints" / "new" / "step-000000"),
        *("--set", "biography.people=48", "--set", "biography.new_people=10"),
        *("--learning-rate", "8e-4", "--steps", "40", *ONCE, "--json"),
    )

    found = output(done)
    assert found["start"] > found["now"] + 0.3
    assert found["arms"]["neighbors"]["recovered"] > found["now"] + 0.1


def test_errors_of_a_diagnosis_are_for_people(
    fork_host: ForkHost, finished_run: Path, spoiled: Path, questions: Path, tmp_path: Path
) -> None:
    model, run = finished_run / "model", fork_host.run
    garbage = tmp_path / "garbage.jsonl"
    garbage.write_text('{"prompt": "a", "completion": " b"}\nnot json at all\n')
    other = Path(shutil.copytree(model, tmp_path / "other"))
    config = json.loads((other / "config.json").read_text())
    (other / "config.json").write_text(json.dumps(config | {"num_hidden_layers": 1}))

    refused(run("diagnose", "20990101-nothing"), 3, "no run '20990101-nothing'")
    refused(run("diagnose", model), 2, "--old DATA")
    refused(run("diagnose", model, "--old", garbage), 2, "garbage.jsonl:2")
    refused(run("diagnose", model, "--old", tmp_path / "no.jsonl"), 2, "no.jsonl: no such file")
    refused(run("diagnose", model, "--old", questions, "--task", "old"), 2, "--task")
    refused(run("diagnose", spoiled, "--learning-rate", "nan"), 2, "--learning-rate nan")
    refused(run("diagnose", spoiled, "--time=-1"), 2, "--time", "must be a number of seconds")
    refused(run("diagnose", spoiled, "--start-accuracy", "7"), 2, "--start-accuracy 7")
    refused(run("diagnose", spoiled, "--task", "odl"), 2, "odl", "old")
    refused(run("diagnose", spoiled, "--stage", "nwe"), 2, "nwe", "new")
    refused(run("diagnose", spoiled, "--control", "biography:unsen"), 2, "biography:unseen")
    refused(run("diagnose", spoiled, "--control", "gone.jsonl"), 2, "gone.jsonl")
    refused(run("diagnose", spoiled, "--set", "train.steps=3"), 2, "records what the run was")
    refused(run("diagnose", spoiled, "--start-model", tmp_path / "none"), 2, "no such directory")
    mini = "starter:biography-mini"
    refused(run("diagnose", spoiled, "--start-model", mini), 2, "the model's")


@pytest.mark.slow
def test_a_repair_without_old_data_brings_the_old_task_back_and_keeps_the_new_one(
    fork_host: ForkHost, spoiled: Path, tmp_path: Path
) -> None:
    out = tmp_path / "repaired"

    done = fork_host.run("recover", spoiled, "--out", out, "--steps", "60", "--json")

    found = output(done)
    assert found["examples"] == 0
    assert found["old"]["after"] > found["old"]["before"] + 0.3
    assert found["new"]["after"] > 0.9
    assert found["start"] > 0.8
    # Twice as many if the new task has to be held harder.
    assert 0 < found["steps"] <= 120
    assert found["by"] == "neighbors"


@pytest.mark.slow
def test_a_repair_asks_for_as_many_and_as_long_answers_as_an_anchor_would(
    fork_host: ForkHost, spoiled: Path, tmp_path: Path
) -> None:
    asked = []
    for name, anchor in (
        ("all", ""),
        ("fewer", "cache_size = 40\n"),
        ("shorter", "cache_size = 40\nanswer_tokens = 1\n"),
    ):
        run = Path(shutil.copytree(spoiled, tmp_path / name))
        profile = (run / "profile.toml").read_text()
        assert "\n[anchor]\n" in profile
        (run / "profile.toml").write_text(profile.replace("\n[anchor]\n", f"\n[anchor]\n{anchor}"))
        done = fork_host.run(
            *("recover", run, "--out", tmp_path / f"{name}-repaired", "--steps", "20", "--json"),
            *("--learning-rate", "4e-4", "--force"),
        )
        found = output(done)
        # The rest of the forwarded tokens are scores, as many as the attempts needed.
        asked.append((found["agreement"]["n"], found["forwarded_tokens"]))
    everything, fewer, shorter = asked
    assert everything[0] > fewer[0] == shorter[0]
    assert everything[1] > max(fewer[1], shorter[1])


def test_a_repair_says_what_came_of_it_and_leaves_the_run_as_it_was(
    fork_host: ForkHost, spoiled: Path, tmp_path: Path
) -> None:
    before, out = digests(spoiled), tmp_path / "deep" / "b"
    log = (spoiled / "events.jsonl").read_bytes()
    options = ("--by", "interpolate", "--new-floor", "0")
    done = fork_host.run("recover", spoiled, "--out", out, *options)

    assert done.poll() == 0, done.stderr
    # A long path breaks the line before it.
    assert "repaired by interpolate" in " ".join(done.stdout.split())
    assert " of 60" in done.stdout
    assert " ± " in done.stdout
    assert "old task" in done.stdout
    assert str(out) in done.stdout
    assert digests(spoiled) == before
    assert (spoiled / "events.jsonl").read_bytes() == log
    assert [entry.name for entry in out.parent.iterdir()] == ["b"]


def test_a_repair_that_made_nothing_better_writes_nothing_unless_forced(
    fork_host: ForkHost, spoiled: Path, tmp_path: Path
) -> None:
    out = tmp_path / "same"
    line = ("recover", spoiled, "--out", out, "--by", "interpolate", "--keep", "1")

    done = fork_host.run(*line)
    assert done.poll() == 1, done.stderr
    assert "Nothing is better" in done.stdout
    assert "no model was written" in done.stdout
    assert "nothing was written" in done.stderr
    assert "--force" in done.stderr
    assert list(tmp_path.iterdir()) == []

    done = fork_host.run(*line, "--force")
    assert done.poll() == 0, done.stderr
    assert "written with --force" in done.stderr
    was, now = (load_file(one / "model.safetensors") for one in (spoiled / "model", out))
    assert all(bool((was[name] == now[name]).all()) for name in was)


def test_edits_are_repairs_too(fork_host: ForkHost, spoiled: Path, tmp_path: Path) -> None:
    start = output(
        fork_host.run(
            *("recover", spoiled, "--out", tmp_path / "start", "--by", "interpolate"),
            *("--keep", "0", "--json", "--force"),
        )
    )
    assert start["old"]["after"] == pytest.approx(start["start"])
    assert start["keep"] == 0
    # A plain Hugging Face directory that can be diagnosed, too.
    again = fork_host.run(
        *("diagnose", tmp_path / "start", "--old", "biography:old"),
        *("--set", "biography.people=48", "--start-accuracy", "0.95", *QUICK, "--json"),
    )
    assert output(again)["now"] == pytest.approx(start["old"]["after"], abs=0.1)
    for by in ("shift-edit", "spectral-edit"):
        out = ("--out", tmp_path / by, "--force")
        found = output(fork_host.run("recover", spoiled, *out, "--by", by, "--json"))
        assert found["by"] == by
        assert (tmp_path / by / "model.safetensors").is_file()


def test_a_repair_under_the_floor_of_the_new_task_is_written_only_by_force(
    fork_host: ForkHost, spoiled: Path, tmp_path: Path
) -> None:
    before, out = digests(spoiled), tmp_path / "out"
    line = ("recover", spoiled, "--out", out, "--by", "interpolate", "--keep", "0", "--json")

    done = fork_host.run(*line)
    assert done.poll() == 1, done.stderr
    found = json.loads(done.stdout)
    assert found["old"]["after"] > found["old"]["before"]
    assert found["new"]["after"] < 0.98 * found["new"]["before"]
    assert found["new"]["n"] == 60
    assert found["new"]["before_interval"][0] < found["new"]["before"]
    assert (found["written"], found["out"], found["new_floor"]) == (False, None, 0.98)
    assert "under its floor" in found["refused"]
    for part in ("nothing was written", "of 60", "--new-floor", "--force"):
        assert part in done.stderr
    assert list(tmp_path.iterdir()) == []
    assert digests(spoiled) == before

    forced = fork_host.run(*line, "--force")
    assert output(forced)["written"]
    assert "written with --force" in forced.stderr
    assert (out / "model.safetensors").is_file()
    no_floor = output(fork_host.run(*line[:3], tmp_path / "low", *line[4:], "--new-floor", "0"))
    assert (no_floor["refused"], no_floor["written"]) == (None, True)


@pytest.mark.slow
@pytest.mark.parametrize("rate", ["10", "1e-9"])
def test_a_rate_that_is_of_no_use_is_replaced_and_the_new_task_kept(
    fork_host: ForkHost, spoiled: Path, tmp_path: Path, rate: str
) -> None:
    options = ("--steps", "40", "--learning-rate", rate, "--json")
    found = output(fork_host.run("recover", spoiled, "--out", tmp_path / "out", *options))

    assert found["old"]["after"] > found["old"]["before"] + 0.2
    assert found["new"]["after"] >= 0.98 * found["new"]["before"]
    assert found["learning_rate"] != float(rate)
    assert "as given" in found["learning_rate_source"]


@pytest.mark.slow
@pytest.mark.parametrize("rate", [None, "3", "1e-8"])
@pytest.mark.parametrize("examples", [0, 10])
@pytest.mark.parametrize("by_run", [True, False])
def test_what_a_repair_writes_is_above_the_floor_at_any_rate(
    fork_host: ForkHost,
    spoiled: Path,
    questions: Path,
    tmp_path: Path,
    rate: str | None,
    examples: int,
    by_run: bool,
) -> None:
    target: tuple[str | Path, ...] = (spoiled,)
    if not by_run:
        start = spoiled / "checkpoints" / "new" / "step-000000"
        target = (spoiled / "model", "--old", questions, "--new", "biography:new")
        target = (*target, "--start-model", start, "--set", "biography.people=48")
        target = (*target, "--set", "biography.new_people=10")
    given = () if rate is None else ("--learning-rate", rate)
    out = tmp_path / "out"
    line = ("recover", *target, "--out", out, "--examples", examples, *given, "--json")
    done = fork_host.run(*line)
    found = json.loads(done.stdout)
    assert done.poll() == (0 if found["written"] else 1)
    assert out.exists() == found["written"]
    if found["written"]:
        assert found["new"]["after"] >= 0.98 * found["new"]["before"]
        assert found["old"]["after"] > found["old"]["before"]


def test_the_floor_is_a_share(fork_host: ForkHost, spoiled: Path, tmp_path: Path) -> None:
    line = ("recover", spoiled, "--out", tmp_path / "out", "--new-floor", "1.5")
    refused(fork_host.run(*line), 2, "--new-floor 1.5")


def test_a_repair_runs_with_the_old_tasks_files_absent(
    fork_host: ForkHost, finished_run: Path, questions: Path, tmp_path: Path
) -> None:
    training = Path(shutil.copy(questions, tmp_path / "training.jsonl"))
    scored = write_rows(
        tmp_path / "scored.jsonl",
        [(e.prompt, e.completion) for e in biography_task("new-1", TINY).held_out],
    )
    profile = tmp_path / "own.toml"
    profile.write_text(
        f'name = "own"\n[model]\nsource = "{finished_run / "model"}"\n'
        f'[biography]\npeople = 48\nnew_people = 10\n[[tasks]]\nname = "old"\ndata = "{training}"\n'
        f'held_out = "{scored}"\n[[tasks]]\nname = "next"\ndata = "biography:new-2"\n'
        "[train]\nlearning_rate = 1e-3\nbatch_size = 24\nsteps = 15\nthreads = 1\n"
    )
    run = tmp_path / "own"
    assert fork_host.run("run", profile, "--no-ui", "--run-dir", run).poll() == 0
    training.unlink()

    quick = ("--examples", "0", "--steps", "4", "--json", "--force")
    done = fork_host.run("recover", run, "--out", tmp_path / "a", *quick)
    found = output(done)
    assert found["old"]["before"] is not None
    assert found["start"] == 1.0
    assert "no example of it is available" in done.stderr

    scored.unlink()
    done = fork_host.run("recover", run, "--out", tmp_path / "b", *quick)
    found = output(done)
    assert (found["old"]["before"], found["old"]["after"]) == (None, None)
    assert found["agreement"]["before"] is not None
    assert "can't be scored" in done.stderr
    refused(
        fork_host.run("recover", run, "--out", tmp_path / "c", "--examples", "3"),
        *(2, "training.jsonl", "without old examples"),
    )
    refused(fork_host.run("diagnose", run), 2, "training.jsonl", "can't be scored")


def test_a_model_is_repaired_with_examples_alone_where_nobody_has_its_start(
    fork_host: ForkHost, finished_run: Path, questions: Path, tmp_path: Path
) -> None:
    done = fork_host.run(
        *("recover", finished_run / "model", "--out", tmp_path / "a", "--old", questions),
        *("--learning-rate", "1e-4", "--steps", "4", "--json", "--force"),
    )

    found = output(done)
    assert (found["examples"], found["by"], found["start"]) == (10, "examples", None)
    assert (found["new"]["before"], found["new"]["n"]) == (None, None)
    nothing = fork_host.run(
        "recover", finished_run / "model", "--out", tmp_path / "b", "--new", questions
    )
    refused(nothing, 2, "no evidence of the old task", "--start-model")


def test_a_place_that_a_repair_may_not_take_is_refused(
    fork_host: ForkHost, spoiled: Path, tmp_path: Path
) -> None:
    (tmp_path / "there").mkdir()
    run = fork_host.run

    refused(run("recover", spoiled, "--out", tmp_path / "there"), 2, "exists")
    refused(run("recover", spoiled, "--out", spoiled), 2, "exists")
    refused(run("recover", spoiled, "--out", spoiled / "model" / "x"), 2, "never written")
    refused(run("recover", spoiled, "--out", spoiled / "checkpoints" / "x"), 2, "never written")
    model = spoiled / "model"
    old = ("--old", "biography:old")
    refused(run("recover", model, "--out", model / "x", *old), 2, "never written")
    file = tmp_path / "file"
    file.touch()
    refused(run("recover", spoiled, "--out", file / "x"), 2, "can't be written")


def test_errors_of_a_repair_are_for_people(
    fork_host: ForkHost, spoiled: Path, tmp_path: Path
) -> None:
    out = ("--out", tmp_path / "out")
    run = fork_host.run

    refused(run("recover", "20990101-nothing", *out), 3, "no run")
    refused(run("recover", spoiled, *out, "--learning-rate", "nan"), 2, "--learning-rate nan")
    refused(run("recover", spoiled, *out, "--strength", "-1"), 2, "--strength -1")
    refused(run("recover", spoiled, *out, "--keep", "2"), 2, "--keep 2")
    refused(run("recover", spoiled, *out, "--by", "magic"), 2, "shift-edit")
    refused(run("recover", spoiled, *out, "--by", "shift-edit", "--steps", "3"), 2, "--steps")
    refused(run("recover", spoiled, *out, "--alpha", "0.5"), 2, "--alpha")
    refused(run("recover", spoiled / "model", *out), 2, "--old DATA")
    assert not (tmp_path / "out").exists()


def test_a_run_whose_worker_lives_is_left_to_it(
    fork_host: ForkHost, spoiled: Path, tmp_path: Path
) -> None:
    run = RunDirectory(Path(shutil.copytree(spoiled, tmp_path / "live")))
    run.heartbeat.write_text(json.dumps({"time": time.time(), "host": None, "pid": 1}))
    lock = RunLock(run)
    lock.acquire()
    try:
        done = fork_host.run("recover", run.path, "--out", tmp_path / "out")
        refused(done, 1, "sf act", "recover", "sf stop")
        done = fork_host.run("diagnose", run.path, "--task", "old")
        refused(done, 2, "--task", "the run's own worker")
    finally:
        lock.release()


@pytest.mark.parametrize(
    ("said", "command", "options"),
    [
        ("asking the start model", "recover", ("--steps", "600")),
        pytest.param("up to 600", "recover", ("--steps", "600"), marks=pytest.mark.slow),
        pytest.param("scoring the model", "diagnose", ("--steps", "2000"), marks=pytest.mark.slow),
    ],
)
def test_an_interrupt_leaves_nothing_half_written(
    fork_host: ForkHost,
    spoiled: Path,
    tmp_path: Path,
    said: str,
    command: str,
    options: tuple[str, ...],
) -> None:
    before = digests(spoiled)
    log = (spoiled / "events.jsonl").read_bytes()
    out = ("--out", tmp_path / "out") if command == "recover" else ()
    process = fork_host.start(command, spoiled, *options, *out)
    deadline = time.monotonic() + PATIENCE_S
    while said not in process.stderr and time.monotonic() < deadline:
        time.sleep(0.05)
    assert said in process.stderr
    process.send(signal.SIGINT)
    assert process.wait() == 130, process.stderr
    assert "Traceback" not in process.stderr
    assert process.stdout == ""
    assert list(tmp_path.iterdir()) == []
    assert digests(spoiled) == before
    assert (spoiled / "events.jsonl").read_bytes() == log


def test_the_tasks_at_risk_are_named_before_any_training(
    fork_host: ForkHost, finished_run: Path, tmp_path: Path
) -> None:
    profile = tmp_path / "next.toml"
    profile.write_text(
        f'name = "next"\n[model]\nsource = "{finished_run / "model"}"\n'
        '[biography]\npeople = 48\nnew_people = 10\n[[tasks]]\nname = "old"\n'
        'data = "gone.jsonl"\n[[tasks]]\nname = "next"\ndata = "biography:new-2"\n'
    )

    done = fork_host.run("analyze", "neighbors", profile, "--prompts", "3", "--json")
    found = output(done)
    assert (found["task"], found["prompts"], found["step"]) == ("next", 3, None)
    groups = found["groups"]
    assert [group["rank"] for group in groups] == list(range(1, len(groups) + 1))
    likelihoods = [group["likelihood"] for group in groups]
    assert likelihoods == sorted(likelihoods, reverse=True)
    assert {group["kind"] for group in groups} <= {"other_template", "slot"}
    assert any("…" in group["frame"] for group in groups)
    assert all("kl" not in group for group in groups)
    assert found["tokens"] > 0
    table = " ".join(
        fork_host.run("analyze", "neighbors", profile, "--prompts", "3").stdout.split()
    )
    assert groups[0]["example"].split()[0] in table
    assert "before any training" in table
    assert "other_template: another question, so another task" in table


def test_with_a_run_it_tells_how_far_each_group_has_moved(
    fork_host: ForkHost, spoiled: Path
) -> None:
    before = digests(spoiled)

    found = output(fork_host.run("analyze", "neighbors", spoiled, "--prompts", "3", "--json"))
    assert (found["stage"], found["step"]) == ("new", 150)
    assert all(group["kl"] > 0 and 0 <= group["kept"] <= 1 for group in found["groups"])
    assert max(group["kl"] for group in found["groups"]) > 0.5
    assert digests(spoiled) == before
    same = output(
        fork_host.run("analyze", "neighbors", spoiled, "--task", "new", "--prompts", "3", "--json")
    )
    assert same["groups"] == found["groups"]
    table = fork_host.run("analyze", "neighbors", spoiled, "--prompts", "3")
    assert "KL" in table.stdout


def test_what_is_neither_run_nor_profile_is_told_so(fork_host: ForkHost, spoiled: Path) -> None:
    analyze = ("analyze", "neighbors")
    refused(fork_host.run(*analyze, "biography-mni"), 3, "neither a run nor a profile")
    refused(fork_host.run(*analyze, "nothing.toml"), 2, "nothing.toml")
    refused(fork_host.run(*analyze, spoiled, "--task", "nwe"), 2, "nwe")
    refused(fork_host.run(*analyze, "biography-mini", "--task", "nwe"), 2, "nwe")
