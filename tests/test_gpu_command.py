"""`pytest -m gpu` on a machine without a device: every test is skipped, and says why."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


def collect(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *arguments, "tests/gpu"],
        cwd=ROOT,
        env={**os.environ, "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.slow  # two processes that import torch
def test_without_a_device_every_test_is_skipped_with_the_reason() -> None:
    found = collect("-m", "gpu", "-rs")
    assert found.returncode == 0, found.stdout
    assert "no CUDA device" in found.stdout
    summary = found.stdout.splitlines()[-1]
    assert "skipped" in summary
    assert "passed" not in summary
    # The default suite leaves them out: 5 is pytest's code for nothing selected.
    assert collect("--collect-only").returncode == 5
