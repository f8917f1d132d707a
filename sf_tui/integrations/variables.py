"""Settings of a watched training from environment variables, for hosts that pass none on.

`SF_OLD` (files, separated as in PATH), `SF_PROFILE`, `SF_RUN_DIR`. Under `sf exec` its own options
apply instead.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sf_tui.integrations.callback import SfCallback


def given_settings() -> tuple[list[str] | None, str | None, str | None]:
    """Return old examples, profile and run directory from the environment."""
    old = [file for file in os.environ.get("SF_OLD", "").split(os.pathsep) if file]
    profile = os.environ.get("SF_PROFILE") or None
    run_dir = os.environ.get("SF_RUN_DIR") or None
    return old or None, profile, run_dir


def callback_from_variables() -> SfCallback:
    """Return the callback of `sf exec`, or one with the settings of the environment.

    Raises:
        SfError: a file doesn't exist, or the profile has mistakes.
    """
    # Deferred: torch and transformers; helper processes of a host import this module, too.
    from sf_tui.integrations.callback import SfCallback

    if os.environ.get("SF_EXEC"):
        return SfCallback.from_environment()
    return SfCallback(*given_settings())


def has_default_callback() -> bool:
    """Return whether `sf exec` has added its callback to every Trainer of this process."""
    # Deferred, as above.
    from transformers import TrainerCallback
    from transformers.integrations.integration_utils import INTEGRATION_TO_CALLBACK

    return INTEGRATION_TO_CALLBACK.get("sf") is TrainerCallback
