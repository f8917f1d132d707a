"""An adapter directory that is not to be trusted, or does not fit, is refused by name."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from safetensors.torch import load_file, save_file

from sf_tui.cases.assemble import CaseOverrides, model_case, model_profile
from sf_tui.cases.merging import merge_directory
from sf_tui.cases.named_model import load_named
from sf_tui.cases.rows import CaseNeeds
from sf_tui.engine.adapters.files import find_base, inspect_adapter
from sf_tui.engine.compute import choose_compute
from sf_tui.engine.loading import load_model, save_model
from sf_tui.engine.weights import Snapshot
from sf_tui.errors import ModelError
from sf_tui.profile import ModelSettings
from sf_tui.profile.adapter_schema import AdapterSettings
from support.adapter_runs import logits_of, make_base, plain_model

Change = Callable[[dict[str, Any]], object]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_base(tmp_path_factory.mktemp("base") / "model")


@pytest.fixture(scope="module")
def written(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return an adapter directory as peft itself writes it."""
    config = peft.LoraConfig(
        r=2, target_modules=["q_proj", "down_proj"], init_lora_weights=False, task_type="CAUSAL_LM"
    )
    folder = tmp_path_factory.mktemp("adapter") / "adapter"
    peft.get_peft_model(plain_model(base), config).save_pretrained(str(folder))
    return folder


@pytest.fixture
def adapter(written: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(written, tmp_path / "adapter"))


def load(base: Path, adapter: Path | None, **settings: Any) -> Any:
    given = {"source": str(adapter)} if adapter is not None else {}
    return load_model(
        ModelSettings(source=str(base)),
        Path.cwd(),
        choose_compute("float32", 1),
        seed=3,
        adapter=AdapterSettings(**given, **settings),
    )


def set_config(adapter: Path, **values: Any) -> None:
    path = adapter / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def change_weights(adapter: Path, change: Change) -> None:
    path = adapter / "adapter_model.safetensors"
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path)


def test_pefts_own_directory_gives_pefts_own_outputs(base: Path, adapter: Path) -> None:
    theirs = peft.PeftModel.from_pretrained(plain_model(base), str(adapter))
    assert torch.equal(logits_of(load(base, adapter).model), logits_of(theirs))


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"peft_type": "PROMPT_TUNING"}, "changes the prompt"),
        ({"peft_type": "IA3"}, "type IA3"),
        ({"peft_type": None}, "type unknown"),
        ({"init_lora_weights": "pissa_niter_4"}, "base was changed"),
        ({"bias": "all"}, "biases"),
        ({"layer_replication": [[0, 2]]}, "layer_replication"),
        ({"trainable_token_indices": [1]}, "trainable_token_indices"),
    ],
)
def test_kind_that_cannot_be_turned_off_exactly_is_refused(
    adapter: Path, values: dict[str, Any], said: str
) -> None:
    set_config(adapter, **values)
    with pytest.raises(ModelError, match=said) as caught:
        inspect_adapter(adapter)
    assert caught.value.hint


def test_pickled_weights_are_never_opened(adapter: Path) -> None:
    (adapter / "adapter_model.safetensors").rename(adapter / "adapter_model.bin")
    with pytest.raises(ModelError, match=r"adapter_model\.bin") as caught:
        inspect_adapter(adapter)
    assert "pickled" in caught.value.hint
    (adapter / "adapter_model.bin").rename(adapter / "adapter_model.safetensors")
    torch.save({"a": torch.zeros(1)}, adapter / "adapter_model.safetensors")
    with pytest.raises(ModelError, match="can't be loaded") as caught:
        inspect_adapter(adapter)
    assert "pickle" in caught.value.hint


def q_proj(tensors: dict[str, Any]) -> str:
    return next(name for name in tensors if "q_proj.lora_A" in name)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda t: t[q_proj(t)].fill_(float("nan")), "not finite"),
        (lambda t: t.update({q_proj(t): torch.zeros(2, 5)}), "2 × 5.*needs 2 × 16"),
        (lambda t: t.pop(q_proj(t)), "no tensor"),
        (lambda t: t.update({"base_model.model.strange": torch.zeros(2)}), "strange"),
    ],
)
def test_tensor_that_does_not_fit_is_named(
    base: Path, adapter: Path, change: Change, said: str
) -> None:
    change_weights(adapter, change)
    with pytest.raises(ModelError, match=said) as caught:
        load(base, adapter)
    assert "adapter_model.safetensors" in caught.value.message
    assert "q_proj" in caught.value.message or "strange" in caught.value.message


def test_base_of_another_shape_is_refused_by_name(adapter: Path, tmp_path: Path) -> None:
    other = make_base(tmp_path / "wider", hidden_size=24, intermediate_size=40)
    with pytest.raises(ModelError, match=r"q_proj|down_proj"):
        load(other, adapter)


def test_base_is_found_by_absolute_and_relative_path_and_id(
    base: Path, adapter: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert find_base(inspect_adapter(adapter)) == str(base)
    (adapter.parent / "beside").symlink_to(base)
    set_config(adapter, base_model_name_or_path="../beside")
    assert Path(find_base(inspect_adapter(adapter))).samefile(base)
    here = tmp_path / "here"
    here.mkdir()
    (here / "own-base").symlink_to(base)
    monkeypatch.chdir(here)
    set_config(adapter, base_model_name_or_path="own-base")
    assert Path(find_base(inspect_adapter(adapter))).samefile(base)
    set_config(adapter, base_model_name_or_path="org/model")
    assert find_base(inspect_adapter(adapter)) == "org/model"


@pytest.mark.parametrize("named", [None, "", "/no/such/base", "./gone"])
def test_missing_base_is_refused_with_the_way_to_name_it(adapter: Path, named: str | None) -> None:
    set_config(adapter, base_model_name_or_path=named)
    with pytest.raises(ModelError, match="base") as caught:
        find_base(inspect_adapter(adapter))
    assert "--set model.source=" in caught.value.hint


def test_moved_base_is_named_by_a_setting(base: Path, adapter: Path, tmp_path: Path) -> None:
    set_config(adapter, base_model_name_or_path="/no/such/base")
    data = tmp_path / "rows.jsonl"
    data.write_text('{"prompt": "a", "completion": "b"}\n' * 3)
    overrides = CaseOverrides(old=str(data))
    profile = model_profile(str(adapter), overrides, [f"model.source={base}"])
    assert profile.model.source == str(base)
    assert profile.adapter is not None
    assert profile.adapter.source == str(adapter)


def test_start_of_a_fresh_adapter_that_is_no_identity_is_its_base(
    base: Path, adapter: Path
) -> None:
    overrides = CaseOverrides(old="biography:old")
    small = ["biography.people=6", "biography.new_people=3", "diagnose.time=0"]
    profile = model_profile(str(adapter), overrides, small)
    case = model_case(profile, CaseNeeds(0, scores_needed=False), overrides).case
    now = Snapshot(case.layout)
    on = logits_of(case.model)
    assert case.start is not None
    case.start.load_into(case.layout)
    assert torch.equal(logits_of(case.model), logits_of(plain_model(base)))
    now.restore()
    assert torch.equal(logits_of(case.model), on)
    assert not torch.allclose(on, logits_of(plain_model(base)))


@pytest.mark.parametrize(
    ("whole", "named", "rate"),
    [
        pytest.param(False, [], 1e-4, id="adapter"),
        pytest.param(False, ["train.learning_rate=2e-3"], 2e-3, id="adapter-named"),
        pytest.param(True, [], 1e-5, id="whole"),
    ],
)
def test_rate_of_an_unknown_stage_is_usual_for_what_trained(
    base: Path, adapter: Path, whole: bool, named: list[str], rate: float
) -> None:
    overrides = CaseOverrides(old="biography:old")
    small = ["biography.people=6", "biography.new_people=3", *named]
    profile = model_profile(str(base if whole else adapter), overrides, small)
    case = model_case(profile, CaseNeeds(0, scores_needed=False), overrides).case
    assert case.learning_rate == pytest.approx(rate)
    assert case.trains_adapter is not whole


def test_new_adapter_is_a_pure_function_of_the_seed(base: Path) -> None:
    first, second = load(base, None, r=2), load(base, None, r=2)
    torch.manual_seed(99)
    third = load(base, None, r=2)
    for one in (second, third):
        assert one.layout.stored == first.layout.stored
        for ours, theirs in zip(
            first.layout.trainable_parameters, one.layout.trainable_parameters, strict=True
        ):
            assert torch.equal(ours, theirs)
    assert torch.equal(logits_of(first.model), logits_of(plain_model(base)))


def test_unknown_target_is_refused_with_the_nearest(base: Path) -> None:
    with pytest.raises(ModelError, match="'q_porj'") as caught:
        load(base, None, targets=["q_porj", "v_proj"])
    assert "q_proj" in caught.value.hint


@pytest.mark.parametrize("more", [{"dora": True}, {"rslora": True, "alpha": 4.0}, {"r": 3}])
def test_written_directory_gives_the_same_outputs_in_peft_and_merged(
    base: Path, tmp_path: Path, more: dict[str, Any]
) -> None:
    loaded = load(base, None, **more)
    for parameter in loaded.layout.trainable_parameters:
        parameter.data.add_(0.05)
    save_model(loaded, tmp_path / "out")
    theirs = peft.PeftModel.from_pretrained(plain_model(base), str(tmp_path / "out"))
    assert torch.equal(logits_of(loaded.model), logits_of(theirs))
    merged = merge_directory(tmp_path / "out", None)
    assert torch.allclose(logits_of(merged.model), logits_of(theirs), atol=1e-5)


def save_named(base: Path, folder: Path, *names: str) -> Any:
    """Write adapters of one model as peft does: each in a folder of its name."""
    config = peft.LoraConfig(
        r=2, target_modules=["q_proj"], init_lora_weights=False, task_type="CAUSAL_LM"
    )
    model = peft.get_peft_model(plain_model(base), config, names[0])
    for name in names[1:]:
        model.add_adapter(name, config)
    model.save_pretrained(str(folder))
    return model


def test_adapter_with_a_name_of_its_own_is_found_one_folder_below(
    base: Path, tmp_path: Path
) -> None:
    theirs = save_named(base, tmp_path / "out", "policy")
    assert not (tmp_path / "out" / "adapter_config.json").exists()
    loaded, _ = load_named(str(tmp_path / "out"))
    assert torch.equal(logits_of(loaded.model), logits_of(theirs))
    merged = merge_directory(tmp_path / "out", None)
    assert torch.allclose(logits_of(merged.model), logits_of(theirs), atol=1e-5)


def test_one_of_several_adapters_has_to_be_named(base: Path, tmp_path: Path) -> None:
    theirs = save_named(base, tmp_path / "out", "policy", "judge")
    with pytest.raises(ModelError, match=r"several adapters in it: judge, policy") as caught:
        load_named(str(tmp_path / "out"))
    assert str(tmp_path / "out" / "judge") in caught.value.hint
    loaded, _ = load_named(str(tmp_path / "out" / "policy"))
    assert torch.equal(logits_of(loaded.model), logits_of(theirs))


def test_adapter_below_a_whole_model_is_not_taken_for_either(base: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(base, tmp_path / "model"))
    save_named(base, folder, "policy")
    with pytest.raises(ModelError, match="which of them is meant is unclear"):
        load_named(str(folder))


def test_tied_embeddings_with_an_adapter_are_not_merged(tmp_path: Path) -> None:
    base = make_base(tmp_path / "tied", tie_word_embeddings=True)
    config = peft.LoraConfig(r=2, target_modules=["embed_tokens"], task_type="CAUSAL_LM")
    peft.get_peft_model(plain_model(base), config).save_pretrained(str(tmp_path / "adapter"))
    with pytest.raises(ModelError, match="tied"):
        merge_directory(tmp_path / "adapter", None)
