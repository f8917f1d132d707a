"""What the tests on a GPU share: where they run, `sf` in processes of its own.

`pytest -m gpu` runs them all on one device. Without one each is skipped.
"""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from gpu.small_run import PROFILE, Run
from sf_tui.run.directory import RunDirectory


@pytest.fixture(scope="session")
def device() -> str:
    """Return the device that the tests are about; skip where it is missing."""
    # Deferred: tests elsewhere need no torch.
    import torch

    if not torch.cuda.is_available():
        pytest.skip("no CUDA device: torch.cuda.is_available() is false on this machine")
    return "cuda"


@pytest.fixture(autouse=True)
def on_the_device(device: str) -> None:
    """Skip every test of this folder where there is no device."""


@pytest.fixture
def train(run_sf: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path) -> Run:
    """Run the profile with `--set` overrides, in a process of its own."""
    file = tmp_path / "gpu.toml"
    file.write_text(PROFILE)

    def run(
        *overrides: str, name: str = "run", code: int | None = 0
    ) -> tuple[subprocess.CompletedProcess[str], RunDirectory]:
        path = tmp_path / name
        given = [part for override in overrides for part in ("--set", override)]
        done = run_sf("run", file, "--no-ui", "--run-dir", path, *given)
        assert code is None or done.returncode == code, done.stderr
        assert "Traceback" not in done.stderr
        return done, RunDirectory(path)

    return run
