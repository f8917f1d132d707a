"""What a worker's accelerators are doing, as it reports it in each heartbeat.

One row is one device of one process; `host` and `rank` tell the rows of several processes apart.
Reads NVIDIA's management library through a module that the caller passes in; knows no torch.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, TypeVar

from sf_tui.vocabulary.declared import Count, Doc

T = TypeVar("T")


@dataclass(frozen=True)
class DeviceReading:
    """One device at one moment; None: not reported."""

    name: Annotated[str, Doc("the device's name")] = ""
    index: Annotated[Count, Doc("torch's number of the device")] = 0
    rank: Annotated[Count, Doc("the process that uses it")] = 0
    host: Annotated[str, Doc("the process's host")] = ""
    used_bytes: Annotated[Count | None, Doc("memory in use by all processes", "bytes")] = None
    total_bytes: Annotated[Count | None, Doc("all of its memory", "bytes")] = None
    peak_bytes: Annotated[Count | None, Doc("most that the worker has reserved", "bytes")] = None
    utilization: Annotated[float | None, Doc("share of the last second in use, 0 to 1")] = None
    temperature_c: Annotated[float | None, Doc("temperature", "degrees C")] = None
    power_w: Annotated[float | None, Doc("power drawn", "W")] = None
    power_limit_w: Annotated[float | None, Doc("power at which it is throttled", "W")] = None


def read_nvml(nvml: Any, handle: Any) -> DeviceReading:
    """Return what NVIDIA's library reports of a device.

    A value that a device, a driver or a MIG slice does not report is None.

    Args:
        nvml: the module `pynvml` (nvidia-ml-py), initialized.
        handle: of the device.
    """

    def ask(read: Callable[[], T]) -> T | None:
        try:
            return read()
        except nvml.NVMLError:
            return None

    name = ask(lambda: nvml.nvmlDeviceGetName(handle))
    memory = ask(lambda: nvml.nvmlDeviceGetMemoryInfo(handle))
    rates = ask(lambda: nvml.nvmlDeviceGetUtilizationRates(handle))
    power_mw = ask(lambda: nvml.nvmlDeviceGetPowerUsage(handle))
    limit_mw = ask(lambda: nvml.nvmlDeviceGetEnforcedPowerLimit(handle))
    degrees = ask(lambda: nvml.nvmlDeviceGetTemperature(handle, nvml.NVML_TEMPERATURE_GPU))
    return DeviceReading(
        # Bytes from releases before 11.5.
        name=name.decode() if isinstance(name, bytes) else str(name or ""),
        used_bytes=None if memory is None else int(memory.used),
        total_bytes=None if memory is None else int(memory.total),
        utilization=None if rates is None else rates.gpu / 100,
        temperature_c=None if degrees is None else float(degrees),
        power_w=None if power_mw is None else power_mw / 1000,
        power_limit_w=None if limit_mw is None else limit_mw / 1000,
    )
