"""What the ranks know of each other while they train: signs of life, load, and who is lost.

A process that dies closes its connections, which ends every exchange at once. A machine without
power closes nothing, and an exchange between GPUs would wait for it. So each rank leaves a beat in
the launcher's store every two seconds, and watches the beats of the others. A beat carries what its
rank is doing, and rank 0 writes that into its heartbeat: nothing of it meets the training's own
exchanges, or the event log.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

import orjson

from sf_tui.engine.ranks import RankLostError, Ranks
from sf_tui.run.devices import DeviceReading
from sf_tui.run.liveness import DEAD_AFTER_S, HEARTBEAT_EVERY_S
from sf_tui.run.rank_readings import RankReading
from sf_tui.vocabulary.declared import as_object, build
from sf_tui.worker.rank_load import LatestLoad, RankLoad, RankLoadReader

_ENDS_WITHIN_S = 2.0


class RankWatch:
    """Beats for this rank and watches the others, in threads of its own.

    As a context manager it does so while the block runs. Starts once.

    Args:
        ranks: the processes.
        on_lost: called once with the reason before this process ends; it can't return to the
            training, which may wait for the lost rank for ever. None: the training isn't ours to
            end.
        lost_after_s: seconds without a beat after which a rank is lost.
        every_s: seconds between two beats.
    """

    def __init__(
        self,
        ranks: Ranks,
        on_lost: Callable[[RankLostError], None] | None,
        *,
        lost_after_s: float = DEAD_AFTER_S,
        every_s: float = HEARTBEAT_EVERY_S,
    ) -> None:
        self._ranks = ranks
        self._on_lost = on_lost
        self._lost_after_s = lost_after_s
        self._every_s = every_s
        self._begun = time.monotonic()
        self._heard: dict[int, tuple[bytes, float]] = {}
        self._gone: set[int] = set()
        self._read_load = RankLoadReader(ranks)
        # Rank 0 reads its own whenever it writes its heartbeat.
        self._latest = None if ranks.is_main else LatestLoad(self._read_load)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="ranks", daemon=True)

    def __enter__(self) -> None:
        self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Start the threads, if there is another rank."""
        if self._ranks.world > 1:
            self._begun = time.monotonic()
            self._thread.start()
            if self._latest is not None:
                self._latest.start()

    def stop(self) -> None:
        """End the threads; one that waits for a vanished store is left behind."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(_ENDS_WITHIN_S)
        if self._latest is not None:
            self._latest.stop()

    def note_gone(self, lost: Iterable[int]) -> None:
        """Record ranks that ended before the run did."""
        self._gone.update(lost)

    def read(self) -> tuple[list[DeviceReading], list[RankReading]]:
        """Return the devices of all ranks, and the ranks, in rank 0; no rank if it is alone."""
        own = self._read_load()
        if self._ranks.world == 1:
            return list(own.devices), []
        loads = [replace(own, rank=replace(own.rank, **self._pace()))]
        loads += [self._heard_from(rank) for rank in range(1, self._ranks.world)]
        return [one for load in loads for one in load.devices], [load.rank for load in loads]

    def _heard_from(self, rank: int) -> RankLoad:
        now = time.monotonic()
        content, since = self._heard.get(rank, (b"", self._begun))
        devices, reading = [], RankReading(rank)
        if content:
            said = orjson.loads(content)
            devices = [build(DeviceReading, one) for one in said["devices"]]
            reading = build(RankReading, said["rank"])
        gone = rank in self._gone
        return RankLoad(
            replace(reading, silent_s=round(now - since, 1), gone=gone), () if gone else devices
        )

    def _pace(self) -> dict[str, Any]:
        return {"step": self._ranks.step, "waits_s": round(self._ranks.waits_s, 1)}

    def _beat(self, count: int) -> bytes:
        """Return this rank's beat; no two are alike."""
        said: dict[str, Any] = {"count": count}
        if self._latest is not None:
            load = self._latest.load
            # As of now, whatever the load's age.
            rank = replace(load.rank, rank=self._ranks.rank, **self._pace())
            said |= {"rank": as_object(rank), "devices": as_object(load.devices)}
        return orjson.dumps(said)

    def _watch(self) -> None:
        count = 0
        while not self._stop.wait(self._every_s):
            count += 1
            beats = self._ranks.beat(self._beat(count))
            if beats is None:
                # The store is gone with its process; the connections of this one tell the rest.
                return
            now = time.monotonic()
            for rank, beat in beats.items():
                last, since = self._heard.get(rank, (b"", now))
                self._heard[rank] = (beat, since if beat == last else now)
            if self._on_lost is not None:
                self._end_if_lost(now, self._on_lost)

    def _end_if_lost(self, now: float, on_lost: Callable[[RankLostError], None]) -> None:
        lost = [r for r, (_, since) in self._heard.items() if now - since > self._lost_after_s]
        if not lost:
            return
        self.note_gone(lost)
        silent_s = now - self._heard[lost[0]][1]
        on_lost(
            RankLostError(
                f"rank {lost[0]} has not answered for {silent_s:.0f} s",
                "see its machine; `sf resume` continues from the last checkpoint",
                lost,
            )
        )
        os._exit(1)
