"""A model's files without the model: its tokenizer, its config.json, and readable errors.

A model directory is external input. Its faults surface as any exception that transformers,
tokenizers, safetensors or torch can raise; they become one `ModelError` here. Loads no weights,
never imports torch, and imports transformers only when needed.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sf_tui.errors import ModelError, SfError
from sf_tui.tasks.reading import shown_path

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


STARTER = "starter:"

_ADAPTER_CONFIG = "adapter_config.json"
_ADAPTER_FILES = (_ADAPTER_CONFIG, "adapter_model.*")


def load_tokenizer(
    source: str,
    base_dir: Path,
    *,
    revision: str | None = None,
    trust_remote_code: bool = False,
) -> PreTrainedTokenizerBase:
    """Load the tokenizer of a model.

    Args:
        source: a model directory, a GGUF file, a hub id, `starter:NAME`, or `biography`.
        base_dir: directory that relative paths start from.
        revision: branch, tag or commit of a hub id.
        trust_remote_code: run code that comes with the tokenizer.

    Raises:
        ModelError: it can't be loaded; the message names the source.
    """
    if source == "biography":
        # Deferred: only this source needs the generator's words.
        from sf_tui.tasks.biography import build_tokenizer

        return build_tokenizer()
    if source.startswith(STARTER):
        # Deferred: only this source needs the paths of the starters.
        from sf_tui.profile import starter_directory

        source = str(starter_directory(source.removeprefix(STARTER)))
    place = base_dir / Path(source).expanduser()
    options: dict[str, Any] = {"revision": revision or "main"}
    name = source
    if source.lower().endswith(".gguf"):
        if not place.is_file():
            raise ModelError(f"{shown_path(place)}: no such file", "name the .gguf file itself")
        name, options = str(place.parent), {"gguf_file": place.name}
    elif place.is_dir():
        name, options = str(place), {"local_files_only": True}
    elif place.exists():
        raise ModelError(
            f"{shown_path(place)}: a file; a model is a directory or a .gguf file",
            f"did you mean its folder {shown_path(place.parent)}?",
        )
    elif source.startswith((".", "/", "~")) or source.count("/") > 1:
        raise ModelError(f"{shown_path(place)}: no such directory", "check the path")
    # Deferred: takes seconds, so only after all other checks.
    from transformers import AutoTokenizer
    from transformers.utils import logging

    logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    with model_faults(lambda error: _no_tokenizer(source, place, error)):
        if place.is_dir() and (place / CONFIG).is_file():
            # transformers also reads it, to find the tokenizer's class.
            read_model_config(place / CONFIG)
        loaded: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(
            name, trust_remote_code=trust_remote_code, **options
        )
    return loaded


def tokenizer_in(folder: Path) -> bool:
    """Return whether a directory holds a tokenizer."""
    names = ("tokenizer.json", "tokenizer.model", "vocab.json")
    return any((folder / name).is_file() for name in names)


def describe_adapter(folder: Path) -> str | None:
    """Describe a directory's adapter, such as `a LoRA adapter for BASE`; None if it has none.

    Also looks one folder below, where trainers often write adapters.
    """
    for place in (folder, *_subfolders(folder)):
        found = [path for pattern in _ADAPTER_FILES for path in place.glob(pattern)]
        if found:
            return _adapter_in(place, found[0].relative_to(folder))
    return None


def adapter_alone(source: str, adapter: str) -> ModelError:
    """Build the error for an adapter where a model is asked for.

    Args:
        source: what was asked for.
        adapter: from `describe_adapter`.
    """
    return ModelError(f"{source}: it is {adapter}, not a model", MERGE_FIRST)


MERGE_FIRST = (
    "to go on training it, name its base in [model] and the adapter in [adapter] source; or merge "
    "it into its base: `sf merge ADAPTER --out DIR`, then name DIR"
)


def _adapter_in(place: Path, found: Path) -> str:
    kind, base = "LoRA", ""
    config = place / _ADAPTER_CONFIG
    if config.is_file():
        content = read_model_config(config)
        kind = str(content.get("peft_type") or kind)
        base = str(content.get("base_model_name_or_path") or "")
    kind = "LoRA" if kind.upper() == "LORA" else kind[:40]
    return f"a {kind} adapter{f' for {base[:200]}' if base else ''} ({found})"


def _subfolders(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_dir()) if folder.is_dir() else []


def _no_tokenizer(source: str, place: Path, error: BaseException) -> ModelError:
    adapter = None if (place / CONFIG).is_file() else describe_adapter(place)
    if adapter is not None:
        return adapter_alone(source, adapter)
    message = f"{source}: no tokenizer can be loaded: {first_line(error)}"
    # transformers' message if the tokenizer needs code that it may not run.
    if "trust_remote_code" in str(error):
        return ModelError(
            f"{source}: its tokenizer is code of its own, which sf doesn't run without "
            "trust_remote_code",
            TRUST_HINT,
        )
    return ModelError(
        message,
        "a model directory needs tokenizer.json; a hub id needs a network or a filled cache",
    )


CONFIG = "config.json"

MOST_BLOCKS = 10_000
"""More blocks than any real model has; transformers builds lists of this length from a config."""

DEEPEST = 100
"""Largest nesting depth of a config.json; real ones have four levels."""

_BLOCK_COUNTS = ("n_layer", "n_layers", "num_layers", "num_hidden_layers")

TRUST_HINT = (
    "[model] trust_remote_code = true runs that code with your rights: read it first, and name a "
    "[model] revision for a hub model"
)


def read_model_config(path: Path) -> dict[str, Any]:
    """Return the content of a config.json.

    Raises:
        ModelError: it is damaged, nested too deeply, or names more blocks than any model has.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(
            f"{path}: not JSON: {first_line(error)}", "download the file again"
        ) from error
    if not isinstance(content, dict):
        raise ModelError(
            f"{path}: a list or a value, not an object with a model_type",
            "is this a transformers model?",
        )
    for depth, key, value in _entries(content):
        if depth > DEEPEST:
            raise ModelError(f"{path}: it is nested too deeply", "download the file again")
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        if number and value > MOST_BLOCKS and key.endswith(_BLOCK_COUNTS):
            raise ModelError(
                f"{path}: {key} = {value}: no model has so many blocks", "download the file again"
            )
    return content


def refuse_own_code(source: str, path: Path, content: dict[str, Any], trusted: bool) -> None:
    """Refuse a config whose model class is code shipped with it, unless that code is trusted.

    Raises:
        ModelError: the config names code for a model type that transformers doesn't have.
    """
    named = content.get("auto_map")
    if trusted or not isinstance(named, dict) or not named:
        return
    # Deferred: transformers takes seconds, and most models name no code.
    from transformers.models.auto import configuration_auto

    known: Any = configuration_auto
    kind = content.get("model_type")
    if kind in known.CONFIG_MAPPING_NAMES:
        return
    raise ModelError(
        f"[model] {source}: {path.name} names code of its own ({_first_code(named)}), which sf "
        "doesn't run without trust_remote_code",
        TRUST_HINT,
    )


def _first_code(named: dict[str, Any]) -> str:
    code = next(iter(named.values()))
    # A tokenizer entry lists two classes, slow and fast.
    if isinstance(code, list):
        code = next((entry for entry in code if entry), "")
    return str(code)[:100]


def _entries(content: Any) -> Iterator[tuple[int, str, Any]]:
    """Yield (depth, key, value) of every entry in nested JSON, without recursion."""
    waiting: list[tuple[int, str, Any]] = [(0, "", content)]
    while waiting:
        depth, key, value = waiting.pop()
        yield depth, key, value
        if isinstance(value, dict):
            waiting += [(depth + 1, str(name), inner) for name, inner in value.items()]
        elif isinstance(value, list):
            waiting += [(depth + 1, "", inner) for inner in value]


LONGEST = 300
"""Number of characters quoted from a library's message."""


def first_line(error: BaseException) -> str:
    """Return the line of an exception's message that describes the fault."""
    if isinstance(error, RecursionError):
        return "it is nested too deeply"
    if isinstance(error, MemoryError):
        return "not enough memory"
    lines = str(error).strip().splitlines() or [type(error).__name__]
    # "Validation error for field 'hidden_size':" continues in the second line.
    message = " ".join(line.strip() for line in lines[: 1 + lines[0].endswith(":")])
    return message[:LONGEST]


@contextmanager
def model_faults(describe: Callable[[BaseException], ModelError]) -> Iterator[None]:
    """Turn any failure into a `ModelError`, except sf's own and those that end the process.

    Args:
        describe: makes the error from the exception.

    Raises:
        ModelError: the block raised anything but an `SfError`.
    """
    try:
        yield
    except SfError:
        raise
    except Exception as error:
        raise describe(error) from error
    except BaseException as error:
        # A panic in Rust code (tokenizers, safetensors) derives from BaseException.
        if type(error).__name__ != "PanicException":
            raise
        raise describe(error) from error
