"""What each process of a run is doing, as rank 0 reports it in its heartbeat.

A rank that is behind or gone is found here, in one place for console, `sf show` and scripts. Knows
no torch; a rank's accelerators are in `run/devices.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

from sf_tui.vocabulary.declared import Count, Doc

BEHIND_AFTER_S = 10.0
"""A rank that the others miss for this long is behind."""


@dataclass(frozen=True)
class RankReading:
    """One process at one moment; None: not reported."""

    rank: Annotated[Count, Doc("its number")] = 0
    host: Annotated[str, Doc("its host; empty until its first sign")] = ""
    pid: Annotated[Count | None, Doc("its process on that host")] = None
    device: Annotated[str, Doc("torch's name of its device")] = ""
    step: Annotated[Count | None, Doc("steps that it has done in its stage")] = None
    busy_cores: Annotated[float | None, Doc("cores of its host that it keeps busy")] = None
    rss_bytes: Annotated[Count | None, Doc("resident memory of the process", "bytes")] = None
    free_bytes: Annotated[Count | None, Doc("memory left on its host", "bytes")] = None
    waits_s: Annotated[float, Doc("for how long it has waited for another rank", "s")] = 0.0
    silent_s: Annotated[float, Doc("time since rank 0 has seen a sign of it", "s")] = 0.0
    gone: Annotated[bool, Doc("whether it ended before the run did")] = False


@dataclass(frozen=True)
class RankTrouble:
    """A rank that the run waits for, or has lost.

    Attributes:
        state: `behind` or `gone`.
        why: what was noticed; empty if there is nothing to add.
        still_answers: whether it shows signs of life.
    """

    state: str
    why: str = ""
    still_answers: bool = False

    @property
    def text(self) -> str:
        """State and reason."""
        return f"{self.state}: {self.why}" if self.why else self.state


def find_troubles(ranks: Sequence[RankReading]) -> dict[int, RankTrouble]:
    """Return the ranks that are behind or gone, by number.

    Steps are exchanges, so no rank can be more than one ahead. The one behind is silent, or does
    something else while others wait. Rank 0 may do so: they wait for its decisions.
    """
    waiting_s = max((one.waits_s for one in ranks if one.silent_s <= BEHIND_AFTER_S), default=0.0)
    found: dict[int, RankTrouble] = {}
    for one in ranks:
        if one.gone:
            found[one.rank] = RankTrouble("gone")
        elif one.silent_s > BEHIND_AFTER_S:
            at = "" if one.step is None else f", at step {one.step}"
            found[one.rank] = RankTrouble("behind", f"no sign for {one.silent_s:.0f} s{at}")
        elif one.rank and waiting_s > BEHIND_AFTER_S and one.waits_s < waiting_s / 2:
            why = f"the others have waited {waiting_s:.0f} s"
            found[one.rank] = RankTrouble("behind", why, still_answers=True)
    return found
