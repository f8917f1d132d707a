"""Checkpoints: weights and optimizer as safetensors, everything else as JSON, no pickles.

A checkpoint is written to a temporary folder, synced and renamed. A folder without `state.json` is
incomplete and is ignored. Each layer has its own file, so writing needs only one layer of memory
beyond what training uses. Every file's checksum is verified before the file is read.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file

from sf_tui.engine.checkpoint_state import (
    FORMAT,
    STATE_FILE,
    DamagedCheckpointError,
    dump_state,
    parse_state,
    record_file,
    resume_way,
    verified_file,
)
from sf_tui.engine.layout import ModelLayout
from sf_tui.engine.parts import divided_like
from sf_tui.engine.weights import StoredWeights
from sf_tui.errors import RunError
from sf_tui.run.durable import new_folder, read_regular

_FOLDER = re.compile(r"step-\d{6,}(~\d+)?")
_MOMENTS = ("exp_avg", "exp_avg_sq", "step")
_OTHER_MODEL = "the model named in the run's profile is not the one that the run began with"


def step_folder(step: int) -> str:
    """Return the folder name of a step's checkpoint."""
    return f"step-{step:06d}"


def start_folder(stage: Path) -> Path:
    """Return the checkpoint with a stage's start weights.

    Weights that an op changed before the first step replace the stage's first checkpoint, which is
    kept beside it as `step-000000~1`.

    Args:
        stage: the folder of the stage's checkpoints.
    """
    first = stage / step_folder(0)
    kept = [at for at in stage.glob(f"{first.name}~*") if _FOLDER.fullmatch(at.name)]
    return min(kept, key=lambda at: int(at.name.partition("~")[2]), default=first)


def layer_file(checkpoint: Path, layer: str) -> Path:
    """Return the file with a layer's weights."""
    return checkpoint / "weights" / f"{layer}.safetensors"


def _strategy_file(checkpoint: Path, strategy: str) -> Path:
    return checkpoint / "strategies" / f"{strategy}.safetensors"


def moment_file(checkpoint: Path, layer: str) -> Path:
    """Return the path of a layer's moments in a checkpoint folder."""
    return checkpoint / "optimizer" / f"{layer}.safetensors"


@dataclass(frozen=True)
class Checkpoint:
    """A complete checkpoint on disk."""

    path: Path
    state: dict[str, Any]

    @property
    def stage(self) -> str:
        """Name of its stage."""
        return str(self.state["stage"])

    @property
    def step(self) -> int:
        """Optimizer steps that the stage had done when it was written."""
        return int(self.state["step"])

    @property
    def seq(self) -> int:
        """Number of the last event in the log when it was written."""
        return int(self.state["seq"])

    @property
    def size(self) -> int:
        """Total size of its files in bytes."""
        return sum(file.stat().st_size for file in self.path.rglob("*") if file.is_file())

    def weights_file(self, layer: str) -> Path:
        """Verify the file with a layer's weights and return its path.

        Raises:
            DamagedCheckpointError: it is missing or damaged.
        """
        return self._verified(layer_file(self.path, layer))

    def moments_file(self, layer: str) -> Path:
        """Verify the file with a layer's optimizer moments and return its path.

        Raises:
            DamagedCheckpointError: it is missing or damaged.
        """
        return self._verified(moment_file(self.path, layer))

    def strategy_tensors(self, strategy: str) -> dict[str, torch.Tensor]:
        """Return the tensors that a strategy stored, in main memory; empty if it stored none.

        Raises:
            DamagedCheckpointError: the file is missing or damaged.
        """
        file = _strategy_file(self.path, strategy)
        if file.relative_to(self.path).as_posix() not in self.state["files"]:
            return {}
        return _read_file(self._verified(file), self)

    def verify(self) -> None:
        """Verify the checksums of all its files.

        Raises:
            DamagedCheckpointError: a file is missing or damaged.
        """
        for name in self.state["files"]:
            self._verified(self.path / name)

    def _verified(self, file: Path) -> Path:
        return verified_file(self.path, self.state, file.relative_to(self.path).as_posix())


def save_checkpoint(
    path: Path,
    layout: ModelLayout,
    optimizer: torch.optim.Optimizer | None,
    state: dict[str, Any],
    strategies: Mapping[str, Mapping[str, torch.Tensor]] | None = None,
    gathered: Path | None = None,
) -> int:
    """Write a checkpoint and return its size in bytes.

    Args:
        path: its folder; a complete checkpoint of that name stays until the new one replaces it.
        layout: the model's layers; its stored parameters are written.
        optimizer: AdamW whose moments are stored; None before the stage begins.
        state: everything else that a resume needs, as JSON with `stage`, `step` and `seq`. The
            format, the layers with stored moments, and all checksums are added to it.
        strategies: tensors of the strategies, by strategy and name.
        gathered: a folder with the files of weights and moments, from `gather_checkpoint`; it is
            moved into the checkpoint.

    Raises:
        RunError: the disk is full or can't be written; existing files are unchanged.
    """
    aside = path.with_name(f".{path.name}.writing")
    try:
        with new_folder(path, aside, path.with_name(f".{path.name}.replaced")) as folder:
            whole = _write(folder, layout, optimizer, state, strategies or {}, gathered)
    except (OSError, SafetensorError) as error:
        raise unwritten(path, error) from error
    return Checkpoint(path, whole).size


def unwritten(path: Path, error: Exception) -> RunError:
    """Return the error for a checkpoint that can't be written."""
    return RunError(
        f"{path}: can't write the checkpoint: {error}",
        "earlier checkpoints are intact; make room on the disk, then "
        f"{resume_way(path)} continues the run",
    )


def _write(
    folder: Path,
    layout: ModelLayout,
    optimizer: torch.optim.Optimizer | None,
    state: dict[str, Any],
    strategies: Mapping[str, Mapping[str, torch.Tensor]],
    gathered: Path | None,
) -> dict[str, Any]:
    """Write a checkpoint's files and return its complete state."""
    if gathered is None:
        (folder / "weights").mkdir()
        (folder / "optimizer").mkdir()
    else:
        for name in ("weights", "optimizer"):
            (gathered / name).rename(folder / name)
        gathered.rmdir()
    with_moments: list[str] = []
    files: dict[str, dict[str, Any]] = {}

    def record(file: Path) -> None:
        files[file.relative_to(folder).as_posix()] = record_file(file)

    def write(file: Path, tensors: dict[str, torch.Tensor]) -> None:
        save_file(tensors, file)
        record(file)

    for layer in layout.layers:
        of_weights, of_moments = layer_file(folder, layer.name), moment_file(folder, layer.name)
        if gathered is None:
            stored = layout.stored_in(layer)
            save_file(
                {layout.stored_name(name): p.detach().contiguous() for name, p in stored.items()},
                of_weights,
            )
            moments = read_moments(layer.parameters, optimizer)
            if moments:
                save_file(moments, of_moments)
        record(of_weights)
        if of_moments.exists():
            record(of_moments)
            with_moments.append(layer.name)
    if strategies:
        (folder / "strategies").mkdir()
    for strategy, tensors in strategies.items():
        kept = {name: tensor.detach().contiguous() for name, tensor in tensors.items()}
        write(_strategy_file(folder, strategy), kept)
    whole = state | {"format": FORMAT, "optimizer": with_moments, "files": files}
    (folder / STATE_FILE).write_bytes(dump_state(whole))
    return whole


def read_moments(
    parameters: dict[str, torch.nn.Parameter], optimizer: torch.optim.Optimizer | None
) -> dict[str, torch.Tensor]:
    """Return the moments of a layer's parameters, as a checkpoint names them."""
    if optimizer is None:
        return {}
    return {
        f"{name}/{moment}": optimizer.state[parameter][moment].contiguous()
        for name, parameter in parameters.items()
        if parameter in optimizer.state
        for moment in _MOMENTS
    }


def checkpoint_weights(
    checkpoint: Checkpoint,
    layout: ModelLayout,
    hint: str = _OTHER_MODEL,
    verify: Callable[[Path], object] | None = None,
) -> StoredWeights:
    """Return a checkpoint's weights as a store that reads one tensor at a time.

    Args:
        checkpoint: a complete checkpoint.
        layout: the layers of the model that receives the weights.
        hint: the error hint if they don't fit.
        verify: checks a file's checksum before the file is opened; None uses a check that raises
            `DamagedCheckpointError`.
    """

    def verify_layer(path: Path) -> None:
        checkpoint.weights_file(path.stem)

    places = {
        layer.name: {
            name: (layer_file(checkpoint.path, layer.name), layout.stored_name(name))
            for name in layout.stored_in(layer)
        }
        for layer in layout.layers
    }
    return StoredWeights(checkpoint.path, places, RunError, hint, verify or verify_layer)


@torch.no_grad()
def load_checkpoint(
    checkpoint: Checkpoint, layout: ModelLayout, optimizer: torch.optim.Optimizer | None
) -> None:
    """Copy a checkpoint's weights into a model, and its moments into an optimizer if one is given.

    All checksums are verified before the first parameter is changed.

    Raises:
        RunError: a file is missing or damaged, or belongs to another model.
    """
    for layer in layout.layers:
        file = checkpoint.weights_file(layer.name)
        shapes = {
            layout.stored_name(name): list(p.shape) for name, p in layout.stored_in(layer).items()
        }
        if _read_shapes(file, checkpoint) != shapes:
            raise RunError(f"{file}: other parameters than the model's", _OTHER_MODEL)
    with_moments = checkpoint.state["optimizer"]
    strange = set(with_moments) - {layer.name for layer in layout.layers}
    if strange:
        raise RunError(
            f"{checkpoint.path / STATE_FILE}: it has moments of '{min(strange)}', a layer that the "
            "model doesn't have",
            _OTHER_MODEL,
        )
    if optimizer is None:
        with_moments = []
    moments = {name: checkpoint.moments_file(name) for name in with_moments}
    checkpoint_weights(checkpoint, layout).load_into(layout)
    if optimizer is None:
        return
    optimizer.state.clear()
    for layer in layout.layers:
        if layer.name not in moments:
            continue
        stored = _read_file(moments[layer.name], checkpoint)
        for name, parameter in layer.parameters.items():
            if f"{name}/step" not in stored:
                continue
            optimizer.state[parameter] = {
                # The fused kernel expects the step count on the parameter's device.
                moment: _moment(stored[f"{name}/{moment}"], parameter)
                for moment in _MOMENTS
            }


def _moment(stored: torch.Tensor, parameter: torch.nn.Parameter) -> torch.Tensor:
    if stored.shape != parameter.shape:
        # The number of updates, which isn't divided.
        return stored.to(parameter.device, copy=True)
    return divided_like(stored, parameter)


def _read_shapes(path: Path, checkpoint: Checkpoint) -> dict[str, list[int]]:
    try:
        with safe_open(path, framework="pt") as file:
            return {name: file.get_slice(name).get_shape() for name in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise DamagedCheckpointError(f"{path}: can't be read: {error}", checkpoint.path) from error


def _read_file(path: Path, checkpoint: Checkpoint) -> dict[str, torch.Tensor]:
    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise DamagedCheckpointError(f"{path}: can't be read: {error}", checkpoint.path) from error


def read_checkpoint(path: Path) -> Checkpoint | None:
    """Return the checkpoint in a folder, or None if it is incomplete.

    Raises:
        DamagedCheckpointError: its state differs from the one that was written.
    """
    try:
        content = read_regular(path / STATE_FILE)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise DamagedCheckpointError(
            f"{path / STATE_FILE}: can't be read: {error.strerror}", path
        ) from error
    return Checkpoint(path, parse_state(content, path))


def list_checkpoints(folder: Path) -> list[Checkpoint]:
    """Return a stage's complete checkpoints in the order in which they were written.

    Folders with other names (such as `step-000100.damaged`) are ignored.

    Raises:
        DamagedCheckpointError: the state of one of them differs from the one that was written.
    """
    if not folder.is_dir():
        return []
    found = [read_checkpoint(entry) for entry in folder.iterdir() if _FOLDER.fullmatch(entry.name)]
    return sorted((c for c in found if c is not None), key=lambda c: (c.seq, c.step))
