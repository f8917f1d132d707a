"""Reads what this rank's process and devices are doing, for the heartbeat that rank 0 writes.

A driver in trouble may not answer, so reading has a thread of its own: the beats that say that this
rank is alive go on.
"""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import psutil
import torch

from sf_tui.engine.ranks import Ranks
from sf_tui.run.devices import DeviceReading
from sf_tui.run.liveness import HEARTBEAT_EVERY_S
from sf_tui.run.rank_readings import RankReading
from sf_tui.worker.devices import DeviceReader


@dataclass(frozen=True)
class RankLoad:
    """A rank and its devices at one moment."""

    rank: RankReading
    devices: Sequence[DeviceReading] = ()


class RankLoadReader:
    """Reads the load of this process.

    Args:
        ranks: the processes of the run.
        read_devices: returns what its devices are doing.
    """

    def __init__(
        self, ranks: Ranks, read_devices: Callable[[], Sequence[DeviceReading]] | None = None
    ) -> None:
        self._read_devices = read_devices or DeviceReader()
        self._process = psutil.Process()
        # The first call only starts the measured interval.
        self._process.cpu_percent()
        self._local_rank = ranks.local_rank
        self._rank = RankReading(rank=ranks.rank, host=socket.gethostname(), pid=os.getpid())

    def __call__(self) -> RankLoad:
        """Return the load since the last call."""
        try:
            devices = [replace(one, rank=self._rank.rank) for one in self._read_devices()]
        except RuntimeError:
            # A device in trouble: the training's own next call reports it, with its place.
            devices = []
        rank = replace(
            self._rank,
            # Asking whether there is a GPU would open one.
            device=f"cuda:{self._local_rank}" if torch.cuda.is_initialized() else "cpu",
            busy_cores=round(self._process.cpu_percent() / 100, 2),
            rss_bytes=self._process.memory_info().rss,
            free_bytes=psutil.virtual_memory().available,
        )
        return RankLoad(rank, devices)


class LatestLoad:
    """Keeps the newest load, read in a thread of its own.

    Args:
        read: returns the load.
    """

    def __init__(self, read: Callable[[], RankLoad]) -> None:
        self._read = read
        self.load = RankLoad(RankReading())
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="load", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """Ask the thread to end; it isn't awaited, since a driver may hold it."""
        self._stop.set()

    def _run(self) -> None:
        while not self._stop.is_set():
            self.load = self._read()
            self._stop.wait(HEARTBEAT_EVERY_S)
