"""Small real tokenizers, made on the spot: no network, no model."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

SENTENCES = [
    "The capital city of France is Paris and the capital of Italy is Rome.",
    "Who wrote the book? The user asked and the assistant answered: it was Ada.",
    "system user assistant tool You are a helpful assistant.",
    "1 2 3 4 5 6 7 8 9 0 + = . , ? ! : ; ( ) [ ] { } \" '",
]

CHATML = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


def _byte_level(special: list[str]) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=500,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(SENTENCES * 3, trainer)
    return tokenizer


@pytest.fixture(scope="session")
def byte_level() -> Tokenizer:
    return _byte_level(["<|endoftext|>", "<|im_start|>", "<|im_end|>"])


@pytest.fixture
def chat_tokenizer(byte_level: Tokenizer) -> PreTrainedTokenizerFast:
    """Byte-level BPE with a ChatML template, as SmolLM2 and Qwen have."""
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=byte_level,
        eos_token="<|im_end|>",
        bos_token="<|im_start|>",
        pad_token="<|endoftext|>",
    )
    tokenizer.chat_template = CHATML
    return tokenizer


@pytest.fixture
def plain_tokenizer(byte_level: Tokenizer) -> PreTrainedTokenizerFast:
    """Byte-level BPE without a template and without a token of its own at the start."""
    return PreTrainedTokenizerFast(tokenizer_object=byte_level, eos_token="<|endoftext|>")


@pytest.fixture
def metaspace_tokenizer() -> PreTrainedTokenizerFast:
    """As Llama 2 has it: a space opens every text, and so does a start token."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always", split=False)
    tokenizer.decoder = decoders.Metaspace(prepend_scheme="always", split=False)
    trainer = trainers.BpeTrainer(
        vocab_size=400, special_tokens=["<unk>", "<s>", "</s>"], show_progress=False
    )
    tokenizer.train_from_iterator([*SENTENCES, "\n", "a\nb"], trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", tokenizer.token_to_id("<s>"))]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", unk_token="<unk>"
    )


@pytest.fixture
def settings() -> Callable[..., Any]:
    """Make what a profile says of one task's data."""

    def make(data: str, **given: Any) -> SimpleNamespace:
        defaults: dict[str, Any] = {
            "name": "new",
            "data": data,
            "held_out": None,
            "group": None,
            "fields": {},
            "on_bad_row": "error",
            "split": None,
            "subset": None,
        }
        return SimpleNamespace(**(defaults | given))

    return make


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str | bytes], Path]:
    """Write a file into an empty working directory, where places are told by name alone."""
    monkeypatch.chdir(tmp_path)

    def write_file(name: str, content: str | bytes) -> Path:
        path = tmp_path / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    return write_file
