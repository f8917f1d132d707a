"""Maps a model's parameters to layers, and records which parameters train and which are stored.

A model is split into its embeddings (everything that the blocks' input depends on: tables, their
norms and projections), its decoder blocks in order, and the head (the rest: final norm and output
projection). Layers are identified by index, never by a name prefix. Whether a parameter trains or
is stored is fixed when the model is loaded; freezing changes neither. A frozen parameter gets no
gradient and stays bit-identical; nothing else in this module changes a model.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from itertools import takewhile
from typing import TYPE_CHECKING

from torch import nn

from sf_tui.engine.adapters.layers import AdapterLayers, find_adapters
from sf_tui.engine.composite import text_parameters, text_part_name
from sf_tui.engine.observation import Observation
from sf_tui.errors import ModelError

if TYPE_CHECKING:
    from transformers import PreTrainedModel

EMBEDDINGS = "embeddings"
HEAD = "head"


@dataclass(frozen=True)
class Layer:
    """A part of a model that is frozen, measured and stored as a unit."""

    name: str
    """`embeddings`, `block-N` (N from 0 at the input) or `head`."""
    parameters: dict[str, nn.Parameter]
    """By parameter name in the model; a shared parameter appears once."""

    @property
    def elements(self) -> int:
        """Number of scalars in the layer."""
        return sum(parameter.numel() for parameter in self.parameters.values())


@dataclass(frozen=True)
class ModelLayout:
    """A model's layers, from input to output."""

    embeddings: Layer
    blocks: tuple[Layer, ...]
    head: Layer
    tied: bool
    """Whether the output projection is the input embedding, so that freezing one freezes both."""
    trainable: frozenset[str]
    """Names of the parameters that train when nothing is frozen: those with `requires_grad` when
    the layout was read."""
    stored: frozenset[str]
    """Names of the parameters in checkpoints and snapshots."""
    adapters: AdapterLayers | None = None
    """The model's adapter layers; None if its weights themselves train."""

    @property
    def layers(self) -> tuple[Layer, ...]:
        """All layers that have parameters, from input to output."""
        every = (self.embeddings, *self.blocks, self.head)
        return tuple(layer for layer in every if layer.parameters)

    @property
    def elements(self) -> int:
        """Number of scalars in the model."""
        return sum(layer.elements for layer in self.layers)

    @property
    def stored_elements(self) -> int:
        """Number of scalars in a checkpoint's weights."""
        return sum(p.numel() for layer in self.layers for p in self.stored_in(layer).values())

    @property
    def trainable_parameters(self) -> list[nn.Parameter]:
        """The parameters that train when nothing is frozen, from input to output."""
        return [p for layer in self.layers for p in self.trainable_in(layer).values()]

    def trainable_in(self, layer: Layer) -> dict[str, nn.Parameter]:
        """Return the parameters of a layer that train when nothing is frozen."""
        return {name: p for name, p in layer.parameters.items() if name in self.trainable}

    def stored_name(self, name: str) -> str:
        """Return the name in checkpoints of a parameter of the live model."""
        return name if self.adapters is None else self.adapters.stored_name(name)

    def stored_in(self, layer: Layer) -> dict[str, nn.Parameter]:
        """Return the parameters of a layer that checkpoints and snapshots store."""
        return {name: p for name, p in layer.parameters.items() if name in self.stored}


def block_name(index: int) -> str:
    """Return the name of decoder block `index`, counted from 0 at the input."""
    return f"block-{index}"


def block_module(model: nn.Module, block: Layer) -> nn.Module:
    """Return the module of a decoder block."""
    parts = [name.split(".")[:-1] for name in block.parameters]
    shared = takewhile(lambda each: len(set(each)) == 1, zip(*parts, strict=False))
    return model.get_submodule(".".join(each[0] for each in shared))


def read_layout(
    model: PreTrainedModel,
    observation: Observation | None = None,
    *,
    stored: Collection[str] | None = None,
) -> ModelLayout:
    """Split a decoder model into its layers.

    Args:
        model: a model with `requires_grad` as loaded, before anything is frozen.
        observation: a recorded pass through the model; None runs one.
        stored: names of the parameters to store in checkpoints; None for all of every layer, or, in
            a model with an adapter, for those of the adapter and all others that train.

    Raises:
        ModelError: the hidden state doesn't pass through a single list of blocks, or a trainable
            parameter would not be stored.
    """
    observation = observation or Observation(model)
    # A vision part also has a list of blocks.
    blocks_name, blocks_module = observation.find_blocks(text_part_name(model))

    owner: dict[str, str] = {}
    for index, block in enumerate(blocks_module):
        for name, _ in block.named_parameters():
            owner[f"{blocks_name}.{index}.{name}"] = block_name(index)
    input_weights = {id(weight) for weight in model.get_input_embeddings().parameters()}
    output = model.get_output_embeddings()
    before = observation.find_inputs(blocks_name)
    for module_name, module in model.named_modules():
        # Some models also name their output projection an embedding (`embed_out`).
        if module_name.startswith(f"{blocks_name}.") or module is output:
            continue
        whole = isinstance(module, nn.Embedding) or (
            before is None and _is_named_as_input(module_name)
        )
        for name, parameter in module.named_parameters(
            prefix=module_name, recurse=False, remove_duplicate=False
        ):
            if whole or (before is not None and id(parameter) in before):
                owner.setdefault(name, EMBEDDINGS)

    parts: dict[str, dict[str, nn.Parameter]] = {EMBEDDINGS: {}, HEAD: {}}
    parts |= {block_name(index): {} for index in range(len(blocks_module))}
    taken = text_parameters(model)
    for name, parameter in model.named_parameters():
        if name not in taken:
            continue
        layer = EMBEDDINGS if id(parameter) in input_weights else owner.get(name, HEAD)
        parts[layer][name] = parameter

    names = {name for layer in parts.values() for name in layer}
    trainable = frozenset(
        name for layer in parts.values() for name, p in layer.items() if p.requires_grad
    )
    adapters = find_adapters(model)
    if stored is None and adapters is not None:
        stored = trainable | (adapters.parameters.keys() & names)
    kept = frozenset(names if stored is None else stored)
    lost = sorted((trainable - kept) | (kept - names))
    if lost:
        raise ModelError(
            f"{type(model).__name__}: parameter '{lost[0]}' "
            + ("trains and is not stored" if lost[0] in trainable else "is stored and in no layer"),
            "a checkpoint must hold every parameter that trains, and nothing else than parameters",
        )
    tied = output is not None and any(id(weight) in input_weights for weight in output.parameters())
    return ModelLayout(
        embeddings=Layer(EMBEDDINGS, parts[EMBEDDINGS]),
        blocks=tuple(
            Layer(block_name(index), parts[block_name(index)])
            for index in range(len(blocks_module))
        ),
        head=Layer(HEAD, parts[HEAD]),
        tied=tied,
        trainable=trainable,
        stored=kept,
        adapters=adapters,
    )


def _is_named_as_input(name: str) -> bool:
    # Fallback for a model that can't run on a few tokens. A missed module before the blocks would
    # stay trainable, and the backward pass would run through the frozen blocks down to it.
    last = name.rpartition(".")[2]
    return "embed" in last or last == "project_in"


class Freezer:
    """Freezes layers of one model and tracks which are frozen."""

    def __init__(self, layout: ModelLayout) -> None:
        self._layout = layout
        self._frozen: set[str] = set()

    @property
    def frozen(self) -> list[str]:
        """Names of the frozen layers, from input to output."""
        return [layer.name for layer in self._layout.layers if layer.name in self._frozen]

    @property
    def freezes_output_head(self) -> bool:
        """Whether freezing the embeddings also freezes the output projection (tied weights)."""
        layout = self._layout
        return layout.tied and bool(layout.trainable_in(layout.embeddings))

    @property
    def trains_embeddings(self) -> bool:
        """Whether freezing the embeddings keeps anything from training."""
        return bool(self._layout.trainable_in(self._layout.embeddings))

    def is_frozen(self, layer: Layer) -> bool:
        """Return whether a layer is frozen."""
        return layer.name in self._frozen

    def freeze(self, layers: int | None, *, embeddings: bool) -> list[str]:
        """Freeze the bottom blocks, and optionally the input embeddings.

        Args:
            layers: number of blocks, counted from the input; None for half of them.
            embeddings: whether to freeze the input embeddings as well. If they train, the backward
                pass still runs through the frozen blocks, and a step is only slightly cheaper.

        Returns:
            Names of the layers that were not frozen before.

        Raises:
            ModelError: the model has fewer blocks, or nothing would be left to train.
        """
        names = self.choose(layers, embeddings=embeddings)
        fresh = [name for name in names if name not in self._frozen]
        self.restore(self._frozen | set(names))
        return fresh

    def choose(self, layers: int | None, *, embeddings: bool) -> list[str]:
        """Return the names of the layers that `freeze` would freeze, without freezing them.

        Raises:
            ModelError: as `freeze`.
        """
        names = [layer.name for layer in self._layout.blocks[: self.resolve(layers)]]
        if embeddings:
            names.insert(0, EMBEDDINGS)
        self._check_something_is_left(self._frozen | set(names))
        return names

    def resolve(self, layers: int | None) -> int:
        """Return the number of blocks that `freeze` would freeze.

        Raises:
            ModelError: the model has fewer blocks.
        """
        count = len(self._layout.blocks)
        wanted = count // 2 if layers is None else layers
        if not 0 <= wanted <= count:
            raise ModelError(
                f"can't freeze {wanted} blocks: the model has {count}", f"layers = 0 … {count}"
            )
        return wanted

    def unfreeze(self) -> list[str]:
        """Unfreeze every layer and return the names of those that were frozen."""
        freed = self.frozen
        self.restore(())
        return freed

    def restore(self, names: Collection[str]) -> None:
        """Freeze exactly the named layers, as listed in a checkpoint.

        Raises:
            ModelError: nothing would be left to train.
        """
        self._check_something_is_left(names)
        self._frozen = set(names)
        for layer in self._layout.layers:
            for parameter in self._layout.trainable_in(layer).values():
                parameter.requires_grad_(layer.name not in self._frozen)
                if layer.name in self._frozen:
                    parameter.grad = None

    def _check_something_is_left(self, names: Collection[str]) -> None:
        layers = [layer for layer in self._layout.layers if self._layout.trainable_in(layer)]
        if all(layer.name in names for layer in layers):
            raise ModelError("every layer would be frozen and nothing trained", "freeze fewer")
