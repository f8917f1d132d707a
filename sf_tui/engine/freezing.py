"""Freezes layers exactly, and undoes it.

A frozen parameter takes no gradient, so the optimizer skips it: no update, no weight decay, no
momentum. It stays bit-identical for as long as it is frozen. Its optimizer state stays untouched
and is used again after an unfreeze. With the embeddings and the bottom blocks frozen, autograd
keeps no graph below the first trainable block, so backward ends there.

*Frozen* is a state of the run; *trainable* is a property of the model. A parameter that did not
train when the model was loaded is never thawed.

Source: Zheng et al. 2025 (arXiv 2501.13453), section 5, there by parameter name; here by index.
"""

from __future__ import annotations

from collections.abc import Collection

from sf_tui.engine.layout import EMBEDDINGS, Layer, ModelLayout
from sf_tui.errors import ModelError


class Freezer:
    """Tracks which layers of one model are frozen."""

    def __init__(self, layout: ModelLayout) -> None:
        self._layout = layout
        self._frozen: set[str] = set()

    @property
    def frozen(self) -> list[str]:
        """Names of the frozen layers, from the input to the output."""
        return [layer.name for layer in self._layout.layers if layer.name in self._frozen]

    @property
    def freezes_output_head(self) -> bool:
        """Whether freezing the embeddings freezes the output projection too (tied weights)."""
        return self._layout.tied

    def is_frozen(self, layer: Layer) -> bool:
        """Return whether a layer is frozen."""
        return layer.name in self._frozen

    def freeze(self, layers: int | None, *, embeddings: bool) -> list[str]:
        """Freeze the bottom blocks, and the input embeddings if asked.

        Args:
            layers: number of blocks, counted from the input; None takes half of them.
            embeddings: whether the input embeddings are frozen too. Without them the backward pass
                still runs through the frozen blocks, and a step becomes only a little cheaper.

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
        """Return the number of blocks that `freeze` would take.

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
        """Unfreeze every layer; return the names of those that were frozen."""
        freed = self.frozen
        self.restore(())
        return freed

    def restore(self, names: Collection[str]) -> None:
        """Freeze exactly the layers of these names, as a checkpoint lists them.

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
