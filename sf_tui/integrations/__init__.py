"""Watches and acts in trainings that other programs run.

Importing this package is cheap; `SfCallback` and `watch` bring torch and transformers when they are
first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sf_tui.integrations.bare_loop import watch
    from sf_tui.integrations.callback import SfCallback

__all__ = ["SfCallback", "watch"]

_PLACES = {
    "SfCallback": "sf_tui.integrations.callback",
    "watch": "sf_tui.integrations.bare_loop",
}


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used."""
    if name not in _PLACES:
        raise AttributeError(f"module 'sf_tui.integrations' has no attribute '{name}'")
    return getattr(import_module(_PLACES[name]), name)
