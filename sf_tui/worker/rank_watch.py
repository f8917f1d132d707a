"""Detects ranks that stopped answering while their connections stay open: a machine that is gone.

A process that dies closes its connections, which ends every exchange at once. A machine without
power closes nothing, and an exchange between GPUs would wait for it. So each rank counts in a
common store, and watches the counts of the others.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable

from sf_tui.engine.ranks import RankLostError, Ranks
from sf_tui.run.liveness import DEAD_AFTER_S, HEARTBEAT_EVERY_S


class RankWatch:
    """Beats for this rank and watches the others, in a thread of its own.

    Args:
        ranks: the processes.
        on_lost: called once with the reason before this process ends; it can't return to the
            training, which may wait for the lost rank for ever.
        lost_after_s: seconds without a beat after which a rank is lost.
    """

    def __init__(
        self,
        ranks: Ranks,
        on_lost: Callable[[RankLostError], None],
        *,
        lost_after_s: float = DEAD_AFTER_S,
    ) -> None:
        self._ranks = ranks
        self._on_lost = on_lost
        self._lost_after_s = lost_after_s
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="ranks", daemon=True)

    def start(self) -> None:
        """Start the thread, if there is another rank."""
        if self._ranks.world > 1:
            self._thread.start()

    def stop(self) -> None:
        """End the thread."""
        self._stop.set()
        if self._ranks.world > 1:
            self._thread.join()

    def _watch(self) -> None:
        seen: dict[int, tuple[int, float]] = {}
        while not self._stop.wait(HEARTBEAT_EVERY_S):
            now = time.monotonic()
            beats = self._ranks.beat()
            if beats is None:
                # The store is gone with its process; the connections of this one tell the rest.
                return
            for rank, beat in beats.items():
                last, since = seen.get(rank, (-1, now))
                seen[rank] = (beat, since if beat == last else now)
                if beat == last and now - since > self._lost_after_s:
                    self._on_lost(
                        RankLostError(
                            f"rank {rank} has not answered for {now - since:.0f} s",
                            "see its machine; `sf resume` continues from the last checkpoint",
                        )
                    )
                    os._exit(1)
