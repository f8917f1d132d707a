"""The plug-in for axolotl.

plugins:
  - sf_tui.integrations.axolotl.SfPlugin
sf_old: old.jsonl
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from axolotl.integrations.base import BasePlugin
from pydantic import BaseModel

from sf_tui.integrations.callback import SfCallback
from sf_tui.integrations.variables import has_default_callback
from sf_tui.integrations.watcher import tell

if TYPE_CHECKING:
    from transformers import TrainerCallback


class SfArgs(BaseModel):
    """The keys that the plug-in adds to axolotl's configuration."""

    # axolotl merges this class with others and can't resolve names of this module: no `Path`.
    sf_old: str | list[str] | dict[str, str] | None = None
    """Old examples: a file, several, or files by name of their task."""

    sf_profile: str | None = None
    """A TOML file with rules, actions, guard, window, probe, anchor."""

    sf_run_dir: str | None = None
    """The run directory; default: a new one among the others."""


_KEYS = ("sf_old", "sf_profile", "sf_run_dir")


class SfPlugin(BasePlugin):  # type: ignore[misc]
    """Watches axolotl's training; see `SfCallback`."""

    def register(self, cfg: dict[str, Any]) -> None:
        """Check the settings before axolotl loads anything.

        axolotl only logs a plug-in that can't be imported, so this one reports that it is there.

        Raises:
            SfError: a file doesn't exist, or the profile has mistakes.
        """
        self._new_callback(cfg)
        tell("axolotl has loaded the plug-in and will be watched when it trains")

    def get_input_args(self) -> str:
        """Return the class with the plug-in's keys."""
        return "sf_tui.integrations.axolotl.SfArgs"

    def add_callbacks_pre_trainer(self, cfg: Any, model: Any) -> list[TrainerCallback]:  # noqa: ARG002
        """Return the callback; none under `sf exec` without settings of its own."""
        if has_default_callback() and not any(cfg.get(key) for key in _KEYS):
            return []
        return [self._new_callback(cfg)]

    def _new_callback(self, cfg: Any) -> SfCallback:
        old, profile, run_dir = (cfg.get(key) for key in _KEYS)
        # axolotl hands over its own kinds of list and dict.
        if isinstance(old, dict):
            old = {str(name): str(file) for name, file in old.items()}
        elif old is not None and not isinstance(old, str):
            old = [str(file) for file in old]
        return SfCallback(old, profile, run_dir)
