"""Compares a model's weights with its files: names, sizes and values.

Weights that would be lost, weights that are missing, and weights that are not finite are reported
before the first step.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from typing import TYPE_CHECKING, Any

import torch

from sf_tui.engine.model_files import ModelFiles
from sf_tui.engine.random_model import count_weights, refuse_memory
from sf_tui.errors import ModelError
from sf_tui.tasks.model_source import first_line, model_faults

if TYPE_CHECKING:
    from transformers import PreTrainedModel

# Constants that older checkpoints store beside the weights; the model computes them.
_COMPUTED = re.compile(
    r"(rotary_emb\.(inv_freq|cos_cached|sin_cached)|\.inv_freq|position_ids|\.masked_bias"
    r"|\.attn\.bias|\.attention\.bias|embed_positions\.weights|\.version|_extra_state"
    r"|_float_tensor)$"
)

_FAR_LARGER = 10
"""A config that describes more times the files' weights than this is refused before building."""

_CHUNK = 1 << 24
"""Scalars checked at a time: 64 MB of float32, and 16 MB for the flags."""


def refuse_size(source: str, files: ModelFiles, config: Any, auto: Any, itemsize: int) -> None:
    """Refuse a config that describes a model much larger than the weights, before it is built.

    Args:
        source: the model as the profile names it.
        files: the directory.
        config: the parsed config.
        auto: the class that builds a model from it.
        itemsize: bytes of a weight in memory.

    Raises:
        ModelError: config.json and the weights belong to different models, or the weights alone
            need more memory than the machine has.
    """
    stored, tensors = files.elements, len(files.tensors)
    text = config.get_text_config()
    blocks = getattr(text, "num_hidden_layers", None)
    if isinstance(blocks, int) and blocks > tensors:
        raise _too_large(source, f"{blocks} blocks", f"{tensors} tensors")
    # Each of these is a length of some weight.
    for key in ("vocab_size", "hidden_size"):
        length = getattr(text, key, None)
        if isinstance(length, int) and length > stored:
            raise _too_large(source, f"{key} = {length}", f"{stored} numbers")
    # Classes outside the auto classes (a vision part) have no public way to build from a config.
    build = getattr(auto, "from_config", None) or auto._from_config
    with model_faults(lambda error: loading_failed(source, error)):
        described = count_weights(lambda: build(config))
    # Smaller differences are reported by tensor after loading.
    if described > _FAR_LARGER * stored:
        raise _too_large(source, f"a model of {described:,} weights", f"{stored:,}")
    refuse_memory(f"[model] {source}", described, itemsize)


def loading_failed(source: str, error: BaseException) -> ModelError:
    """Return the error for a directory that transformers can't load."""
    return ModelError(
        f"[model] {source}: can't be loaded: {first_line(error)}",
        "check that the directory is complete and its files undamaged",
    )


def refuse_incomplete(source: str, model: PreTrainedModel, report: dict[str, Any]) -> None:
    """Refuse weights that don't fill a model.

    Args:
        source: the model as the profile names it.
        model: the loaded model.
        report: transformers' report of the loading.

    Raises:
        ModelError: a tensor is missing or of another shape; the message names three.
    """
    # Only weights that this config ties: an untied output projection must have weights.
    tied = set(model.all_tied_weights_keys)
    wrong = [f"{name} is missing" for name in sorted(set(report["missing_keys"]) - tied)]
    wrong += [
        f"{name} has another shape"
        for name in sorted(str(key[0]) for key in report["mismatched_keys"])
    ]
    if wrong:
        raise ModelError(
            f"[model] {source}: the weights don't fill the model: {_first(wrong)}",
            "config.json and the weights belong to different models, or a file is missing",
        )


def refuse_unplaced(source: str, model: PreTrainedModel, names: Iterable[str]) -> None:
    """Refuse weights without a place in the model.

    Args:
        source: the model as the profile names it.
        model: the loaded model.
        names: tensors of the files that were not loaded.

    Raises:
        ModelError: one of them is a weight; the message names three.
    """
    tied = set(model.all_tied_weights_keys)
    unplaced = sorted(name for name in names if name not in tied and not _COMPUTED.search(name))
    if unplaced:
        raise ModelError(
            f"[model] {source}: config.json has no place for some of the weights, which would be "
            f"lost: {_first(unplaced)}",
            "config.json and the weights belong to different models, or the model has a part that "
            "sf doesn't keep (a head for another purpose, a vision part)",
        )


def find_ignored(model: PreTrainedModel, names: Collection[str]) -> list[str]:
    """Return the names of weights that the model's own class leaves unread, sorted.

    DeepSeek-V3, GLM-4.5 and Qwen3-Next have layers for multi-token prediction, which transformers
    does not implement.
    """
    held: Any = model
    patterns = [re.compile(pattern) for pattern in held._keys_to_ignore_on_load_unexpected or ()]
    known = set(model.state_dict())
    return sorted(
        name
        for name in names
        if name not in known
        and not _COMPUTED.search(name)
        and any(pattern.search(name) for pattern in patterns)
    )


def refuse_not_finite(source: str, model: PreTrainedModel) -> None:
    """Refuse weights that hold NaN or inf.

    Args:
        source: the model as the profile names it.
        model: the model, in the type that it is tuned in.

    Raises:
        ModelError: the message names the first such tensor, with counts.
    """
    wrong = []
    for name, tensor in model.named_parameters():
        nans, infinite = count_not_finite(tensor.detach())
        if nans or infinite:
            wrong.append((name, nans, infinite))
    if not wrong:
        return
    name, nans, infinite = wrong[0]
    what = " and ".join(
        text for count, text in ((nans, f"{nans} NaN"), (infinite, f"{infinite} inf")) if count
    )
    others = f" ({len(wrong) - 1} other tensors too)" if len(wrong) > 1 else ""
    half = model.dtype == torch.float16 and not any(entry[1] for entry in wrong)
    raise ModelError(
        f"[model] {source}: tensor '{name}' holds {what}{others}",
        "the weights are too large for float16, or were when they were saved: use [model] dtype = "
        '"bfloat16" or "float32", or other weights'
        if half
        else "the weights are damaged or their training diverged: use other weights",
    )


def count_not_finite(tensor: torch.Tensor) -> tuple[int, int]:
    """Return the number of NaN and of infinite values in a tensor of any shape."""
    if not tensor.is_floating_point() or not tensor.numel():
        return 0, 0
    # One pass without a copy: NaN and inf show in the extremes.
    low, high = torch.aminmax(tensor)
    if bool(torch.isfinite(low)) and bool(torch.isfinite(high)):
        return 0, 0
    nans = infinite = 0
    for part in tensor.reshape(-1).split(_CHUNK):
        nans += int(part.isnan().sum())
        infinite += int(part.isinf().sum())
    return nans, infinite


def _too_large(source: str, described: str, held: str) -> ModelError:
    return ModelError(
        f"[model] {source}: can't be loaded: config.json describes {described}, the weight files "
        f"hold {held}",
        "config.json and the weights belong to different models: download both again",
    )


def _first(names: list[str]) -> str:
    more = " …" if len(names) > 3 else ""
    return f"{', '.join(name[:200] for name in names[:3])}{more} ({len(names)} in all)"
