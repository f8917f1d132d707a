"""The ranks of a run as rows of short texts, for the machine panel and `sf show`.

Knows a rank's reading and its devices; draws nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sf_tui.run.devices import DeviceReading
from sf_tui.run.liveness import Liveness
from sf_tui.run.rank_readings import RankReading, RankTrouble, find_troubles
from sf_tui.vocabulary.sizes import format_bytes

_NAMED = 3
"""Ranks that are named one by one where there is room for a few words only."""


@dataclass(frozen=True)
class RankRow:
    """One device of one rank; an empty text: not known.

    Attributes:
        rank: its number.
        host: its host.
        device: torch's name of the device.
        model: the device's own name.
        load: share of the device in use, or cores of the CPU.
        used: memory in use: of the device, or of the process on a CPU.
        free: memory left: of the device, or of the host.
        heat: degrees C.
        power: W.
        trouble: why the run waits for it; None if it doesn't.
        is_current: whether the figures are of now.
    """

    rank: int
    host: str = ""
    device: str = ""
    model: str = ""
    load: str = ""
    used: str = ""
    free: str = ""
    heat: str = ""
    power: str = ""
    trouble: RankTrouble | None = None
    is_current: bool = False


def rank_rows(ranks: Sequence[RankReading], devices: Sequence[DeviceReading]) -> list[RankRow]:
    """Return a row for each device of each rank, by host and number."""
    troubles = find_troubles(ranks)
    rows = []
    for one in sorted(ranks, key=lambda one: (one.host, one.rank)):
        own = [device for device in devices if device.rank == one.rank]
        trouble = troubles.get(one.rank)
        rows += [_row(one, device, trouble) for device in own] or [_row(one, None, trouble)]
    return rows


def _row(one: RankReading, device: DeviceReading | None, trouble: RankTrouble | None) -> RankRow:
    is_current = trouble is None or trouble.still_answers
    if device is None:
        busy = "" if one.busy_cores is None else f"{one.busy_cores:.1f} cores"
        used, free = one.rss_bytes, one.free_bytes
        heat = power = model = ""
    else:
        busy = "" if device.utilization is None else f"{device.utilization:.0%}"
        used, total = device.used_bytes, device.total_bytes
        free = None if used is None or total is None else total - used
        heat = "" if device.temperature_c is None else f"{device.temperature_c:.0f}"
        power = "" if device.power_w is None else f"{device.power_w:.0f}"
        model = device.name
    return RankRow(
        rank=one.rank,
        host=one.host,
        device=one.device if device is None else f"cuda:{device.index}",
        model=model,
        load=busy,
        used="" if used is None else format_bytes(used),
        free="" if free is None else format_bytes(free),
        heat=heat,
        power=power,
        trouble=trouble,
        is_current=is_current and bool(one.host),
    )


def trouble_notes(liveness: Liveness) -> str:
    """Return the ranks of a live run that are behind or gone in a few words; empty without any."""
    if not liveness.has_worker:
        return ""
    troubles = find_troubles(liveness.ranks_now)
    notes = []
    for state in ("behind", "gone"):
        found = [rank for rank, trouble in troubles.items() if trouble.state == state]
        if len(found) > _NAMED:
            notes.append(f"{len(found)} ranks {state}")
        elif found:
            several = "s" if len(found) > 1 else ""
            notes.append(f"rank{several} {', '.join(map(str, found))} {state}")
    return ", ".join(notes)
