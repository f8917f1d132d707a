"""The load of the worker's machine: its devices, CPU and memory, and the disk of the run.

Devices are as the worker reports them in its heartbeat, also from another host. CPU and memory are
of the worker's process and need the console on the worker's host.
"""

from __future__ import annotations

import os
import shutil
import socket
from dataclasses import dataclass

import psutil

from sf_tui.run.devices import DeviceReading
from sf_tui.run.directory import RunDirectory
from sf_tui.run.liveness import Liveness
from sf_tui.run.rank_readings import RankReading
from sf_tui.run.storage import size_of

DISK_EVERY = 15
"""Samples between two measurements of the run directory, which has a few hundred files; a new
checkpoint is measured at once."""


@dataclass(frozen=True)
class MachineSample:
    """One sample of the machine."""

    devices: tuple[DeviceReading, ...] = ()
    ranks: tuple[RankReading, ...] = ()
    """The processes that train together; after the end those that were gone before it."""
    cpu_percent: float | None = None
    """CPU of the worker, 100 per core."""
    rss_bytes: int | None = None
    memory_total_bytes: int | None = None
    cores: int | None = None
    run_bytes: int | None = None
    """Size of the run directory."""
    disk_free_bytes: int | None = None
    """Room that is left on its disk."""
    problem: str = ""
    """Why the load is not known; empty if it is."""


class Machine:
    """Samples the machine of a worker."""

    def __init__(self) -> None:
        self._process: psutil.Process | None = None
        self._samples = 0
        self._ended = ""
        self._disk: tuple[int | None, int | None] = (None, None)
        self._written = -1

    def sample(self, run: RunDirectory, liveness: Liveness) -> MachineSample:
        """Return the current load of a run's machine."""
        size, free = self._measure_disk(run)
        problem = ""
        if liveness.pid is None:
            problem = "no worker has started yet"
        elif liveness.host is not None and liveness.host != socket.gethostname():
            problem = f"the worker runs on {liveness.host}"
        cpu, rss = (None, None) if problem else self._read_process(liveness.pid)
        if not problem and rss is None:
            problem = "the worker's process is gone"
        return MachineSample(
            devices=liveness.devices if liveness.has_worker else (),
            ranks=tuple(liveness.ranks_now),
            cpu_percent=cpu,
            rss_bytes=rss,
            memory_total_bytes=psutil.virtual_memory().total,
            cores=psutil.cpu_count(),
            run_bytes=size,
            disk_free_bytes=free,
            problem=problem,
        )

    def after_end(self, run: RunDirectory, liveness: Liveness, ended: str) -> MachineSample:
        """Return what is left to know of a run that ended: nothing live, the size on the disk.

        Args:
            run: the run.
            liveness: of its worker.
            ended: how and when it ended, in words.
        """
        if ended != self._ended:
            # The final model was written since the last measurement.
            self._ended, self._samples = ended, 0
        size, free = self._measure_disk(run)
        return MachineSample(
            ranks=tuple(one for one in liveness.ranks if one.gone),
            run_bytes=size,
            disk_free_bytes=free,
            problem=ended,
        )

    def _measure_disk(self, run: RunDirectory) -> tuple[int | None, int | None]:
        written = _last_written(run)
        if self._samples % DISK_EVERY == 0 or written != self._written:
            self._written = written
            try:
                self._disk = size_of(run.path), shutil.disk_usage(run.path).free
            except OSError:
                # The file system may be unavailable for a moment; the next one tries again.
                self._disk = (None, None)
        self._samples += 1
        return self._disk

    def _read_process(self, pid: int | None) -> tuple[float | None, int | None]:
        """Return CPU use and resident memory of the worker; None where they are not known."""
        try:
            cpu: float | None = None
            if self._process is None or self._process.pid != pid:
                self._process = psutil.Process(pid)
                # The first call only starts the measured interval.
                self._process.cpu_percent()
            else:
                cpu = self._process.cpu_percent()
            return cpu, self._process.memory_info().rss
        except psutil.Error:
            self._process = None
            return None, None


def _last_written(run: RunDirectory) -> int:
    """Return when a checkpoint was last written or deleted, in ns; 0 before the first one."""
    try:
        with os.scandir(run.checkpoints) as stages:
            return max((entry.stat().st_mtime_ns for entry in stages), default=0)
    except OSError:
        # There is none yet, or the file system is unavailable for a moment.
        return 0
