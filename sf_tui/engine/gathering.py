"""Gathers the files of a checkpoint from ranks that hold parts of the weights.

The files are those of one process, so a run can be resumed by any number of ranks, and every reader
of a checkpoint knows them. Knows nothing of a checkpoint's state, which rank 0 adds.
"""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file

from sf_tui.engine.checkpoint import layer_file, moment_file, read_moments
from sf_tui.engine.layout import ModelLayout
from sf_tui.engine.ranks import Ranks
from sf_tui.engine.sharding import gather_tensors
from sf_tui.run.durable import remove


def gather_checkpoint(
    ranks: Ranks, folder: Path, layout: ModelLayout, optimizer: torch.optim.Optimizer
) -> Exception | None:
    """Write weights and moments that are divided among the ranks into a new folder. Collective.

    One layer at a time is whole, in the main memory of rank 0. torch.distributed.checkpoint would
    write in parallel, but in a format that every reader, `sf recover` among them, must unpickle.

    Args:
        ranks: the processes.
        folder: where rank 0 writes; an existing one is replaced.
        layout: the model's layers.
        optimizer: AdamW.

    Returns:
        In rank 0, why it can't write: the other ranks don't know, and go on gathering.
    """
    failure: Exception | None = None
    if ranks.is_main:
        try:
            remove(folder)
            (folder / "weights").mkdir(parents=True)
            (folder / "optimizer").mkdir()
        except OSError as error:
            failure = error
    for layer in layout.layers:
        stored = {name: p.detach() for name, p in layout.stored_in(layer).items()}
        moments = read_moments(layer.parameters, optimizer)
        for file, tensors in (
            (layer_file(folder, layer.name), stored),
            (moment_file(folder, layer.name), moments),
        ):
            found = gather_tensors(ranks, tensors)
            if not found or failure is not None:
                continue
            try:
                save_file(found, file)
            except (OSError, SafetensorError) as error:
                failure = error
    return failure
