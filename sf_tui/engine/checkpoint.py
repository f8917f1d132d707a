"""Checkpoints: weights and optimizer as safetensors, the rest as JSON; never a pickle.

A checkpoint is written aside, synced and renamed, its `state.json` last; a folder without it was
never finished and nobody trusts it. One file a layer, so that writing and reading hold one layer
more than the training itself.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from sf_tui.engine.layout import ModelLayout
from sf_tui.engine.snapshot import Snapshot
from sf_tui.errors import RunError
from sf_tui.run.durable import sync_directory, sync_file

STATE_FILE = "state.json"
_MOMENTS = ("exp_avg", "exp_avg_sq", "step")


def step_folder(step: int) -> str:
    """Return the name of the checkpoint of a step."""
    return f"step-{step:06d}"


def layer_file(checkpoint: Path, layer: str) -> Path:
    """Return the file with a layer's weights."""
    return checkpoint / "weights" / f"{layer}.safetensors"


def _moment_file(checkpoint: Path, layer: str) -> Path:
    return checkpoint / "optimizer" / f"{layer}.safetensors"


@dataclass(frozen=True)
class Checkpoint:
    """A finished checkpoint on disk."""

    path: Path
    state: dict[str, Any]

    @property
    def stage(self) -> str:
        """The stage that it belongs to."""
        return str(self.state["stage"])

    @property
    def step(self) -> int:
        """Optimizer steps of the stage done when it was written."""
        return int(self.state["step"])

    @property
    def seq(self) -> int:
        """Number of the last event that was in the log when it was written."""
        return int(self.state["seq"])


def save_checkpoint(
    path: Path,
    layout: ModelLayout,
    optimizer: torch.optim.Optimizer | None,
    state: dict[str, Any],
) -> int:
    """Write a checkpoint and return its size in bytes.

    Args:
        path: its folder; a finished one of that name stays as it is and is written anew beside,
            then exchanged.
        layout: the model's layers.
        optimizer: AdamW whose moments are stored; None where the stage has not begun.
        state: what else a resume needs; must be JSON. `optimizer` is added to it: the layers whose
            moments are stored.

    Raises:
        RunError: no room on the disk, or it can't be written; what was there before is untouched.
    """
    aside = path.with_name(f".{path.name}.writing")
    try:
        if aside.exists():
            shutil.rmtree(aside)
        (aside / "weights").mkdir(parents=True)
        (aside / "optimizer").mkdir()
        with_moments = []
        for layer in layout.layers:
            weights = {name: p.detach().contiguous() for name, p in layer.parameters.items()}
            save_file(weights, layer_file(aside, layer.name))
            moments = _read_moments(layer.parameters, optimizer)
            if moments:
                save_file(moments, _moment_file(aside, layer.name))
                with_moments.append(layer.name)
        for folder in (aside / "weights", aside / "optimizer"):
            for file in folder.iterdir():
                sync_file(file)
            sync_directory(folder)
        content = orjson.dumps(state | {"optimizer": with_moments}, option=orjson.OPT_INDENT_2)
        (aside / STATE_FILE).write_bytes(content)
        sync_file(aside / STATE_FILE)
        sync_directory(aside)
        if path.exists():
            old = path.with_name(f".{path.name}.replaced")
            # A kill at this very place may have left one.
            shutil.rmtree(old, ignore_errors=True)
            path.rename(old)
            aside.rename(path)
            shutil.rmtree(old)
        else:
            aside.rename(path)
        sync_directory(path.parent)
    except (OSError, SafetensorError) as error:
        shutil.rmtree(aside, ignore_errors=True)
        raise RunError(
            f"{path}: can't write the checkpoint: {error}",
            "earlier checkpoints are intact; make room on the disk, then `sf resume` goes on",
        ) from error
    return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())


def _read_moments(
    parameters: dict[str, torch.nn.Parameter], optimizer: torch.optim.Optimizer | None
) -> dict[str, torch.Tensor]:
    if optimizer is None:
        return {}
    return {
        f"{name}/{moment}": optimizer.state[parameter][moment].contiguous()
        for name, parameter in parameters.items()
        if parameter in optimizer.state
        for moment in _MOMENTS
    }


@torch.no_grad()
def load_checkpoint(
    checkpoint: Checkpoint, layout: ModelLayout, optimizer: torch.optim.Optimizer | None
) -> None:
    """Put a checkpoint's weights, and moments where an optimizer is given, back where they were.

    Raises:
        RunError: a file is missing or damaged, or belongs to another model.
    """
    for layer in layout.layers:
        stored = _read_file(layer_file(checkpoint.path, layer.name))
        shapes = {name: parameter.shape for name, parameter in layer.parameters.items()}
        if {name: tensor.shape for name, tensor in stored.items()} != shapes:
            raise RunError(
                f"{layer_file(checkpoint.path, layer.name)}: other parameters than the model's",
                "the model named in the run's profile is not the one that the run began with",
            )
        for name, parameter in layer.parameters.items():
            parameter.copy_(stored[name])
    if optimizer is None:
        return
    optimizer.state.clear()
    for layer in layout.layers:
        if layer.name not in checkpoint.state["optimizer"]:
            continue
        stored = _read_file(_moment_file(checkpoint.path, layer.name))
        for name, parameter in layer.parameters.items():
            if f"{name}/step" not in stored:
                continue
            optimizer.state[parameter] = {
                # The step count lives where the fused kernel wants it: with the parameter.
                moment: stored[f"{name}/{moment}"].to(parameter.device, copy=True)
                for moment in _MOMENTS
            }


@contextmanager
def lent_weights(checkpoint: Checkpoint, layout: ModelLayout) -> Iterator[None]:
    """Give a model a checkpoint's weights for a while; afterwards it has its own, bit for bit.

    Its own lie in main memory meanwhile, and come back whatever happens.

    Raises:
        RunError: a file is missing or damaged, or belongs to another model.
    """
    own = Snapshot(layout)
    try:
        load_checkpoint(checkpoint, layout, None)
        yield
    finally:
        own.restore()


def _read_file(path: Path) -> dict[str, torch.Tensor]:
    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise RunError(
            f"{path}: can't be read: {error}", "roll back to an earlier checkpoint"
        ) from error


def read_checkpoint(path: Path) -> Checkpoint | None:
    """Return the finished checkpoint in a folder; None where it was never finished."""
    try:
        state = orjson.loads((path / STATE_FILE).read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        return None
    except orjson.JSONDecodeError as error:
        raise RunError(
            f"{path / STATE_FILE}: damaged: {error}", "move the folder away and resume again"
        ) from error
    return Checkpoint(path, state)


def list_checkpoints(folder: Path) -> list[Checkpoint]:
    """Return a stage's finished checkpoints, in the order in which they were written."""
    if not folder.is_dir():
        return []
    found = [read_checkpoint(entry) for entry in folder.iterdir() if not entry.name.startswith(".")]
    return sorted((c for c in found if c is not None), key=lambda c: (c.seq, c.step))
