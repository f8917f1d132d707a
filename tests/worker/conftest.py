"""Small real runs: a profile of two stages that plays in a second, an operator who keeps a plan."""

from __future__ import annotations

from pathlib import Path

import pytest

from sf_tui.profile import dump_profile, load_profile
from sf_tui.run.directory import RunDirectory
from support.quick_run import PROFILE, Begin, work


@pytest.fixture(scope="session")
def profile_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("profile") / "quick.toml"
    path.write_text(PROFILE)
    return path


@pytest.fixture
def begin(profile_file: Path, tmp_path: Path) -> Begin:
    """Make the directory of a run that has not begun.

    Args of what it returns: overrides as for `--set`, a text to append to the profile, a name.
    """

    def make(*overrides: str, more: str = "", name: str = "run") -> RunDirectory:
        file = profile_file
        if more:
            file = tmp_path / f"{name}.toml"
            file.write_text(PROFILE + more)
        profile = load_profile(file, overrides)
        return RunDirectory.create(
            tmp_path / name,
            profile_text=dump_profile(profile),
            profile_name=profile.name,
            argv=["sf", "run"],
        )

    return make


@pytest.fixture(scope="session")
def undisturbed(profile_file: Path, tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
    """Return the profile's run as it goes when nobody asks for anything; tests only read it."""
    profile = load_profile(profile_file)
    run = RunDirectory.create(
        tmp_path_factory.mktemp("undisturbed") / "run",
        profile_text=dump_profile(profile),
        profile_name="quick",
        argv=["sf"],
    )
    assert work(run) == 0
    return run
