"""A training by transformers' own Trainer, imported after its end: scores, events, weights."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Sequence
from html import unescape
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from sf_tui.cases.assemble import CaseOverrides, run_case
from sf_tui.cases.rows import CaseNeeds
from sf_tui.cases.run_weights import load_newest
from sf_tui.cli.app import main
from sf_tui.engine.compute import choose_compute
from sf_tui.engine.prepare import load_model_of, prepare_run
from sf_tui.engine.probing import Prober
from sf_tui.errors import ModelError, RunError, UsageError
from sf_tui.integrations.import_run import import_training
from sf_tui.integrations.imported_profile import ImportOptions, imported_profile
from sf_tui.integrations.trainer_output import check_shapes, read_output
from sf_tui.profile import load_profile
from sf_tui.run.checkpoint_folders import existing_checkpoints
from sf_tui.run.directory import RunDirectory
from sf_tui.run.events import read_events
from sf_tui.run.liveness import WorkerState
from sf_tui.run.reading import read_run
from sf_tui.tui.console import ConsoleApp
from sf_tui.tui.terminal import ConsoleOptions
from sf_tui.vocabulary.events import (
    Alert,
    CheckpointWritten,
    Danger,
    Drift,
    Probe,
    RunFinished,
    Step,
)
from sf_tui.worker.checkpoints import read_record
from support.newcomer import write_newcomer
from support.trainer_output import train_with_trainer

SAVED = (10, 20, 30)


@pytest.fixture(scope="module")
def newcomer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("newcomer")
    return write_newcomer(folder, hidden=32, old_subjects=20, new_subjects=12, steps=150)


@pytest.fixture(scope="module")
def trained(newcomer: Path) -> Path:
    return train_with_trainer(newcomer, newcomer / "out", learning_rate=1e-2)


def import_it(
    trained: Path,
    newcomer: Path,
    run: Path,
    *,
    new: bool = True,
    settings: Sequence[str] = (),
    check_stop: Callable[[], None] = lambda: None,
) -> RunDirectory:
    output = read_output(trained)
    options = ImportOptions(
        [str(newcomer / "old.jsonl")],
        str(newcomer / "new.jsonl") if new else None,
        str(newcomer / "model"),
        settings=settings,
    )
    profile = imported_profile(output, options)
    import_training(output, profile, run, argv=["sf"], log=lambda _: None, check_stop=check_stop)
    return RunDirectory(run)


@pytest.fixture(scope="module")
def imported(trained: Path, newcomer: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    path = tmp_path_factory.mktemp("runs") / "imported"
    return import_it(trained, newcomer, path, settings=["window.steps=15"])


@pytest.fixture(scope="module")
def old_alone(trained: Path, newcomer: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Return a run that was imported without new rows; tests only read it."""
    path = tmp_path_factory.mktemp("runs") / "old-alone"
    return import_it(trained, newcomer, path, new=False)


@pytest.fixture
def copied(trained: Path, newcomer: Path, tmp_path: Path) -> Any:
    """Return a run whose checkpoints a test may spoil: both are copied."""
    out = tmp_path / "out"
    shutil.copytree(trained, out)
    return import_it(out, newcomer, tmp_path / "run", new=False)


def of_type(run: RunDirectory, kind: type) -> list[Any]:
    return [event for event in read_events(run.events) if isinstance(event, kind)]


def test_start_and_every_checkpoint_are_probed(imported: RunDirectory) -> None:
    probes = of_type(imported, Probe)
    assert [(probe.step, probe.full) for probe in probes] == [
        (0, True),
        (10, False),
        (20, False),
        (30, True),
    ]
    start, *later = (probe.metrics["old"]["exact_match"] for probe in probes)
    assert start > 0.9
    assert later[-1] < 0.3
    assert all(probe.comparable["old"]["n"] >= 50 for probe in probes)
    for probe in probes[1:]:
        lost, gained = probe.flips["old"]
        count = probe.metrics["old"]["n"]
        now = probe.metrics["old"]["exact_match"]
        assert lost > 0
        assert abs((lost - gained) / count - (start - now)) < 0.02 or not probe.full
        assert probe.drop is not None
        assert probe.drop > 0.2


def test_a_checkpoint_scores_what_its_model_scores(imported: RunDirectory, trained: Path) -> None:
    """The same rows under the checkpoint, loaded on its own as a model."""
    profile = load_profile(imported.profile)
    own = profile.model.model_copy(update={"source": str(trained / "checkpoint-30")})
    alone = prepare_run(profile.model_copy(update={"model": own}), None, imported.created)
    prober = Prober(
        alone.loaded.model, alone.compute, pad_id=alone.loaded.pad_id, batch_tokens=4096
    )
    last = of_type(imported, Probe)[-1]
    for name in ("old", "new"):
        found = prober.probe(alone.tasks[name].held_out).measures()
        assert found["exact_match"] == last.metrics[name]["exact_match"]
        assert found["nll"] == pytest.approx(last.metrics[name]["nll"], rel=1e-4)


def test_steps_are_those_that_the_trainer_logged(imported: RunDirectory, trained: Path) -> None:
    history = json.loads((trained / "trainer_state.json").read_text())["log_history"]
    wanted = [entry for entry in history if "loss" in entry]
    steps = of_type(imported, Step)
    assert [step.step for step in steps] == [5, 10, 15, 20, 25, 30]
    for step, entry in zip(steps, wanted, strict=True):
        found = (step.loss, step.learning_rate, step.grad_norm)
        assert found == (entry["loss"], entry["learning_rate"], entry["grad_norm"])
        assert step.tokens_per_second is None


def test_the_danger_window_and_the_alert_are_those_of_a_live_run(imported: RunDirectory) -> None:
    windows = [(one.state, one.step, one.window) for one in of_type(imported, Danger)]
    assert windows == [("entered", 0, 15), ("left", 15, 15)]
    drops = [alert for alert in of_type(imported, Alert) if alert.code == "drop"]
    assert [(alert.step, alert.task) for alert in drops][:1] == [(10, "old")]
    assert f"`sf diagnose {imported.id}`" in drops[0].message


def test_drift_is_measured_from_the_base(
    imported: RunDirectory, trained: Path, newcomer: Path
) -> None:
    drifts = of_type(imported, Drift)
    assert [drift.step for drift in drifts] == list(SAVED)
    base = load_file(newcomer / "model" / "model.safetensors")
    now = load_file(trained / "checkpoint-20" / "model.safetensors")
    embedding = "model.embed_tokens.weight"
    share = float((now[embedding] - base[embedding]).norm() / base[embedding].norm())
    assert drifts[1].layers[0].relative_update == pytest.approx(share, rel=1e-4)


def test_nothing_is_copied_and_the_log_is_whole(imported: RunDirectory, trained: Path) -> None:
    assert not list(imported.path.rglob("*.safetensors"))
    events = list(read_events(imported.events))
    assert [event.seq for event in events] == list(range(1, len(events) + 1))
    assert isinstance(events[-1], RunFinished)
    paths = [event.path for event in of_type(imported, CheckpointWritten)]
    assert paths[1:] == [str(trained / f"checkpoint-{step}") for step in SAVED]
    reading = read_run(imported)
    assert reading.damage == []
    assert (reading.live.state, reading.state.status) == (WorkerState.FINISHED, "completed")
    assert [event.step for event in existing_checkpoints(imported, reading.state)] == [0, *SAVED]


def test_a_case_has_the_weights_of_the_last_checkpoint_and_of_the_base(
    imported: RunDirectory, trained: Path, newcomer: Path
) -> None:
    profile = load_profile(imported.profile)
    found = run_case(read_record(imported, profile), CaseNeeds(10), CaseOverrides())
    assert (found.stage, found.step, found.since) == ("new", 30, "new")
    now = load_file(trained / "checkpoint-30" / "model.safetensors")
    then = load_file(newcomer / "model" / "model.safetensors")
    own = dict(found.case.loaded.model.named_parameters())
    assert all(torch.equal(own[name], tensor) for name, tensor in now.items())
    assert found.case.start is not None
    assert found.case.old is not None
    assert len(found.case.old.train) >= 10
    found.case.start.load_into(found.case.layout)
    assert all(torch.equal(own[name], tensor) for name, tensor in then.items())
    assert found.notes == ()


def test_without_new_rows_only_the_old_task_is_scored(old_alone: RunDirectory) -> None:
    assert [set(probe.metrics) for probe in of_type(old_alone, Probe)] == [{"old"}] * 4
    found = run_case(
        read_record(old_alone, load_profile(old_alone.profile)), CaseNeeds(10), CaseOverrides()
    )
    assert found.case.old is not None


def test_a_touched_checkpoint_is_the_same_a_changed_one_is_refused_and_a_deleted_one_told(
    copied: RunDirectory, capsys: Any
) -> None:
    record = read_record(copied, load_profile(copied.profile))
    weights = record.references[-1].weights.folder / "model.safetensors"
    os.utime(weights, (1, 1))
    load_newest(record)
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    with pytest.raises(RunError, match="other content"):
        load_newest(record)

    gone = weights.parent
    shutil.rmtree(gone)
    state = read_run(copied).state
    assert [event.step for event in existing_checkpoints(copied, state)] == [0, 10, 20]
    code, out, _ = sf(capsys, "show", copied.path)
    assert code == 0
    assert f"{gone / 'model.safetensors'} is gone" in " ".join(out.split())
    code, _, err = sf(capsys, "diagnose", copied.path)
    assert code == 1
    assert "is gone" in err


def test_an_interrupted_import_leaves_nothing(
    trained: Path, newcomer: Path, tmp_path: Path
) -> None:
    calls = []

    def stop() -> None:
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt

    home = tmp_path / "home"
    with pytest.raises(KeyboardInterrupt):
        import_it(trained, newcomer, home / "run", new=False, check_stop=stop)
    assert list(home.iterdir()) == []


def test_a_path_that_exists_is_never_overwritten(
    imported: RunDirectory, trained: Path, newcomer: Path
) -> None:
    before = imported.events.read_bytes()
    with pytest.raises(UsageError, match="already exists"):
        import_it(trained, newcomer, imported.path)
    assert imported.events.read_bytes() == before


def test_another_base_is_refused_before_anything_is_probed(
    trained: Path, newcomer: Path, tmp_path: Path
) -> None:
    other = write_newcomer(tmp_path, hidden=16, old_subjects=2, new_subjects=2, steps=1)
    output = read_output(trained)
    options = ImportOptions([str(newcomer / "old.jsonl")], None, str(other / "model"))
    with pytest.raises(ModelError, match=r"checkpoint-10.*tensor") as caught:
        import_training(
            output,
            imported_profile(output, options),
            tmp_path / "run",
            argv=["sf"],
            log=lambda _: None,
            check_stop=lambda: None,
        )
    assert "--base MODEL" in caught.value.hint
    assert not (tmp_path / "run").exists()


def sf(capsys: Any, *arguments: object) -> tuple[int, str, str]:
    """Run a command line in this process."""
    import sys

    capsys.readouterr()
    before, sys.argv = sys.argv, ["sf", *map(str, arguments)]
    try:
        main()
        code = 0
    except SystemExit as ended:
        code = int(ended.code or 0)
    finally:
        sys.argv = before
    out, err = capsys.readouterr()
    return code, out, err


def test_the_command_prints_the_run_and_a_second_import_is_another_run(
    trained: Path, newcomer: Path, capsys: Any
) -> None:
    given = (trained, "--old", newcomer / "old.jsonl", "--base", newcomer / "model")
    code, out, err = sf(capsys, "import", *given, "--name", "mine")
    assert code == 0, err
    first = out.strip()
    assert first.split("-")[2] == "mine"
    assert "old lost" in err
    code, out, err = sf(capsys, "import", *given, "--json")
    assert code == 0, err
    assert f"{first} was imported from it before" in err
    found = json.loads(out)
    assert [one["step"] for one in found["checkpoints"]] == [0, *SAVED]
    code, out, _ = sf(capsys, "runs", "--json")
    assert [row["state"] for row in json.loads(out)] == ["completed", "completed"]
    assert {row["steps"] for row in json.loads(out)} == {30}


def test_resume_and_actions_are_refused_and_say_why(imported: RunDirectory, capsys: Any) -> None:
    code, _, err = sf(capsys, "resume", imported.path, "--no-ui")
    assert code == 0
    assert "completed" in err
    code, _, err = sf(capsys, "act", imported.path, "freeze")
    assert code != 0
    assert "ended" in err or "finished" in err or "completed" in err


def test_a_repaired_model_is_between_base_and_checkpoint(
    imported: RunDirectory, trained: Path, newcomer: Path, tmp_path: Path, capsys: Any
) -> None:
    out = tmp_path / "repaired"
    code, _, err = sf(
        capsys,
        *("recover", imported.path, "--out", out, "--by", "interpolate", "--keep", "0.5"),
        "--force",
    )
    assert code == 0, err
    base = load_file(newcomer / "model" / "model.safetensors")
    last = load_file(trained / "checkpoint-30" / "model.safetensors")
    for name, tensor in load_file(out / "model.safetensors").items():
        torch.testing.assert_close(tensor, (base[name] + last[name]) / 2)


def test_without_a_log_the_curve_of_the_old_task_is_still_there(
    trained: Path, newcomer: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    for step in SAVED:
        shutil.copytree(trained / f"checkpoint-{step}", out / f"checkpoint-{step}")
        (out / f"checkpoint-{step}" / "trainer_state.json").unlink()
    run = import_it(out, newcomer, tmp_path / "run", new=False)
    assert of_type(run, Step) == []
    assert [probe.step for probe in of_type(run, Probe)] == [0, *SAVED]
    assert any("no loss curve" in alert.message for alert in of_type(run, Alert))


def test_compute_is_the_profiles(imported: RunDirectory) -> None:
    profile = load_profile(imported.profile)
    assert profile.host is not None
    assert profile.host.name == "import"
    assert profile.train.learning_rate == pytest.approx(9.29e-3, rel=0.01)
    loaded = load_model_of(profile, choose_compute("auto", 1))
    assert loaded.tokenizer.eos_token == "</s>"


# A new DoRA adapter is no identity to the last bit, and one that begins at random is none at all:
# only the base itself is the start. peft writes an adapter with a name of its own one folder below.
@pytest.fixture(
    scope="module",
    params=[
        pytest.param(({"use_dora": True}, "policy"), id="named"),
        pytest.param(
            ({"init_lora_weights": False}, "default"), id="random", marks=pytest.mark.slow
        ),
    ],
)
def adapter(newcomer: Path, request: pytest.FixtureRequest) -> Path:
    from peft import LoraConfig

    settings, name = request.param
    lora = LoraConfig(r=4, target_modules="all-linear", **settings)
    out = newcomer / f"adapter-{name}"
    return train_with_trainer(
        newcomer, out, adapter=lora, adapter_name=name, learning_rate=3e-2, steps=20
    )


def weights_below(checkpoint: Path) -> Path:
    """Return the folder with the adapter of a checkpoint, as peft wrote it."""
    (config,) = checkpoint.glob("**/adapter_config.json")
    return config.parent


def test_an_adapters_start_is_its_base(
    adapter: Path, newcomer: Path, old_alone: RunDirectory, tmp_path: Path, capsys: Any
) -> None:
    # The adapter's own configuration names the base.
    output = read_output(adapter)
    profile = imported_profile(output, ImportOptions([str(newcomer / "old.jsonl")]))
    assert profile.model.source == str(newcomer / "model")
    import_training(
        output,
        profile,
        tmp_path / "run",
        argv=["sf"],
        log=lambda _: None,
        check_stop=lambda: None,
    )
    run = RunDirectory(tmp_path / "run")
    probes = of_type(run, Probe)
    assert [probe.step for probe in probes] == [0, 10, 20]
    assert probes[0].metrics == of_type(old_alone, Probe)[0].metrics
    assert probes[-1].metrics["old"]["exact_match"] < 0.8
    assert probes[1].metrics != probes[0].metrics
    assert max(layer.relative_update or 0 for layer in of_type(run, Drift)[-1].layers) > 0
    # What diagnosis and repair load: the last adapter, and the base with it turned off.
    found = run_case(read_record(run, load_profile(run.profile)), CaseNeeds(10), CaseOverrides())
    layout = found.case.layout
    assert layout.adapters is not None
    last = weights_below(adapter / "checkpoint-20")
    assert (last.name == "policy") is (adapter.name == "adapter-policy")
    stored = load_file(last / "adapter_model.safetensors")
    own = dict(found.case.loaded.model.named_parameters())
    name = "model.layers.0.self_attn.q_proj.lora_A"
    assert torch.equal(own[f"{name}.default.weight"], stored[f"base_model.model.{name}.weight"])
    prober = Prober(
        found.case.loaded.model,
        found.case.compute,
        pad_id=found.case.loaded.pad_id,
        batch_tokens=4096,
    )
    assert found.case.old is not None
    rows = list(found.case.old.held_out.rows)
    assert prober.probe(rows).measures()["nll"] == pytest.approx(
        probes[-1].metrics["old"]["nll"], rel=1e-5
    )
    assert found.case.start is not None
    found.case.start.load_into(layout)
    assert prober.probe(rows).measures()["nll"] == pytest.approx(
        probes[0].metrics["old"]["nll"], rel=1e-5
    )
    code, _, err = sf(
        capsys,
        *("recover", run.path, "--out", tmp_path / "out", "--by", "interpolate"),
        *("--keep", "0.5", "--force"),
    )
    assert code == 0, err
    assert (tmp_path / "out" / "adapter_config.json").is_file()


def test_adapters_of_two_trainings_are_refused(adapter: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    shutil.copytree(adapter, out)
    config = weights_below(out / "checkpoint-20") / "adapter_config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"lora_alpha": 99}))
    output = read_output(out)
    with pytest.raises(ModelError, match="lora_alpha is 99"):
        check_shapes(output, output.saved[0].weights)


@pytest.mark.parametrize(
    "size",
    [(80, 24), *(pytest.param(size, marks=pytest.mark.slow) for size in ((120, 40), (200, 60)))],
)
async def test_the_console_shows_an_imported_run_as_ended(
    imported: RunDirectory, size: tuple[int, int]
) -> None:
    app = ConsoleApp(imported, ConsoleOptions())
    async with app.run_test(size=size) as pilot:
        await pilot.pause()
        screen = unescape(app.export_screenshot(simplify=True)).replace("\xa0", " ")
        assert "completed" in screen
        for wrong in ("worker dead", "starting", "ETA", "sf resume", "NaN"):
            assert wrong not in screen
        await pilot.press("[")
        await pilot.pause()
        screen = unescape(app.export_screenshot(simplify=True)).replace("\xa0", " ")
        assert "replay new@" in screen
