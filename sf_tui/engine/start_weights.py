"""Finds the start weights of a model: a stage's first checkpoint, or a Hugging Face directory.

A directory's tensors are matched with the live model's parameters in the same way as on loading:
transformers defines how names change (`h.0.…` to `transformer.h.0.…`, `embed_out` to `lm_head`),
and a shared weight may be stored under any of its names. A directory with tensors that loading
would convert, such as separate experts fused into one tensor, is refused. Pickles are never opened.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from safetensors import SafetensorError, safe_open

from sf_tui.engine.adapters.effective import EffectiveChange
from sf_tui.engine.checkpoint import checkpoint_weights, layer_file, read_checkpoint
from sf_tui.engine.checkpoint_state import STATE_FILE, DamagedCheckpointError, way_on
from sf_tui.engine.layout import Freezer, Layer, ModelLayout
from sf_tui.engine.model_files import (
    FETCH_AGAIN,
    PICKLED,
    PICKLES,
    SINGLE,
    StoredNames,
    find_weights,
)
from sf_tui.engine.parts import part, part_like, sum_parts
from sf_tui.engine.weights import AdapterOff, StoredWeights, WeightStore
from sf_tui.errors import ModelError, RunError
from sf_tui.tasks.model_source import describe_adapter
from sf_tui.vocabulary.declared import LayerDrift

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_OTHER_MODEL = "name the directory of the very model that the tuning began with"
_OTHER_CHECKPOINT = "the checkpoint belongs to another model, or was damaged: name another one"
_GGUF = "GGUF weights are quantized: name a directory with the same model as *.safetensors"


def open_start_weights(
    folder: Path,
    model: PreTrainedModel,
    layout: ModelLayout,
    names: StoredNames | None = None,
) -> StoredWeights:
    """Open a model's start weights and check from the headers that they fit.

    Args:
        folder: a stage's first checkpoint, or a Hugging Face directory with safetensors.
        model: the live model; a directory may store a shared weight under another of its names.
        layout: the model's layers.
        names: name mapping of a model with a vision or audio part; None for a text model.

    Raises:
        ModelError: the folder doesn't exist, or the directory doesn't fit the model.
        RunError: the checkpoint is incomplete or doesn't fit the model.
    """
    is_model = (folder / "config.json").is_file()
    if not is_model and ((folder / STATE_FILE).is_file() or (folder / "weights").is_dir()):
        start = _of_checkpoint(folder, layout)
    else:
        start = _of_directory(folder, model, layout, names)
    start.check(layout)
    return start


def _of_checkpoint(folder: Path, layout: ModelLayout) -> StoredWeights:
    checkpoint = read_checkpoint(folder)
    if checkpoint is None:
        raise RunError(
            f"{folder}: this checkpoint was never finished: it has no {STATE_FILE}",
            "name a finished one",
        )
    files = {layer_file(folder, layer.name) for layer in layout.layers}
    beyond = sorted(set((folder / "weights").glob("*.safetensors")) - files)
    if beyond:
        raise RunError(f"{beyond[0]}: a layer that the model doesn't have", _OTHER_CHECKPOINT)

    def verify(path: Path) -> None:
        try:
            checkpoint.weights_file(path.stem)
        except DamagedCheckpointError as error:
            raise RunError(error.message, _OTHER_CHECKPOINT) from error

    return checkpoint_weights(checkpoint, layout, _OTHER_CHECKPOINT, verify)


def _of_directory(
    folder: Path, model: PreTrainedModel, layout: ModelLayout, names: StoredNames | None
) -> StoredWeights:
    holder = {key: path for path in weight_files(folder) for key in _list_tensors(path)}
    keys = _match_names(folder, holder, model, layout, names)
    places = {
        layer.name: {
            name: (holder[keys[name]], keys[name])
            for name in layout.stored_in(layer)
            if name in keys
        }
        for layer in layout.layers
    }
    return StoredWeights(folder, places, ModelError, _OTHER_MODEL)


def _match_names(
    folder: Path,
    keys: Iterable[str],
    model: PreTrainedModel,
    layout: ModelLayout,
    names: StoredNames | None = None,
) -> dict[str, str]:
    """Return the name in the files of every parameter of a model.

    Args:
        folder: the directory, for messages.
        keys: names of all its tensors; those without a parameter in the model, such as buffers,
            are skipped.
        model: the live model.
        layout: its layers.
        names: name mapping of a model with a vision or audio part; None for a text model.

    Raises:
        ModelError: a parameter has no tensor, or the files have more blocks than the model.
    """
    loaded, recast = (names or StoredNames(model)).loaded(keys)
    stored: dict[str, str] = {}
    for key, name in loaded.items():
        stored.setdefault(name, key)
    # Collect all names of each parameter; the layout uses the first.
    aliases: dict[int, list[str]] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        aliases.setdefault(id(parameter), []).append(name)
    wanted = [known for known in aliases.values() if known[0] in layout.stored]
    found: dict[str, str] = {}
    absent: list[str] = []
    for known in wanted:
        present = next((stored[name] for name in known if name in stored), None)
        if present is None:
            absent.append(known[0])
        else:
            found[known[0]] = present
    if absent:
        raise ModelError(
            f"{folder}: no tensor '{absent[0]}' in its safetensors "
            f"({len(absent)} of {len(wanted)} are missing)",
            "it stores some layers otherwise than the model uses them (experts one by one): only "
            "the first checkpoint of a run's stage can be read as start weights"
            if recast
            else _OTHER_MODEL,
        )
    _refuse_more_blocks(folder, stored, layout)
    return found


def _refuse_more_blocks(folder: Path, stored: dict[str, str], layout: ModelLayout) -> None:
    blocks = next(iter(layout.blocks[0].parameters)).partition(".0.")[0]
    beyond = f"{blocks}.{len(layout.blocks)}."
    more = next((key for name, key in sorted(stored.items()) if name.startswith(beyond)), None)
    if more:
        raise ModelError(
            f"{folder}: tensor '{more}' is of a block beyond the model's {len(layout.blocks)}",
            _OTHER_MODEL,
        )


def weight_files(folder: Path) -> list[Path]:
    """Return the weight files of a directory: the single file, or all shards.

    Raises:
        ModelError: the directory doesn't exist, has no complete safetensors model, or its index
            names a pickle or a file outside the directory.
    """
    if not folder.is_dir():
        kind = "not a directory" if folder.exists() else "no such directory"
        hint = "start weights are a stage's first checkpoint or a directory with *.safetensors"
        raise ModelError(f"{folder}: {kind}", _GGUF if folder.suffix == ".gguf" else hint)
    adapter = describe_adapter(folder)
    files = find_weights(folder)
    if adapter and files:
        raise ModelError(
            f"{folder}: it holds full weights and {adapter}: which of them was the start is "
            "unclear",
            "merge the adapter into the weights, or move its files away",
        )
    if not files:
        raise ModelError(f"{folder}: no {SINGLE} in it", _what_instead(folder, adapter))
    return files


def _list_tensors(path: Path) -> list[str]:
    """Return the names of a file's tensors.

    Raises:
        ModelError: it isn't a complete safetensors file.
    """
    try:
        with safe_open(path, framework="pt") as file:
            return list(file.keys())
    except (OSError, SafetensorError) as error:
        raise ModelError(f"{path}: can't be read: {error}", FETCH_AGAIN) from error


def _what_instead(folder: Path, adapter: str | None) -> str:
    if adapter:
        return f"it is {adapter}: merge it into its model, or name the model that it adapts"
    if any(folder.glob("*.gguf")):
        return _GGUF
    if (folder / "model" / SINGLE).is_file():
        return f"did you mean '{folder / 'model'}'?"
    if any(path for pattern in PICKLES for path in folder.glob(pattern)):
        return PICKLED
    return "the weights are missing: download them again"


# Elements per piece when computing differences, to avoid copying an embedding matrix.
_PIECE = 1 << 22


class DriftMeter:
    """Measures ‖W − W₀‖ / ‖W₀‖ of every layer, where W₀ are the stage's start weights.

    In a model with an adapter, both are the effective weights of the modules that it adapts.
    """

    def __init__(self, layout: ModelLayout, freezer: Freezer, start: Path | WeightStore) -> None:
        """Prepare the measurement.

        Args:
            layout: the model's layers.
            freezer: knows which of them are frozen.
            start: the stage's first checkpoint, or the weights that it began with.
        """
        self._layout = layout
        self._freezer = freezer
        self._start = start
        self._norms: dict[str, float] = {}
        self._effective = EffectiveChange(layout.adapters) if layout.adapters else None

    def measure(self) -> list[LayerDrift]:
        """Return the drift of every layer, from input to output.

        Raises:
            RunError: the stage's first checkpoint is missing or damaged.
        """
        store = self._store()
        return [
            LayerDrift(
                layer.name, self._relative_update(layer, store), self._freezer.is_frozen(layer)
            )
            for layer in self._layout.layers
        ]

    def _store(self) -> WeightStore:
        if isinstance(self._start, WeightStore):
            return self._start
        start = read_checkpoint(self._start)
        if start is None:
            raise RunError(
                f"{self._start}: the stage's first checkpoint is gone", way_on(self._start)
            )
        return checkpoint_weights(start, self._layout)

    @torch.no_grad()
    def _relative_update(self, layer: Layer, store: WeightStore) -> float:
        if self._effective is not None:
            then = None if isinstance(store, AdapterOff) else dict(store.tensors(layer.name))
            return self._effective.relative_update(layer.name, layer.parameters, then)
        moved = 0.0
        norm = 0.0
        for name, tensor in store.tensors(layer.name):
            if name not in self._layout.trainable:
                continue
            parameter = layer.parameters[name].detach()
            start = part_like(tensor, parameter).flatten()
            now = part(parameter).flatten()
            for at in range(0, len(start), _PIECE):
                piece = start[at : at + _PIECE].to(now.device, torch.float32)
                difference = now[at : at + _PIECE].float() - piece
                moved += float(torch.linalg.vector_norm(difference)) ** 2
                if layer.name not in self._norms:
                    norm += float(torch.linalg.vector_norm(piece)) ** 2
        moved, norm = sum_parts([moved, norm], next(iter(layer.parameters.values())))
        self._norms.setdefault(layer.name, math.sqrt(norm))
        return math.sqrt(moved) / max(self._norms[layer.name], 1e-12)
