"""How many processes `[launch] processes` of a profile means on this machine."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sf_tui.profile import Profile


def count_processes(profile: Profile) -> int:
    """Return the number of processes; 0 if it is one for each GPU and torch finds none."""
    wanted = profile.launch.processes
    if wanted != "gpus":
        return wanted
    # Deferred: importing torch takes seconds, and a number needs none.
    import torch

    return torch.cuda.device_count()
