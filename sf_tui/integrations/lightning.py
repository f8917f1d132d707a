"""Watches a training of Lightning: `Trainer(callbacks=[SfLightning(old="old.jsonl")])`.

`factory` is an entry point: Lightning calls it for every Trainer wherever `sf` is installed. It
returns nothing unless the environment variable SF_LIGHTNING is set.
"""

from __future__ import annotations

import os
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sf_tui.integrations.bare_loop import Watch
    from sf_tui.integrations.host_profile import Old


def factory() -> list[Any]:
    """Return the callback for a Trainer of the package `lightning` if SF_LIGHTNING is set.

    Raises:
        SfError: a file doesn't exist, or the profile has mistakes.
    """
    return _asked_for("lightning.pytorch")


def pytorch_lightning_factory() -> list[Any]:
    """Return the callback for a Trainer of the package `pytorch_lightning`, as `factory`."""
    return _asked_for("pytorch_lightning")


def _asked_for(package: str) -> list[Any]:
    if not os.environ.get("SF_LIGHTNING"):
        return []
    # Deferred: whoever has not asked shall import nothing.
    from importlib import import_module

    from sf_tui.integrations.variables import given_settings

    old, profile, run_dir = given_settings()
    base = import_module(package).Callback
    return [_callback_class(base)(old, profile=profile, run_dir=run_dir)]
