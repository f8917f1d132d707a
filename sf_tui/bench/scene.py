"""What is measured: the starter in its own scene, or any model on rows of its own words.

A scene is a profile like any other; benchmarks set steps, probes and checkpoints as they need.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sf_tui.bench.word_rows import own_words, write_word_rows
from sf_tui.errors import ModelError
from sf_tui.profile import Profile, load_profile, parse_profile, starter_directory
from sf_tui.tasks.model_source import STARTER, load_tokenizer

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
    """Tell whether a model comes with data of its own."""
    return model.startswith(STARTER)


def make_scene(
    model: str, folder: Path, *, batch_size: int | None, threads: int, settings: Mapping[str, Any]
) -> Profile:
    """Return a profile with one stage, `new`, in which the task `old` is watched.

    Args:
        model: `starter:NAME`, a directory or a .gguf file.
        folder: where rows of the model's own words go, and a GGUF file's weights as a directory.
        batch_size: examples a step; None for the scene's own.
        threads: CPU threads.
        settings: further `table.key` settings by their values; numbers only.

    Raises:
        ProfileError: there is no such starter.
        ModelError: there is no such model, or it can't be used.
    """
    if is_starter(model):
        starter_directory(model)
    elif not Path(model).exists():
        raise ModelError(
            f"--model {model}: no such directory or file",
            f"name a model directory, a .gguf file, or {STARTER_MODEL}",
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
    """Write a GGUF file's weights as a directory: reading it takes twice the model's memory."""
    # Heavy, and only GGUF files need it.
    from sf_tui.engine.compute import choose_compute
    from sf_tui.engine.loading import load_model, save_model
    from sf_tui.profile import ModelSettings

    plain = folder / "model"
    compute = choose_compute("auto", None)
    loaded = load_model(ModelSettings(source=model), Path.cwd(), compute, seed=0)
    save_model(loaded, plain)
    return str(plain)
