"""Records a pass of a few tokens to find a model's blocks, their inputs and token dependencies.

One forward pass yields all three. If it fails, a second pass runs on two tokens without gradients.
Parameters, gradients, modes and the random state stay unchanged.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from sf_tui.errors import ModelError

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_SUPPORTED = "sf tunes decoder-only language models (GPT-NeoX, Llama, GPT-2, Qwen, Mistral, …)"

_Place = tuple[str, int]
"""Name of a module list, and an index into it."""


@dataclass
class _Pass:
    """Arguments and results of the elements of a model's module lists."""

    calls: list[_Place] = field(default_factory=list)
    """Elements in call order."""
    arguments: dict[_Place, list[torch.Tensor]] = field(default_factory=dict)
    """Arguments of each element's first call; kept alive, so that the tensors' ids stay unique."""
    outputs: dict[_Place, list[torch.Tensor]] = field(default_factory=dict)
    embedded: torch.Tensor | None = None
    """(1, tokens, width) output of the input embedding."""
    fault: Exception | None = None
    """The exception that ended the pass early."""


class Observation:
    """A recorded pass of a few tokens through a model.

    Attributes:
        model: the model.
        fault: the exception of the forward pass; None if it succeeded.
        reach: (tokens,) largest gradient of the first token's logits at each token's embedding;
            None if it can't be computed.
    """

    def __init__(self, model: PreTrainedModel, ids: list[int] | None = None) -> None:
        """Run the model.

        Args:
            model: a causal language model, on its device.
            ids: the token ids; None for the first four of the vocabulary.
        """
        self.model = model
        self._lists = _outermost_lists(model)
        self.reach: torch.Tensor | None = None
        self._pass = self._run([0, 1, 2, 3] if ids is None else ids, with_gradient=True)
        self.fault = self._pass.fault
        # A model may fail with gradients or on more than two tokens, but run otherwise.
        self._trace = self._pass
        if self.fault is not None:
            self._trace = self._run([0, 1], with_gradient=False)

    def find_blocks(self, part: str = "") -> tuple[str, nn.ModuleList]:
        """Return the name and the module list of the model's decoder blocks.

        Its length may differ from the config's `num_hidden_layers`: LongCat counts two layers per
        block.

        Args:
            part: name of the module to look in; empty for the whole model.

        Raises:
            ModelError: the hidden state doesn't pass through a single list of blocks; the message
                gives the reason.
        """
        model = self.model
        count = getattr(model.config.get_text_config(decoder=True), "num_hidden_layers", None)
        inside = f"{part}." if part else ""
        lists = {name: found for name, found in self._lists.items() if name.startswith(inside)}
        expected = {name: found for name, found in lists.items() if len(found) == count}
        if len(expected) == 1:
            return next(iter(expected.items()))
        visits, chained = self._visits(lists)
        if visits:
            # Lists of experts or projections are also called, but not chained.
            passed = [name for name in dict.fromkeys(visits) if name in chained]
            if len(passed) == 1:
                return passed[0], lists[passed[0]]
            if passed and len(visits) == len(set(visits)):
                # An encoder before a decoder, or stages of different width: take the largest.
                best = max(
                    passed, key=lambda name: (len(lists[name]) == count, _elements(lists[name]))
                )
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

    def find_inputs(self, blocks: str) -> set[int] | None:
        """Return the ids of the parameters that the first block's arguments depend on.

        They are the leaves of the autograd graph of those arguments: the hidden state, and
        anything else passed to every block, such as per-layer embeddings.

        Args:
            blocks: name of the list of blocks.

        Returns:
            The ids, or None if the model fails before it reaches its blocks.
        """
        first = next((place for place in self._pass.calls if place[0] == blocks), None)
        return None if first is None else _leaves(self._pass.arguments[first])

    def _visits(self, lists: dict[str, nn.ModuleList]) -> tuple[list[str], set[str]]:
        """Return the module lists that the tokens passed through.

        Returns:
            The lists in the order in which they are entered, with an entry for each re-entry after
            another list (empty if the model can't run); and the chained lists, whose elements are
            called in order, each on the output of the previous one.
        """
        trace = self._trace
        if trace.fault is not None:
            return [], set()
        given = {
            place: {id(tensor) for tensor in found} for place, found in trace.arguments.items()
        }
        handed = {place: {id(tensor) for tensor in found} for place, found in trace.outputs.items()}
        chained = {
            name
            for name, blocks in lists.items()
            if all((name, index) in handed for index in range(len(blocks)))
            and all(
                handed[name, index] & given[name, index + 1] or blocks[index] is blocks[index + 1]
                for index in range(len(blocks) - 1)
            )
        }
        called = [name for name, _ in trace.calls if name in lists]
        # If no list is chained, report them all.
        entered = [name for name in called if name in chained] or called
        return [
            name for at, name in enumerate(entered) if at == 0 or entered[at - 1] != name
        ], chained

    def _run(self, tokens: list[int], *, with_gradient: bool) -> _Pass:
        model: Any = self.model
        seen = _Pass()

        def note_embedded(_: nn.Module, __: Any, output: Any) -> None:
            if isinstance(output, torch.Tensor) and seen.embedded is None:
                seen.embedded = output

        with ExitStack() as undo:
            undo.enter_context(_evaluating(self.model))
            for name, blocks in self._lists.items():
                for index, block in enumerate(blocks):
                    for handle in _watch(block, (name, index), seen):
                        undo.callback(handle.remove)
            embedding = model.get_input_embeddings()
            undo.callback(embedding.register_forward_hook(note_embedded).remove)
            if with_gradient:
                undo.enter_context(_every_gradient(self.model))
            undo.enter_context(torch.set_grad_enabled(with_gradient))
            ids = torch.tensor([tokens], device=self.model.device)
            keywords = {"use_cache": False} if _takes_cache(self.model) else {}
            try:
                output = model(input_ids=ids, **keywords)
            except Exception as error:
                # Model code can raise anything; callers that need the pass report the fault.
                seen.fault = error
                return seen
            if with_gradient:
                self.reach = _reach(getattr(output, "logits", None), seen.embedded)
        return seen


def _watch(module: nn.Module, place: _Place, seen: _Pass) -> Iterator[Any]:
    def before(_: nn.Module, arguments: Any, keywords: Any) -> None:
        seen.calls.append(place)
        seen.arguments.setdefault(place, list(_tensors((arguments, keywords))))

    def after(_: nn.Module, __: Any, output: Any) -> None:
        seen.outputs.setdefault(place, list(_tensors(output)))

    yield module.register_forward_pre_hook(before, with_kwargs=True)
    yield module.register_forward_hook(after)


def _takes_cache(model: PreTrainedModel) -> bool:
    return "use_cache" in inspect.signature(model.forward).parameters


def _reach(logits: Any, embedded: torch.Tensor | None) -> torch.Tensor | None:
    """Return (tokens,) how strongly each token's embedding affects the first token's logits."""
    if embedded is None or embedded.dim() != 3 or not isinstance(logits, torch.Tensor):
        return None
    try:
        first = logits[0, 0].float().square().sum()
        (moved,) = torch.autograd.grad(first, [embedded])
    except (IndexError, RuntimeError):
        # Not a supported model: no logits per token, or no gradient at the embedding.
        return None
    return moved[0].float().abs().amax(-1) if len(moved) == 1 else None


def _outermost_lists(model: nn.Module) -> dict[str, nn.ModuleList]:
    lists: dict[str, nn.ModuleList] = {}
    for name, module in model.named_modules():
        inside = any(name.startswith(f"{outer}.") for outer in lists)
        if isinstance(module, nn.ModuleList) and len(module) and not inside:
            lists[name] = module
    return lists


@contextmanager
def _evaluating(model: PreTrainedModel) -> Iterator[None]:
    """Disable dropout and activation checkpointing, and preserve the random state."""
    training = [module for module in model.modules() if module.training]
    devices = [] if model.device.type == "cpu" else [model.device]
    with torch.random.fork_rng(devices=devices):
        for module in training:
            module.training = False
        try:
            yield
        finally:
            for module in training:
                module.training = True


@contextmanager
def _every_gradient(model: PreTrainedModel) -> Iterator[None]:
    """Make every parameter require a gradient, so that all are leaves of the autograd graph."""
    wanted = {parameter: parameter.requires_grad for parameter in model.parameters()}
    try:
        for parameter in wanted:
            if parameter.is_floating_point():
                parameter.requires_grad_(True)
        yield
    finally:
        for parameter, wants in wanted.items():
            parameter.requires_grad_(wants)


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
    """Return the ids of the autograd graph's leaves that the tensors depend on."""
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
