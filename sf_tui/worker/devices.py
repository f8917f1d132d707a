"""Reads the devices of this process, for its heartbeat.

NVIDIA's library gives load, temperature and power where nvidia-ml-py is installed; without it torch
gives the memory. Only devices that this process already uses are read: reading must not claim
memory on another one.
"""

from __future__ import annotations

import socket
from dataclasses import replace
from typing import Any

import torch

from sf_tui.run.devices import DeviceReading, read_nvml


class DeviceReader:
    """Reads devices through NVIDIA's library, or torch.

    Args:
        cuda: torch's interface to the devices; replaced in tests.
        nvml: NVIDIA's library; None: the installed one, if there is one.
    """

    def __init__(self, cuda: Any = torch.cuda, nvml: Any = None) -> None:
        self._cuda = cuda
        self._nvml = nvml
        self._nvml_tried = nvml is not None
        self._handles: dict[int, Any] = {}

    def __call__(self) -> list[DeviceReading]:
        """Return a reading of each device that this process uses; empty on a CPU."""
        if not self._cuda.is_initialized():
            return []
        return [
            self._read(index)
            for index in range(self._cuda.device_count())
            if self._cuda.memory_reserved(index) > 0
        ]

    def _read(self, index: int) -> DeviceReading:
        handle = self._handle(index)
        if handle is not None:
            found = read_nvml(self._nvml, handle)
        else:
            free, total = self._cuda.mem_get_info(index)
            found = DeviceReading(used_bytes=total - free, total_bytes=total)
        return replace(
            found,
            name=found.name or self._cuda.get_device_name(index),
            index=index,
            host=socket.gethostname(),
            peak_bytes=self._cuda.max_memory_reserved(index),
        )

    def _handle(self, index: int) -> Any:
        """Return the library's handle of a device of torch; None without one."""
        if not self._nvml_tried:
            self._nvml_tried = True
            self._nvml = load_nvml()
        if self._nvml is None:
            return None
        if index not in self._handles:
            # Torch counts visible devices only, and in another order than the library.
            uuid = f"GPU-{self._cuda.get_device_properties(index).uuid}"
            try:
                self._handles[index] = self._nvml.nvmlDeviceGetHandleByUUID(uuid)
            except self._nvml.NVMLError:
                # A MIG slice, for one, is not found by the id that torch has.
                self._handles[index] = None
        return self._handles[index]


def load_nvml() -> Any:
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
