"""What the system raises is told as what it means for a run."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
import torch

from sf_tui.errors import RunError
from sf_tui.worker.stop import OutOfMemoryError, as_run_error, is_out_of_memory, one_line


def raised_by_the_allocator() -> BaseException:
    with pytest.raises(RuntimeError) as caught:
        torch.empty(1 << 60, dtype=torch.uint8)
    return caught.value


def raised_by_python() -> BaseException:
    with pytest.raises(MemoryError) as caught:
        bytearray(1 << 60)
    return caught.value


@pytest.mark.parametrize(
    "error",
    [
        raised_by_the_allocator(),
        raised_by_python(),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
        RuntimeError("std::bad_alloc"),
        OSError(errno.ENOMEM, os.strerror(errno.ENOMEM)),
    ],
    ids=lambda error: type(error).__name__,
)
def test_every_way_to_have_no_memory_names_the_levers(error: Exception) -> None:
    assert is_out_of_memory(error)
    told = as_run_error(error, Path("run"))
    assert isinstance(told, OutOfMemoryError)
    assert told.exit_code == 1
    for lever in ("batch_size", "max_length", "gradient_checkpointing", "dtype", "sf resume"):
        assert lever in one_line(told)
    assert "\n" not in one_line(told)


def test_full_disk_is_told_with_its_file() -> None:
    error = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "run/checkpoints/old")
    told = as_run_error(error, Path("run"))
    assert isinstance(told, RunError)
    assert told.message == "run/checkpoints/old: No space left on device"
    assert as_run_error(OSError(errno.EIO, "broken"), Path("run")).message == "run: broken"


@pytest.mark.parametrize("error", [RuntimeError("shapes don't fit"), ValueError(), KeyError("x")])
def test_fault_of_our_own_is_not_dressed_up(error: Exception) -> None:
    assert as_run_error(error, Path("run")) is None
