"""Devices of a worker: what NVIDIA's library and torch return, carried by the heartbeat."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from sf_tui.engine.ranks import ALONE
from sf_tui.run.devices import DeviceReading
from sf_tui.run.directory import RunDirectory
from sf_tui.run.liveness import Heartbeat, probe_liveness
from sf_tui.worker.devices import DeviceReader
from sf_tui.worker.rank_load import RankLoadReader

GB = 1_000_000_000


class NVMLError(Exception):
    """As the library raises it."""


class Library:
    """The functions of `pynvml` that are called, with values in the units that it documents.

    Args:
        unsupported: functions that raise, as they do for a MIG slice or a consumer card.
    """

    NVMLError = NVMLError
    NVML_TEMPERATURE_GPU = 0

    def __init__(self, *unsupported: str) -> None:
        self._unsupported = unsupported
        self.asked: list[Any] = []

    def __getattribute__(self, name: str) -> Any:
        if name.startswith("nvml") and name in self._unsupported:

            def refuse(*_: Any) -> Any:
                raise NVMLError("Not Supported")

            return refuse
        return super().__getattribute__(name)

    def nvmlDeviceGetHandleByUUID(self, uuid: str) -> str:  # noqa: N802
        self.asked.append(uuid)
        return f"handle of {uuid}"

    def nvmlDeviceGetName(self, _: Any) -> str:  # noqa: N802
        return "NVIDIA H200"

    def nvmlDeviceGetMemoryInfo(self, _: Any) -> Any:  # noqa: N802
        return SimpleNamespace(total=150 * GB, free=89 * GB, used=61 * GB)

    def nvmlDeviceGetUtilizationRates(self, _: Any) -> Any:  # noqa: N802
        return SimpleNamespace(gpu=87, memory=40)

    def nvmlDeviceGetPowerUsage(self, _: Any) -> int:  # noqa: N802
        return 452_310

    def nvmlDeviceGetEnforcedPowerLimit(self, _: Any) -> int:  # noqa: N802
        return 700_000

    def nvmlDeviceGetTemperature(self, _: Any, sensor: int) -> int:  # noqa: N802
        assert sensor == self.NVML_TEMPERATURE_GPU
        return 71


class Cuda:
    """The functions of `torch.cuda` that are called, for two devices of which one is in use."""

    def is_initialized(self) -> bool:
        return True

    def device_count(self) -> int:
        return 2

    def memory_reserved(self, index: int) -> int:
        return 42 * GB if index == 1 else 0

    def max_memory_reserved(self, _: int) -> int:
        return 58 * GB

    def mem_get_info(self, index: int) -> tuple[int, int]:
        assert index == 1, "reading an unused device claims memory on it"
        return 90 * GB, 150 * GB

    def get_device_name(self, index: int) -> str:
        return f"torch's name of {index}"

    def get_device_properties(self, _: int) -> Any:
        return SimpleNamespace(uuid="b7-1")


def test_the_library_gives_all_values_of_the_device_in_use() -> None:
    library = Library()
    [reading] = DeviceReader(Cuda(), library)()
    assert library.asked == ["GPU-b7-1"]
    assert (reading.name, reading.index, reading.utilization) == ("NVIDIA H200", 1, 0.87)
    assert (reading.used_bytes, reading.total_bytes, reading.peak_bytes) == (
        61 * GB,
        150 * GB,
        58 * GB,
    )
    assert (reading.temperature_c, reading.power_w, reading.power_limit_w) == (71, 452.31, 700)


def test_a_value_that_a_device_does_not_report_is_left_out() -> None:
    library = Library("nvmlDeviceGetUtilizationRates", "nvmlDeviceGetPowerUsage")
    [reading] = DeviceReader(Cuda(), library)()
    assert (reading.utilization, reading.power_w) == (None, None)
    assert reading.temperature_c == 71


@pytest.mark.parametrize("library", [None, Library("nvmlDeviceGetHandleByUUID")])
def test_torch_gives_the_memory_where_the_library_can_t(library: Library | None) -> None:
    reader = DeviceReader(Cuda(), library)
    reader._nvml_tried = True
    [reading] = reader()
    assert (reading.name, reading.used_bytes) == ("torch's name of 1", 60 * GB)
    assert (reading.total_bytes, reading.peak_bytes) == (150 * GB, 58 * GB)
    assert reading.temperature_c is None


def test_a_heartbeat_carries_the_devices_to_every_reader(tmp_path: Any) -> None:
    run = RunDirectory.create(tmp_path / "r", profile_text="", profile_name="p", argv=[])
    readings = [DeviceReading("a", 0, 0, "n1", 1, 2), DeviceReading("b", 0, 1, "n2", 3, 4, 5, 0.5)]
    Heartbeat(run, lambda: (readings, ()))._write()
    assert list(probe_liveness(run).devices) == readings

    def fail() -> list[DeviceReading]:
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    load = RankLoadReader(ALONE, fail)()
    assert load.devices == []
    assert load.rank.rss_bytes


def test_without_a_gpu_there_is_no_device() -> None:
    assert DeviceReader()() == []
