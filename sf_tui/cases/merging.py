"""Merges the adapter of a run or of a PEFT directory into the weights of its base."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from sf_tui.cases.host_adapter import kept_adapter
from sf_tui.cases.run_weights import RunRecord, load_newest
from sf_tui.engine.adapters.files import find_base, inspect_adapter
from sf_tui.engine.adapters.write import merge_adapter
from sf_tui.engine.compute import choose_compute
from sf_tui.engine.loading import LoadedModel, load_model
from sf_tui.errors import UsageError
from sf_tui.profile import ModelSettings
from sf_tui.profile.adapter_schema import AdapterSettings
from sf_tui.tasks.model_source import tokenizer_in


def merge_run(record: RunRecord) -> LoadedModel:
    """Return a run's model with its newest adapter merged.

    Raises:
        UsageError: the run trains no adapter.
        ModelError: the base can't be loaded, or the adapter can't be merged.
        RunError: the checkpoint can't be read.
    """
    adapter = kept_adapter(record.run) or record.profile.adapter
    if adapter is None:
        raise UsageError(
            f"{record.run.id}: it trained the weights themselves, so there is no adapter to merge",
            f"its model is {record.run.model}",
        )
    # Merged weights are whole, whatever the base was held in while the adapter trained.
    whole = adapter.model_copy(update={"quantize": "none"})
    profile = record.profile.model_copy(update={"adapter": whole})
    return _merged(load_newest(replace(record, profile=profile)).loaded)


def merge_directory(folder: Path, base: str | None) -> LoadedModel:
    """Return the base of an adapter directory with the adapter merged.

    Args:
        folder: the directory.
        base: the base as in `[model] source`; None for the one that the adapter names.

    Raises:
        ModelError: the adapter or its base can't be used.
    """
    files = inspect_adapter(folder)
    revision = files.config.get("revision")
    settings = ModelSettings(
        source=base or find_base(files),
        tokenizer=str(folder) if tokenizer_in(folder) else None,
        revision=revision if isinstance(revision, str) and base is None else None,
    )
    return _merged(
        load_model(
            settings,
            Path.cwd(),
            choose_compute(settings.dtype, None),
            seed=0,
            adapter=AdapterSettings(source=str(folder)),
        )
    )


def _merged(loaded: LoadedModel) -> LoadedModel:
    merge_adapter(loaded.model)
    return replace(loaded, base=None)
