"""`[host]`: the program that trains, in a run that `sf` only watches.

A run with this table has one stage. The last task is the one that the host trains, and all tasks
before it are old tasks. Data of the form `host:FILE` are tokenized rows in the folder `host/` of
the run directory; `host:` alone means that the host's rows are unknown.
"""

from __future__ import annotations

from pydantic import Field

from sf_tui.profile.train_schema import StrictTable
from sf_tui.profile.values import Line


class HostSettings(StrictTable):
    """`[host]`: the program that trains; written by `sf` for a training that it only watches."""

    name: Line = Field(
        description="transformers, trl, …; loop for a loop of one's own, import for a finished one"
    )
    version: Line | None = Field(default=None, description="its version")
    command: list[str] = Field(default=[], description="the command that started it")
    output_dir: Line | None = Field(
        default=None, description="the folder that it writes its own checkpoints to"
    )
