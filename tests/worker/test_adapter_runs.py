"""A run with `[adapter]` trains it alone, resumes to the byte and leaves a PEFT directory."""

from __future__ import annotations

import shutil
import signal
from pathlib import Path

import numpy as np
import orjson
import peft
import pytest
import torch
from safetensors.torch import load_file

from sf_tui.cases.assemble import CaseOverrides, run_case
from sf_tui.cases.merging import merge_directory, merge_run
from sf_tui.cases.rows import CaseNeeds
from sf_tui.engine.loading import save_model
from sf_tui.engine.prepare import prepare_run
from sf_tui.engine.start_weights import open_start_weights
from sf_tui.engine.weights import AdapterOff
from sf_tui.errors import ModelError, UsageError
from sf_tui.profile import load_profile
from sf_tui.profile.references import references_of
from sf_tui.run.directory import RunDirectory
from sf_tui.worker.checkpoints import read_record
from sf_tui.worker.stage_bank import StageBank, bank_folder, start_model
from support.adapter_runs import (
    ADAPTER,
    adapter_bytes,
    begin_adapter_run,
    logits_of,
    make_base,
    plain_model,
    tensors_of,
)
from support.fork_client import ForkHost
from support.quick_run import Operator, assert_well_told, events_of, live_course, work


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_base(tmp_path_factory.mktemp("base") / "model")


@pytest.fixture(scope="module")
def finished(base: Path, tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
    run = begin_adapter_run(tmp_path_factory.mktemp("finished") / "run", base)
    assert work(run) == 0
    return run


NEW_EACH = ADAPTER + 'per_stage = "new"\n'


@pytest.fixture(scope="module")
def each_new(base: Path, tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
    run = begin_adapter_run(tmp_path_factory.mktemp("each-new") / "run", base, NEW_EACH)
    assert work(run) == 0
    return run


def test_checkpoints_and_model_hold_the_adapter_alone(finished: RunDirectory, base: Path) -> None:
    files = sorted(path.name for path in finished.model.iterdir())
    assert "adapter_model.safetensors" in files
    assert "model.safetensors" not in files
    for path in finished.checkpoints.rglob("weights/*.safetensors"):
        assert all(".lora_" in name for name in load_file(path))
    config = orjson.loads((finished.model / "adapter_config.json").read_bytes())
    assert config["base_model_name_or_path"] == str(base)
    assert (config["r"], config["lora_alpha"]) == (4, 8)
    assert finished.read_run_json()["versions"]["peft"] == peft.__version__


def test_peft_loads_the_directory_with_the_same_outputs(finished: RunDirectory, base: Path) -> None:
    record = read_record(finished, load_profile(finished.profile))
    needs = CaseNeeds(0, scores_needed=False)
    ours = run_case(record, needs, CaseOverrides()).case
    theirs = peft.PeftModel.from_pretrained(plain_model(base), str(finished.model))
    assert torch.equal(logits_of(ours.model), logits_of(theirs))
    assert not torch.allclose(logits_of(theirs), logits_of(plain_model(base)))


def test_start_of_a_later_stage_is_the_adapter_as_it_was(
    finished: RunDirectory, base: Path
) -> None:
    record = read_record(finished, load_profile(finished.profile))
    needs = CaseNeeds(0, scores_needed=False)
    for stage, is_base in (("old", True), ("new", False)):
        case = run_case(record, needs, CaseOverrides(stage=stage)).case
        assert case.start is not None
        assert isinstance(case.start, AdapterOff) is is_base
        case.start.load_into(case.layout)
        found = logits_of(case.model)
        assert torch.equal(found, logits_of(plain_model(base))) is is_base


@pytest.mark.parametrize("kind", ["same", "new"])
def test_merged_weights_are_a_plain_model_with_the_same_outputs(
    kind: str, base: Path, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    run = request.getfixturevalue("finished" if kind == "same" else "each_new")
    theirs = peft.PeftModel.from_pretrained(plain_model(base), str(run.model))
    merged = merge_run(read_record(run, load_profile(run.profile)))
    save_model(merged, tmp_path / "merged")
    plain = plain_model(tmp_path / "merged")
    assert torch.allclose(logits_of(plain), logits_of(theirs), atol=1e-5)
    assert not any("lora" in name for name, _ in plain.named_parameters())
    other = merge_directory(run.model, None)
    assert torch.allclose(logits_of(other.model), logits_of(plain), atol=1e-5)


def test_each_stage_trains_its_own_adapter_on_top_of_the_finished_one(
    each_new: RunDirectory, finished: RunDirectory
) -> None:
    config = orjson.loads((each_new.model / "adapter_config.json").read_bytes())
    assert (config["r"], config["lora_alpha"]) == (8, 8)
    joined, first = tensors_of(each_new.model), tensors_of(finished.model)
    assert joined.keys() == first.keys()
    # Both runs are the same until the first stage is finished, which then stays as it is.
    record = read_record(finished, load_profile(finished.profile))
    start = load_file(record.start_of("new") / "weights" / "block-0.safetensors")
    for name, value in joined.items():
        live = name.removeprefix("base_model.model.").replace(".weight", ".default.weight")
        if ".layers.0." not in name:
            continue
        if "lora_B" in name:
            assert torch.equal(value[:, :4], start[live] * 2)
        else:
            assert torch.equal(value[:4], start[live])
            assert not torch.equal(value[4:], start[live])


@pytest.mark.parametrize("kind", ["same", pytest.param("new", marks=pytest.mark.slow)])
def test_killed_run_ends_with_the_same_bytes(
    kind: str,
    fork_host: ForkHost,
    base: Path,
    tmp_path: Path,
    request: pytest.FixtureRequest,
) -> None:
    whole = request.getfixturevalue("finished" if kind == "same" else "each_new")
    adapter = ADAPTER if kind == "same" else NEW_EACH

    run = begin_adapter_run(tmp_path / "killed", base, adapter)
    kill = (signal.SIGKILL, {"type": "step", "stage": "new", "step": 6})
    killed = fork_host.run("resume", run.path, "--no-ui", signals_at=[kill])
    assert killed.wait() == -signal.SIGKILL
    resumed = fork_host.run("resume", run.path, "--no-ui")
    assert resumed.wait() == 0, resumed.stderr
    assert_well_told(run)
    assert live_course(run) == live_course(whole)
    assert adapter_bytes(run.model) == adapter_bytes(whole.model)


def test_anchor_freeze_and_edits_work_on_the_adapter(base: Path, tmp_path: Path) -> None:
    run = begin_adapter_run(
        tmp_path / "run", base, ADAPTER, 'tasks.new.train.strategy="anchor"', "anchor.cache_size=8"
    )
    operator = Operator(run).at("old", 3, "freeze", layers=1, embeddings=True)
    operator.at("old", 9, "unfreeze").at("new", 5, "interpolate", keep=0.5)
    operator.at("new", 7, "shift-edit").at("new", 9, "spectral-edit")
    assert work(run, operator) == 0
    answers = {
        (event["action"], event["status"]): event.get("reason") or ""
        for event in events_of(run, "command")
    }
    assert "nothing trains in the embeddings" in answers["freeze", "done"]
    assert ("unfreeze", "done") in answers
    assert ("interpolate", "done") in answers
    refused = [f"{event}" for event in events_of(run, "command") if event["status"] == "failed"]
    assert any("spectral-edit" in event and "rank" in event for event in refused)
    assert any("shift-edit" in event for event in refused)  # the stage began with an adapter
    anchored = [event["losses"] for event in events_of(run, "step") if event["stage"] == "new"]
    assert all("anchor" in losses for losses in anchored)
    frozen = [event for event in events_of(run, "drift") if event["step"] == 8]
    assert frozen


def test_anchor_in_midrun_takes_the_answers_of_the_base(base: Path, tmp_path: Path) -> None:
    settings = ("anchor.cache_size=8", "train.learning_rate=3e-2")
    run = begin_adapter_run(tmp_path / "run", base, ADAPTER + "dora = true\n", *settings)
    assert work(run, Operator(run).at("old", 6, "anchor", strength=1.0)) == 0
    profile = load_profile(run.profile)
    prepared = prepare_run(profile, 1)
    spec = profile.stages()[0]
    plan = StageBank(prepared, spec, references_of(profile, spec.name))
    bank = plan.read(bank_folder(run, spec.name))
    assert bank is not None
    adapters = prepared.layout.adapters
    assert adapters is not None

    def largest_difference() -> float:
        told = start_model(prepared, spec).answer_logprobs(bank.rows, bank.top_ids[0].shape[1])
        pairs = zip(told, bank.top_logprobs, strict=True)
        return max(float(np.abs(found - stored).max()) for (_, found), stored in pairs)

    with adapters.off():
        assert largest_difference() < 1e-5
    then = run.checkpoints / "old" / "step-000008"
    open_start_weights(then, prepared.loaded.model, prepared.layout).load_into(prepared.layout)
    assert largest_difference() > 1e-3


def test_other_peft_version_is_told_and_a_missing_one_refused(
    finished: RunDirectory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("other", "missing"):
        shutil.copytree(finished.path, tmp_path / name)
    run = RunDirectory(tmp_path / "other")
    facts = run.read_run_json()
    run.claim({"versions": facts["versions"] | {"peft": "0.1"}})
    assert work(run) == 0
    told = [event["message"] for event in events_of(run, "alert") if event["code"] == "versions"]
    assert [text for text in told if "last trained with 0.1" in text]

    monkeypatch.setattr("sf_tui.engine.adapters.inject.find_spec", lambda _: None)
    with pytest.raises(ModelError, match="peft") as raised:
        work(RunDirectory(tmp_path / "missing"))
    assert "pip install 'sf-tui[adapters]'" in raised.value.hint


def test_stage_goes_on_from_an_adapter_directory(
    finished: RunDirectory, base: Path, tmp_path: Path
) -> None:
    source = f'[adapter]\nsource = "{finished.model}"\n'
    run = begin_adapter_run(tmp_path / "run", base, source, "train.steps=4")
    assert work(run) == 0
    record = read_record(run, load_profile(run.profile))
    found = run_case(record, CaseNeeds(0, scores_needed=False), CaseOverrides(stage="old")).case
    assert found.start is not None
    found.start.load_into(found.layout)
    theirs = peft.PeftModel.from_pretrained(plain_model(base), str(finished.model))
    assert torch.equal(logits_of(found.model), logits_of(theirs))


def test_run_of_the_weights_themselves_has_no_adapter_to_merge(
    undisturbed: RunDirectory,
) -> None:
    with pytest.raises(UsageError, match="no adapter"):
        merge_run(read_record(undisturbed, load_profile(undisturbed.profile)))


def test_four_bits_without_a_gpu_are_refused(base: Path, tmp_path: Path) -> None:
    run = begin_adapter_run(tmp_path / "run", base, ADAPTER + 'quantize = "4bit"\n')
    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    with pytest.raises(ModelError, match="needs a GPU"):
        work(run)
