"""Small real runs: a profile of two stages that plays in a second, an operator who keeps a plan."""

from __future__ import annotations

import functools
from pathlib import Path

import pytest

from sf_tui.profile import dump_profile, load_profile
from sf_tui.run.directory import RunDirectory
from support.quick_run import PROFILE, Begin, work


@functools.cache
def read_whole(file: Path, overrides: tuple[str, ...]) -> tuple[str, str]:
    """Return a profile with its overrides as a run records it, and its name."""
    profile = load_profile(file, overrides)
    return dump_profile(profile), profile.name


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
        text, profile_name = read_whole(file, overrides)
        return RunDirectory.create(
            tmp_path / name, profile_text=text, profile_name=profile_name, argv=["sf", "run"]
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
