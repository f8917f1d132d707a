"""Which parameter of a model belongs to which layer, by index and never by a name's beginning.

A model is taken apart into its embeddings (all that the blocks' input depends on: tables, their
norms and projections), its decoder blocks in order, and the head (all the rest: final norm and
output projection). Nothing here changes a model.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import nn

from sf_tui.engine.block_list import find_blocks, find_inputs
from sf_tui.engine.composite import text_parameters, text_part_name

if TYPE_CHECKING:
    from transformers import PreTrainedModel

EMBEDDINGS = "embeddings"
HEAD = "head"


@dataclass(frozen=True)
class Layer:
    """One part of a model that is frozen, measured and stored as a whole."""

    name: str
    """`embeddings`, `block-N` (N from 0 at the input) or `head`."""
    parameters: dict[str, nn.Parameter]
    """By the model's own name for each; a parameter that is shared stands only once."""

    @property
    def elements(self) -> int:
        """Number of scalars in the layer."""
        return sum(parameter.numel() for parameter in self.parameters.values())


@dataclass(frozen=True)
class ModelLayout:
    """A model's layers from the input to the output."""

    embeddings: Layer
    blocks: tuple[Layer, ...]
    head: Layer
    tied: bool
    """Whether the output projection is the input embedding, so that freezing one freezes both."""

    @property
    def layers(self) -> tuple[Layer, ...]:
        """Every layer, from the input to the output; those without parameters left out."""
        every = (self.embeddings, *self.blocks, self.head)
        return tuple(layer for layer in every if layer.parameters)

    @property
    def elements(self) -> int:
        """Number of scalars in the model."""
        return sum(layer.elements for layer in self.layers)


def block_name(index: int) -> str:
    """Return the name of decoder block `index`, counted from 0 at the input."""
    return f"block-{index}"


def read_layout(model: PreTrainedModel) -> ModelLayout:
    """Take a decoder model apart into its layers.

    Raises:
        ModelError: its hidden state doesn't pass through one list of blocks.
    """
    # A vision part has a list of blocks, too.
    blocks_name, blocks_module = find_blocks(model, text_part_name(model))

    owner: dict[str, str] = {}
    for index, block in enumerate(blocks_module):
        for name, _ in block.named_parameters():
            owner[f"{blocks_name}.{index}.{name}"] = block_name(index)
    input_weights = {id(weight) for weight in model.get_input_embeddings().parameters()}
    output = model.get_output_embeddings()
    before = find_inputs(model, blocks_module)
    for module_name, module in model.named_modules():
        # Some models call their output projection an embedding too (`embed_out`).
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

    tied = output is not None and any(id(weight) in input_weights for weight in output.parameters())
    return ModelLayout(
        embeddings=Layer(EMBEDDINGS, parts[EMBEDDINGS]),
        blocks=tuple(
            Layer(block_name(index), parts[block_name(index)])
            for index in range(len(blocks_module))
        ),
        head=Layer(HEAD, parts[HEAD]),
        tied=tied,
    )


def _is_named_as_input(name: str) -> bool:
    # For a model that can't be run on two tokens. Left trainable, what stands before the blocks
    # would pull the backward pass through frozen blocks.
    last = name.rpartition(".")[2]
    return "embed" in last or last == "project_in"
