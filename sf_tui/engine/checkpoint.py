"""Checkpoints: weights and optimizer as safetensors, the rest as JSON; never a pickle.

A checkpoint is written aside, synced and renamed, its `state.json` last; a folder without it was
never finished and nobody trusts it. One file a layer, so that writing and reading hold one layer
more than the training itself. Nothing is read from a file whose checksum has not been compared.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from sf_tui.engine.checkpoint_state import (
    FORMAT,
    STATE_FILE,
    DamagedCheckpointError,
    dump_state,
    parse_state,
    record_file,
    resume_command,
    verified_file,
)
from sf_tui.engine.layout import ModelLayout
from sf_tui.engine.snapshot import Snapshot
from sf_tui.errors import RunError
from sf_tui.run.durable import exchange_folder, follow_umask, remove, sync_directory, sync_file
from sf_tui.run.regular_file import read_regular

_FOLDER = re.compile(r"step-\d{6,}(~\d+)?")
_MOMENTS = ("exp_avg", "exp_avg_sq", "step")
_OTHER_MODEL = "the model named in the run's profile is not the one that the run began with"


def step_folder(step: int) -> str:
    """Return the name of the checkpoint of a step."""
    return f"step-{step:06d}"


def layer_file(checkpoint: Path, layer: str) -> Path:
    """Return the file with a layer's weights."""
    return checkpoint / "weights" / f"{layer}.safetensors"


def _strategy_file(checkpoint: Path, strategy: str) -> Path:
    return checkpoint / "strategies" / f"{strategy}.safetensors"


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

    @property
    def size(self) -> int:
        """Bytes of all its files."""
        return sum(file.stat().st_size for file in self.path.rglob("*") if file.is_file())

    def weights_file(self, layer: str) -> Path:
        """Return the file with a layer's weights, once its checksum has been compared.

        Raises:
            DamagedCheckpointError: it is missing or damaged.
        """
        return self._verified(layer_file(self.path, layer))

    def moments_file(self, layer: str) -> Path:
        """Return the file with a layer's moments, once its checksum has been compared.

        Raises:
            DamagedCheckpointError: it is missing or damaged.
        """
        return self._verified(_moment_file(self.path, layer))

    def strategy_tensors(self, strategy: str) -> dict[str, torch.Tensor]:
        """Return what a strategy stored, in main memory; empty where it stored no tensors.

        Raises:
            DamagedCheckpointError: the file is missing or damaged.
        """
        file = _strategy_file(self.path, strategy)
        if file.relative_to(self.path).as_posix() not in self.state["files"]:
            return {}
        return _read_file(self._verified(file), self)

    def verify(self) -> None:
        """Compare the checksums of all its files.

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
) -> int:
    """Write a checkpoint and return its size in bytes.

    Args:
        path: its folder; a finished one of that name stays as it is and is written anew beside,
            then exchanged.
        layout: the model's layers.
        optimizer: AdamW whose moments are stored; None where the stage has not begun.
        state: what else a resume needs; must be JSON with `stage`, `step` and `seq`. Added to it
            are the format, the layers whose moments are stored, and every file's checksum.
        strategies: what strategies store, by strategy and name.

    Raises:
        RunError: no room on the disk, or it can't be written; what was there before is untouched.
    """
    aside = path.with_name(f".{path.name}.writing")
    try:
        remove(aside)
        (aside / "weights").mkdir(parents=True)
        (aside / "optimizer").mkdir()
        with_moments: list[str] = []
        files: dict[str, dict[str, Any]] = {}

        def write(file: Path, tensors: dict[str, torch.Tensor]) -> None:
            save_file(tensors, file)
            follow_umask(file)
            sync_file(file)
            files[file.relative_to(aside).as_posix()] = record_file(file)

        for layer in layout.layers:
            weights = {name: p.detach().contiguous() for name, p in layer.parameters.items()}
            write(layer_file(aside, layer.name), weights)
            moments = _read_moments(layer.parameters, optimizer)
            if moments:
                write(_moment_file(aside, layer.name), moments)
                with_moments.append(layer.name)
        folders = [aside / "weights", aside / "optimizer"]
        if strategies:
            (aside / "strategies").mkdir()
            folders.append(aside / "strategies")
        for strategy, tensors in (strategies or {}).items():
            stored = {name: t.detach().contiguous() for name, t in tensors.items()}
            write(_strategy_file(aside, strategy), stored)
        for folder in folders:
            sync_directory(folder)
        whole = state | {"format": FORMAT, "optimizer": with_moments, "files": files}
        (aside / STATE_FILE).write_bytes(dump_state(whole))
        sync_file(aside / STATE_FILE)
        sync_directory(aside)
        exchange_folder(aside, path, path.with_name(f".{path.name}.replaced"))
    except (OSError, SafetensorError) as error:
        # The disk may refuse that as well; the next worker tries again.
        with suppress(OSError):
            remove(aside)
        raise RunError(
            f"{path}: can't write the checkpoint: {error}",
            "earlier checkpoints are intact; make room on the disk, then "
            f"`{resume_command(path)}` goes on",
        ) from error
    return Checkpoint(path, whole).size


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

    Every file's checksum is compared before the first parameter is touched.

    Raises:
        RunError: a file is missing or damaged, or belongs to another model.
    """
    files = {layer.name: checkpoint.weights_file(layer.name) for layer in layout.layers}
    with_moments = checkpoint.state["optimizer"]
    strange = set(with_moments) - set(files)
    if strange:
        raise RunError(
            f"{checkpoint.path / STATE_FILE}: it has moments of '{min(strange)}', a layer that the "
            "model doesn't have",
            _OTHER_MODEL,
        )
    if optimizer is None:
        with_moments = []
    moments = {name: checkpoint.moments_file(name) for name in with_moments}
    for layer in layout.layers:
        stored = _read_file(files[layer.name], checkpoint)
        shapes = {name: parameter.shape for name, parameter in layer.parameters.items()}
        if {name: tensor.shape for name, tensor in stored.items()} != shapes:
            raise RunError(f"{files[layer.name]}: other parameters than the model's", _OTHER_MODEL)
        for name, parameter in layer.parameters.items():
            parameter.copy_(stored[name])
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


def _read_file(path: Path, checkpoint: Checkpoint) -> dict[str, torch.Tensor]:
    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise DamagedCheckpointError(f"{path}: can't be read: {error}", checkpoint.path) from error


def read_checkpoint(path: Path) -> Checkpoint | None:
    """Return the finished checkpoint in a folder; None where it was never finished.

    Raises:
        DamagedCheckpointError: its state is not the one that was written.
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
    """Return a stage's finished checkpoints, in the order in which they were written.

    Folders of other names (`step-000100.damaged`, say) are ignored.

    Raises:
        DamagedCheckpointError: the state of one of them is not the one that was written.
    """
    if not folder.is_dir():
        return []
    found = [read_checkpoint(entry) for entry in folder.iterdir() if _FOLDER.fullmatch(entry.name)]
    return sorted((c for c in found if c is not None), key=lambda c: (c.seq, c.step))
