"""Finds a model's decoder blocks and what stands before them, by how data flows through it.

Where the structure alone leaves a doubt, and for what feeds the blocks, the model is given two
tokens. No parameter, gradient, mode or random state is changed by that.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from sf_tui.errors import ModelError

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_SUPPORTED = "sf tunes decoder-only language models (GPT-NeoX, Llama, GPT-2, Qwen, Mistral, …)"


class _BlocksReachedError(Exception):
    """Ends a forward pass at the first block."""


def find_blocks(model: PreTrainedModel, part: str = "") -> tuple[str, nn.ModuleList]:
    """Return the list of a model's decoder blocks and its name.

    Its length may differ from the config's `num_hidden_layers`: LongCat counts two layers a block.

    Args:
        model: the model.
        part: name of the module to look in; empty for the whole model.

    Raises:
        ModelError: the hidden state doesn't pass through one list of blocks; the message says why.
    """
    count = getattr(model.config.get_text_config(decoder=True), "num_hidden_layers", None)
    inside = f"{part}." if part else ""
    lists = {
        name: blocks for name, blocks in _outermost_lists(model).items() if name.startswith(inside)
    }
    expected = {name: blocks for name, blocks in lists.items() if len(blocks) == count}
    if len(expected) == 1:
        return next(iter(expected.items()))
    visits, chained = _trace_lists(model, lists)
    if visits:
        # A list of experts or projections is called, too, but not one after the other.
        passed = [name for name in dict.fromkeys(visits) if name in chained]
        if len(passed) == 1:
            return passed[0], lists[passed[0]]
        if passed and len(visits) == len(set(visits)):
            # An encoder before a decoder, or stages of different width: the longest part.
            best = max(passed, key=lambda name: (len(lists[name]) == count, _elements(lists[name])))
            return best, lists[best]
        raise ModelError(
            f"{type(model).__name__}: its layers are run in turns, not as one list of blocks: "
            f"{', '.join(dict.fromkeys(visits))}",
            _SUPPORTED,
        )
    if expected:
        name = min(expected, key=lambda name: name.count("."))
        return name, expected[name]
    raise ModelError(
        f"{type(model).__name__}: no list of {count} decoder blocks found in it", _SUPPORTED
    )


def find_inputs(model: PreTrainedModel, blocks: nn.ModuleList) -> set[int] | None:
    """Return the ids of the parameters that what the first block is given depends on.

    The model is run up to its first block; autograd's graph of the block's arguments (the hidden
    state, and whatever is fed into every block, such as per-layer embeddings) ends at them.

    Returns:
        None for a model that can't be run on two tokens alone.
    """
    found: list[torch.Tensor] = []

    def stop(_: nn.Module, arguments: tuple[Any, ...], keywords: dict[str, Any]) -> None:
        found.extend(_tensors((arguments, keywords)))
        raise _BlocksReachedError

    with ExitStack() as undo:
        undo.enter_context(_as_asked(model))
        for block in blocks:
            # Whichever comes first.
            undo.callback(block.register_forward_pre_hook(stop, with_kwargs=True).remove)
        wanted = {parameter: parameter.requires_grad for parameter in model.parameters()}
        for parameter, wants in wanted.items():
            undo.callback(parameter.requires_grad_, wants)
            if parameter.is_floating_point():
                parameter.requires_grad_(True)
        with torch.enable_grad():
            try:
                _give_two_tokens(model)
            except _BlocksReachedError:
                return _leaves(found)
            except Exception:
                return None
    return None


def _outermost_lists(model: nn.Module) -> dict[str, nn.ModuleList]:
    lists: dict[str, nn.ModuleList] = {}
    for name, module in model.named_modules():
        inside = any(name.startswith(f"{outer}.") for outer in lists)
        if isinstance(module, nn.ModuleList) and len(module) and not inside:
            lists[name] = module
    return lists


def _trace_lists(
    model: PreTrainedModel, lists: dict[str, nn.ModuleList]
) -> tuple[list[str], set[str]]:
    """Run two tokens and see which lists they pass through.

    Returns:
        The lists in the order in which they are entered, once for each time that another list
        came between (empty if the model can't be run); and those of them whose every element is
        called in order on what the one before gave.
    """
    calls: list[tuple[str, int]] = []
    given: dict[tuple[str, int], set[int]] = {}
    handed: dict[tuple[str, int], set[int]] = {}
    alive: list[torch.Tensor] = []

    def watch(name: str, index: int, module: nn.Module) -> Iterator[Any]:
        def before(_: nn.Module, arguments: Any, keywords: Any) -> None:
            tensors = list(_tensors((arguments, keywords)))
            alive.extend(tensors)  # or another tensor could get its id
            calls.append((name, index))
            given.setdefault((name, index), {id(tensor) for tensor in tensors})

        def after(_: nn.Module, __: Any, output: Any) -> None:
            tensors = list(_tensors(output))
            alive.extend(tensors)
            handed.setdefault((name, index), {id(tensor) for tensor in tensors})

        yield module.register_forward_pre_hook(before, with_kwargs=True)
        yield module.register_forward_hook(after)

    with ExitStack() as undo:
        undo.enter_context(_as_asked(model))
        for name, blocks in lists.items():
            for index, block in enumerate(blocks):
                for handle in watch(name, index, block):
                    undo.callback(handle.remove)
        with torch.no_grad():
            try:
                _give_two_tokens(model)
            except Exception:
                return [], set()
    chained = {
        name
        for name, blocks in lists.items()
        if all((name, index) in handed for index in range(len(blocks)))
        and all(
            handed[name, index] & given[name, index + 1] or _is_shared(blocks, index)
            for index in range(len(blocks) - 1)
        )
    }
    entered = [name for name, _ in calls if name in chained]
    visits = [name for at, name in enumerate(entered) if at == 0 or entered[at - 1] != name]
    if not visits:
        # Something lies between the elements of each list: name them all.
        visits = [name for at, (name, _) in enumerate(calls) if at == 0 or calls[at - 1][0] != name]
    return visits, chained


def _is_shared(blocks: nn.ModuleList, index: int) -> bool:
    return blocks[index] is blocks[index + 1]


@contextmanager
def _as_asked(model: PreTrainedModel) -> Iterator[None]:
    """Switch off dropout and activation checkpointing, and keep the random state."""
    training = [module for module in model.modules() if module.training]
    device = model.device
    devices = [] if device.type == "cpu" else [device]
    with torch.random.fork_rng(devices=devices):
        for module in training:
            module.training = False
        try:
            yield
        finally:
            for module in training:
                module.training = True


def _give_two_tokens(model: PreTrainedModel) -> None:
    ids = torch.tensor([[0, 1]], device=model.device)
    asked: Any = model
    asked(input_ids=ids)


def _tensors(value: Any) -> Iterator[torch.Tensor]:
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, dict):
        for inner in value.values():
            yield from _tensors(inner)
    elif isinstance(value, (list, tuple)):
        for inner in value:
            yield from _tensors(inner)


def _leaves(tensors: list[torch.Tensor]) -> set[int]:
    """Return the ids of the leaves of autograd's graph that tensors depend on."""
    leaves = {id(tensor) for tensor in tensors if tensor.is_leaf and tensor.requires_grad}
    waiting: list[Any] = [tensor.grad_fn for tensor in tensors if tensor.grad_fn is not None]
    seen: set[Any] = set(waiting)
    while waiting:
        node = waiting.pop()
        leaf = getattr(node, "variable", None)
        if leaf is not None:
            leaves.add(id(leaf))
        for following, _ in node.next_functions:
            if following is not None and following not in seen:
                seen.add(following)
                waiting.append(following)
    return leaves


def _elements(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())
