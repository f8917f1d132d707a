"""The operator's console for sequential fine-tuning of language models."""

from typing import Any

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """Return `watch`, which follows a training loop of one's own; it brings torch."""
    if name == "watch":
        # By name: this package is imported by parts that never meet torch.
        from importlib import import_module

        return import_module("sf_tui.integrations.bare_loop").watch
    raise AttributeError(f"module 'sf_tui' has no attribute '{name}'")
