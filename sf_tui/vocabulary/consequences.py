"""What an op does to the weights, in sentences that the console shows before it asks."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from sf_tui.vocabulary.sizes import counted


def recover_consequence(arguments: Mapping[str, Any]) -> Iterable[str]:
    """Yield what a recover does."""
    steps, examples = arguments.get("steps"), arguments.get("examples")
    long = f"{counted(steps, 'step')} at most" if steps is not None else "the steps of [recover]"
    if examples is None:
        old = "the old examples of [recover]"
    else:
        old = counted(examples or "no", "old example")
    yield (
        "Training waits while the run's own weights are repaired: on rows of the new task, "
        f"neighbor prompts and {old}, {long}. The best step is kept."
    )
    yield "If the new task falls under its floor, more tries follow: several times as long."
    yield "Every task is probed, and a checkpoint is saved."


def frozen_stay(layers: int, release: str) -> str:
    """Return that a repair leaves frozen layers as they are, without a period.

    Args:
        layers: their number.
        release: what frees them.
    """
    one = layers == 1
    return (
        f"{counted(layers, 'layer')} {'is' if one else 'are'} frozen and "
        f"{'stays as it is' if one else 'stay as they are'}; {release} first brings more back"
    )


def frozen_are_repaired(layers: int) -> str:
    """Return that a repair also changes frozen layers, without a period."""
    one = layers == 1
    return (
        f"{counted(layers, 'layer')} that moved before {'it was' if one else 'they were'} frozen "
        f"{'is' if one else 'are'} repaired, too, and frozen again"
    )


def edit_consequence(sentence: str) -> Callable[[Mapping[str, Any]], Iterable[str]]:
    """Return what yields the consequence of an edit, whose sentence has its argument in braces."""

    def consequence(arguments: Mapping[str, Any]) -> Iterable[str]:
        yield f"This {sentence.format(**arguments)}. It needs no data and takes no step."
        yield "Every task is probed, and a checkpoint is saved; then training continues from there."

    return consequence
