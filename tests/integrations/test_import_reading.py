"""What is read of a finished training's folder, and what is refused before anything is loaded."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from sf_tui.errors import DataError, ModelError, SfError, UsageError
from sf_tui.integrations.base_model import named_base
from sf_tui.integrations.trainer_output import read_output
from sf_tui.integrations.trainer_state import read_trainer_state


def save(folder: Path, value: float, *, adapter: bool = False) -> Path:
    """Write a folder with weights that hold one value."""
    folder.mkdir(parents=True, exist_ok=True)
    name = "adapter_model.safetensors" if adapter else "model.safetensors"
    save_file({"weight": torch.full((2, 2), value)}, folder / name)
    (folder / ("adapter_config.json" if adapter else "config.json")).write_text("{}")
    return folder


def write_state(folder: Path, step: int, history: list[Any] | None = None, **more: Any) -> Path:
    path = folder / "trainer_state.json"
    values = {"global_step": step, "max_steps": step, "log_history": history or [], **more}
    path.write_text(json.dumps(values))
    return path


@pytest.fixture
def out(tmp_path: Path) -> Path:
    folder = tmp_path / "out"
    for step in (100, 20, 1000):
        save(folder / f"checkpoint-{step}", step)
    write_state(folder / "checkpoint-1000", 1000, [{"loss": 2.0, "step": 10}])
    return folder


def test_checkpoints_are_in_the_order_of_their_steps(out: Path) -> None:
    found = read_output(out)
    assert [at.step for at in found.saved] == [20, 100, 1000]
    assert [at.folder.name for at in found.saved] == [f"checkpoint-{n}" for n in (20, 100, 1000)]
    assert found.steps == 1000
    assert not found.is_adapter


def test_a_final_model_that_is_the_last_checkpoint_is_no_further_one(out: Path) -> None:
    save(out, 1000)
    found = read_output(out)
    assert [at.step for at in found.saved] == [20, 100, 1000]
    assert found.notes == ()


def test_a_final_model_after_the_last_checkpoint_is_probed_too(out: Path) -> None:
    save(out, 1010)
    write_state(out, 1010, [{"loss": 1.0, "step": 1005}])
    found = read_output(out)
    assert [at.step for at in found.saved] == [20, 100, 1000, 1010]
    assert found.saved[-1].folder == out


def test_the_best_model_in_the_folder_does_not_become_the_last_one(out: Path) -> None:
    save(out, 100)
    write_state(out, 1200)
    found = read_output(out)
    assert [at.step for at in found.saved] == [20, 100, 1000]
    assert "checkpoint-100" in found.notes[0]


def test_a_final_model_of_an_unknown_step_is_left_out(out: Path) -> None:
    save(out, 7)
    found = read_output(out)
    assert [at.step for at in found.saved] == [20, 100, 1000]
    assert "not imported" in found.notes[0]


def test_the_log_with_the_most_steps_counts(out: Path) -> None:
    # An earlier training of this folder wrote it.
    write_state(out, 50, [{"loss": 9.0, "step": 50}])
    state = read_output(out).state
    assert state is not None
    assert (state.step, [at.loss for at in state.logged]) == (1000, [2.0])


def test_without_a_log_there_is_no_curve_and_that_is_told(out: Path) -> None:
    (out / "checkpoint-1000" / "trainer_state.json").unlink()
    found = read_output(out)
    assert found.state is None
    assert "no loss curve" in found.notes[0]


def test_a_link_to_a_checkpoint_elsewhere_is_followed(out: Path, tmp_path: Path) -> None:
    moved = tmp_path / "elsewhere"
    (out / "checkpoint-100").rename(moved)
    (out / "checkpoint-100").symlink_to(moved)
    assert [at.step for at in read_output(out).saved] == [20, 100, 1000]


def fsdp(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model_fsdp_0").mkdir()


def deepspeed(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    (folder / "global_step100").mkdir()


def gathered_nothing(folder: Path) -> None:
    save_file({"weight": torch.empty(0)}, folder / "model.safetensors")
    (folder / "global_step100").mkdir()


def pickled(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


def pickled_adapter(folder: Path) -> None:
    shutil.rmtree(folder)
    save(folder, 1, adapter=True)
    (folder / "adapter_model.safetensors").rename(folder / "adapter_model.bin")


def optimizer_alone(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "optimizer.pt")


def torn(folder: Path) -> None:
    os.truncate(folder / "model.safetensors", 90)


def renamed_pickle(folder: Path) -> None:
    torch.save({"weight": torch.ones(2)}, folder / "model.safetensors")


def missing_shard(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "model-00001-of-00002.safetensors")
    shards = {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": shards}))


def fifo(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    os.mkfifo(folder / "model.safetensors")


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (fsdp, "FSDP"),
        (deepspeed, "DeepSpeed"),
        (gathered_nothing, "DeepSpeed"),
        (pickled, "pickled"),
        (pickled_adapter, "pickled"),
        (optimizer_alone, "no model.safetensors"),
        (torn, "can't be loaded"),
        (renamed_pickle, "can't be loaded"),
        (missing_shard, "model-00002-of-00002.safetensors"),
        (fifo, "no model.safetensors"),
    ],
)
def test_weights_that_can_not_be_used_are_refused_by_name(out: Path, spoil: Any, said: str) -> None:
    spoil(out / "checkpoint-100")
    with pytest.raises(ModelError, match=said) as caught:
        read_output(out)
    assert "checkpoint-100" in caught.value.message
    assert "move the folder away" in caught.value.hint
    assert caught.value.exit_code == 2


def test_an_adapter_of_a_sharded_training_is_read(out: Path) -> None:
    shutil.rmtree(out)
    folder = save(out / "checkpoint-5", 1, adapter=True)
    (folder / "global_step5").mkdir()
    assert read_output(out).is_adapter


def test_adapters_and_whole_models_are_two_trainings(out: Path) -> None:
    save(out / "checkpoint-40", 1, adapter=True).joinpath("config.json").unlink(missing_ok=True)
    with pytest.raises(ModelError, match="a whole model"):
        read_output(out)


def dangling(out: Path) -> None:
    (out / "checkpoint-5").symlink_to(out / "nowhere")


def a_file(out: Path) -> None:
    (out / "checkpoint-5").write_text("")


def endless(out: Path) -> None:
    (out / f"checkpoint-{'9' * 200}").mkdir()


def same_step(out: Path) -> None:
    save(out / "checkpoint-0100", 1)


@pytest.mark.parametrize("spoil", [dangling, a_file, endless, same_step])
def test_a_folder_name_that_names_no_checkpoint_is_refused(out: Path, spoil: Any) -> None:
    spoil(out)
    with pytest.raises(UsageError) as caught:
        read_output(out)
    assert caught.value.hint


def test_a_folder_without_a_training_is_refused_with_what_to_do(tmp_path: Path, out: Path) -> None:
    with pytest.raises(UsageError, match="no such directory"):
        read_output(tmp_path / "none")
    with pytest.raises(UsageError) as caught:
        read_output(tmp_path)
    assert str(out) in caught.value.hint
    with pytest.raises(UsageError) as caught:
        read_output(save(tmp_path / "model", 1))
    assert "sf diagnose" in caught.value.hint


def entry(**values: Any) -> dict[str, Any]:
    return {
        "loss": 1.5,
        "learning_rate": 1e-4,
        "grad_norm": 2.0,
        "epoch": 1.0,
        "step": 10,
        **values,
    }


def test_evaluations_and_the_summary_are_no_steps(tmp_path: Path) -> None:
    history = [entry(), {"eval_loss": 3.0, "step": 10}, {"train_loss": 2.0, "step": 20}]
    state = read_trainer_state(write_state(tmp_path, 20, history, epoch=2.0))
    assert state is not None
    assert [(at.step, at.loss, at.grad_norm) for at in state.logged] == [(10, 1.5, 2.0)]
    assert (state.epochs, state.learning_rate) == (2.0, 1e-4)


def test_numbers_that_are_not_finite_are_unknown(tmp_path: Path) -> None:
    history = [
        entry(loss=float("nan"), grad_norm=float("inf")),
        entry(step=15, loss=10**400),
        {"loss": 1.0, "step": 20},
    ]
    state = read_trainer_state(write_state(tmp_path, 20, history, epoch=float("nan")))
    assert state is not None
    assert [at.loss for at in state.logged] == [None, None, 1.0]
    assert [at.grad_norm for at in state.logged] == [None, 2.0, None]
    assert [at.learning_rate for at in state.logged] == [1e-4, 1e-4, None]
    assert state.epochs is None


@pytest.mark.parametrize(
    ("history", "said"),
    [
        ([entry(step="10\x1b[2J")], r"log_history\[0\].step"),
        ([entry(step=True)], r"log_history\[0\].step"),
        ([entry(step=-1)], r"log_history\[0\].step"),
        ([entry(step=10.5)], r"log_history\[0\].step"),
        ([entry(step=10**30)], r"log_history\[0\].step"),
        ([entry(step=21)], "global_step 20"),
        ([entry(), entry(step=5)], "after step 10"),
        ([entry(loss="\x1b]0;x\x07")], r"log_history\[0\].loss"),
        ([entry(loss=[1])], r"log_history\[0\].loss"),
        (["text"], r"log_history\[0\]"),
        ({"a": 1}, "log_history"),
    ],
)
def test_impossible_entries_are_refused_by_their_place(
    tmp_path: Path, history: Any, said: str
) -> None:
    with pytest.raises(DataError, match=said) as caught:
        read_trainer_state(write_state(tmp_path, 20, history))
    assert str(tmp_path) in caught.value.message
    assert "move it away" in caught.value.hint
    assert "\x1b" not in caught.value.message


@pytest.mark.parametrize(
    "content",
    [b"", b'{"global_step": 2', b"[1]", b"\xff\xfe", b"[" * 100_000, b"1" * 5000, b'{"x": 1}'],
)
def test_a_damaged_log_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "trainer_state.json"
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"trainer_state\.json"):
        read_trainer_state(path)


def test_a_log_that_is_no_file_does_not_block(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "trainer_state.json")
    with pytest.raises(DataError, match="FIFO"):
        read_trainer_state(tmp_path / "trainer_state.json")


def test_a_huge_log_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sf_tui.integrations.trainer_state.LARGEST_BYTES", 10)
    with pytest.raises(DataError, match="MiB"):
        read_trainer_state(write_state(tmp_path, 5))


def adapter_of(tmp_path: Path, base: object) -> Path:
    out = tmp_path / "work" / "out"
    folder = save(out / "checkpoint-5", 1, adapter=True)
    (folder / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": base}))
    return out


def test_an_adapter_names_its_base(tmp_path: Path) -> None:
    base = save(tmp_path / "base", 1)
    assert named_base(read_output(adapter_of(tmp_path, str(base)))) == str(base)
    assert named_base(read_output(adapter_of(tmp_path, "org/model"))) == "org/model"


def test_a_relative_base_is_found_from_where_the_training_ran(tmp_path: Path) -> None:
    base = save(tmp_path / "work" / "models" / "base", 1)
    assert named_base(read_output(adapter_of(tmp_path, "models/base"))) == str(base)


@pytest.mark.parametrize("base", ["/gone/model", "../gone", "", None, 5, "x\0y", "a/b/c"])
def test_a_base_that_is_not_here_is_asked_for(tmp_path: Path, base: object) -> None:
    with pytest.raises(SfError) as caught:
        named_base(read_output(adapter_of(tmp_path, base)))
    assert "--base MODEL" in caught.value.hint
    assert caught.value.exit_code == 2


def test_a_checkpoint_of_the_training_is_no_base(tmp_path: Path) -> None:
    out = adapter_of(tmp_path, str(tmp_path / "work" / "out" / "checkpoint-5"))
    with pytest.raises(UsageError, match="wrote itself"):
        named_base(read_output(out))
