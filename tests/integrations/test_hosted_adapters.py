"""Trainings of an adapter by another program: what is loaded again, and which start is held to."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import TrainerCallback
from typer.testing import CliRunner

from sf_tui.cases.assemble import CaseOverrides, RunCase, run_case
from sf_tui.cases.rows import CaseNeeds
from sf_tui.cli.app import app
from sf_tui.engine.prepare import prepare_run
from sf_tui.engine.probing import Prober
from sf_tui.engine.weights import AdapterOff
from sf_tui.errors import ModelError
from sf_tui.integrations import SfCallback
from sf_tui.profile import load_profile
from sf_tui.profile.references import references_of
from sf_tui.run.commands import request_command
from sf_tui.run.directory import RunDirectory
from sf_tui.worker.checkpoints import read_record
from sf_tui.worker.stage_bank import StageBank, bank_folder, start_model
from support.hosts import lines_of, trainer

FEW = "[probe]\nexamples = 12\n[window]\nsteps = 4\n[neighbors]\nsurvey_budget = 0\n"


def case_of(run: Path) -> RunCase:
    found = RunDirectory(run)
    profile = load_profile(found.profile)
    return run_case(read_record(found, profile), CaseNeeds(4, scores_needed=False), CaseOverrides())


def nll_of(found: RunCase) -> float:
    case = found.case
    prober = Prober(case.loaded.model, case.compute, pad_id=case.loaded.pad_id, batch_tokens=4096)
    assert case.old is not None
    return float(prober.probe(list(case.old.held_out.rows)).measures()["nll"])


KINDS: dict[str, tuple[dict[str, Any], bool, str]] = {
    "plain": ({"lora_dropout": 0.0}, True, "default"),
    "random": ({"init_lora_weights": False}, True, "policy"),
    "pattern": ({"rank_pattern": {"q_proj": 2}, "modules_to_save": ["lm_head"]}, False, "policy"),
    "excluding": ({"exclude_modules": ["down_proj"], "lora_bias": True}, True, "default"),
}


@pytest.mark.parametrize(
    ("lora", "starts_off", "name"),
    [
        # The others are that and more.
        pytest.param(*given, id=kind, marks=[pytest.mark.slow] if kind == "plain" else [])
        for kind, given in KINDS.items()
    ],
)
def test_ended_training_is_loaded_again_with_its_start(
    tiny_scene: Path,
    tmp_path: Path,
    profile: Callable[[str], Path],
    lora: dict[str, Any],
    starts_off: bool,
    name: str,
) -> None:
    run = tmp_path / "run"
    callback = SfCallback(tiny_scene / "old.jsonl", profile(FEW), run)
    out, changes = tmp_path / "out", {"steps": 4, "learning_rate": 2e-2}
    host = trainer(tiny_scene, out, [callback], lora=lora, adapter_name=name, **changes)
    host.train()
    probes = lines_of(run, "probe")
    found = case_of(run)
    assert found.case.loaded.base is not None
    own = dict(found.case.loaded.model.named_parameters())
    for live, value in host.model.get_base_model().named_parameters():
        same = own[live.replace(f".{name}.", ".default.")]
        torch.testing.assert_close(same.detach(), value.detach(), rtol=0, atol=0)
    assert nll_of(found) == pytest.approx(probes[-1]["metrics"]["old"]["nll"], rel=1e-4)
    assert found.case.start is not None
    assert isinstance(found.case.start, AdapterOff) is starts_off
    found.case.start.load_into(found.case.layout)
    assert nll_of(found) == pytest.approx(probes[0]["metrics"]["old"]["nll"], rel=1e-4)


def test_adapter_from_a_directory_is_loaded_again(
    tiny_scene: Path, tmp_path: Path, profile: Callable[[str], Path]
) -> None:
    """Its start is the adapter as the training found it."""
    from peft import PeftModel

    first = trainer(tiny_scene, tmp_path / "first", lora=True, steps=4, learning_rate=2e-2)
    first.train()
    first.model.save_pretrained(tmp_path / "adapter")
    run = tmp_path / "run"
    callback = SfCallback(tiny_scene / "old.jsonl", profile(FEW), run)
    host = trainer(tiny_scene, tmp_path / "out", [callback], steps=4, learning_rate=2e-2)
    model: Any = PeftModel.from_pretrained(host.model, tmp_path / "adapter", is_trainable=True)
    model.enable_input_require_grads()
    host.model = host.model_wrapped = model
    host.train()
    start, *_, last = (one["metrics"]["old"]["nll"] for one in lines_of(run, "probe"))
    found = case_of(run)
    assert nll_of(found) == pytest.approx(last, rel=1e-4)
    assert found.case.start is not None
    found.case.start.load_into(found.case.layout)
    assert nll_of(found) == pytest.approx(start, rel=1e-4)
    with found.case.layout.adapters.off():  # type: ignore[union-attr]
        assert nll_of(found) != pytest.approx(start, rel=1e-2)
    for command in (["recover", "--by", "interpolate", "--keep", "0.5", "--force"], ["merge"]):
        out = tmp_path / command[0]
        done = CliRunner().invoke(app, [command[0], str(run), "--out", str(out), *command[1:]])
        assert done.exit_code == 0, done.output
    assert (tmp_path / "recover" / "adapter_config.json").is_file()
    assert (tmp_path / "merge" / "model.safetensors").is_file()


def test_adapter_whose_base_was_changed_is_refused(
    tiny_scene: Path, tmp_path: Path, profile: Callable[[str], Path]
) -> None:
    run = tmp_path / "run"
    callback = SfCallback(tiny_scene / "old.jsonl", profile(FEW), run)
    lora = {"init_lora_weights": "pissa"}
    trainer(tiny_scene, tmp_path / "out", [callback], lora=lora, steps=2).train()
    assert lines_of(run, "run_finished")[0]["status"] == "completed"
    with pytest.raises(ModelError, match=r"can't be put on its base again.*pissa") as caught:
        case_of(run)
    assert "merged" in caught.value.hint


class _Presses(TrainerCallback):
    """Asks for an anchor behind a step, before `sf` reads its commands."""

    def __init__(self, run: Path, step: int) -> None:
        self._run, self._step = run, step

    def on_step_end(self, args: Any, state: Any, control: Any, **given: Any) -> None:  # noqa: ARG002
        if state.global_step == self._step:
            request_command(RunDirectory(self._run), "anchor", {"strength": 1.0})


def test_anchor_in_midrun_holds_to_the_base_without_a_random_adapter(
    tiny_scene: Path, tmp_path: Path, profile: Callable[[str], Path]
) -> None:
    run = tmp_path / "run"
    text = FEW + "[anchor]\nrows = 4\ncache_size = 12\n"
    callback = SfCallback(tiny_scene / "old.jsonl", profile(text), run)
    lora = {"init_lora_weights": False, "lora_alpha": 64}
    callbacks = [_Presses(run, 3), callback]
    trainer(tiny_scene, tmp_path / "out", callbacks, lora=lora, steps=6, learning_rate=2e-2).train()
    assert ["anchor" in one.get("losses", {}) for one in lines_of(run, "step")] == [
        *(False, False, False),
        *(True, True, True),
    ]
    prepared = prepare_run(load_profile(RunDirectory(run).profile), 1)
    (spec,) = prepared.profile.stages()
    plan = StageBank(prepared, spec, references_of(prepared.profile, spec.name))
    bank = plan.read(bank_folder(RunDirectory(run), spec.name))
    assert bank is not None
    assert prepared.layout.adapters is not None
    with prepared.layout.adapters.off():
        told = start_model(prepared, spec).answer_logprobs(bank.rows, bank.top_ids[0].shape[1])
    for (_, found), stored in zip(told, bank.top_logprobs, strict=True):
        np.testing.assert_allclose(found, stored, atol=1e-4)
