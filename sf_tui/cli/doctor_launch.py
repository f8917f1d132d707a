"""`sf doctor --launch PROFILE`: start a profile's processes and let them exchange something."""

from __future__ import annotations

import os
import subprocess
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import orjson

from sf_tui.cli.doctor_findings import Finding
from sf_tui.cli.ranks import launch_command, processes_of
from sf_tui.vocabulary.sizes import counted
from sf_tui.worker.launched import connect_ranks, is_launched

_PATIENCE_S = 180.0
_SLOW = 10.0
"""A rank whose exchange takes this many times the median is worth a look."""


def check_launch(profile_name: str) -> Iterator[Finding]:
    """Try the processes that a profile starts, or those that a launcher has started.

    Under a launcher, only rank 0 has findings.

    Args:
        profile_name: a built-in profile or a TOML file.

    Raises:
        SfError: the profile can't be read, or the processes can't be started.
    """
    # Deferred: pydantic takes a tenth of a second.
    from sf_tui.profile import load_profile

    profile = load_profile(profile_name)
    if is_launched(os.environ):
        # Deferred: importing torch takes seconds.
        from sf_tui.worker.try_ranks import try_exchange

        ranks = connect_ranks()
        found = try_exchange(ranks)
        if ranks.is_main:
            yield from describe_exchange(found)
        return
    processes = processes_of(profile)
    if processes == 1:
        yield Finding("launch", "ok", "one process: nothing to exchange")
        return
    yield from _start(processes)


def _start(processes: int) -> Iterator[Finding]:
    command = launch_command(processes, "sf_tui.worker.try_ranks", ())
    try:
        ended = subprocess.run(
            command, capture_output=True, text=True, timeout=_PATIENCE_S, check=False
        )
    except subprocess.TimeoutExpired:
        yield Finding(
            "launch",
            "fail",
            f"{processes} processes exchanged nothing within {_PATIENCE_S:.0f} s",
            "check the firewall between them, and NCCL_SOCKET_IFNAME or GLOO_SOCKET_IFNAME",
        )
        return
    lines = [line for line in ended.stdout.splitlines() if line.startswith("[")]
    if ended.returncode or not lines:
        said = [line for line in ended.stderr.splitlines() if "Error" in line]
        yield Finding(
            "launch",
            "fail",
            said[-1].strip()[:200] if said else f"torchrun ended with code {ended.returncode}",
            f"try it by hand: {' '.join(command)}",
        )
        return
    yield from describe_exchange(orjson.loads(lines[-1]))


def describe_exchange(found: Sequence[dict[str, Any]]) -> Iterator[Finding]:
    """Return the findings on an exchange, from what each rank measured."""
    hosts = Counter(one["host"] for one in found)
    wrong = [rank for rank, one in enumerate(found) if not one["right"]]
    if wrong:
        yield Finding(
            "launch",
            "fail",
            f"rank {wrong[0]} got a wrong sum",
            "check its GPU and the link to it; NCCL_P2P_DISABLE=1 avoids direct GPU links",
        )
        return
    times = sorted(one["sum_ms"] for one in found)
    where = counted(len(hosts), "host")
    yield Finding(
        "launch",
        "ok",
        f"{len(found)} processes on {where} exchange: 4 MiB summed in {times[-1]:.1f} ms, "
        f"a decision in {max(one['decision_ms'] for one in found):.1f} ms",
    )
    median = times[len(times) // 2]
    for rank, one in enumerate(found):
        slow = one["sum_ms"] > _SLOW * max(median, 1.0)
        yield Finding(
            f"rank {rank}",
            "warn" if slow else "ok",
            f"{one['device']} on {one['host']}" + (f", {one['sum_ms']:.0f} ms" if slow else ""),
            "its link is much slower than the others'" if slow else "",
        )
