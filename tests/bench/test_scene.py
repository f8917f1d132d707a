from __future__ import annotations

import math
from pathlib import Path

import pytest
from safetensors import safe_open

from sf_tui.bench.scene import make_scene
from sf_tui.errors import ModelError, SfError
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


def test_a_shape_becomes_a_directory_of_random_weights(tmp_path: Path) -> None:
    profile = make_scene("random:35m", tmp_path, batch_size=2, threads=1, settings={})
    with safe_open(Path(profile.model.source) / "model.safetensors", "pt") as file:
        count = sum(math.prod(file.get_slice(name).get_shape()) for name in file.keys())  # noqa: SIM118
    assert 34e6 < count < 37e6
    assert profile.stage_train("new").batch_size == 2


def test_an_unknown_shape_is_refused_with_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="random:9t: no such shape") as caught:
        make_scene("random:9t", tmp_path, batch_size=None, threads=1, settings={})
    assert "0.5b" in caught.value.hint


@pytest.mark.parametrize("model", ["no-such-model", "starter:no-such-model"])
def test_a_model_that_does_not_exist_is_told(model: str, tmp_path: Path) -> None:
    with pytest.raises(SfError, match="no-such-model"):
        make_scene(model, tmp_path, batch_size=None, threads=1, settings={})
