"""Which frozen layers a repair may change: those that moved before they were frozen.

A layer that is frozen since the stage's first step equals its start weights: a repair has nothing
to bring back in it. One that was frozen later carries part of the loss, and a repair that has to
leave it alone brings back less. Knows no ops.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch

from sf_tui.engine.adapters.effective import EffectiveChange
from sf_tui.engine.layout import Freezer, ModelLayout
from sf_tui.engine.parts import part, part_like, sum_parts
from sf_tui.engine.weights import AdapterOff, WeightStore
from sf_tui.vocabulary.consequences import frozen_are_repaired, frozen_stay


@dataclass(frozen=True)
class FrozenRepair:
    """What a repair does with the frozen layers.

    Attributes:
        staying: layers that stay as they are.
        freed: layers that are repaired, and frozen again after it.
        moved_stay: whether a layer stays that has moved since the stage's start.
    """

    staying: tuple[str, ...] = ()
    freed: tuple[str, ...] = ()
    moved_stay: bool = False

    @property
    def summary(self) -> str:
        """What it means for the frozen layers, for the op's answer; empty without any."""
        if self.moved_stay:
            return frozen_stay(len(self.staying), "unfreeze")
        return frozen_are_repaired(len(self.freed)) if self.freed else ""


@contextmanager
def frozen_for_repair(
    freezer: Freezer, layout: ModelLayout, start: WeightStore | None, *, keep_all: bool
) -> Iterator[FrozenRepair]:
    """Free the frozen layers that a repair may change, and freeze them again after it.

    Args:
        freezer: the run's.
        layout: the layers of the model, with its current weights.
        start: the stage's start weights; without them, every frozen layer stays as it is.
        keep_all: whether every frozen layer stays as it is.

    Yields:
        What happens to which layer.
    """
    frozen = freezer.frozen
    moved = [name for name in frozen if start is None or _has_moved(layout, name, start)]
    staying = frozen if keep_all or start is None else [n for n in frozen if n not in moved]
    freed = [name for name in frozen if name not in staying]
    freezer.restore(staying)
    try:
        yield FrozenRepair(tuple(staying), tuple(freed), bool(moved) and not freed)
    finally:
        freezer.restore(frozen)


def _has_moved(layout: ModelLayout, name: str, start: WeightStore) -> bool:
    """Return whether a trainable parameter of a layer differs from the start weights in any bit."""
    layer = next(layer for layer in layout.layers if layer.name == name)
    if isinstance(start, AdapterOff):
        assert layout.adapters is not None  # only an adapter can be turned off
        return EffectiveChange(layout.adapters).relative_update(name, layer.parameters, None) > 0
    trainable = layout.trainable_in(layer)
    for parameter_name, stored in start.tensors(name):
        parameter = trainable.get(parameter_name)
        if parameter is None:
            continue
        then = stored.to(parameter.device, parameter.dtype)
        own = part(parameter.detach())
        moved = float(not torch.equal(own, part_like(then, parameter)))
        if any(sum_parts([moved], parameter)):
            return True
    return False
