"""An installation of sf with one built-in profile and one starter, in a folder of its own."""

from __future__ import annotations

from pathlib import Path

import pytest

SCENE = """\
name = "scene"
description = "a scene"
[model]
source = "starter:biography-mini"
[[tasks]]
name = "old"
data = "biography:old"
[[tasks]]
name = "new"
data = "biography:new"
"""


STARTER = Path(__file__).parents[2] / "profiles" / "starters" / "biography-mini"


@pytest.fixture
def installation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the folder of its built-in profiles."""
    package = tmp_path / "installation" / "sf_tui"
    profiles = package / "_profiles"
    (profiles / "starters").mkdir(parents=True)
    (profiles / "starters" / "biography-mini").symlink_to(STARTER)
    (profiles / "scene.toml").write_text(SCENE)
    monkeypatch.setattr("sf_tui.profile.sources.package_directory", lambda: package)
    return profiles
