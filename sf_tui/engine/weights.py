"""An interface to weights stored outside a model, in memory or in safetensors files.

All code that loads weights into a model, or compares a model with earlier weights, uses a
`WeightStore`: resuming, temporary start weights, restoring after a trial, drift and edits. A store
holds the parameters that the model's layout marks as stored, and yields one tensor at a time. It
does not know where a folder comes from or how its weights are used.
"""

from __future__ import annotations

import shutil
import tempfile
import weakref
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from sf_tui.engine.layout import Layer, ModelLayout
from sf_tui.engine.parts import assign, part
from sf_tui.engine.weight_check import count_not_finite
from sf_tui.errors import SfError

_FLOATING = frozenset({"F64", "F32", "F16", "BF16"})

Place = tuple[Path, str]
"""A file, and the name of a tensor in it."""


class WeightStore(ABC):
    """Stored weights of a model's layers."""

    @abstractmethod
    def tensors(self, layer: str) -> Iterator[tuple[str, torch.Tensor]]:
        """Yield the weights of a layer, one tensor at a time.

        Args:
            layer: name of the layer.

        Yields:
            The live model's name of each stored parameter, and its value in main memory in its
            stored dtype.

        Raises:
            SfError: a file can't be read.
        """

    @abstractmethod
    def check(self, layout: ModelLayout) -> None:
        """Check that the store has every stored parameter of a model, without reading the tensors.

        Raises:
            SfError: a parameter is missing, has another shape, or its file can't be read.
        """

    @torch.no_grad()
    def load_into(self, layout: ModelLayout) -> None:
        """Copy the weights into a model's parameters.

        Raises:
            SfError: the weights don't fit (the model is unchanged), or a file can't be read.
        """
        self.check(layout)
        for layer in layout.layers:
            for name, tensor in self.tensors(layer.name):
                assign(layer.parameters[name], tensor)
        if layout.adapters is not None:
            layout.adapters.enable(True)


class StartWeights(WeightStore):
    """The weights from before a stage.

    Attributes:
        folder: where they come from, for messages.
    """

    folder: Path

    @abstractmethod
    def check_values(self, layout: ModelLayout) -> None:
        """Check that every value is finite, so that an edit can't fail halfway.

        Raises:
            SfError: as `check`, or a tensor has values that are not finite.
        """


class AdapterOff(StartWeights):
    """The start of a model whose adapter is new: the base, with the adapter turned off.

    A new adapter of a kind that is no identity already changes the model; turned off, every kind
    gives the base's own outputs to the bit. The adapter's weights stay in the model meanwhile.
    """

    def __init__(self, folder: Path) -> None:
        """Name the base.

        Args:
            folder: the base model, for messages.
        """
        self.folder = folder

    def tensors(self, layer: str) -> Iterator[tuple[str, torch.Tensor]]:  # noqa: ARG002  none
        """Yield nothing: a model without its adapter has no stored parameters."""
        yield from ()

    def check(self, layout: ModelLayout) -> None:
        """Check that the model has an adapter."""
        assert layout.adapters is not None, "only an adapter can be turned off"

    def check_values(self, layout: ModelLayout) -> None:
        """Check as `check`; the base's values were checked when it was loaded."""
        self.check(layout)

    def load_into(self, layout: ModelLayout) -> None:
        """Turn the adapter off; restoring a snapshot from before turns it on again."""
        self.check(layout)
        assert layout.adapters is not None  # checked
        layout.adapters.enable(False)


_snapshot_folder: ContextVar[Path | None] = ContextVar("snapshot_folder", default=None)


@contextmanager
def snapshots_in(folder: Path) -> Iterator[None]:
    """Keep snapshots that are taken within the block in files, not in main memory.

    Args:
        folder: for the files; each is deleted with its snapshot.
    """
    token = _snapshot_folder.set(folder)
    try:
        yield
    finally:
        _snapshot_folder.reset(token)


class Snapshot(WeightStore):
    """A copy of a model's stored weights, in main memory unless `snapshots_in` names a folder.

    Of divided weights it holds this rank's parts.
    """

    def __init__(self, layout: ModelLayout) -> None:
        self._layout = layout
        self._weights: dict[str, dict[str, torch.Tensor]] = {}
        self._names = {layer.name: list(layout.stored_in(layer)) for layer in layout.layers}
        self._folder: Path | None = None
        folder = _snapshot_folder.get()
        if folder is not None:
            self._folder = Path(tempfile.mkdtemp(dir=folder))
            weakref.finalize(self, shutil.rmtree, self._folder, ignore_errors=True)
        for layer in layout.layers:
            own = {name: part(p.detach()) for name, p in layout.stored_in(layer).items()}
            if self._folder is None:
                self._weights[layer.name] = {n: t.to("cpu", copy=True) for n, t in own.items()}
            else:
                contents = {name: tensor.contiguous() for name, tensor in own.items()}
                save_file(contents, self._folder / f"{layer.name}.safetensors")
        self._adapter_on = layout.adapters is None or layout.adapters.enabled

    def tensors(self, layer: str) -> Iterator[tuple[str, torch.Tensor]]:
        """Yield the weights of a layer; see `WeightStore.tensors`."""
        if self._folder is None:
            yield from self._weights[layer].items()
            return
        with safe_open(self._folder / f"{layer}.safetensors", framework="pt") as file:
            for name in self._names[layer]:
                yield name, file.get_tensor(name)

    def check(self, layout: ModelLayout) -> None:
        """Check that the snapshot is of this model; see `WeightStore.check`."""
        stored = {layer.name: list(layout.stored_in(layer)) for layer in layout.layers}
        assert stored == self._names

    def restore(self) -> None:
        """Copy the weights back into their model, bit for bit, and turn its adapter on or off."""
        self.load_into(self._layout)

    @torch.no_grad()
    def load_into(self, layout: ModelLayout) -> None:
        """Copy the weights into a model; see `WeightStore.load_into`."""
        self.check(layout)
        for layer in layout.layers:
            for name, tensor in self.tensors(layer.name):
                part(layer.parameters[name]).copy_(tensor)
        if layout.adapters is not None:
            layout.adapters.enable(self._adapter_on)


class StoredWeights(StartWeights):
    """Weights in safetensors files, such as a stage's first checkpoint or a model directory."""

    def __init__(
        self,
        folder: Path,
        places: dict[str, dict[str, Place]],
        fault: type[SfError],
        hint: str,
        verify: Callable[[Path], object] | None = None,
    ) -> None:
        """Record where the tensors are.

        Args:
            folder: the checkpoint or model directory, for messages.
            places: by layer and by the live model's name of each parameter.
            fault: the exception type for invalid files.
            hint: the error hint if a tensor is missing or has another shape.
            verify: called before a file is opened, to verify its checksum.
        """
        self.folder = folder
        self._places = places
        self._fault = fault
        self._hint = hint
        self._verify = verify

    def tensors(self, layer: str) -> Iterator[tuple[str, torch.Tensor]]:
        """Yield the weights of a layer; see `WeightStore.tensors`."""
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

    def check(self, layout: ModelLayout) -> None:
        """Check from the files' headers that every stored parameter of a model is present.

        Raises:
            SfError: of the type `fault`: a file can't be read, or a tensor is missing, quantized or
                has another shape; the message names file and tensor.
        """
        for layer in layout.layers:
            self._check_layer(layer, layout.stored_in(layer))

    def _check_layer(self, layer: Layer, parameters: dict[str, torch.nn.Parameter]) -> None:
        places = self._places.get(layer.name, {})
        for name in parameters:
            if name not in places:
                raise self._fault(f"{self.folder}: no tensor '{name}' in it", self._hint)
        for path, wanted in _by_file(places).items():
            with self._open(path) as file:
                present = set(file.keys())
                for name, key in wanted:
                    if key not in present:
                        raise self._fault(f"{path}: no tensor '{key}' in it", self._hint)
                    stored = file.get_slice(key)
                    shape, expected = stored.get_shape(), list(parameters[name].shape)
                    if shape != expected:
                        raise self._fault(
                            f"{path}: tensor '{key}' is {_written(shape)}, the model's "
                            f"'{name}' is {_written(expected)}",
                            self._hint,
                        )
                    if stored.get_dtype() not in _FLOATING:
                        raise self._fault(
                            f"{path}: tensor '{key}' is stored as {stored.get_dtype()}: quantized",
                            "take the unquantized start weights",
                        )

    def check_values(self, layout: ModelLayout) -> None:
        """Read every tensor once, so that an edit can't fail halfway.

        Raises:
            SfError: as `check`, or a tensor has values that are not finite.
        """
        self.check(layout)
        for layer in layout.layers:
            for name, tensor in self.tensors(layer.name):
                nans, infinite = count_not_finite(tensor)
                if nans or infinite:
                    path, key = self._places[layer.name][name]
                    raise self._fault(
                        f"{path}: tensor '{key}' holds values that are not finite: {nans} NaN, "
                        f"{infinite} inf",
                        "the file is damaged, or these weights were never a start: name others",
                    )

    def _open(self, path: Path) -> safe_open:
        if self._verify is not None:
            self._verify(path)
        try:
            return safe_open(path, framework="pt")
        except (OSError, SafetensorError) as error:
            raise self._fault(f"{path}: can't be read: {error}", self._hint) from error


@contextmanager
def with_weights(store: WeightStore, layout: ModelLayout) -> Iterator[None]:
    """Load a store's weights into a model temporarily, then restore its own, bit for bit.

    The model's own weights stay in main memory meanwhile and are restored even after an exception.

    Raises:
        SfError: the store's weights don't fit the model or can't be read.
    """
    own = Snapshot(layout)
    try:
        store.load_into(layout)
        yield
    finally:
        own.restore()


@contextmanager
def weights_restored(
    model: torch.nn.Module, layout: ModelLayout, *, thaw: bool = True
) -> Iterator[Snapshot]:
    """Run a block that may change a model's weights, then restore the model exactly.

    Weights, frozen layers, gradients, train mode and the random state are restored even if the
    block raises.

    Args:
        model: the model.
        layout: its layers.
        thaw: whether to unfreeze all trainable parameters meanwhile; False keeps them frozen.
    """
    parameters = [p for layer in layout.layers for p in layer.parameters.values()]
    was_thawed = [parameter.requires_grad for parameter in parameters]
    was_training = model.training
    snapshot = Snapshot(layout)
    devices = sorted({p.device.index or 0 for p in parameters if p.device.type == "cuda"})
    with torch.random.fork_rng(devices=devices):
        try:
            for parameter in parameters:
                parameter.grad = None
            if thaw:
                for parameter in layout.trainable_parameters:
                    parameter.requires_grad_(True)
            yield snapshot
        finally:
            snapshot.restore()
            for parameter, thawed in zip(parameters, was_thawed, strict=True):
                parameter.grad = None
                parameter.requires_grad_(thawed)
            model.train(was_training)


def _by_file(places: dict[str, Place]) -> dict[Path, list[tuple[str, str]]]:
    files: dict[Path, list[tuple[str, str]]] = {}
    for name, (path, key) in places.items():
        files.setdefault(path, []).append((name, key))
    return files


def _written(shape: list[int]) -> str:
    return " × ".join(map(str, shape)) or "a single number"
