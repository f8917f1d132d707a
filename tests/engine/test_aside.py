"""Moments and snapshots that wait in files during a test come back bit for bit."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from sf_tui.engine import aside
from sf_tui.engine.step import build_optimizer
from sf_tui.engine.weights import Snapshot, snapshots_in
from sf_tui.profile import TrainSettings
from support.tiny_models import MakeModel


def test_moments_wait_in_files_and_come_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make_model: MakeModel
) -> None:
    monkeypatch.setattr(aside, "WORTH_MOVING_BYTES", 1)
    layout = make_model().layout
    optimizer = build_optimizer(layout, TrainSettings())
    parameters = layout.trainable_parameters
    for parameter in parameters[1:]:
        parameter.grad = torch.randn_like(parameter)
    optimizer.step()
    before = {p: {n: t.clone() for n, t in optimizer.state[p].items()} for p in parameters[1:]}
    folder = tmp_path / "test"
    with aside.room_for_test(layout, optimizer, folder):
        assert not optimizer.state
        snapshot = Snapshot(layout)
        own = [p.detach().clone() for p in parameters]
        with torch.no_grad():
            for parameter in parameters:
                parameter.add_(1.0)
        snapshot.restore()
        assert all(map(torch.equal, own, parameters))
    assert not folder.exists()
    assert set(optimizer.state) == set(before)
    for parameter, state in before.items():
        assert optimizer.state[parameter].keys() == state.keys()
        for name, tensor in state.items():
            assert torch.equal(optimizer.state[parameter][name], tensor), name
            assert optimizer.state[parameter][name].dtype == tensor.dtype
    optimizer.step()


def test_a_snapshot_in_files_is_deleted_with_its_owner(
    tmp_path: Path, make_model: MakeModel
) -> None:
    layout = make_model().layout
    with snapshots_in(tmp_path):
        snapshot = Snapshot(layout)
    names = {layer.name for layer in layout.layers}
    assert {file.stem for file in tmp_path.rglob("*.safetensors")} == names
    for layer in layout.layers:
        assert [name for name, _ in snapshot.tensors(layer.name)] == list(layer.parameters)
    del snapshot
    assert not list(tmp_path.iterdir())


def test_a_small_model_stays_where_it_is(tmp_path: Path, make_model: MakeModel) -> None:
    layout = make_model().layout
    optimizer = build_optimizer(layout, TrainSettings())
    with aside.room_for_test(layout, optimizer, tmp_path / "test"):
        assert not (tmp_path / "test").exists()
