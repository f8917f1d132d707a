"""The process of a worker that torchrun or accelerate started as one of several.

Knows the environment of such a process. Rank 0 is an ordinary worker; the others write nothing but
`ranks/N.log` in the run directory. Imports no torch before it is needed.
"""

from __future__ import annotations

import socket
from collections.abc import Mapping, MutableMapping
from typing import TYPE_CHECKING

from sf_tui.errors import UsageError
from sf_tui.vocabulary.sizes import counted

if TYPE_CHECKING:
    from sf_tui.engine.process_ranks import ProcessRanks
    from sf_tui.engine.ranks import Ranks

_LAUNCHED = ("RANK", "WORLD_SIZE")
_OTHER_ENGINES = {
    "ACCELERATE_USE_DEEPSPEED": "DeepSpeed",
    "ACCELERATE_USE_FSDP": "accelerate's FSDP",
    "ACCELERATE_USE_MEGATRON_LM": "Megatron-LM",
}


def is_launched(environment: Mapping[str, str]) -> bool:
    """Return whether a launcher started this process as one of several.

    Raises:
        UsageError: it set up an engine that sf's own training doesn't run on.
    """
    for name, engine in _OTHER_ENGINES.items():
        if environment.get(name, "").lower() in {"true", "1"}:
            raise UsageError(
                f"{name} is set: sf trains its own runs with DDP or FSDP2, not with {engine}",
                "start them with torchrun or `accelerate launch --multi_gpu`, with [launch] "
                'sharding = "ddp" or "fsdp2" in the profile; `sf exec` watches a training of '
                "another program",
            )
    if not all(name in environment for name in _LAUNCHED):
        return False
    world = environment["WORLD_SIZE"]
    if not world.isdecimal():
        raise UsageError(f"WORLD_SIZE = {world!r:.40} is no number", "start sf with torchrun")
    return int(world) > 1


def leave_lone_launcher(environment: MutableMapping[str, str]) -> None:
    """Remove the variables of a launcher that started this process alone.

    accelerate would open a process group for it.
    """
    if environment.get("WORLD_SIZE") == "1":
        for name in (*_LAUNCHED, "LOCAL_RANK"):
            environment.pop(name, None)


def describe_ranks(ranks: Ranks, device: str) -> str:
    """Return where the ranks of a run are, one after the other. Called on every rank.

    Args:
        ranks: the processes.
        device: this rank's device.
    """
    places = ranks.gather(f"{device} on {socket.gethostname()}")
    hosts = len({place.rpartition(" on ")[2] for place in places})
    each = ", ".join(f"rank {rank}: {place}" for rank, place in enumerate(places))
    return f"{len(places)} ranks on {counted(hosts, 'host')} ({each})"


def connect_ranks() -> ProcessRanks:
    """Connect this process to the others that its launcher started.

    Raises:
        RunError: they can't be reached.
    """
    # Deferred: importing torch takes seconds.
    from sf_tui.engine.process_ranks import ProcessRanks

    return ProcessRanks.from_environment()
