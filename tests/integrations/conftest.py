from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from support.hosts import scene


@pytest.fixture(scope="session")
def tiny_scene(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a tiny Llama that knows its old rows, and rows of a new task."""
    return scene(tmp_path_factory.mktemp("hosts"))


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
