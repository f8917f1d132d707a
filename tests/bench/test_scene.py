from __future__ import annotations

from pathlib import Path

import pytest

from sf_tui.bench.scene import make_scene
from sf_tui.errors import SfError
from sf_tui.profile import dump_profile, parse_profile


def test_a_model_directory_gets_two_tasks_of_its_own_words(
    llama_directory: Path, tmp_path: Path
) -> None:
    profile = make_scene(
        str(llama_directory), tmp_path, batch_size=3, threads=2, settings={"train.steps": 7}
    )
    assert [task.name for task in profile.tasks] == ["old", "new"]
    train = profile.stage_train("new")
    assert (train.batch_size, train.steps, train.threads) == (3, 7, 2)
    for task in profile.tasks:
        assert Path(task.data).is_file()
        assert Path(str(task.held_out)).is_file()


def test_a_scene_is_a_profile_that_loads_again(llama_directory: Path, tmp_path: Path) -> None:
    profile = make_scene(str(llama_directory), tmp_path, batch_size=None, threads=1, settings={})
    assert parse_profile(dump_profile(profile)) == profile


@pytest.mark.parametrize("model", ["no-such-model", "starter:no-such-model"])
def test_a_model_that_does_not_exist_is_told(model: str, tmp_path: Path) -> None:
    with pytest.raises(SfError, match="no-such-model"):
        make_scene(model, tmp_path, batch_size=None, threads=1, settings={})
