"""An earlier state of an adapter, from its PEFT directory, as start weights."""

from __future__ import annotations

from sf_tui.engine.adapters.files import AdapterFiles
from sf_tui.engine.adapters.inject import PREFIX
from sf_tui.engine.adapters.layers import TRAINED
from sf_tui.engine.layout import ModelLayout
from sf_tui.engine.weights import StoredWeights
from sf_tui.errors import ModelError


def adapter_weights(files: AdapterFiles, layout: ModelLayout) -> StoredWeights:
    """Return the weights of an adapter directory for a model that has an adapter of its kind.

    Args:
        files: the directory.
        layout: the layers of the model with the other adapter.

    Raises:
        ModelError: a tensor is missing or has another shape.
    """
    places = {
        layer.name: {
            name: (files.weights, key)
            for name in layout.stored_in(layer)
            if (key := _key(layout.stored_name(name))) in files.tensors
        }
        for layer in layout.layers
    }
    weights = StoredWeights(
        files.folder, places, ModelError, "name an earlier state of the very adapter"
    )
    weights.check(layout)
    return weights


def _key(name: str) -> str:
    """Return the name in a PEFT file of an adapter's parameter in a checkpoint."""
    plain = name.replace(f".modules_to_save.{TRAINED}.", ".").replace(f".{TRAINED}.", ".")
    # peft stores a DoRA magnitude under its module's name.
    if plain.endswith(".lora_magnitude_vector.weight"):
        plain = plain.removesuffix(".weight")
    return PREFIX + plain.removesuffix(f".{TRAINED}")
