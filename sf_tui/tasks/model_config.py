"""Reads a model directory's config.json as plain JSON and refuses what no library gets over.

Knows which values make transformers build without an end. Knows no architecture, and needs
neither torch nor transformers until a model asks for code of its own.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sf_tui.errors import ModelError
from sf_tui.tasks.source_faults import first_line

CONFIG = "config.json"

MOST_BLOCKS = 10_000
"""More blocks than any model has; transformers makes lists of this length from a config alone."""

DEEPEST = 100
"""Levels of nesting in a config.json; real ones have four."""

_BLOCK_COUNTS = ("n_layer", "n_layers", "num_layers", "num_hidden_layers")

TRUST_HINT = (
    "[model] trust_remote_code = true runs that code with your rights: read it first, and name a "
    "[model] revision for a hub model"
)


def read_model_config(path: Path) -> dict[str, Any]:
    """Return the content of a config.json.

    Raises:
        ModelError: it is damaged, nested too deeply, or counts more blocks than any model has.
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
    """Refuse a config whose model only exists as code that comes with it, unless that is trusted.

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
    # A tokenizer has two, for its slow and its fast form.
    if isinstance(code, list):
        code = next((entry for entry in code if entry), "")
    return str(code)[:100]


def _entries(content: Any) -> Iterator[tuple[int, str, Any]]:
    """Walk through nested JSON without recursion: (depth, key, value) of every entry."""
    waiting: list[tuple[int, str, Any]] = [(0, "", content)]
    while waiting:
        depth, key, value = waiting.pop()
        yield depth, key, value
        if isinstance(value, dict):
            waiting += [(depth + 1, str(name), inner) for name, inner in value.items()]
        elif isinstance(value, list):
            waiting += [(depth + 1, "", inner) for inner in value]
