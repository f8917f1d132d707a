"""Which start models a stage's anchor and repairs refer to."""

from __future__ import annotations

from pathlib import Path

import pytest

from sf_tui.profile import Profile, load_profile
from sf_tui.profile.references import References, references_of

TASKS = "".join(f'[[tasks]]\nname = "{name}"\ndata = "biography:new-{name}"\n' for name in "234")


def profile_of(folder: Path, first: str, more: str = "") -> Profile:
    file = folder / "several.toml"
    file.write_text(
        'name = "several"\n[model]\nsource = "starter:biography-mini"\n[train]\nsteps = 4\n'
        f'{more}[[tasks]]\nname = "old"\ndata = "biography:old"\n{first}{TASKS}'
    )
    return load_profile(file)


@pytest.mark.parametrize(
    ("first", "stage", "origin", "taught"),
    [
        # The model knows the first task: it is held to the run's start in every stage.
        ("", "2", "2", ()),
        ("", "3", "2", (("2", "3"),)),
        ("", "4", "2", (("2", "3"), ("3", "4"))),
        # The run teaches the first task, too: nothing is known at the run's start.
        ("learn = true\n", "old", "old", ()),
        ("learn = true\n", "2", "2", ()),
        ("learn = true\n", "4", "2", (("old", "2"), ("2", "3"), ("3", "4"))),
    ],
)
def test_known_tasks_go_back_to_the_runs_start_and_taught_ones_to_the_stage_behind_theirs(
    tmp_path: Path, first: str, stage: str, origin: str, taught: tuple[tuple[str, str], ...]
) -> None:
    assert references_of(profile_of(tmp_path, first), stage) == References(origin, taught)


def test_a_task_that_is_trained_again_is_no_reference_of_its_own_stage(tmp_path: Path) -> None:
    replay = '[replay_stage]\nsteps = 2\ntask = "2"\n'
    found = references_of(profile_of(tmp_path, "", replay), "replay")
    assert found == References("2", (("3", "4"), ("4", "replay")))
