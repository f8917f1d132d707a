"""Small real runs: a profile of two stages that plays in a second, an operator who keeps a plan."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from filelock import FileLock

from sf_tui.profile import dump_profile, load_profile
from sf_tui.run.directory import RunDirectory
from support.busy_run import RULES, operate
from support.quick_run import PROFILE, Begin, Operator, assert_well_told, events_of, work
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
def undisturbed(shared_folder: Path) -> RunDirectory:
    """Return the profile's run as it goes when nobody asks for anything; tests only read it."""
    return _played_once(shared_folder / "undisturbed", Operator)


@pytest.fixture(scope="session")
def plain(shared_folder: Path) -> RunDirectory:
    """Return the run with one frozen layer that no operation interrupts; tests only read it."""

    def freeze(run: RunDirectory) -> Operator:
        return Operator(run).at("new", 3, "freeze", layers=1)

    return _played_once(shared_folder / "plain", freeze, QUICK)


@pytest.fixture(scope="session")
def busy(shared_folder: Path) -> RunDirectory:
    """Return a finished run in which much was asked for; tests only read it."""
    run = _played_once(shared_folder / "busy", operate, more=RULES)
    assert_well_told(run)
    return run


def _played_once(
    folder: Path,
    operator: Callable[[RunDirectory], Operator],
    overrides: Sequence[str] = (),
    more: str = "",
) -> RunDirectory:
    """Play a run to its end in a folder, unless another process of the test run has done so."""
    with FileLock(folder.with_suffix(".lock")):
        run = RunDirectory(folder / "run")
        if not run.path.exists():
            folder.mkdir()
            (folder / "quick.toml").write_text(PROFILE + more)
            profile = load_profile(folder / "quick.toml", overrides)
            text = dump_profile(profile)
            RunDirectory.create(run.path, profile_text=text, profile_name="quick", argv=["sf"])
            assert work(run, operator(run)) == 0
        assert events_of(run)[-1]["type"] == "run_finished"
        return run
