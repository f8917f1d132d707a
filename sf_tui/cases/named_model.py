"""A model that is named on the command line: a model or an adapter directory."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import tomli

from sf_tui.engine.adapters.files import find_base, inspect_adapter, is_adapter
from sf_tui.engine.compute import ComputeSetting, choose_compute
from sf_tui.engine.loading import LoadedModel, load_model
from sf_tui.home import user_path
from sf_tui.profile import ModelSettings
from sf_tui.profile.adapter_schema import AdapterSettings
from sf_tui.profile.values import toml_value
from sf_tui.tasks.model_source import tokenizer_in

LONGEST = 4096

_BASE_KEY = "model.source="


def model_tables(source: str, settings: Sequence[str]) -> list[str]:
    """Return the lines of `[model]`, and of `[adapter]` if the source is an adapter directory.

    The base of an adapter is the one that its configuration names, unless a setting names another.

    Args:
        source: as `[model] source`, or an adapter directory.
        settings: `table.key=value` texts that are applied to the profile afterwards.

    Raises:
        ModelError: the adapter can't be used, or its base doesn't exist.
    """
    folder = user_path(source)
    if not folder.is_dir() or not is_adapter(folder):
        return ["[model]", f"source = {toml_value(source, LONGEST)}"]
    folder = Path.cwd() / folder
    files = inspect_adapter(folder)
    # A setting replaces the value here, which then needn't exist.
    named = any(text.replace(" ", "").startswith(_BASE_KEY) for text in settings)
    lines = [
        "[model]",
        f"source = {toml_value('replaced' if named else find_base(files), LONGEST)}",
    ]
    revision = files.config.get("revision")
    if isinstance(revision, str) and not named:
        lines.append(f"revision = {toml_value(revision, LONGEST)}")
    if tokenizer_in(folder):
        lines.append(f"tokenizer = {toml_value(str(folder), LONGEST)}")
    return [*lines, "[adapter]", f"source = {toml_value(str(folder), LONGEST)}"]


def load_named(source: str) -> tuple[LoadedModel, ComputeSetting]:
    """Load a model that is named on the command line, without any data.

    Args:
        source: as `[model] source`, or an adapter directory.

    Raises:
        ModelError: it can't be loaded.
    """
    tables = tomli.loads("\n".join(model_tables(source, ())))
    settings = ModelSettings(**tables["model"])
    adapter = AdapterSettings(**tables["adapter"]) if "adapter" in tables else None
    compute = choose_compute(settings.dtype, None)
    loaded = load_model(
        settings, Path.cwd(), compute, seed=0, gradient_checkpointing=False, adapter=adapter
    )
    return loaded, compute
