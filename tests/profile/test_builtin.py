"""Built-in profiles and starters are found in a wheel's layout and in a checkout's."""

from __future__ import annotations

from pathlib import Path

import pytest

from sf_tui.errors import ProfileError
from sf_tui.profile import builtin_profiles, load_profile, starter_directory
from sf_tui.profile.sources import profiles_directory
from sf_tui.tasks.task import FixedExamples
from sf_tui.tasks.user_data import user_task


def fill(folder: Path, *names: str) -> Path:
    (folder / "starters" / "mini").mkdir(parents=True)
    for name in names:
        (folder / f"{name}.toml").write_text("")
    return folder


def test_wheel_carries_them_inside_the_package(tmp_path: Path) -> None:
    package = tmp_path / "site-packages" / "sf_tui"
    inside = fill(package / "_profiles", "two", "one")
    assert builtin_profiles(package) == {"one": inside / "one.toml", "two": inside / "two.toml"}
    assert starter_directory("mini", package) == inside / "starters" / "mini"


def test_somebody_elses_profiles_beside_an_installed_package_are_not_ours(tmp_path: Path) -> None:
    package = tmp_path / "site-packages" / "sf_tui"
    inside = fill(package / "_profiles", "one")
    fill(tmp_path / "site-packages" / "profiles", "foreign")
    assert profiles_directory(package) == inside
    assert list(builtin_profiles(package)) == ["one"]


def test_checkout_has_them_at_its_top_level(tmp_path: Path) -> None:
    package = tmp_path / "checkout" / "sf_tui"
    package.mkdir(parents=True)
    beside = fill(tmp_path / "checkout" / "profiles", "one")
    assert builtin_profiles(package) == {"one": beside / "one.toml"}
    assert starter_directory("starter:mini", package) == beside / "starters" / "mini"


def test_installation_without_profiles_has_none(tmp_path: Path) -> None:
    assert builtin_profiles(tmp_path / "sf_tui") == {}
    with pytest.raises(ProfileError) as caught:
        starter_directory("mini", tmp_path / "sf_tui")
    assert caught.value.hint == "this installation has no starter models; reinstall sf"


def test_unknown_starter_names_the_nearest(tmp_path: Path) -> None:
    fill(tmp_path / "profiles")
    with pytest.raises(ProfileError) as caught:
        starter_directory("starter:mnii", tmp_path / "sf_tui")
    assert caught.value.message == "no starter model is named 'mnii'"
    assert caught.value.hint == "did you mean 'mini'?"


SHIPPED = sorted(builtin_profiles())


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_profiles_bring_their_data(name: str) -> None:
    profile = load_profile(name)
    assert profile.name == name
    places = [task.data for task in profile.tasks]
    places += [str(task.held_out) for task in profile.tasks if isinstance(task.held_out, str)]
    places += [place for place in (profile.diagnose.control, profile.diagnose.unrelated) if place]
    for place in places:
        # Inside the folder that a wheel carries, or made by the generator.
        own = Path(place).is_relative_to(profile.base_dir / "data") and Path(place).is_file()
        assert own or place.startswith("biography:"), place


@pytest.mark.parametrize("name", ["smollm2-capitals", "smollm2-capitals-lora"])
def test_smollm2_capitals_has_ten_safe_examples_and_asks_nothing_it_trains_on(name: str) -> None:
    profile = load_profile(name)
    capitals, facts = (user_task(task, profile.base_dir, profile.seed) for task in profile.tasks)
    assert isinstance(capitals.train, FixedExamples)
    assert isinstance(facts.train, FixedExamples)
    assert (len(capitals.train.examples), len(capitals.held_out)) == (10, 50)
    for task in (capitals, facts):
        asked = {example.messages[0].content for example in task.held_out}
        assert not asked & {example.messages[0].content for example in task.train.examples}
