"""The adapter that another program trains, kept in its run so that the run can be loaded again.

`host/adapter` is a PEFT directory with the adapter as it was when the watching began: its
configuration rebuilds the layers, whatever peft can write there, and the run's checkpoints hold
their later weights.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sf_tui.engine.adapters.files import ADAPTER_CONFIG, inspect_adapter
from sf_tui.engine.adapters.layers import find_adapters
from sf_tui.engine.adapters.write import write_adapter
from sf_tui.errors import ModelError
from sf_tui.profile.adapter_schema import AdapterSettings
from sf_tui.run.directory import RunDirectory

_MERGED = (
    "diagnose the model that the training wrote, merged into its base with peft: "
    "sf diagnose DIR --old FILE --start-model BASE"
)


def keep_adapter(run: RunDirectory, model: Any, base: str) -> None:
    """Write the adapter of a host's model into the run, as the training begins.

    A model without an adapter writes nothing.

    Args:
        run: the new run.
        model: the host's bare model.
        base: directory or hub id of its base.

    Raises:
        OSError: it can't be written.
        ModelError: more than one adapter is in use, or it is merged into the weights.
    """
    adapters = find_adapters(model)
    if adapters is None or adapters.trained not in (getattr(model, "peft_config", None) or {}):
        return
    folder = _folder(run)
    folder.mkdir(parents=True, exist_ok=True)
    write_adapter(model, folder, base, None)


def kept_adapter(run: RunDirectory) -> AdapterSettings | None:
    """Return the `[adapter]` that loads the adapter of a host's run; None if it has none.

    Raises:
        ModelError: it is of a kind that can't be put on its base again.
    """
    folder = _folder(run)
    if not (folder / ADAPTER_CONFIG).is_file():
        return None
    try:
        inspect_adapter(folder)
    except ModelError as error:
        raise ModelError(
            f"{run.id}: its adapter can't be put on its base again: {error.message}", _MERGED
        ) from error
    return AdapterSettings(source=str(folder))


def _folder(run: RunDirectory) -> Path:
    return run.host / "adapter"
