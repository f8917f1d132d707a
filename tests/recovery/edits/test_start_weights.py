"""Start weights are found in checkpoints and model directories, whole and fitting, or refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import PreTrainedModel

from sf_tui.engine.checkpoint import layer_file
from sf_tui.engine.start_weights import open_start_weights
from sf_tui.errors import ModelError, RunError, SfError
from sf_tui.recovery.edits import Interpolate

SINGLE = "model.safetensors"
INDEX = "model.safetensors.index.json"


def _rewrite(path: Path, rename: Any) -> None:
    """Give every tensor of a file the name that `rename` says; None leaves it out."""
    named = {rename(key): tensor for key, tensor in load_file(path).items()}
    named.pop(None, None)
    save_file({key: tensor.clone() for key, tensor in named.items()}, path)


def _agrees(folder: Path, model: PreTrainedModel, layout: Any, first: Any) -> bool:
    """Tell whether every layer's start weights in a folder are those of a snapshot."""
    start = open_start_weights(folder, model, layout)
    start.check_values(layout)
    return all(
        {name for name, _ in start.tensors(layer.name)} == set(layer.parameters)
        and all(torch.equal(t, first[name]) for name, t in start.tensors(layer.name))
        for layer in layout.layers
    )


@pytest.fixture
def directory(model: PreTrainedModel, tmp_path: Path) -> Path:
    """Return a model's plain directory."""
    model.save_pretrained(tmp_path / "start")
    return tmp_path / "start"


@pytest.fixture
def llama(make_model: Any, tmp_path: Path) -> tuple[PreTrainedModel, Path]:
    """Return an untied Llama and its plain directory."""
    model = make_model("llama")
    model.save_pretrained(tmp_path / "start")
    return model, tmp_path / "start"


def test_checkpoint_holds_every_layer(
    model: PreTrainedModel, keep_start: Any, tune: Any, snapshot: Any, layout_of: Any
) -> None:
    first = snapshot(model)
    folder = keep_start(model).folder
    tune(model)
    assert _agrees(folder, model, layout_of(model), first)


def test_directory_of_one_file_holds_every_layer(
    model: PreTrainedModel, directory: Path, tune: Any, snapshot: Any, layout_of: Any
) -> None:
    first = snapshot(model)
    tune(model)
    assert (directory / SINGLE).is_file()
    assert _agrees(directory, model, layout_of(model), first)


def test_directory_of_shards_holds_every_layer(
    model: PreTrainedModel, tmp_path: Path, tune: Any, snapshot: Any, layout_of: Any
) -> None:
    first = snapshot(model)
    model.save_pretrained(tmp_path / "shards", max_shard_size="8KB")
    tune(model)
    assert len(list((tmp_path / "shards").glob("model-*.safetensors"))) > 2
    assert _agrees(tmp_path / "shards", model, layout_of(model), first)


def test_directory_and_checkpoint_give_the_same_edit(
    model: PreTrainedModel,
    directory: Path,
    keep_start: Any,
    tune: Any,
    snapshot: Any,
    layout_of: Any,
    same_bits: Any,
) -> None:
    layout = layout_of(model)
    starts = [keep_start(model), open_start_weights(directory, model, layout)]
    tune(model)
    tuned = snapshot(model)
    edited = []
    for start in starts:
        model.load_state_dict(tuned, strict=False)
        Interpolate(0.6).apply(layout, start)
        edited.append(snapshot(model))
    assert all(same_bits(tensor, edited[1][name]) for name, tensor in edited[0].items())


def test_directory_of_the_bare_model_lacks_only_the_beginning_of_names(
    model: PreTrainedModel, tmp_path: Path, tune: Any, snapshot: Any, layout_of: Any
) -> None:
    first = snapshot(model)
    folder = tmp_path / "bare"
    model.base_model.save_pretrained(folder)
    layout = layout_of(model)
    if layout.tied:
        tune(model)
        assert _agrees(folder, model, layout, first)
    else:
        output = next(name for name in layout.head.parameters if "." in name and "norm" not in name)
        with pytest.raises(ModelError, match=r"\(1 of") as caught:
            open_start_weights(folder, model, layout)
        assert output in caught.value.message


def test_output_may_have_the_name_that_it_had_in_older_versions(
    make_model: Any, tmp_path: Path, tune: Any, snapshot: Any, layout_of: Any
) -> None:
    model = make_model("gpt_neox")
    first = snapshot(model)
    model.save_pretrained(tmp_path / "start")
    tune(model)
    stored = set(load_file(tmp_path / "start" / SINGLE))
    assert {"embed_out.weight", "lm_head.weight"} & stored
    for name in ("embed_out.weight", "lm_head.weight"):
        folder = tmp_path / name
        shutil.copytree(tmp_path / "start", folder)
        _rewrite(
            folder / SINGLE,
            lambda key, name=name: name if key in ("embed_out.weight", "lm_head.weight") else key,
        )
        assert _agrees(folder, model, layout_of(model), first)


def test_tied_weight_may_stand_under_its_other_name(
    make_model: Any, tmp_path: Path, tune: Any, snapshot: Any, layout_of: Any
) -> None:
    model = make_model("tied llama")
    first = snapshot(model)
    model.save_pretrained(tmp_path / "start")
    tune(model)
    _rewrite(
        tmp_path / "start" / SINGLE,
        lambda key: "lm_head.weight" if key == "model.embed_tokens.weight" else key,
    )
    assert _agrees(tmp_path / "start", model, layout_of(model), first)


def test_buffers_beside_the_weights_are_passed_over(
    llama: tuple[PreTrainedModel, Path], snapshot: Any, layout_of: Any
) -> None:
    model, folder = llama
    extra = {"model.layers.0.self_attn.rotary_emb.inv_freq": torch.ones(4, dtype=torch.int64)}
    save_file(load_file(folder / SINGLE) | extra, folder / SINGLE)
    assert _agrees(folder, model, layout_of(model), snapshot(model))


def test_start_in_another_precision_is_taken_as_loading_would_take_it(
    make_model: Any, tmp_path: Path, snapshot: Any, layout_of: Any, same_bits: Any
) -> None:
    make_model("llama").save_pretrained(tmp_path / "start")
    model = make_model("llama").to(torch.bfloat16)
    before = snapshot(model)
    start = open_start_weights(tmp_path / "start", model, layout_of(model))
    report = Interpolate(0.5).apply(layout_of(model), start)
    # Loaded and never tuned: it hasn't moved, so that nothing is taken back.
    assert all(layer.relative_update_before == 0 for layer in report.layers)
    assert all(same_bits(p, before[name]) for name, p in model.named_parameters())


def test_experts_that_are_stored_one_by_one_are_refused_and_their_checkpoint_is_read(
    make_model: Any, keep_start: Any, tmp_path: Path, tune: Any, snapshot: Any, layout_of: Any
) -> None:
    model = make_model("mixtral")
    first = snapshot(model)
    folder = keep_start(model).folder
    model.save_pretrained(tmp_path / "start")
    tune(model)
    assert _agrees(folder, model, layout_of(model), first)
    with pytest.raises(ModelError, match=r"start: no tensor 'model\.layers\.0\.mlp") as caught:
        open_start_weights(tmp_path / "start", model, layout_of(model))
    assert "experts one by one" in caught.value.hint


def _refused(folder: Path, model: PreTrainedModel, layout: Any) -> SfError:
    with pytest.raises((ModelError, RunError)) as caught:
        open_start_weights(folder, model, layout)
    return caught.value


def test_missing_tensor_is_named(llama: tuple[PreTrainedModel, Path], layout_of: Any) -> None:
    model, folder = llama
    lost = "model.layers.1.mlp.up_proj.weight"
    _rewrite(folder / SINGLE, lambda key: None if key == lost else key)
    error = _refused(folder, model, layout_of(model))
    assert str(folder) in error.message
    assert f"no tensor '{lost}'" in error.message
    assert "(1 of" in error.message


def test_another_shape_is_named_with_both(
    make_model: Any, llama: tuple[PreTrainedModel, Path], layout_of: Any
) -> None:
    _, folder = llama
    model = make_model("llama", intermediate_size=24)
    error = _refused(folder, model, layout_of(model))
    assert error.message.startswith(f"{folder / SINGLE}: tensor 'model.layers.0.mlp.")
    assert "40 × 16" in error.message
    assert "24 × 16" in error.message


@pytest.mark.parametrize("stored", [1, 3])
def test_another_number_of_blocks_is_refused(
    stored: int, make_model: Any, tmp_path: Path, layout_of: Any
) -> None:
    make_model("llama", blocks=stored).save_pretrained(tmp_path / "start")
    model = make_model("llama", blocks=2)
    error = _refused(tmp_path / "start", model, layout_of(model))
    assert f"model.layers.{min(stored, 2)}." in error.message
    assert "the very model" in error.hint


def test_quantized_tensor_is_refused(llama: tuple[PreTrainedModel, Path], layout_of: Any) -> None:
    model, folder = llama
    tensors = load_file(folder / SINGLE)
    tensors["lm_head.weight"] = tensors["lm_head.weight"].to(torch.int8)
    save_file(tensors, folder / SINGLE)
    error = _refused(folder, model, layout_of(model))
    assert "'lm_head.weight' is stored as I8" in error.message


def test_pickled_weights_are_never_opened(
    llama: tuple[PreTrainedModel, Path], layout_of: Any
) -> None:
    model, folder = llama
    (folder / SINGLE).unlink()
    torch.save(model.state_dict(), folder / "pytorch_model.bin")
    error = _refused(folder, model, layout_of(model))
    assert error.message == f"{folder}: no {SINGLE} in it"
    assert "pickled" in error.hint
    # Nor under a name that promises something else.
    (folder / "pytorch_model.bin").rename(folder / SINGLE)
    error = _refused(folder, model, layout_of(model))
    assert error.message.startswith(f"{folder / SINGLE}: can't be read")


@pytest.mark.parametrize(
    ("there", "hint"),
    [
        ("adapter_model.safetensors", "a LoRA adapter"),
        ("weights.gguf", "GGUF"),
        ("model/model.safetensors", "did you mean"),
        ("README.md", "the weights are missing"),
    ],
)
def test_directory_without_weights_says_what_it_has_instead(
    there: str, hint: str, make_model: Any, tmp_path: Path, layout_of: Any
) -> None:
    model = make_model("llama")
    (tmp_path / "start" / there).parent.mkdir(parents=True)
    (tmp_path / "start" / there).touch()
    error = _refused(tmp_path / "start", model, layout_of(model))
    assert f"no {SINGLE}" in error.message
    assert hint in error.hint


def test_place_that_is_no_directory_is_told_so(
    make_model: Any, tmp_path: Path, layout_of: Any
) -> None:
    model = make_model("llama")
    assert "no such directory" in _refused(tmp_path / "none", model, layout_of(model)).message
    (tmp_path / "file").touch()
    assert "not a directory" in _refused(tmp_path / "file", model, layout_of(model)).message


@pytest.mark.parametrize("length", [0, 5, 300, -10])
def test_damaged_file_is_named(
    length: int, llama: tuple[PreTrainedModel, Path], layout_of: Any
) -> None:
    model, folder = llama
    whole = (folder / SINGLE).read_bytes()
    (folder / SINGLE).write_bytes(whole[:length])
    error = _refused(folder, model, layout_of(model))
    assert error.message.startswith(f"{folder / SINGLE}: can't be read")


@pytest.mark.parametrize("content", ["", "[]", '{"weight_map": 3}', '{"weight_map": {"a": 1}}'])
def test_index_that_is_none_is_named(
    content: str, llama: tuple[PreTrainedModel, Path], layout_of: Any
) -> None:
    model, folder = llama
    (folder / SINGLE).unlink()
    (folder / INDEX).write_text(content)
    error = _refused(folder, model, layout_of(model))
    assert error.message.startswith(f"{folder / INDEX}: ")


def test_missing_shard_is_named(make_model: Any, tmp_path: Path, layout_of: Any) -> None:
    model = make_model("llama")
    model.save_pretrained(tmp_path / "start", max_shard_size="8KB")
    named = json.loads((tmp_path / "start" / INDEX).read_text())["weight_map"]
    gone = tmp_path / "start" / named["lm_head.weight"]
    gone.unlink()
    assert str(gone) in _refused(tmp_path / "start", model, layout_of(model)).message


def test_checkpoint_that_was_never_finished_is_refused(
    make_model: Any, keep_start: Any, layout_of: Any
) -> None:
    model = make_model("llama")
    folder = keep_start(model).folder
    (folder / "state.json").unlink()
    error = _refused(folder, model, layout_of(model))
    assert isinstance(error, RunError)
    assert "never finished" in error.message


def test_checkpoint_of_another_model_is_refused(
    make_model: Any, keep_start: Any, layout_of: Any
) -> None:
    folder = keep_start(make_model("llama")).folder
    deeper, other = make_model("llama", blocks=3), make_model("gpt_neox")
    assert "block-2.safetensors" in _refused(folder, deeper, layout_of(deeper)).message
    assert "no tensor 'gpt_neox." in _refused(folder, other, layout_of(other)).message
    shutil.copy(layer_file(folder, "block-1"), layer_file(folder, "block-2"))
    model = make_model("llama")
    error = _refused(folder, model, layout_of(model))
    assert error.message.startswith(f"{layer_file(folder, 'block-2')}: a layer that the model")


def test_damaged_layer_of_a_checkpoint_is_named(
    make_model: Any, keep_start: Any, layout_of: Any
) -> None:
    model = make_model("llama")
    folder = keep_start(model).folder
    path = layer_file(folder, "embeddings")
    path.write_bytes(path.read_bytes()[:-1])
    assert f"{path}: damaged" in _refused(folder, model, layout_of(model)).message
