from __future__ import annotations

from pathlib import Path

import pytest
from transformers import PreTrainedTokenizerFast

from sf_tui.errors import ModelError
from sf_tui.tasks.model_source import load_tokenizer


def test_a_tokenizer_is_loaded_from_its_directory(
    chat_tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    chat_tokenizer.save_pretrained(tmp_path / "model")
    loaded = load_tokenizer("model", tmp_path)
    text = "The capital of France is Paris.<|im_end|>"
    assert loaded.encode(text) == chat_tokenizer.encode(text)
    assert loaded.chat_template == chat_tokenizer.chat_template


def test_the_experiments_own_tokenizer_goes_by_its_name(tmp_path: Path) -> None:
    assert load_tokenizer("biography", tmp_path).eos_token == "<eos>"


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("./missing", "no such directory"),
        ("model.gguf", "no such file"),
        ("a-file", "a file; a model is a directory"),
        ("empty", "no tokenizer can be loaded"),
        ("broken", "no tokenizer can be loaded"),
        ("adapter", "it is a LoRA adapter for ./base .adapter_config.json., not a model"),
    ],
)
def test_what_holds_no_tokenizer_is_refused(tmp_path: Path, source: str, message: str) -> None:
    (tmp_path / "a-file").write_text("x")
    (tmp_path / "empty").mkdir()
    (tmp_path / "adapter").mkdir()
    config = '{"peft_type": "LORA", "base_model_name_or_path": "./base"}'
    (tmp_path / "adapter" / "adapter_config.json").write_text(config)
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "tokenizer.json").write_text("{")
    with pytest.raises(ModelError, match=message) as caught:
        load_tokenizer(source, tmp_path)
    assert source.removeprefix("./") in caught.value.message
    assert caught.value.hint
