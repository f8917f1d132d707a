"""Trainings of transformers' Trainer and of TRL, watched in this process."""

# ruff: noqa: ARG002  the host names what it passes to a callback

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import TrainerCallback
from typer.testing import CliRunner

from integrations.conftest import Trained
from sf_tui.cli.app import app
from sf_tui.errors import ProfileError, UsageError
from sf_tui.integrations import SfCallback
from sf_tui.run.commands import request_command
from sf_tui.run.directory import RunDirectory, list_runs
from sf_tui.run.events import AnyEvent, EventLog
from sf_tui.vocabulary.events import OperationProgress
from sf_tui.worker.stop import StopSignals
from sf_tui.worker.worker import Worker
from support.hosts import lines_of, losses_of, trainer, weights_of
from support.short_ops import shorten_arms

FEW = "[probe]\nexamples = 12\n[window]\nsteps = 4\n[neighbors]\nsurvey_budget = 0\n"


class Asks(TrainerCallback):
    """Asks for actions behind given steps, before `sf` reads its commands."""

    def __init__(self, run: Path, asked: dict[int, list[tuple[str, dict[str, Any]]]]) -> None:
        self._run = RunDirectory(run)
        self._asked = asked
        self.weights: dict[int, dict[str, torch.Tensor]] = {}

    def on_step_end(self, args: Any, state: Any, control: Any, **given: Any) -> None:
        for action, arguments in self._asked.get(state.global_step, ()):
            request_command(self._run, action, arguments)
        model = given["model"]
        self.weights[state.global_step] = {
            name: p.detach().clone() for name, p in model.named_parameters()
        }


def statuses(run: Path) -> list[tuple[str, str]]:
    return [(e["action"], e["status"]) for e in lines_of(run, "command")]


@pytest.mark.parametrize(
    ("trl", "lora", "old"),
    [
        (False, False, True),
        (False, True, False),
        pytest.param(True, False, False, marks=pytest.mark.slow),
        (True, True, True),
    ],
    ids=["trainer-full-old", "trainer-lora-neighbors", "trl-full-neighbors", "trl-lora-old"],
)
def test_watched_training_is_the_same_to_the_last_bit(
    tiny_scene: Path,
    tmp_path: Path,
    profile: Callable[[str], Path],
    trl: bool,
    lora: bool,
    old: bool,
) -> None:
    plain = trainer(tiny_scene, tmp_path / "plain", trl=trl, lora=lora)
    plain.train()
    callback = SfCallback(
        old=tiny_scene / "old.jsonl" if old else None,
        profile=profile(FEW + "[actions.freeze]\n"),
        run_dir=tmp_path / "run",
    )
    watched = trainer(tiny_scene, tmp_path / "out", [callback], trl=trl, lora=lora)
    watched.train()
    assert losses_of(watched) == losses_of(plain)
    ours, theirs = weights_of(watched), weights_of(plain)
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)

    run = tmp_path / "run"
    # A step of sf is an optimizer step of the host, with the very loss that the host logs.
    assert [e["loss"] for e in lines_of(run, "step")] == pytest.approx(losses_of(plain), rel=1e-5)
    probes = lines_of(run, "probe")
    assert (probes[0]["step"], probes[-1]["step"]) == (0, 8)
    watched_task = "old" if old else "neighbors"
    assert probes[0]["metrics"][watched_task]["exact_match"] == pytest.approx(1.0, abs=0.05)
    # Only answers of the start model can be compared with its distributions.
    assert ("kl" in probes[-1]["metrics"][watched_task]) is not old
    assert lines_of(run, "run_finished")[0]["exit_code"] == 0
    assert "rollback" in lines_of(run, "stage_started")[0]["refused"]


def test_frozen_blocks_keep_their_bits_and_the_rest_trains(
    tiny_scene: Path, tmp_path: Path, profile: Callable[[str], Path]
) -> None:
    run = tmp_path / "run"
    asks = Asks(run, {2: [("freeze", {"layers": 1})], 6: [("unfreeze", {})]})
    callback = SfCallback(tiny_scene / "old.jsonl", profile(FEW), run)
    trainer(tiny_scene, tmp_path / "out", [asks, callback], weight_decay=0.1).train()
    assert ("freeze", "done") in statuses(run)
    assert ("unfreeze", "done") in statuses(run)
    held = [name for name in asks.weights[2] if ".layers.0." in name]
    free = [name for name in asks.weights[2] if ".layers.1." in name]
    assert held
    assert all(torch.equal(asks.weights[2][name], asks.weights[6][name]) for name in held)
    assert not any(torch.equal(asks.weights[2][name], asks.weights[6][name]) for name in free)
    assert not any(torch.equal(asks.weights[6][name], asks.weights[8][name]) for name in held)


@pytest.mark.parametrize(
    "lora", [pytest.param(False, id="full", marks=pytest.mark.slow), pytest.param(True, id="lora")]
)
def test_anchor_holds_the_model_to_its_start(
    tiny_scene: Path, tmp_path: Path, profile: Callable[[str], Path], lora: bool
) -> None:
    drops = {}
    for strength in (0.0, 30.0):
        run = tmp_path / f"run-{strength}"
        asked = {1: [("anchor", {"strength": strength})]} if strength else {}
        settings = FEW + "[anchor]\nrows = 16\ncache_size = 32\n"
        callback = SfCallback(None, profile(settings), run)
        more: dict[str, Any] = {"steps": 8, "learning_rate": 5e-3, "lora": lora}
        trainer(tiny_scene, tmp_path / "out", [Asks(run, asked), callback], **more).train()
        last = lines_of(run, "probe")[-1]
        drops[strength] = last["metrics"]["neighbors"]["nll"]
        added = [e.get("losses", {}) for e in lines_of(run, "step")]
        assert ["anchor" in one for one in added] == [False] + [bool(strength)] * 7
    assert drops[30.0] < drops[0.0]


def test_stop_ends_the_training_with_a_checkpoint_of_the_host(
    tiny_scene: Path, tmp_path: Path, profile: Callable[[str], Path]
) -> None:
    run = tmp_path / "run"
    callback = SfCallback(tiny_scene / "old.jsonl", profile(FEW), run)
    asks = Asks(run, {3: [("checkpoint", {})], 5: [("rollback", {}), ("stop", {})]})
    host = trainer(tiny_scene, tmp_path / "out", [asks, callback], save_strategy="steps")
    host.train()
    assert host.state.global_step == 5
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["checkpoint-3", "checkpoint-5"]
    written = [e["path"] for e in lines_of(run, "checkpoint")]
    assert str(tmp_path / "out" / "checkpoint-3") in written
    assert ("stop", "done") in statuses(run)
    (refused,) = [e for e in lines_of(run, "command") if e["status"] == "refused"]
    assert "resume_from_checkpoint" in refused["reason"]
    (finished,) = lines_of(run, "run_finished")
    assert (finished["status"], finished["exit_code"]) == ("stopped", 5)


def test_guard_is_recorded_and_a_rule_acts(
    tiny_scene: Path, tmp_path: Path, profile: Callable[[str], Path]
) -> None:
    text = FEW + (
        '[guard]\nnew_accuracy = 1.0\n[[rules]]\nname = "hold"\nmetric = "drift"\nabove = 0.0\n'
        'action = "freeze"\narguments = {layers = 1}\n'
    )
    run = tmp_path / "run"
    trainer(
        tiny_scene, tmp_path / "out", [SfCallback(tiny_scene / "old.jsonl", profile(text), run)]
    ).train()
    (done,) = [e for e in lines_of(run, "command") if e["status"] == "done"]
    assert (done["by"], done["op"]) == ("hold", "freeze")
    (finished,) = lines_of(run, "run_finished")
    assert (finished["status"], finished["exit_code"]) == ("guard_failed", 4)


def test_resumed_training_continues_its_run(
    tiny_scene: Path, plain_training: Trained, tmp_path: Path, profile: Callable[[str], Path]
) -> None:
    class Killed(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **given: Any) -> None:
            if state.global_step == 6:
                raise KeyboardInterrupt

    settings, out = profile(FEW), tmp_path / "out"
    saving: dict[str, Any] = {"save_strategy": "steps", "save_steps": 4}
    first = SfCallback(tiny_scene / "old.jsonl", settings)
    (tmp_path / "home" / "runs").mkdir(parents=True)
    host = trainer(tiny_scene, out, [first, Killed()], **saving)
    with pytest.raises(KeyboardInterrupt):
        host.train()
    # As after kill -9: nothing is written any more, and the kernel gives the lock back.
    assert first._watcher.hosted is not None
    first._watcher._close()
    (run,) = list_runs()

    logged = len(lines_of(run.path))
    with pytest.raises(UsageError, match="transformers trains this run"):
        Worker(run, StopSignals()).work()
    assert len(lines_of(run.path)) == logged

    second = SfCallback(tiny_scene / "old.jsonl", settings)
    resumed = trainer(tiny_scene, out, [second], **saving)
    resumed.train(resume_from_checkpoint=str(out / "checkpoint-4"))
    assert [one.path for one in list_runs()] == [run.path]
    assert losses_of(resumed) == plain_training.losses
    events = lines_of(run.path)
    assert [e["seq"] for e in events] == list(range(1, len(events) + 1))
    (rewound,) = lines_of(run.path, "rewound")
    assert (rewound["step"], rewound["lost"], rewound["reason"]) == (4, 2, "resumed")
    assert [e["step"] for e in lines_of(run.path, "step")] == [1, 2, 3, 4, 5, 6, 5, 6, 7, 8]
    assert len(lines_of(run.path, "stage_started")) == 1


def test_divergence_from_the_start_is_measured_and_a_rule_acts_after_a_resume(
    tiny_scene: Path, tmp_path: Path, profile: Callable[[str], Path]
) -> None:
    text = FEW + (
        '[[rules]]\nname = "hold"\nmetric = "kl"\nabove = 1e-4\naction = "freeze"\n'
        "arguments = {layers = 1}\n"
    )
    saving: dict[str, Any] = {"save_strategy": "steps", "save_steps": 4, "learning_rate": 1e-5}
    run, out, settings = tmp_path / "run", tmp_path / "out", profile(text)
    host = trainer(tiny_scene, out, [SfCallback(None, settings, run)], steps=4, **saving)
    host.train()
    probes = lines_of(run, "probe")
    assert probes[0]["metrics"]["neighbors"]["kl"] == pytest.approx(0.0, abs=1e-6)
    assert "kl" not in probes[0]["metrics"]["new"]
    assert not lines_of(run, "command")

    saving["learning_rate"] = 1e-3
    resumed = trainer(tiny_scene, out, [SfCallback(None, settings, run)], steps=8, **saving)
    resumed.train(resume_from_checkpoint=str(out / "checkpoint-4"))
    (done,) = [e for e in lines_of(run, "command") if e["status"] == "done"]
    last = lines_of(run, "probe")[-1]["metrics"]["neighbors"]
    assert (done["by"], done["op"]) == ("hold", "freeze")
    assert done["value"] > 1e-4
    # Recompute the divergence from the start model's weights.
    torch.manual_seed(0)
    start = trainer(tiny_scene, tmp_path / "start").model.eval()
    resumed.model.eval()
    total, tokens = 0.0, 0
    for line in (run / "host" / "neighbors.jsonl").read_text().splitlines():
        row = json.loads(line)
        ids, labels = torch.tensor([row["input_ids"]]), torch.tensor(row["labels"])[1:]
        with torch.no_grad():
            then, now = (
                torch.log_softmax(model(input_ids=ids).logits[0, :-1][labels != -100], -1)
                for model in (start, resumed.model)
            )
        total += float((then.exp() * (then - now)).sum())
        tokens += len(then)
    # A lower bound: the tokens beyond the likeliest are one outcome.
    assert 0.9 * total / tokens < last["kl"] <= total / tokens + 1e-5

    assert CliRunner().invoke(app, ["show", str(run)]).output.count("KL(start ‖ now)") == 1


def test_failure_of_the_watching_never_ends_the_training(
    tiny_scene: Path,
    plain_training: Trained,
    tmp_path: Path,
    profile: Callable[[str], Path],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    from sf_tui.worker.stage import StagePlay

    def broken(*_: Any) -> None:
        raise ZeroDivisionError("in the middle of a probe")

    callback = SfCallback(tiny_scene / "old.jsonl", profile(FEW), tmp_path / "run")
    watched = trainer(tiny_scene, tmp_path / "out", [callback])
    monkeypatch.setattr(StagePlay, "finish_step", broken)
    watched.train()
    assert losses_of(watched) == plain_training.losses
    assert "watches this training no longer: ZeroDivisionError" in capsys.readouterr().err
    run = tmp_path / "run"
    assert lines_of(run, "run_finished")[0]["status"] == "failed"
    assert "ZeroDivisionError" in (run / "worker.log").read_text()


def test_loss_is_diagnosed_inside_the_training(
    tiny_scene: Path,
    plain_training: Trained,
    tmp_path: Path,
    profile: Callable[[str], Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    shorten_arms(monkeypatch)
    text = FEW + "[diagnose]\nsteps = 4\ntime = 0.0\nlearning_rate = 0.001\n"
    diagnosed = tmp_path / "diagnosed"
    callback = SfCallback(tiny_scene / "old.jsonl", profile(text), diagnosed)
    watched = trainer(
        tiny_scene, tmp_path / "out", [Asks(diagnosed, {4: [("diagnose", {})]}), callback]
    )
    watched.train()
    assert ("diagnose", "done") in statuses(diagnosed)
    assert len(lines_of(diagnosed, "diagnosis")) == 1
    # The test worked on the host's weights and gave them back with its random state.
    assert losses_of(watched) == plain_training.losses


def test_a_diagnosis_that_is_cancelled_leaves_the_training_as_it_was(
    tiny_scene: Path,
    plain_training: Trained,
    tmp_path: Path,
    profile: Callable[[str], Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run = tmp_path / "run"

    class WatchedLog(EventLog):
        """Asks for a cancel as soon as the log says that an arm has begun."""

        def append(self, event: AnyEvent) -> AnyEvent:
            written = super().append(event)
            if isinstance(written, OperationProgress) and written.number == 1 and not written.done:
                request_command(RunDirectory(run), "cancel")
            return written

    monkeypatch.setattr("sf_tui.integrations.hosted_run.EventLog", WatchedLog)
    callback = SfCallback(tiny_scene / "old.jsonl", profile(FEW), run)
    asks = Asks(run, {4: [("diagnose", {})]})
    watched = trainer(tiny_scene, tmp_path / "out", [asks, callback])
    watched.train()
    assert statuses(run)[-2:] == [("diagnose", "cancelled"), ("cancel", "done")]
    assert not lines_of(run, "diagnosis")
    assert lines_of(run, "run_finished")[0]["status"] == "completed"
    assert losses_of(watched) == plain_training.losses
    ours, theirs = weights_of(watched), plain_training.weights
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


@pytest.mark.slow
def test_loss_is_repaired_inside_the_training(
    tiny_scene: Path, tmp_path: Path, profile: Callable[[str], Path]
) -> None:
    text = FEW + "[recover]\nsteps = 3\nnew_floor = 0.0\nthen_anchor = false\n"
    repaired = tmp_path / "repaired"
    callback = SfCallback(tiny_scene / "old.jsonl", profile(text), repaired)
    trainer(
        tiny_scene, tmp_path / "again", [Asks(repaired, {6: [("recover", {})]}), callback]
    ).train()
    assert [status for action, status in statuses(repaired) if action == "recover"][-1] == "done"


def test_start_is_the_model_without_an_adapter_that_is_no_identity(
    tiny_scene: Path, tmp_path: Path, profile: Callable[[str], Path]
) -> None:
    run = tmp_path / "run"
    callback = SfCallback(tiny_scene / "old.jsonl", profile(FEW), run)
    at_random = {"init_lora_weights": False, "lora_alpha": 64, "lora_dropout": 0.0}
    trainer(tiny_scene, tmp_path / "out", [callback], lora=at_random, steps=4).train()
    first, *others = lines_of(run, "probe")
    assert first["metrics"]["old"]["exact_match"] == pytest.approx(1.0, abs=0.02)
    # The adapter itself broke the old task before the first step, and the drop shows it.
    assert others[0]["drop"] > 0.5
    assert RunDirectory(run).profile.read_text().count("[adapter]") == 1


def test_profile_of_a_host_is_checked_before_the_training_begins(
    tiny_scene: Path, profile: Callable[[str], Path]
) -> None:
    old = tiny_scene / "old.jsonl"
    with pytest.raises(
        ProfileError, match=r"watch\.toml:2: \[train\] steps belongs to the program"
    ):
        SfCallback(old, profile("[train]\nsteps = 4\n"))
    with pytest.raises(ProfileError, match=r"watch\.toml:1: \[model\] belongs to the program"):
        SfCallback(old, profile('[model]\nsource = "a"\n'))
    with pytest.raises(ProfileError, match="unknown key 'stepz'"):
        SfCallback(old, profile("[window]\nstepz = 4\n"))
    with pytest.raises(UsageError, match="there is no file"):
        SfCallback("nothing.jsonl")
    # Without old examples, the neighbor prompts are the old task that guards and rules are about.
    SfCallback(None, profile('[guard]\nold_accuracy = 0.9\n[train]\nstrategy = "anchor"\n'))
