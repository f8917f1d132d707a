"""A model's start weights, read from safetensors a layer at a time.

They lie in a stage's first checkpoint, one file a layer, or in a plain Hugging Face directory,
whose names are matched with the live model's. It knows where each tensor lies and that it fits; it
doesn't know what is done with it, and it never opens a pickle.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from safetensors import SafetensorError, safe_open

from sf_tui.engine.checkpoint import Checkpoint, layer_file, read_checkpoint
from sf_tui.engine.checkpoint_state import STATE_FILE, DamagedCheckpointError
from sf_tui.engine.layout import ModelLayout
from sf_tui.engine.stored_names import StoredNames
from sf_tui.engine.weight_check import count_not_finite
from sf_tui.errors import ModelError, RunError, SfError
from sf_tui.recovery.edits.tensor_names import OTHER_MODEL, match_names
from sf_tui.recovery.edits.weight_files import list_tensors, weight_files

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_FLOATING = frozenset({"F64", "F32", "F16", "BF16"})
_OTHER_CHECKPOINT = "the checkpoint belongs to another model, or was damaged: name another one"

Place = tuple[Path, str]
"""A file and the name of a tensor in it."""


class StartWeights:
    """Where the start weights of a model's layers lie, and their reader.

    Args:
        folder: the checkpoint or model directory, as messages name it.
        places: by layer and by the live model's name of each parameter.
        fault: what is raised where something is wrong with the files.
        hint: what to do when a tensor is missing or of another shape.
        checkpoint: the checkpoint that they are, whose checksums are compared.
    """

    def __init__(
        self,
        folder: Path,
        places: dict[str, dict[str, Place]],
        fault: type[SfError],
        hint: str,
        checkpoint: Checkpoint | None = None,
    ) -> None:
        self.folder = folder
        self._places = places
        self._fault = fault
        self._hint = hint
        self._checkpoint = checkpoint

    def layer(self, name: str) -> dict[str, torch.Tensor]:
        """Return a layer's start weights by the live model's parameter names.

        They are in main memory, in the type in which they are stored.

        Raises:
            ModelError: a model directory's file can't be read.
            RunError: a checkpoint's file can't be read.
        """
        return dict(self._read(name))

    def check(self, layout: ModelLayout) -> None:
        """Make sure from the files' headers that every parameter of a model has start weights.

        Raises:
            ModelError: a model directory's file can't be read, or a tensor is missing, of another
                shape, or quantized; the message names both.
            RunError: the same for a checkpoint.
        """
        for layer in layout.layers:
            places = self._places.get(layer.name, {})
            for name in layer.parameters:
                if name not in places:
                    raise self._fault(f"{self.folder}: no tensor '{name}' in it", self._hint)
            for path, wanted in _by_file(places).items():
                with self._open(path) as file:
                    present = set(file.keys())
                    for name, key in wanted:
                        if key not in present:
                            raise self._fault(f"{path}: no tensor '{key}' in it", self._hint)
                        stored = file.get_slice(key)
                        shape, expected = stored.get_shape(), list(layer.parameters[name].shape)
                        if shape != expected:
                            raise self._fault(
                                f"{path}: tensor '{key}' is {_written(shape)}, the model's "
                                f"'{name}' is {_written(expected)}",
                                self._hint,
                            )
                        if stored.get_dtype() not in _FLOATING:
                            raise self._fault(
                                f"{path}: tensor '{key}' is stored as {stored.get_dtype()}: "
                                "quantized",
                                "take the unquantized start weights",
                            )

    def check_values(self, layout: ModelLayout) -> None:
        """Read every tensor once, so that nothing is left to fail halfway through an edit.

        Raises:
            ModelError: as `check`, or a tensor holds values that are not finite.
            RunError: the same for a checkpoint.
        """
        self.check(layout)
        for layer in layout.layers:
            for name, tensor in self._read(layer.name):
                nans, infinite = count_not_finite(tensor)
                if nans or infinite:
                    path, key = self._places[layer.name][name]
                    raise self._fault(
                        f"{path}: tensor '{key}' holds values that are not finite: {nans} NaN, "
                        f"{infinite} inf",
                        "the file is damaged, or these weights were never a start: name others",
                    )

    def _read(self, layer: str) -> Iterator[tuple[str, torch.Tensor]]:
        for path, wanted in _by_file(self._places[layer]).items():
            with self._open(path) as file:
                for name, key in wanted:
                    try:
                        tensor = file.get_tensor(key)
                    except (OSError, SafetensorError) as error:
                        raise self._fault(
                            f"{path}: tensor '{key}' can't be read: {error}", self._hint
                        ) from error
                    yield name, tensor

    def _open(self, path: Path) -> safe_open:
        try:
            if self._checkpoint is not None:
                self._checkpoint.weights_file(path.stem)
            return safe_open(path, framework="pt")
        except DamagedCheckpointError as error:
            raise RunError(error.message, self._hint) from error
        except (OSError, SafetensorError) as error:
            raise self._fault(f"{path}: can't be read: {error}", self._hint) from error


def open_start_weights(
    folder: Path,
    model: PreTrainedModel,
    layout: ModelLayout,
    names: StoredNames | None = None,
) -> StartWeights:
    """Find the start weights of a model and check from the headers that they fit it.

    Args:
        folder: a stage's first checkpoint, or a Hugging Face directory with safetensors.
        model: the live model; a directory may know a shared weight under another of its names.
        layout: the model's layers.
        names: how a directory with a vision or audio part names its text part; None for any other.

    Raises:
        ModelError: there is no such folder, or the directory doesn't fit the model.
        RunError: the checkpoint was never finished or doesn't fit the model.
    """
    is_model = (folder / "config.json").is_file()
    if not is_model and ((folder / STATE_FILE).is_file() or (folder / "weights").is_dir()):
        start = _of_checkpoint(folder, layout)
    else:
        start = _of_directory(folder, model, layout, names)
    start.check(layout)
    return start


def _of_checkpoint(folder: Path, layout: ModelLayout) -> StartWeights:
    checkpoint = read_checkpoint(folder)
    if checkpoint is None:
        raise RunError(
            f"{folder}: this checkpoint was never finished: it has no {STATE_FILE}",
            "name a finished one",
        )
    files = {layer_file(folder, layer.name): layer for layer in layout.layers}
    beyond = sorted(set((folder / "weights").glob("*.safetensors")) - set(files))
    if beyond:
        raise RunError(f"{beyond[0]}: a layer that the model doesn't have", _OTHER_CHECKPOINT)
    places = {
        layer.name: {name: (path, name) for name in layer.parameters}
        for path, layer in files.items()
    }
    return StartWeights(folder, places, RunError, _OTHER_CHECKPOINT, checkpoint)


def _of_directory(
    folder: Path, model: PreTrainedModel, layout: ModelLayout, names: StoredNames | None
) -> StartWeights:
    holder = {key: path for path in weight_files(folder) for key in list_tensors(path)}
    keys = match_names(folder, holder, model, layout, names)
    places = {
        layer.name: {
            name: (holder[keys[name]], keys[name]) for name in layer.parameters if name in keys
        }
        for layer in layout.layers
    }
    return StartWeights(folder, places, ModelError, OTHER_MODEL)


def _by_file(places: dict[str, Place]) -> dict[Path, list[tuple[str, str]]]:
    files: dict[Path, list[tuple[str, str]]] = {}
    for name, (path, key) in places.items():
        files.setdefault(path, []).append((name, key))
    return files


def _written(shape: list[int]) -> str:
    return " × ".join(map(str, shape)) or "a single number"
