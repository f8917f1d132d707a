"""A checkpoint is whole or not there, and gives back every bit."""

from __future__ import annotations

import resource
import shutil
from pathlib import Path

import pytest
import torch

from sf_tui.engine import checkpoint_state
from sf_tui.engine.checkpoint import (
    Checkpoint,
    checkpoint_weights,
    layer_file,
    list_checkpoints,
    load_checkpoint,
    read_checkpoint,
    save_checkpoint,
    step_folder,
)
from sf_tui.engine.layout import Freezer, read_layout
from sf_tui.engine.weights import with_weights
from sf_tui.errors import RunError
from support.tiny_models import SHAPES, MakeModel, MakeTuner, make_rows, weights


def state(step: int = 3, seq: int = 7, stage: str = "new") -> dict[str, object]:
    return {"stage": stage, "step": step, "seq": seq}


def reread(path: Path) -> Checkpoint:
    found = read_checkpoint(path)
    assert found is not None
    return found


def contents(path: Path) -> dict[str, bytes]:
    return {str(f.relative_to(path)): f.read_bytes() for f in path.rglob("*") if f.is_file()}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("shape", SHAPES)
def test_weights_and_moments_come_back_to_the_last_bit(
    make_model: MakeModel, make_tuner: MakeTuner, tmp_path: Path, shape: str, dtype: torch.dtype
) -> None:
    model = make_model(shape).model.to(dtype)
    layout = read_layout(model)
    tuner = make_tuner(model, make_rows(8), layout=layout)
    tuner.advance()
    Freezer(layout).freeze(1, embeddings=True)
    tuner.advance()
    path = tmp_path / "new" / step_folder(2)
    size = save_checkpoint(path, layout, tuner.optimizer, state())
    assert size == sum(len(content) for content in contents(path).values())

    other = make_model(shape, seed=9).model.to(dtype)
    other_layout = read_layout(other)
    other_tuner = make_tuner(other, make_rows(8), layout=other_layout)
    other_tuner.advance()
    load_checkpoint(reread(path), other_layout, other_tuner.optimizer)

    now = weights(other)
    assert all(torch.equal(value, now[name]) for name, value in weights(model).items())
    for left, right in zip(layout.layers, other_layout.layers, strict=True):
        for name, parameter in left.parameters.items():
            mine = tuner.optimizer.state[parameter]
            theirs = other_tuner.optimizer.state[right.parameters[name]]
            assert mine.keys() == theirs.keys()
            assert all(torch.equal(mine[key], theirs[key]) for key in mine)
            assert all(mine[key].dtype == theirs[key].dtype for key in mine)
    other_tuner.step = tuner.step
    Freezer(other_layout).freeze(1, embeddings=True)
    for _ in range(2):
        assert tuner.advance().loss == other_tuner.advance().loss


def test_weights_alone_leave_the_optimizer_as_it_is(
    make_model: MakeModel, make_tuner: MakeTuner, tmp_path: Path
) -> None:
    model = make_model().model
    layout = read_layout(model)
    start = weights(model)
    save_checkpoint(tmp_path / "c", layout, None, state())
    tuner = make_tuner(model, make_rows(8), layout=layout)
    tuner.advance()
    load_checkpoint(reread(tmp_path / "c"), layout, None)
    assert all(torch.equal(now, start[name]) for name, now in weights(model).items())
    assert len(tuner.optimizer.state) == len(list(model.parameters()))


def test_layers_that_never_trained_have_no_moments_after_loading(
    make_model: MakeModel, make_tuner: MakeTuner, tmp_path: Path
) -> None:
    model = make_model().model
    layout = read_layout(model)
    freezer = Freezer(layout)
    freezer.freeze(2, embeddings=True)
    tuner = make_tuner(model, make_rows(8), layout=layout)
    tuner.advance()
    save_checkpoint(tmp_path / "c", layout, tuner.optimizer, state())
    freezer.unfreeze()
    tuner.advance()
    load_checkpoint(reread(tmp_path / "c"), layout, tuner.optimizer)
    trained = {id(p) for layer in layout.layers[3:] for p in layer.parameters.values()}
    assert {id(p) for p in tuner.optimizer.state} == trained


def test_state_comes_back(make_model: MakeModel, tmp_path: Path) -> None:
    given = state() | {"frozen": ["embeddings"], "score": None}
    save_checkpoint(tmp_path / "c", read_layout(make_model().model), None, given)
    found = reread(tmp_path / "c")
    assert (found.stage, found.step, found.seq) == ("new", 3, 7)
    assert given.items() <= found.state.items()


def test_folder_that_was_never_finished_is_not_trusted(
    make_model: MakeModel, tmp_path: Path
) -> None:
    layout = read_layout(make_model().model)
    for number in (1, 2, 3):
        folder = tmp_path / step_folder(number)
        save_checkpoint(folder, layout, None, state(step=number, seq=10 - number))
    (tmp_path / step_folder(2) / "state.json").unlink()
    shutil.copytree(tmp_path / step_folder(1), tmp_path / ".step-000004.writing")
    (tmp_path / "notes.txt").write_text("a file")
    assert read_checkpoint(tmp_path / step_folder(2)) is None
    # In the order in which they were written, which is not that of the steps after a rollback.
    assert [found.step for found in list_checkpoints(tmp_path)] == [3, 1]
    assert list_checkpoints(tmp_path / "nowhere") == []


def test_checkpoint_is_exchanged_whole(make_model: MakeModel, tmp_path: Path) -> None:
    first, second = make_model(seed=1).model, make_model(seed=2).model
    path = tmp_path / "c"
    for model in (first, second):
        save_checkpoint(path, read_layout(model), None, state())
        assert [entry.name for entry in tmp_path.iterdir()] == ["c"]
    load_checkpoint(reread(path), read_layout(first), None)
    now = weights(first)
    assert all(torch.equal(value, now[name]) for name, value in weights(second).items())


@pytest.mark.parametrize("left", [".c.writing", ".c.replaced"])
def test_what_a_kill_left_beside_a_checkpoint_is_swept_away(
    make_model: MakeModel, tmp_path: Path, left: str
) -> None:
    layout = read_layout(make_model().model)
    path = tmp_path / "c"
    save_checkpoint(path, layout, None, state(step=1))
    shutil.copytree(path, tmp_path / left)
    save_checkpoint(path, layout, None, state(step=2))
    assert reread(path).step == 2
    assert [entry.name for entry in tmp_path.iterdir()] == ["c"]


@pytest.mark.parametrize("room", [0, 300, 20_000])
def test_full_disk_leaves_earlier_checkpoints_as_they_are(
    make_model: MakeModel, tmp_path: Path, room: int
) -> None:
    layout = read_layout(make_model().model)
    earlier, again = tmp_path / step_folder(1), tmp_path / step_folder(2)
    save_checkpoint(earlier, layout, None, state(step=1))
    save_checkpoint(again, layout, None, state(step=2))
    before = contents(tmp_path)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, hard))
    try:
        for path in (again, tmp_path / step_folder(3)):
            with pytest.raises(RunError, match="can't write the checkpoint") as caught:
                save_checkpoint(path, layout, None, state(step=3))
            assert "earlier checkpoints are intact" in caught.value.hint
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert contents(tmp_path) == before
    assert [found.step for found in list_checkpoints(tmp_path)] == [1, 2]


@pytest.mark.parametrize("damage", ["cut", "gone", "rubbish", "empty"])
@pytest.mark.parametrize("part", ["weights", "optimizer"])
def test_damaged_file_is_an_error_with_its_name(
    make_model: MakeModel, make_tuner: MakeTuner, tmp_path: Path, damage: str, part: str
) -> None:
    model = make_model().model
    layout = read_layout(model)
    tuner = make_tuner(model, make_rows(8), layout=layout)
    tuner.advance()
    save_checkpoint(tmp_path / "c", layout, tuner.optimizer, state())
    file = tmp_path / "c" / part / "block-1.safetensors"
    content = file.read_bytes()
    if damage == "gone":
        file.unlink()
    else:
        file.write_bytes({"cut": content[:-100], "rubbish": b"rubbish" * 9, "empty": b""}[damage])
    with pytest.raises(RunError) as caught:
        load_checkpoint(reread(tmp_path / "c"), layout, tuner.optimizer)
    assert str(file) in caught.value.message
    assert f"mv {tmp_path / 'c'} " in caught.value.hint


def test_damaged_state_is_an_error_with_its_name(tmp_path: Path) -> None:
    (tmp_path / step_folder(3)).mkdir()
    (tmp_path / step_folder(3) / "state.json").write_text('{"step": 3')
    with pytest.raises(RunError, match=r"state\.json: damaged"):
        list_checkpoints(tmp_path)


def test_flipped_bit_is_noticed_before_any_weight_is_touched(
    make_model: MakeModel, tmp_path: Path
) -> None:
    layout = read_layout(make_model(seed=1).model)
    save_checkpoint(tmp_path / "c", layout, None, state())
    other = make_model(seed=2).model
    before = weights(other)
    file = layer_file(tmp_path / "c", "head")
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    with pytest.raises(RunError, match="do not match the checksum") as caught:
        load_checkpoint(reread(tmp_path / "c"), read_layout(other), None)
    assert str(file) in caught.value.message
    assert all(torch.equal(now, before[name]) for name, now in weights(other).items())


def test_file_that_has_not_changed_is_verified_once(
    make_model: MakeModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    layout = read_layout(make_model().model)
    save_checkpoint(tmp_path / "c", layout, None, state())
    read: list[Path] = []
    record = checkpoint_state.record_file

    def watched(path: Path) -> dict[str, object]:
        read.append(path)
        return record(path)

    monkeypatch.setattr(checkpoint_state, "record_file", watched)
    for _ in range(3):
        reread(tmp_path / "c").verify()
        load_checkpoint(reread(tmp_path / "c"), layout, None)
    assert len(read) == len(layout.layers)


@pytest.mark.parametrize("other", ["another width", "another shape"])
def test_checkpoint_of_another_model_is_refused(
    make_model: MakeModel, tmp_path: Path, other: str
) -> None:
    model = make_model("llama").model
    save_checkpoint(tmp_path / "c", read_layout(model), None, state())
    stranger = make_model("gpt2" if other == "another shape" else "llama").model
    if other == "another width":
        # As wide as one column, which would silently spread over all of them.
        norm = stranger.model.norm
        norm.weight = torch.nn.Parameter(torch.ones(1))
        torch.nn.Module.train(stranger)
        layout, source = read_layout(model), read_layout(stranger)
        save_checkpoint(tmp_path / "c", source, None, state())
    else:
        layout = read_layout(stranger)
    with pytest.raises(RunError, match="other parameters than the model's"):
        load_checkpoint(reread(tmp_path / "c"), layout, None)


def test_each_layer_has_its_own_file(make_model: MakeModel, tmp_path: Path) -> None:
    layout = read_layout(make_model(blocks=12).model)
    save_checkpoint(tmp_path / "c", layout, None, state())
    for layer in layout.layers:
        assert layer_file(tmp_path / "c", layer.name).is_file()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("shape", ["gpt_neox", "tied llama"])
def test_lent_weights_are_there_for_a_while_and_the_own_ones_come_back_to_the_last_bit(
    make_model: MakeModel, make_tuner: MakeTuner, tmp_path: Path, shape: str, dtype: torch.dtype
) -> None:
    model = make_model(shape).model.to(dtype)
    layout = read_layout(model)
    start = weights(model)
    save_checkpoint(tmp_path / "start", layout, None, state())
    tuner = make_tuner(model, make_rows(8), layout=layout)
    Freezer(layout).freeze(1, embeddings=True)
    tuner.advance()
    now, moments = weights(model), {p: dict(s) for p, s in tuner.optimizer.state.items()}
    with with_weights(checkpoint_weights(reread(tmp_path / "start"), layout), layout):
        lent = weights(model)
    assert all(torch.equal(lent[name], then) for name, then in start.items())
    assert not all(torch.equal(now[name], then) for name, then in start.items())
    assert all(torch.equal(weights(model)[name], then) for name, then in now.items())
    assert moments == {p: dict(s) for p, s in tuner.optimizer.state.items()}


def test_own_weights_come_back_from_whatever_goes_wrong_meanwhile(
    make_model: MakeModel, make_tuner: MakeTuner, tmp_path: Path
) -> None:
    model = make_model().model
    layout = read_layout(model)
    save_checkpoint(tmp_path / "start", layout, None, state())
    make_tuner(model, make_rows(8), layout=layout).advance()
    now = weights(model)
    with (
        pytest.raises(MemoryError),
        with_weights(checkpoint_weights(reread(tmp_path / "start"), layout), layout),
    ):
        raise MemoryError
    # The last layer's file is damaged: those before it were lent already.
    file = layer_file(tmp_path / "start", "head")
    file.write_bytes(file.read_bytes()[:-8])
    with (
        pytest.raises(RunError, match="were written"),
        with_weights(checkpoint_weights(reread(tmp_path / "start"), layout), layout),
    ):
        raise AssertionError("not reached")
    assert all(torch.equal(weights(model)[name], then) for name, then in now.items())
