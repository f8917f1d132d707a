"""Finds the model that a finished training began with, from what its folder says."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sf_tui.engine.adapters.files import ADAPTER_CONFIG, adapter_place
from sf_tui.errors import ModelError, UsageError
from sf_tui.integrations.trainer_output import TrainerOutput
from sf_tui.printable import printable
from sf_tui.tasks.model_source import CONFIG, read_model_config

_HUB_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*/[A-Za-z0-9][A-Za-z0-9._-]*")


def named_base(output: TrainerOutput) -> str:
    """Return the base that the training's configuration names: a directory that exists, or an id.

    Adapters name it; whole models only if an older transformers wrote them.

    Raises:
        UsageError: none is named, or the one that is named can't be found.
    """
    key, named = _named(output)
    if not named:
        raise UsageError(
            f"{output.folder}: it doesn't say which model the training began with",
            "name it: --base MODEL (a directory or a hub id)",
        )
    shown = printable(named, multiline=False)[:200]
    for place in _places(named, output.folder):
        if place.is_dir():
            if _is_inside(place, output):
                raise UsageError(
                    f"{output.folder}: its {key} names '{shown}', which the training wrote itself",
                    "name the model that it began with: --base MODEL",
                )
            return str(place.absolute())
    if _HUB_ID.fullmatch(named):
        return named
    raise UsageError(
        f"{output.folder}: its {key} names '{shown}', and there is no such directory here",
        "name the model that the training began with: --base MODEL",
    )


def _named(output: TrainerOutput) -> tuple[str, str]:
    if output.is_adapter:
        name, key = ADAPTER_CONFIG, "base_model_name_or_path"
    else:
        name, key = CONFIG, "_name_or_path"
    for place in (output.saved[-1].folder, output.folder):
        holder = adapter_place(place) if output.is_adapter else place
        value: Any = _read(holder / name).get(key)
        if isinstance(value, str) and value.strip():
            return f"{name} ({key})", value.strip()
    return name, ""


def _read(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        return read_model_config(path)
    except ModelError as error:
        raise ModelError(
            error.message, "restore the file, or name the model: --base MODEL"
        ) from error


def _places(named: str, folder: Path) -> Iterator[Path]:
    """Yield where a path may lead: from here, and from the folders around the training's."""
    if "\0" in named:
        return
    path = Path(named)
    yield path
    if not path.is_absolute():
        yield from (above / path for above in folder.parents)


def _is_inside(place: Path, output: TrainerOutput) -> bool:
    return place.resolve().is_relative_to(output.folder.resolve())
