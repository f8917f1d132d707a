"""The processes of a run as `sf show` prints them."""

from __future__ import annotations

from typing import Any

from sf_tui.run.liveness import Liveness
from sf_tui.run.rank_readings import find_troubles
from sf_tui.tui.rank_rows import RankRow, rank_rows
from sf_tui.vocabulary.declared import as_object


def ranks_as_json(liveness: Liveness) -> list[dict[str, Any]]:
    """Return the ranks of a live run, or those that an ended one lost, with their devices.

    `state` is `behind`, `gone` or `ok`.
    """
    ranks = liveness.ranks_now
    troubles = find_troubles(ranks)
    found = []
    for one in ranks:
        trouble = troubles.get(one.rank)
        state = {"state": trouble.state, "why": trouble.why} if trouble else {"state": "ok"}
        own = [as_object(device) for device in liveness.devices if device.rank == one.rank]
        found.append({**as_object(one), "why": "", **state, "devices": own})
    return found


def rank_lines(liveness: Liveness) -> list[str]:
    """Return a line for each device of each rank of a live run, or that an ended one lost."""
    rows = rank_rows(liveness.ranks_now, liveness.devices)
    return [
        f"{'ranks' if at == 0 else '':<9}{row.rank}  {_figures(row)}" for at, row in enumerate(rows)
    ]


def _figures(row: RankRow) -> str:
    parts = [f"{row.device} on {row.host}".removeprefix(" on ") if row.host else "no sign yet"]
    if row.is_current:
        parts += [row.load, f"{row.used} used" if row.used else ""]
        parts += [f"{row.free} free" if row.free else ""]
        parts += [f"{row.heat} °C" if row.heat else "", f"{row.power} W" if row.power else ""]
    parts += [row.trouble.text] if row.trouble is not None else []
    return ", ".join(part for part in parts if part)
