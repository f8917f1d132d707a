"""The load of the worker's machine: GPU memory and utilization, or the worker's CPU and memory.

Available only where the console runs on the worker's host; elsewhere the sample reports the
worker's host. NVIDIA's library is used if installed; its absence is not an error.
"""

from __future__ import annotations

import socket
from dataclasses import dataclass
from typing import Any

import psutil

from sf_tui.run.liveness import Liveness


@dataclass(frozen=True)
class GpuSample:
    """One GPU."""

    name: str
    utilization: float | None
    """Share of the last second in which it computed; None if not reported (MIG)."""
    used_bytes: int
    total_bytes: int


@dataclass(frozen=True)
class MachineSample:
    """One sample of the machine."""

    gpus: tuple[GpuSample, ...] = ()
    cpu_percent: float | None = None
    """CPU of the worker, 100 per core."""
    rss_bytes: int | None = None
    memory_total_bytes: int | None = None
    cores: int | None = None
    problem: str = ""
    """Why the sample is empty."""


class Machine:
    """Samples the machine of a worker."""

    def __init__(self) -> None:
        self._nvml: Any = None
        self._nvml_tried = False
        self._process: psutil.Process | None = None

    def sample(self, liveness: Liveness) -> MachineSample:
        """Return the current load of the worker's machine."""
        if liveness.pid is None:
            return MachineSample(problem="no worker has started yet")
        if liveness.host is not None and liveness.host != socket.gethostname():
            return MachineSample(problem=f"the worker runs on {liveness.host}")
        try:
            cpu: float | None = None
            if self._process is None or self._process.pid != liveness.pid:
                self._process = psutil.Process(liveness.pid)
                # The first call only starts the measured interval.
                self._process.cpu_percent()
            else:
                cpu = self._process.cpu_percent()
            rss = self._process.memory_info().rss
        except psutil.Error:
            self._process = None
            return MachineSample(problem="the worker's process is gone")
        return MachineSample(
            gpus=self._gpus(),
            cpu_percent=cpu,
            rss_bytes=rss,
            memory_total_bytes=psutil.virtual_memory().total,
            cores=psutil.cpu_count(),
        )

    def _gpus(self) -> tuple[GpuSample, ...]:
        if not self._nvml_tried:
            self._nvml_tried = True
            self._nvml = _load_nvml()
        nvml = self._nvml
        if nvml is None:
            return ()
        found = []
        try:
            for index in range(nvml.nvmlDeviceGetCount()):
                handle = nvml.nvmlDeviceGetHandleByIndex(index)
                memory = nvml.nvmlDeviceGetMemoryInfo(handle)
                name = nvml.nvmlDeviceGetName(handle)
                found.append(
                    GpuSample(
                        name.decode() if isinstance(name, bytes) else str(name),
                        _utilization(nvml, handle),
                        int(memory.used),
                        int(memory.total),
                    )
                )
        except nvml.NVMLError:
            return ()
        return tuple(found)


def _utilization(nvml: Any, handle: Any) -> float | None:
    try:
        return float(nvml.nvmlDeviceGetUtilizationRates(handle).gpu) / 100
    except nvml.NVMLError:
        return None


def _load_nvml() -> Any:
    """Return NVIDIA's library, initialized; None without the library, a driver or a GPU."""
    # Deferred: an optional package that opens the driver.
    try:
        import pynvml
    except ImportError:
        return None
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return None
    return pynvml
