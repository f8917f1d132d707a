"""Weights that a run refers to and that are outside its directory: checked, then opened.

Knows no profile and no data. Nothing is read from a file that changed since the run was made.
"""

from __future__ import annotations

from sf_tui.cases.inputs import digest_file
from sf_tui.engine.adapters.files import inspect_adapter
from sf_tui.engine.adapters.start import adapter_weights
from sf_tui.engine.loading import LoadedModel
from sf_tui.engine.start_weights import open_start_weights
from sf_tui.engine.weights import AdapterOff, StartWeights
from sf_tui.errors import RunError
from sf_tui.run.references import WeightFiles


def check_unchanged(weights: WeightFiles) -> None:
    """Refuse weights that are gone, or are not those that the run was made from.

    Raises:
        RunError: a file is gone or changed.
    """
    problem = weights.missing()
    for name in () if problem else weights.touched():
        path, then = weights.folder / name, weights.files[name]
        # A copy back from an archive has another time and the same content.
        found = digest_file(path, whole=path.suffix != ".safetensors")
        if found is None or found["sha256"] != then.sha256:
            problem = f"{path} has other content than when the run was made"
            break
    if problem:
        raise RunError(
            f"{problem}: the run refers to it and has no copy",
            "put it back, or import the training again",
        )


def open_referenced(weights: WeightFiles, loaded: LoadedModel) -> StartWeights:
    """Open weights outside the run directory as those of a loaded model.

    Args:
        weights: the model that a stage began with, or one of the training's checkpoints.
        loaded: the model that they must fit.

    Raises:
        RunError: a file is gone or changed.
        ModelError: they don't fit the model.
    """
    check_unchanged(weights)
    if weights.is_adapter:
        return adapter_weights(inspect_adapter(weights.folder), loaded.layout)
    if loaded.layout.adapters is not None:
        # The base: what the model is without its adapter.
        return AdapterOff(weights.folder)
    names = loaded.composite.names if loaded.composite else None
    return open_start_weights(weights.folder, loaded.model, loaded.layout, names)
