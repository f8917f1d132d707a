"""A model directory that must not be loaded is refused before transformers sees it, by name."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from sf_tui.engine.compute import ComputeSetting
from sf_tui.engine.loading import LoadedModel, load_model
from sf_tui.engine.model_files import INDEX, SINGLE, find_weights
from sf_tui.engine.start_weights import weight_files
from sf_tui.errors import ModelError
from sf_tui.profile import ModelSettings
from sf_tui.tasks.model_source import describe_adapter, load_tokenizer
from support.tiny_models import weights

Load = Callable[..., LoadedModel]


@pytest.fixture
def load(compute: ComputeSetting, tmp_path: Path) -> Load:
    def load_source(source: str | Path, **settings: Any) -> LoadedModel:
        return load_model(ModelSettings(source=str(source), **settings), tmp_path, compute, seed=0)

    return load_source


@pytest.fixture
def directory(llama_directory: Path, tmp_path: Path) -> Path:
    """Return a model directory of one's own to damage."""
    return shutil.copytree(llama_directory, tmp_path / "model")


def refused(load: Load, source: str | Path, **settings: Any) -> ModelError:
    with pytest.raises(ModelError) as caught:
        load(source, **settings)
    assert caught.value.hint
    assert "\n" not in caught.value.message
    return caught.value


def change_config(directory: Path, **changes: Any) -> None:
    path = directory / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def shard(directory: Path, name: str, *, writes: bool = True) -> None:
    """Move all weights into one shard of that name, which the index names."""
    tensors = load_file(directory / SINGLE)
    (directory / SINGLE).unlink()
    if writes:
        save_file(tensors, directory / name, metadata={"format": "pt"})
    index = {"metadata": {}, "weight_map": dict.fromkeys(tensors, name)}
    (directory / INDEX).write_text(json.dumps(index))


@pytest.mark.parametrize("name", ["weights.bin", "pytorch_model.pt", "model.safetensors.bin", "x"])
def test_pickle_that_an_index_names_is_refused(load: Load, directory: Path, name: str) -> None:
    tensors = load_file(directory / SINGLE)
    shard(directory, name, writes=False)
    torch.save(tensors, directory / name)
    save_file({}, directory / "any.safetensors")
    assert name in refused(load, directory).message
    with pytest.raises(ModelError, match="pickle"):
        weight_files(directory)


@pytest.mark.parametrize(
    "name", ["../outside.safetensors", "a/../../outside.safetensors", "..\\outside.safetensors"]
)
def test_index_that_leads_outside_is_refused(load: Load, directory: Path, name: str) -> None:
    shutil.copy(directory / SINGLE, directory.parent / "outside.safetensors")
    shard(directory, name, writes=False)
    assert "outside the directory" in refused(load, directory).message
    shard_path = str(directory.parent / "outside.safetensors")
    (directory / INDEX).write_text(json.dumps({"metadata": {}, "weight_map": {"a": shard_path}}))
    assert "outside the directory" in refused(load, directory).message
    with pytest.raises(ModelError, match="outside"):
        weight_files(directory)


def test_shard_that_is_a_link_to_the_outside_is_refused(load: Load, directory: Path) -> None:
    shard(directory, "part.safetensors")
    (directory / "part.safetensors").rename(directory.parent / "elsewhere.safetensors")
    (directory / "part.safetensors").symlink_to("../elsewhere.safetensors")
    assert "a link to" in refused(load, directory).message


def test_pickle_under_the_name_of_safetensors_is_refused(load: Load, directory: Path) -> None:
    # The tensors that were read are mapped onto the file: it must not be written over.
    pickled = directory / "aside"
    torch.save(load_file(directory / SINGLE), pickled)
    pickled.replace(directory / SINGLE)
    assert "pickle" in refused(load, directory).hint


def test_weight_file_that_the_config_names_is_refused(load: Load, directory: Path) -> None:
    change_config(directory, transformers_weights="adapter_model.bin")
    assert "transformers_weights" in refused(load, directory).message


def into_cache(directory: Path, cache: Path) -> Path:
    """Put a directory's files into a hub cache as the model `some/model`; return the snapshot."""
    home = cache / "models--some--model"
    snapshot = home / "snapshots" / ("a" * 40)
    snapshot.mkdir(parents=True)
    (home / "blobs").mkdir()
    (home / "refs").mkdir()
    (home / "refs" / "main").write_text("a" * 40)
    for number, file in enumerate(sorted(directory.iterdir())):
        shutil.copy(file, home / "blobs" / str(number))
        (snapshot / file.name).symlink_to(f"../../blobs/{number}")
    return snapshot


@pytest.mark.parametrize("sharded", [False, True])
@pytest.mark.parametrize("by_id", [False, True])
def test_model_in_the_hub_cache_is_loaded_through_its_links(
    load: Load,
    directory: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    sharded: bool,
    by_id: bool,
) -> None:
    expected = weights(load(directory).model)
    if sharded:
        shard(directory, "model-00001-of-00001.safetensors")
    snapshot = into_cache(directory, tmp_path / "hub")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    loaded = load("some/model" if by_id else snapshot, tokenizer=str(directory))
    found = weights(loaded.model)
    assert all(torch.equal(found[name], expected[name]) for name in expected)


def test_hub_model_whose_index_names_a_pickle_is_refused(
    load: Load, directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tensors = load_file(directory / SINGLE)
    shard(directory, "x.bin", writes=False)
    torch.save(tensors, directory / "x.bin")
    into_cache(directory, tmp_path / "hub")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert "x.bin" in refused(load, "some/model", tokenizer=str(directory)).message


def write_adapter(folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    (folder / "adapter_config.json").write_text(
        json.dumps({"peft_type": "LORA", "base_model_name_or_path": "some/base"})
    )
    save_file({"base_model.a": torch.zeros(1)}, folder / "adapter_model.safetensors")


@pytest.mark.parametrize("place", [".", "adapter", "checkpoint-40"])
def test_adapter_is_recognized_with_its_base(load: Load, tmp_path: Path, place: str) -> None:
    (tmp_path / "lora").mkdir()
    write_adapter(tmp_path / "lora" / place)
    error = refused(load, tmp_path / "lora")
    assert "a LoRA adapter for some/base" in error.message
    assert "merge" in error.hint
    with pytest.raises(ModelError) as caught:
        weight_files(tmp_path / "lora")
    assert "LoRA adapter for some/base" in caught.value.hint


@pytest.mark.parametrize("place", [".", "adapter"])
def test_full_weights_beside_an_adapter_are_refused(
    load: Load, directory: Path, place: str
) -> None:
    write_adapter(directory / place)
    error = refused(load, directory)
    assert "full weights and a LoRA adapter" in error.message
    with pytest.raises(ModelError, match="full weights and a LoRA adapter"):
        weight_files(directory)


def test_model_without_an_adapter_is_none(directory: Path) -> None:
    torch.save({}, directory / "training_args.bin")
    assert describe_adapter(directory) is None
    assert find_weights(directory) == [directory / SINGLE]


def add_tensors(directory: Path, **tensors: torch.Tensor) -> None:
    held = load_file(directory / SINGLE)
    save_file(held | tensors, directory / SINGLE, metadata={"format": "pt"})


def test_blocks_beyond_the_config_are_refused_by_name(load: Load, directory: Path) -> None:
    change_config(directory, num_hidden_layers=2)
    error = refused(load, directory)
    assert "model.layers.2.input_layernorm.weight" in error.message
    assert "9 in all" in error.message


@pytest.mark.parametrize("name", ["score.weight", "model.vision_tower.patch.weight"])
def test_weights_of_another_part_are_refused_by_name(
    load: Load, directory: Path, name: str
) -> None:
    add_tensors(directory, **{name: torch.zeros(2, 32)})
    assert name in refused(load, directory).message


def test_stored_constants_are_passed_over(load: Load, directory: Path) -> None:
    add_tensors(
        directory,
        **{
            "model.layers.0.self_attn.rotary_emb.inv_freq": torch.zeros(4),
            "model.layers.0.attn.masked_bias": torch.zeros(1),
        },
    )
    assert load(directory).notes == ()


@pytest.mark.parametrize(
    ("value", "says"), [(float("nan"), "2 NaN"), (float("inf"), "2 inf"), (-float("inf"), "2 inf")]
)
def test_weights_that_are_no_numbers_are_named_with_their_count(
    load: Load, directory: Path, value: float, says: str
) -> None:
    held = load_file(directory / SINGLE)
    held["model.layers.1.mlp.up_proj.weight"][3, :2] = value
    save_file(held, directory / SINGLE, metadata={"format": "pt"})
    error = refused(load, directory)
    assert f"'model.layers.1.mlp.up_proj.weight' holds {says}" in error.message


def test_weights_too_large_for_float16_are_named(load: Load, directory: Path) -> None:
    held = {name: tensor.half() for name, tensor in load_file(directory / SINGLE).items()}
    held["model.norm.weight"][0] = float("inf")
    save_file(held, directory / SINGLE, metadata={"format": "pt"})
    assert "'model.norm.weight' holds 1 inf" in refused(load, directory).message


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"num_hidden_layers": 1_000_000_000}, "num_hidden_layers = 1000000000"),
        ({"num_hidden_layers": 9_000}, "9000 blocks"),
        ({"vocab_size": 10**12}, "vocab_size = 1000000000000"),
        ({"intermediate_size": 10**10}, "a model of"),
        ({"hidden_size": "wide"}, "can't be loaded"),
        ({"hidden_size": None}, "can't be loaded"),
        ({"num_attention_heads": 0}, "can't be loaded"),
    ],
)
def test_absurd_config_is_refused_at_once(
    load: Load, directory: Path, changes: dict[str, Any], says: str
) -> None:
    change_config(directory, **changes)
    assert says in refused(load, directory).message


@pytest.mark.parametrize("depth", [200, 5_000, 100_000])
def test_nested_config_is_refused_by_model_and_tokenizer(
    load: Load, directory: Path, tmp_path: Path, depth: int
) -> None:
    nested = '{"a":' * depth + "1" + "}" * depth
    (directory / "config.json").write_text('{"model_type": "llama", "x": ' + nested + "}")
    assert "nested too deeply" in refused(load, directory).message
    with pytest.raises(ModelError, match="nested too deeply"):
        load_tokenizer(str(directory), tmp_path)


@pytest.mark.parametrize("content", ["{", "[]", '{"model": 3}', "[" * 5_000, "\0", ""])
def test_damaged_tokenizer_is_refused(load: Load, directory: Path, content: str) -> None:
    (directory / "tokenizer.json").write_text(content)
    assert "tokenizer" in refused(load, directory).message


def test_text_for_a_size_is_refused_by_the_tokenizer_too(directory: Path, tmp_path: Path) -> None:
    change_config(directory, hidden_size="wide")
    # Without its class in here, transformers asks the config for it.
    (directory / "tokenizer_config.json").write_text("{}")
    with pytest.raises(ModelError, match="no tokenizer can be loaded"):
        load_tokenizer(str(directory), tmp_path)


@pytest.mark.parametrize("kind", ["own_model", "chatglm"])
def test_code_of_the_models_own_names_the_key_that_trusts_it(
    load: Load, directory: Path, kind: str
) -> None:
    changes = {"AutoConfig": "mine.Config", "AutoModelForCausalLM": "mine.Model"}
    change_config(directory, model_type=kind, auto_map=changes)
    (directory / "mine.py").write_text("import os; os._exit(7)")
    error = refused(load, directory)
    assert "trust_remote_code" in error.message
    assert "mine.Config" in error.message
    assert "[model] trust_remote_code = true" in error.hint


def test_code_of_a_tokenizer_names_the_key_that_trusts_it(directory: Path, tmp_path: Path) -> None:
    path = directory / "tokenizer_config.json"
    settings = json.loads(path.read_text()) | {
        "tokenizer_class": "Mine",
        "auto_map": {"AutoTokenizer": ["mine.Mine", None]},
    }
    path.write_text(json.dumps(settings))
    (directory / "tokenizer.json").unlink()
    with pytest.raises(ModelError) as caught:
        load_tokenizer(str(directory), tmp_path)
    assert "[model] trust_remote_code = true" in caught.value.hint


def test_link_to_a_model_directory_is_followed(load: Load, directory: Path) -> None:
    shard(directory, "part.safetensors")
    link = directory.parent / "link"
    link.symlink_to(directory)
    assert load(link).model.config.model_type == "llama"
