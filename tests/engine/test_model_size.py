"""A model larger than the machine is refused before it is built, by the key that makes it so."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from sf_tui.engine.compute import choose_compute
from sf_tui.engine.loading import load_model
from sf_tui.engine.random_model import refuse_random_size
from sf_tui.errors import ModelError
from sf_tui.profile import ModelSettings

GPT2 = {"model_type": "gpt2", "n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 64}
LLAMA = {
    "model_type": "llama",
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
}
QWEN2 = {**LLAMA, "model_type": "qwen2"}
MIXTRAL = {**LLAMA, "model_type": "mixtral", "num_key_value_heads": 2}


def built(config: dict[str, Any]) -> Any:
    settings = ModelSettings(source="random", config=config)
    return load_model(settings, Path(), choose_compute("auto", None), seed=0).model


@pytest.mark.parametrize(
    ("config", "key", "value"),
    [
        (GPT2, "n_layer", 10**9),
        (GPT2, "n_embd", 10**9),
        (GPT2, "n_positions", 10**12),
        (GPT2, "vocab_size", 10**12),
        (GPT2, "n_inner", 10**18),
        (LLAMA, "num_hidden_layers", 10**9),
        (LLAMA, "hidden_size", 10**9),
        (LLAMA, "intermediate_size", 10**12),
        (LLAMA, "head_dim", 10**12),
        (LLAMA, "vocab_size", 10**18),
        (QWEN2, "num_hidden_layers", 10**9),
        (MIXTRAL, "num_local_experts", 10**9),
    ],
)
def test_absurd_size_is_refused_by_its_key(config: dict[str, Any], key: str, value: int) -> None:
    with pytest.raises(ModelError) as caught:
        built({**config, key: value})
    assert f"{key} = {value:,}" in caught.value.message


def test_message_compares_what_it_needs_with_the_machine() -> None:
    with pytest.raises(ModelError, match=r"[\d,]+ weights need [\d,.]+ TB, this machine has "):
        built({**LLAMA, "vocab_size": 10**12})


def test_deep_model_is_counted_from_a_few_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    found = []
    monkeypatch.setattr(
        "sf_tui.engine.random_model.refuse_memory",
        lambda _where, weights, _size: found.append(weights),
    )
    for layers in (32, 40):
        model = built({**GPT2, "n_layer": layers})
        held = [*model.parameters(), *model.buffers()]
        assert found[-1] == sum(tensor.numel() for tensor in held)


def test_the_same_config_is_counted_once() -> None:
    built = []

    def build(config: Any) -> Any:
        from transformers import GPT2LMHeadModel

        built.append(config)
        return GPT2LMHeadModel(config)

    for width in (24, 24, 36):
        refuse_random_size({"n_embd": width}, lambda keys: _config(**keys), build)
    assert [config.n_embd for config in built] == [24, 36]


def test_other_faults_stay_what_they_are() -> None:
    with pytest.raises(RuntimeError, match="otherwise"):
        refuse_random_size({}, lambda _keys: _config(), _fail)


def _config(**sizes: int) -> Any:
    from transformers import GPT2Config

    return GPT2Config(**sizes)


def _fail(_config: Any) -> Any:
    raise RuntimeError("otherwise")
