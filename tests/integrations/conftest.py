from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from filelock import FileLock

from support.hosts import losses_of, scene, trainer, weights_of


@pytest.fixture(scope="session")
def tiny_scene(shared_folder: Path) -> Path:
    """Return a folder with a tiny Llama that knows its old rows, and rows of a new task."""
    folder = shared_folder / "hosts"
    with FileLock(shared_folder / "hosts.lock"):
        if not folder.exists():
            making = shared_folder / "hosts.making"
            making.mkdir()
            scene(making).rename(folder)
    return folder


@dataclass(frozen=True)
class Trained:
    """What a training logged and what it ended with."""

    losses: list[float]
    weights: dict[str, torch.Tensor]


@pytest.fixture(scope="session")
def plain_training(tiny_scene: Path, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """Return the training of all weights with default settings, without `sf`."""
    host = trainer(tiny_scene, tmp_path_factory.mktemp("plain"))
    host.train()
    return Trained(losses_of(host), weights_of(host))


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SF_HOME", str(tmp_path / "home"))


@pytest.fixture
def profile(tmp_path: Path) -> Callable[[str], Path]:
    """Return a function that writes a profile."""

    def write(text: str) -> Path:
        path = tmp_path / "watch.toml"
        path.write_text(text, encoding="utf-8")
        return path

    return write
