"""`sf compare`: equal to what the runs' logs and checkpoints hold, paired where that is known."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from sf_tui.cli.app import app
from sf_tui.diagnosis.bootstrap import paired_difference as resampled
from sf_tui.profile import dump_profile, parse_profile
from sf_tui.report.comparison import mcnemar
from sf_tui.run.directory import RunDirectory
from sf_tui.vocabulary.events import Probe, Rewound, RunStarted, StageFinished, StageStarted
from sf_tui.vocabulary.intervals import difference, paired_difference, wilson_estimate
from tui.written_run import WrittenRun

BASE = """\
name = "compared"
[model]
source = "org/model"
[[tasks]]
name = "old"
data = "biography:old"
[[tasks]]
name = "new"
data = "biography:new"
"""
N = 20


def compare(*names: object) -> dict[str, Any]:
    done = CliRunner().invoke(app, ["compare", *map(str, names), "--json"])
    assert done.exit_code == 0, done.output
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def probe(run: WrittenRun, stage: str, step: int, right: int, *, full: bool = True) -> None:
    run.event(
        Probe(
            stage=stage,
            step=step,
            metrics={"old": {"exact_match": right / N, "n": N}},
            full=full,
        )
    )


@pytest.fixture
def home(sf_home: Path) -> Path:
    return sf_home / "runs"


def written(home: Path, name: str, right: int, bits: str, end: int, *overrides: str) -> WrittenRun:
    profile = dump_profile(parse_profile(BASE, overrides=list(overrides)))
    run = WrittenRun(home / name, profile)
    run.begin(stages=("new", "more"), steps=10)
    for stage, first, last in (("new", N, right), ("more", right, end)):
        run.event(StageStarted(stage=stage, task=stage, steps=10, known=["old"]))
        probe(run, stage, 0, first)
        run.checkpoint(0, stage)
        for step in range(1, 11):
            run.step(step, stage, loss=1 / step)
            probe(run, stage, step, first - (first - last) * step // 10, full=step == 10)
        run.checkpoint(10, stage)
        run.event(StageFinished(stage=stage))
    state = {"right_now": {"old": bits}, "asked_for": False}
    folder = run.run.checkpoints / "new" / "step-000010"
    (folder / "state.json").write_text(json.dumps(state))
    (run.run.path / "inputs.json").write_text(json.dumps({"schema": 1, "inputs": {}}))
    return run


def row(found: dict[str, Any], stage: str) -> dict[str, Any]:
    [only] = [one for one in found["tasks"] if (one["stage"], one["task"]) == (stage, "old")]
    return dict(only)


def test_the_end_of_a_stage_is_paired_by_the_examples_that_its_checkpoint_keeps(home: Path) -> None:
    # 12 right: the first twelve. 15 right: the first ten and the last five.
    written(home, "a", 12, "fff000", 4)
    written(home, "b", 15, "ffc1f0", 9)
    found = compare("a", "b")
    second = row(found, "new")["scores"][1]
    assert (second["paired"], second["lost"], second["gained"]) == (True, 2, 5)
    expected = paired_difference(12, 2, 5, N)
    assert second["difference_interval"] == pytest.approx([-expected.high, -expected.low])
    assert second["difference"] == pytest.approx(0.15)
    assert second["p_value"] == pytest.approx(0.453125)
    bits = [[at in right for at in range(N)] for right in (range(12), [*range(10), *range(15, 20)])]
    low, high = second["bootstrap_interval"]
    assert [low, high] == list(resampled(bits[1], bits[0]).interval)
    assert low < 0.15 < high
    again = row(compare("a", "b"), "new")["scores"][1]
    assert again["bootstrap_interval"] == [low, high]
    text = CliRunner().invoke(app, ["compare", "a", "b"]).stdout
    ends = f"{100 * low:+.1f} to {100 * high:+.1f}".replace("-", "−")
    assert f"paired bootstrap over the same examples: old after new (B) {ends}" in text
    last = row(found, "more")["scores"][1]
    assert not last["paired"]
    expected = difference(wilson_estimate(4, N), wilson_estimate(9, N))
    assert last["difference_interval"] == pytest.approx([-expected.high, -expected.low])
    assert "no checkpoint of the stage's end" in last["why_unpaired"]
    assert last["bootstrap_interval"] is None


def test_a_share_of_tokens_is_never_paired_and_the_reason_is_the_metric(home: Path) -> None:
    for name, value in (("a", 0.5321), ("b", 0.75)):
        run = WrittenRun(home / name, dump_profile(parse_profile(BASE)))
        run.event(RunStarted(tasks=["old", "new"], metrics={"old": "token_accuracy"}, run=name))
        run.event(StageStarted(stage="new", task="new", steps=10, known=["old"]))
        metrics = {"old": {"token_accuracy": value, "n": N}}
        run.event(Probe(stage="new", step=10, metrics=metrics, full=True))
        (run.run.path / "inputs.json").write_text(json.dumps({"schema": 1, "inputs": {}}))
    second = row(compare("a", "b"), "new")["scores"][1]
    assert second["why_unpaired"] == (
        "token_accuracy is a share of answer tokens, not of right examples"
    )


@pytest.mark.parametrize(
    ("override", "why"),
    [("seed=7", "seed differs"), ("tasks.old.held_out=0.2", "tasks.old.held_out differs")],
)
def test_other_examples_are_never_paired(home: Path, override: str, why: str) -> None:
    written(home, "a", 12, "fff000", 4)
    written(home, "b", 15, "ffc1f0", 9, override)
    second = row(compare("a", "b"), "new")["scores"][1]
    assert not second["paired"]
    assert why in second["why_unpaired"]


def test_another_training_of_a_task_is_paired(home: Path) -> None:
    written(home, "a", 12, "fff000", 4)
    written(home, "b", 15, "ffc1f0", 9, "tasks.old.train.strategy=anchor")
    found = compare("a", "b")
    assert row(found, "new")["scores"][1]["paired"]
    assert "tasks.old.train.strategy" in {one["key"] for one in found["profiles"]}


@pytest.mark.parametrize("bits", ["", "fff0", "zz", "ffffff", "fff00f"])
def test_bits_that_contradict_the_log_are_not_used(home: Path, bits: str) -> None:
    written(home, "a", 12, "fff000", 4)
    written(home, "b", 15, bits, 9)
    assert not row(compare("a", "b"), "new")["scores"][1]["paired"]


def test_data_that_changed_is_not_paired(home: Path) -> None:
    for name, digest in (("a", "00"), ("b", "11")):
        run = written(home, name, 12, "fff000", 4)
        inputs = {"tasks.old.data": {"/x": {"bytes": 1, "sha256": digest}}}
        (run.run.path / "inputs.json").write_text(json.dumps({"inputs": inputs}))
    second = row(compare("a", "b"), "new")["scores"][1]
    assert second["why_unpaired"] == "other examples: the file of tasks.old.data differs"


def test_curves_share_an_axis_and_keep_extremes(home: Path) -> None:
    run = written(home, "a", 12, "fff000", 4)
    written(home, "b", 15, "ffc1f0", 9)
    run.event(Rewound(stage="more", step=5, lost=5, reason="resumed"))
    run.step(6, "more", loss=50.0)
    curves = {(one["stage"], one["series"]): one["rows"] for one in compare("a", "b")["curves"]}
    loss = curves["more", "loss"]
    assert [one["step"] for one in loss] == list(range(1, 11))
    assert loss[5]["values"][0] == {"min": 50.0, "max": 50.0, "last": 50.0}
    assert loss[9]["values"][0] is None
    assert loss[9]["values"][1]["last"] == pytest.approx(0.1)
    old = curves["new", "old"]
    assert old[-1]["values"][0]["last"] == pytest.approx(12 / N)


def test_long_curves_are_decimated_between_their_extremes(home: Path) -> None:
    for name in ("a", "b"):
        run = WrittenRun(home / name)
        run.begin(steps=5000)
        run.begin_stage(steps=5000)
        for step in range(1, 5001):
            run.step(step, loss=99.0 if step == 1234 else 1.0)
    [loss] = [one for one in compare("a", "b")["curves"] if one["series"] == "loss"]
    assert len(loss["rows"]) <= 200
    assert max(one["values"][1]["max"] for one in loss["rows"]) == 99.0
    assert loss["rows"][-1]["step"] == 5000


def test_profiles_are_compared_key_by_key(home: Path) -> None:
    written(home, "a", 12, "fff000", 4)
    written(home, "b", 15, "ffc1f0", 9, "seed=7")
    written(home, "c", 15, "ffc1f0", 9, "train.steps=77")
    found = compare("a", "b", "c")["profiles"]
    values = {one["key"]: one["values"] for one in found}
    assert values["seed"] == ["0", "7", "0"]
    assert values["train.steps"][2] == "77"
    assert values["train.steps"][0] == values["train.steps"][1]
    text = CliRunner().invoke(app, ["compare", "a", "b", "c"]).stdout
    assert "seed\t0\t7\t0" in text


def test_a_run_that_can_t_be_read_is_compared_as_far_as_it_can(home: Path) -> None:
    written(home, "a", 12, "fff000", 4)
    run = written(home, "b", 15, "ffc1f0", 9)
    run.run.profile.write_text("name = 3\n")
    RunDirectory.create(home / "empty", profile_text=BASE, profile_name="x", argv=[])
    found = compare("a", "b", "empty")
    assert any("its profile is not compared" in note for note in found["notes"])
    second = row(found, "new")["scores"][1]
    assert second["why_unpaired"] == "other examples: a profile can't be read"
    assert row(found, "new")["scores"][2]["value"] is None


def test_a_real_run_keeps_the_examples_of_every_stage_end(finished_run: Path, home: Path) -> None:
    for name in ("a", "b"):
        shutil.copytree(finished_run, home / name)
    found = compare("a", "b")
    assert {one["stage"] for one in found["tasks"]} == {"pretrain", "old", "new"}
    counted = [one for one in found["tasks"] if one["metric"] == "exact_match"]
    assert [one["stage"] for one in counted][-1] == "new"
    for one in counted:
        second = one["scores"][1]
        assert (second["paired"], second["lost"], second["gained"]) == (True, 0, 0), one
    state = json.loads((home / "b/checkpoints/new/step-000150/state.json").read_text())
    flipped = bytes([int(state["right_now"]["old"][:2], 16) ^ 0x80])
    state["right_now"]["old"] = flipped.hex() + state["right_now"]["old"][2:]
    (home / "b/checkpoints/new/step-000150/state.json").write_text(json.dumps(state))
    assert not row(compare("a", "b"), "new")["scores"][1]["paired"], "the log counts otherwise"


def test_mcnemar_agrees_with_known_values() -> None:
    assert mcnemar(0, 0) == 1.0
    assert mcnemar(1, 9) == pytest.approx(0.021484375)
    assert mcnemar(9, 1) == mcnemar(1, 9)
    assert mcnemar(1100, 1100) == 1.0
    assert mcnemar(900, 1100) == pytest.approx(mcnemar(901, 1100), rel=0.2)
