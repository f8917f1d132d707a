"""Compiles a model's blocks for training steps, by torch.compile.

Only a step's forward and backward passes run compiled code; probes, recovery tests and everything
else run the model as it is. Blocks of one kind share their code. A freeze adds at most two more
variants, because a block's code depends on what in it trains and whether its input does, not on
its place. The order in which sums are computed may depend on the shapes that were met first, so a
resumed run is the undisturbed one to float tolerance, not to the bit.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import nn

from sf_tui.errors import ModelError

_MOST_FORMS = 32
"""Compiled forms of one kind of block: one row or several, each way to freeze it, with and without
an anchor's masks."""
_HINT = "set [train] torch_compile = false"


class CompiledBlocks:
    """The compiled forms of some modules.

    Args:
        blocks: the modules; each keeps its parameters, names and hooks.
    """

    def __init__(self, blocks: Sequence[nn.Module]) -> None:
        # Deferred: it takes a second to import.
        import torch._dynamo.config as dynamo

        # Beyond the limit, torch runs a block as it is, without a word.
        dynamo.recompile_limit = max(dynamo.recompile_limit, _MOST_FORMS)
        # Dynamic from the start, or each new length of rows would be compiled.
        self._compiled = [(block, torch.compile(block.forward, dynamic=True)) for block in blocks]

    @contextmanager
    def in_use(self) -> Iterator[None]:
        """Run the blocks compiled within the block.

        Raises:
            ModelError: they can't be compiled.
        """
        before = [block.__dict__.get("forward") for block, _ in self._compiled]
        for block, forward in self._compiled:
            block.forward = forward
        try:
            yield
        except Exception as error:
            if not _is_of_compiler(error):
                raise
            raise ModelError(
                f"[train] torch_compile: the model's blocks can't be compiled: {_first(error)}",
                _HINT,
            ) from error
        finally:
            for (block, _), own in zip(self._compiled, before, strict=True):
                del block.forward
                if own is not None:
                    block.forward = own


def check_compiler(device: torch.device) -> None:
    """Compile and run one small function on a device.

    Raises:
        ModelError: there is no compiler for it.
    """

    def double(tensor: torch.Tensor) -> torch.Tensor:
        return 2 * tensor + 1

    try:
        torch.compile(double, dynamic=True)(torch.ones(3, device=device))
    except Exception as error:
        if not _is_of_compiler(error):
            raise
        needed = "a C++ compiler (g++)" if device.type == "cpu" else "Triton and a C compiler (gcc)"
        raise ModelError(
            f"[train] torch_compile: nothing can be compiled for {device.type} here: "
            f"{_first(error)}",
            f"install {needed}, or {_HINT}",
        ) from error


def _is_of_compiler(error: Exception) -> bool:
    # Deferred: it takes a second to import, and runs without compiled code never need it.
    from torch._dynamo.exc import TorchDynamoException

    return isinstance(error, TorchDynamoException)


def _first(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if not lines:
        return type(error).__name__
    # Torch names the backend first and says below what it raised.
    return " ".join(lines[:2]) if lines[0].endswith(":") else lines[0]
