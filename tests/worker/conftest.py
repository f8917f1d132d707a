"""Small real runs: a profile of two stages that plays in a second, an operator who keeps a plan."""

from __future__ import annotations

import functools
from pathlib import Path

import pytest

from sf_tui.profile import dump_profile, load_profile
from sf_tui.run.directory import RunDirectory
from support.busy_run import RULES, operate
from support.quick_run import PROFILE, Begin, Operator, assert_well_told, work
from support.short_ops import QUICK


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
    run = _create(profile_file, tmp_path_factory.mktemp("undisturbed"))
    assert work(run) == 0
    return run


@pytest.fixture(scope="session")
def plain(profile_file: Path, tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
    """Return the run with one frozen layer that no operation interrupts; tests only read it."""
    run = _create(profile_file, tmp_path_factory.mktemp("plain"), QUICK)
    assert work(run, Operator(run).at("new", 3, "freeze", layers=1)) == 0
    return run


@pytest.fixture(scope="session")
def busy(tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
    """Return a finished run in which much was asked for; tests only read it."""
    folder = tmp_path_factory.mktemp("busy")
    (folder / "busy.toml").write_text(PROFILE + RULES)
    run = _create(folder / "busy.toml", folder)
    assert work(run, operate(run)) == 0
    assert_well_told(run)
    return run


def _create(profile_file: Path, folder: Path, overrides: tuple[str, ...] = ()) -> RunDirectory:
    text, name = read_whole(profile_file, overrides)
    return RunDirectory.create(folder / "run", profile_text=text, profile_name=name, argv=["sf"])
