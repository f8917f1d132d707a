"""Makes room on the device for a recovery test: what training needs later waits elsewhere.

A test trains copies of the model, with moments of its own. Beside those of the training, and with
snapshots in main memory, that takes half as much again as the training itself. The training's
moments therefore wait in main memory if the model is on a GPU, and in files if it isn't. All of it
comes back bit for bit.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from sf_tui.engine.layout import ModelLayout
from sf_tui.engine.parts import is_divided
from sf_tui.engine.weights import snapshots_in

WORTH_MOVING_BYTES = 64 << 20
"""Models with fewer bytes of weights stay where they are: the process itself takes more."""


@contextmanager
def room_for_test(
    layout: ModelLayout, optimizer: torch.optim.Optimizer, folder: Path
) -> Iterator[None]:
    """Move an optimizer's moments off the device, and keep snapshots in files, within the block.

    A model whose weights are divided among ranks, or that is small, is left as it is.

    Args:
        layout: the model's layers.
        optimizer: its optimizer; must not be used within the block.
        folder: for files, on a disk with room for five times the weights; deleted at the end.

    Raises:
        OSError: the folder can't be written; the moments are as before.
    """
    weights = [p for layer in layout.layers for p in layer.parameters.values()]
    size = sum(p.numel() * p.element_size() for p in weights)
    if size < WORTH_MOVING_BYTES or any(map(is_divided, weights)):
        yield
        return
    if all(p.device.type != "cpu" for p in weights):
        with _moments_moved(optimizer, None):
            yield
        return
    folder.mkdir()
    try:
        with snapshots_in(folder), _moments_moved(optimizer, folder):
            yield
    finally:
        shutil.rmtree(folder)


@contextmanager
def _moments_moved(optimizer: torch.optim.Optimizer, folder: Path | None) -> Iterator[None]:
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    moved: dict[int, dict[str, torch.Tensor] | Path] = {}
    try:
        for at, parameter in enumerate(parameters):
            state = optimizer.state.get(parameter)
            if state is None or not all(isinstance(each, torch.Tensor) for each in state.values()):
                continue
            if folder is None:
                moved[at] = {name: tensor.to("cpu") for name, tensor in state.items()}
            else:
                path = folder / f"moments-{at}.safetensors"
                save_file({name: tensor.contiguous() for name, tensor in state.items()}, path)
                moved[at] = path
            del optimizer.state[parameter]
        yield
    finally:
        for at, kept in moved.items():
            parameter = parameters[at]
            found = load_file(kept) if isinstance(kept, Path) else kept
            optimizer.state[parameter] = {
                # A copy: the file is deleted.
                name: tensor.to(parameter.device, copy=True)
                for name, tensor in found.items()
            }
            if isinstance(kept, Path):
                kept.unlink()
