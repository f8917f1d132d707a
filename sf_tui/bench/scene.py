"""The measured model and data: the starter with its own tasks, or any model on generated rows.

A scene is an ordinary profile; benchmarks set its steps, probes and checkpoints. Rows for models
without data are prompts and answers made of words from the model's own vocabulary. The answers
repeat words of their prompts, so that a model learns them in a few steps and exact match is not 0.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sf_tui.bench.shapes import RANDOM, SHAPES, write_random_model
from sf_tui.errors import ModelError
from sf_tui.profile import Profile, load_profile, parse_profile, starter_directory
from sf_tui.tasks.model_source import STARTER, load_tokenizer

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from sf_tui.engine.prepare import PreparedRun

STARTER_MODEL = "starter:biography-mini"
_STARTER_PROFILE = "biography-mini"

_TRAINED_ROWS = 256
_HELD_OUT_ROWS = 64
_OWN_BATCH_SIZE = 8

_OWN_PROFILE = """\
name = "bench"

[model]
source = {model}

[[tasks]]
name = "old"
data = "old.jsonl"
held_out = "old-held-out.jsonl"

[[tasks]]
name = "new"
data = "new.jsonl"
held_out = "new-held-out.jsonl"

[train]
learning_rate = 5e-5
batch_size = {batch_size}
"""


def is_starter(model: str) -> bool:
    """Return whether a model comes with its own data."""
    return model.startswith(STARTER)


def scene_facts(model: str, prepared: PreparedRun, stage: str, threads: int) -> dict[str, Any]:
    """Return what a report says first of a measured scene: model, machine and batch.

    Args:
        model: as it was given.
        prepared: the loaded scene.
        stage: the measured stage.
        threads: CPU threads.
    """
    return {
        "model": model,
        "parameters": prepared.layout.elements,
        "threads": threads,
        "device": str(prepared.compute.device),
        "batch size": prepared.profile.stage_train(stage).batch_size,
    }


def make_scene(
    model: str, folder: Path, *, batch_size: int | None, threads: int, settings: Mapping[str, Any]
) -> Profile:
    """Return a profile with one stage, `new`, which watches the task `old`.

    Args:
        model: `starter:NAME`, `random:SHAPE`, a directory or a .gguf file.
        folder: for the generated rows, random weights and the converted ones of a GGUF file.
        batch_size: examples per step; None: the scene's own.
        threads: CPU threads.
        settings: values of other keys by `table.key`; numbers only.

    Raises:
        ProfileError: the starter does not exist.
        ModelError: the model does not exist or can't be used.
    """
    if is_starter(model):
        starter_directory(model)
    elif model.startswith(RANDOM):
        model = write_random_model(model, folder / "model")
    elif not Path(model).exists():
        raise ModelError(
            f"--model {model}: no such directory or file",
            f"name a model directory, a .gguf file, {STARTER_MODEL}, or {RANDOM}SHAPE "
            f"({', '.join(SHAPES)})",
        )
    settings = {**settings, "train.threads": threads}
    if batch_size is not None:
        settings["train.batch_size"] = batch_size
    overrides = [f"{key}={value}" for key, value in settings.items()]
    if is_starter(model):
        return load_profile(_STARTER_PROFILE, [f'model.source="{model}"', *overrides])
    source = _plain_directory(model, folder) if model.lower().endswith(".gguf") else model
    words = own_words(load_tokenizer(source, Path.cwd()))
    for place, task in enumerate(("old", "new")):
        for part, count in (("", _TRAINED_ROWS), ("-held-out", _HELD_OUT_ROWS)):
            write_word_rows(
                folder / f"{task}{part}.jsonl",
                words,
                count,
                seed=2 * place + bool(part),
                from_end=task == "new",
            )
    text = _OWN_PROFILE.format(model=_toml_string(source), batch_size=_OWN_BATCH_SIZE)
    return parse_profile(text, base_dir=folder, overrides=overrides)


def _toml_string(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _plain_directory(model: str, folder: Path) -> str:
    """Convert a GGUF file to a model directory: reading GGUF takes twice the model's memory."""
    # Deferred: heavy, and only GGUF files need it.
    from sf_tui.engine.compute import choose_compute
    from sf_tui.engine.loading import load_model, save_model
    from sf_tui.profile import ModelSettings

    plain = folder / "model"
    compute = choose_compute("auto", None)
    loaded = load_model(ModelSettings(source=model), Path.cwd(), compute, seed=0)
    save_model(loaded, plain)
    return str(plain)


# BPE and SentencePiece vocabularies write the space before a word with these characters.
_SPACES = "Ġ▁"
_FEWEST_WORDS = 20
_PROMPT_WORDS = (6, 40)
# A prompt of 40 words has an answer of 6; a prompt of 6 words has an answer of 1.
_PROMPT_WORDS_AN_ANSWER_WORD = 6


def own_words(tokenizer: PreTrainedTokenizerBase) -> list[str]:
    """Return the plain words that are single tokens, in vocabulary order.

    Raises:
        ModelError: the tokenizer has too few of them.
    """
    vocabulary = tokenizer.get_vocab()
    marked = [token for token in vocabulary if token[0] in _SPACES]
    # A vocabulary without such marks splits words by other means.
    candidates = marked or [
        token for token in vocabulary if token not in tokenizer.all_special_tokens
    ]
    words = [
        (vocabulary[token], token.lstrip(_SPACES))
        for token in candidates
        if token.lstrip(_SPACES).isascii() and token.lstrip(_SPACES).isalpha()
    ]
    if len(words) < _FEWEST_WORDS:
        raise ModelError(
            f"the tokenizer has only {len(words)} plain words as tokens",
            "benchmark rows are made of such words; use a model with a text tokenizer",
        )
    return [word for _, word in sorted(words)]


def write_word_rows(
    path: Path, words: list[str], count: int, *, seed: int, from_end: bool = False
) -> None:
    """Write `count` rows of varying length as prompt/completion JSONL.

    Args:
        path: the file.
        words: the words to draw from.
        count: number of rows.
        seed: seed of the words and lengths.
        from_end: answers repeat the prompt's last words instead of its first.
    """
    random = np.random.default_rng(seed)
    lines = []
    for _ in range(count):
        length = int(random.integers(_PROMPT_WORDS[0], _PROMPT_WORDS[1] + 1))
        prompt = [words[at] for at in random.integers(len(words), size=length)]
        answer = length // _PROMPT_WORDS_AN_ANSWER_WORD
        repeated = prompt[-answer:] if from_end else prompt[:answer]
        row = {"prompt": " ".join(prompt), "completion": " " + " ".join(repeated)}
        lines.append(json.dumps(row) + "\n")
    path.write_text("".join(lines), encoding="utf-8")
