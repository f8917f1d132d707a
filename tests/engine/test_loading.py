"""Every source that can't be used is told by name with a remedy; those that can come whole."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import PreTrainedTokenizerFast

from sf_tui.engine.compute import ComputeSetting
from sf_tui.engine.loading import LoadedModel, load_model, save_model
from sf_tui.errors import ModelError, SfError
from sf_tui.profile import ModelSettings
from support.tiny_models import weights

Load = Callable[..., LoadedModel]

SMALL = {
    "model_type": "gpt_neox",
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
}


@pytest.fixture
def load(compute: ComputeSetting, tmp_path: Path) -> Load:
    def load_source(source: str | Path, *, seed: int = 0, **settings: Any) -> LoadedModel:
        wanted = ModelSettings(source=str(source), **settings)
        return load_model(wanted, tmp_path, compute, seed=seed)

    return load_source


@pytest.fixture
def directory(llama_directory: Path, tmp_path: Path) -> Path:
    """Return a model directory of one's own to damage."""
    return shutil.copytree(llama_directory, tmp_path / "model")


def change_json(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def drop_tensor(path: Path, name: str) -> None:
    tensors = load_file(path)
    del tensors[name]
    save_file(tensors, path, metadata={"format": "pt"})


def pickle_weights(directory: Path) -> None:
    torch.save({}, directory / "pytorch_model.bin")
    (directory / "model.safetensors").unlink()


def damaged(name: str, directory: Path) -> None:
    """Damage a model directory as `name` says."""
    config, weights_file = directory / "config.json", directory / "model.safetensors"
    match name:
        case "no config":
            config.unlink()
        case "config is not JSON":
            config.write_text('{"model_type": "llama",')
        case "config is no object":
            config.write_text("[]")
        case "config is not text":
            config.write_bytes(b"\xff\xfe\x00")
        case "no model type":
            config.write_text("{}")
        case "unknown model type":
            change_json(config, model_type="lama")
        case "no causal model":
            change_json(config, model_type="vit")
        case "senseless sizes":
            change_json(config, hidden_size="wide")
        case "no weights":
            weights_file.unlink()
        case "pickled weights":
            pickle_weights(directory)
        case "truncated weights":
            weights_file.write_bytes(weights_file.read_bytes()[:-1000])
        case "empty weights":
            weights_file.write_bytes(b"")
        case "weights are a git-lfs pointer":
            weights_file.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\n")
        case "weights of another size":
            change_json(config, hidden_size=64, head_dim=8)
        case "missing tensor":
            drop_tensor(weights_file, "model.layers.1.mlp.up_proj.weight")
        case "missing output projection":
            drop_tensor(weights_file, "lm_head.weight")
        case "missing shard":
            (directory / "model.safetensors.index.json").write_text(
                json.dumps({"metadata": {}, "weight_map": {"lm_head.weight": "other.safetensors"}})
            )
            weights_file.rename(directory / "model-00001-of-00002.safetensors")
        case "quantized":
            change_json(config, quantization_config={"quant_method": "gptq", "bits": 4})
        case "no tokenizer":
            for file in directory.glob("tokenizer*"):
                file.unlink()
        case "tokenizer is not JSON":
            (directory / "tokenizer.json").write_text("{")
        case "larger tokenizer":
            tokenizer = PreTrainedTokenizerFast.from_pretrained(directory)
            tokenizer.add_tokens(["one-more"])
            tokenizer.save_pretrained(directory)
        case "no end token":
            change_json(directory / "tokenizer_config.json", eos_token=None)


@pytest.mark.parametrize(
    ("damage", "says", "remedy"),
    [
        ("no config", "no config.json", "config.json and"),
        ("config is not JSON", "config.json: not JSON", "download"),
        ("config is no object", "model_type", "transformers model"),
        ("config is not text", "config.json: not JSON", "download"),
        ("no model type", "model_type", "transformers model"),
        ("unknown model type", "lama", ""),
        ("no causal model", "no language model", "decoder-only"),
        ("senseless sizes", "can't be loaded", ""),
        ("no weights", "no *.safetensors", "missing"),
        ("pickled weights", "no *.safetensors", "convert them to safetensors"),
        ("truncated weights", "can't be loaded", "undamaged"),
        ("empty weights", "can't be loaded", "undamaged"),
        ("weights are a git-lfs pointer", "can't be loaded", "undamaged"),
        ("weights of another size", "has another shape", "different models"),
        ("missing tensor", "up_proj", "a file is missing"),
        ("missing output projection", "lm_head", "a file is missing"),
        ("missing shard", "can't be loaded", "complete"),
        ("quantized", "quantized", "unquantized"),
        ("no tokenizer", "tokenizer", "tokenizer"),
        ("tokenizer is not JSON", "tokenizer", "tokenizer"),
        ("larger tokenizer", "tokenizer knows", "belongs to the model"),
        ("no end token", "no end token", "eos_token"),
    ],
)
def test_damaged_directory_is_told_with_a_remedy(
    load: Load, directory: Path, damage: str, says: str, remedy: str
) -> None:
    damaged(damage, directory)
    with pytest.raises(ModelError) as caught:
        load(directory)
    assert says in caught.value.message
    assert remedy in caught.value.hint
    assert caught.value.hint
    assert str(directory) in caught.value.message
    assert "\n" not in caught.value.message
    assert caught.value.exit_code == 2


@pytest.mark.parametrize(
    ("config", "says", "remedy"),
    [
        ({"model_type": "gpt_neo_x"}, "gpt_neo_x", "gpt_neox"),
        ({"model_type": ""}, "''", "for example"),
        ({"model_type": "t5"}, "t5", ""),
        (SMALL | {"hiden_size": 8}, "hiden_size", "hidden_size"),
        (SMALL | {"num_layers": 2}, "num_layers", "num_hidden_layers"),
        (SMALL | {"hidden_size": 17}, "gpt_neox", "check"),
        (SMALL | {"hidden_size": -16}, "gpt_neox", ""),
        (SMALL | {"hidden_size": "wide"}, "gpt_neox", ""),
        (SMALL | {"hidden_act": "gelou"}, "gelou", ""),
        (SMALL | {"num_attention_heads": 0}, "gpt_neox", ""),
        (SMALL | {"vocab_size": 5}, "tokenizer knows", "belongs to the model"),
    ],
)
def test_config_that_makes_no_model_is_told_with_the_nearest_name(
    load: Load, config: dict[str, Any], says: str, remedy: str
) -> None:
    with pytest.raises(ModelError) as caught:
        load("random", config=config)
    assert says in caught.value.message
    assert remedy in caught.value.hint
    assert caught.value.hint
    assert "\n" not in caught.value.message


@pytest.mark.parametrize(
    ("source", "remedy"),
    [
        ("./modle", "modle"),
        ("/nowhere/at/all", "doesn't exist either"),
        ("model/weights/here", "doesn't exist either"),
        ("model.gguf", ""),
        ("starter:biography-minni", "biography-mini"),
    ],
)
def test_source_that_is_not_there_names_the_nearest(
    load: Load, tmp_path: Path, source: str, remedy: str
) -> None:
    (tmp_path / "modle2").mkdir()
    with pytest.raises(SfError) as caught:
        load(source)
    assert caught.value.exit_code == 2
    assert source.removeprefix("starter:") in caught.value.message
    assert remedy in caught.value.hint
    assert caught.value.hint


def test_file_instead_of_a_directory_names_its_folder(load: Load, directory: Path) -> None:
    with pytest.raises(ModelError, match="a file") as caught:
        load(directory / "config.json")
    assert str(directory) in caught.value.hint


def test_folder_above_the_model_names_the_model(load: Load, directory: Path) -> None:
    with pytest.raises(ModelError, match=re.escape("no config.json")) as caught:
        load(directory.parent)
    assert str(directory) in caught.value.hint


def test_folder_with_a_gguf_file_says_to_name_the_file(load: Load, tmp_path: Path) -> None:
    (tmp_path / "quantized").mkdir()
    (tmp_path / "quantized" / "model.gguf").write_bytes(b"GGUF")
    with pytest.raises(ModelError) as caught:
        load(tmp_path / "quantized")
    assert ".gguf" in caught.value.hint
    with pytest.raises(ModelError, match="GGUF"):
        load(tmp_path / "quantized" / "model.gguf")


def test_directory_is_found_beside_the_profile(load: Load, directory: Path) -> None:
    assert load("model").model.config.model_type == load(directory).model.config.model_type


@pytest.mark.parametrize("tied", [False, True])
def test_directory_comes_whole_and_in_float32(
    load: Load, llama_directory: Path, tied_llama_directory: Path, tied: bool
) -> None:
    source = tied_llama_directory if tied else llama_directory
    loaded = load(source)
    stored = load_file(source / "model.safetensors")
    found = weights(loaded.model)
    assert ("lm_head.weight" in stored) != tied
    assert found.keys() == stored.keys()
    assert all(torch.equal(found[name], stored[name]) for name in stored)
    assert {p.dtype for p in loaded.model.parameters()} == {torch.float32}
    assert loaded.tokenizer.padding_side == "right"
    assert loaded.max_length == 64


@pytest.mark.parametrize("tied", [False, True])
def test_saved_model_is_a_plain_directory_that_anybody_can_load(
    load: Load, llama_directory: Path, tied_llama_directory: Path, tmp_path: Path, tied: bool
) -> None:
    # Sampling settings without sampling, as many chat models on the hub carry them, must not
    # make a tuned model impossible to save.
    source = shutil.copytree(
        tied_llama_directory if tied else llama_directory, tmp_path / "with sampling"
    )
    (source / "generation_config.json").write_text('{"temperature": 0.6, "top_p": 0.9}')
    loaded = load(source)
    save_model(loaded, tmp_path / "saved")
    again = load(tmp_path / "saved")
    before, after = weights(loaded.model), weights(again.model)
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert again.tokenizer.get_vocab() == loaded.tokenizer.get_vocab()
    assert json.loads((tmp_path / "saved" / "config.json").read_text())["use_cache"] is True
    assert not loaded.model.config.use_cache


def test_random_weights_depend_on_the_seed_alone(load: Load) -> None:
    torch.manual_seed(5)
    first = weights(load("random", config=SMALL, seed=1).model)
    torch.manual_seed(6)
    second = weights(load("random", config=SMALL, seed=1).model)
    other = weights(load("random", config=SMALL, seed=2).model)
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert any(not torch.equal(first[name], other[name]) for name in first)


def test_random_model_takes_its_vocabulary_from_the_tokenizer(
    load: Load, llama_directory: Path
) -> None:
    loaded = load("random", config=SMALL, tokenizer=str(llama_directory))
    rows = loaded.model.get_input_embeddings().weight.shape[0]
    assert rows == len(loaded.tokenizer) == load(llama_directory).model.config.vocab_size
    assert loaded.model.config.eos_token_id == loaded.tokenizer.eos_token_id
    assert loaded.pad_id == loaded.tokenizer.pad_token_id


def write_gguf(source: Path, path: Path) -> None:
    """Write a Llama directory as a GGUF file in float32."""
    gguf = pytest.importorskip("gguf")
    config = json.loads((source / "config.json").read_text())
    vocabulary = json.loads((source / "tokenizer.json").read_text())["model"]["vocab"]
    heads, groups = config["num_attention_heads"], config["num_key_value_heads"]
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(heads)
    writer.add_head_count_kv(groups)
    writer.add_rope_dimension_count(config["hidden_size"] // heads)
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_vocab_size(len(vocabulary))
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(sorted(vocabulary, key=vocabulary.get))
    writer.add_token_merges(["A u"])
    writer.add_eos_token_id(config["eos_token_id"])
    writer.add_bos_token_id(config["bos_token_id"])
    names = {
        "model.embed_tokens.weight": "token_embd.weight",
        "model.norm.weight": "output_norm.weight",
        "lm_head.weight": "output.weight",
    }
    parts = {
        "input_layernorm": "attn_norm",
        "self_attn.q_proj": "attn_q",
        "self_attn.k_proj": "attn_k",
        "self_attn.v_proj": "attn_v",
        "self_attn.o_proj": "attn_output",
        "post_attention_layernorm": "ffn_norm",
        "mlp.gate_proj": "ffn_gate",
        "mlp.up_proj": "ffn_up",
        "mlp.down_proj": "ffn_down",
    }
    for name, tensor in load_file(source / "model.safetensors").items():
        values = tensor.numpy()
        target = names.get(name)
        if target is None:
            _, _, index, part, _ = re.split(r"(layers)\.(\d+)\.(.*)\.(weight)", name)[0:5]
            target = f"blk.{index}.{parts[part]}.weight"
            count = {"self_attn.q_proj": heads, "self_attn.k_proj": groups}.get(part)
            if count is not None:
                # GGUF interleaves the two halves of each head's rotary dimensions.
                rows, columns = values.shape
                halves = values.reshape(count, 2, rows // count // 2, columns)
                values = np.ascontiguousarray(halves.swapaxes(1, 2).reshape(rows, columns))
        writer.add_tensor(target, values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def test_gguf_file_becomes_a_plain_model_that_can_be_saved(
    load: Load, llama_directory: Path, tmp_path: Path
) -> None:
    write_gguf(llama_directory, tmp_path / "small.gguf")
    loaded = load("small.gguf", tokenizer=str(llama_directory))
    expected = weights(load(llama_directory).model)
    found = weights(loaded.model)
    assert found.keys() == expected.keys()
    assert all(torch.allclose(found[name], expected[name]) for name in expected)
    save_model(loaded, tmp_path / "saved")
    again = weights(load(tmp_path / "saved").model)
    assert all(torch.equal(found[name], again[name]) for name in found)
