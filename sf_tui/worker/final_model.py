"""Writes `model/` at the end of a run, whole or stopped."""

from __future__ import annotations

import shlex

import torch
from safetensors import SafetensorError

from sf_tui.engine.loading import save_model
from sf_tui.engine.sharding import gather_to_main
from sf_tui.errors import RunError
from sf_tui.run.durable import new_folder
from sf_tui.worker.context import RunContext


def whole_weights(context: RunContext) -> dict[str, torch.Tensor] | None:
    """Return the state dict of a model that is divided among the ranks; None of any other.

    Called on every rank.
    """
    if not context.ranks.lockstep:
        return None
    return gather_to_main(context.ranks, context.prepared.loaded.model)


def write_model(context: RunContext, weights: dict[str, torch.Tensor] | None) -> None:
    """Write `model/` to a temporary folder, then replace the one that a stop left.

    Args:
        context: the run.
        weights: from `whole_weights`.

    Raises:
        RunError: it can't be written.
    """
    path = context.run.model
    aside, old = path.with_name(".model.writing"), path.with_name(".model.replaced")
    try:
        with new_folder(path, aside, old) as folder:
            save_model(context.prepared.loaded, folder, weights)
    except (OSError, SafetensorError) as error:
        raise RunError(
            f"{path}: can't write the final model: {error}",
            "the last checkpoint holds the same weights; make room, then "
            f"`sf resume {shlex.quote(str(path.parent))}`",
        ) from error
