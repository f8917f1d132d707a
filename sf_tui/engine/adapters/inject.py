"""Puts an adapter into a model: a new one, or the one of a PEFT directory.

peft's layers replace the targeted modules in place, so the model stays the transformers model that
it was, and its forward pass, layers and names of blocks stay too. A new adapter is a pure function
of the seed.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import torch
from safetensors import safe_open

from sf_tui.engine.adapters.files import AdapterFiles
from sf_tui.engine.adapters.layers import FINISHED, TRAINED
from sf_tui.engine.batches import derive_seed
from sf_tui.engine.weight_check import count_not_finite
from sf_tui.errors import ModelError, nearest_name
from sf_tui.profile.adapter_schema import ALL_LINEAR, INSTALL_PEFT, AdapterSettings
from sf_tui.tasks.model_source import first_line, model_faults

if TYPE_CHECKING:
    from transformers import PreTrainedModel

PREFIX = "base_model.model."
"""Prefix of every name in a PEFT file."""


def require_peft() -> None:
    """Check that peft is installed.

    Raises:
        ModelError: it isn't.
    """
    if find_spec("peft") is None:
        raise ModelError("adapters need peft, which isn't installed", INSTALL_PEFT)


def peft_version() -> str | None:
    """Return the version of the installed peft; None if there is none."""
    try:
        return version("peft")
    except PackageNotFoundError:
        return None


def add_adapter(
    model: PreTrainedModel, settings: AdapterSettings, *, seed: int, finished: int = 0
) -> None:
    """Put a new adapter into a model; its weights train, and nothing else does.

    Args:
        model: the base, on any device.
        settings: `[adapter]`, without a source.
        seed: the run's seed.
        finished: number of earlier adapters for which room is made under the new one.

    Raises:
        ModelError: a target isn't in the model, or peft refuses the combination.
    """
    # Deferred: an optional dependency that takes a second to import.
    from peft import LoraConfig

    targets = settings.targets
    if targets != ALL_LINEAR:
        _check_targets(model, list(targets))
    # peft takes any number, but other readers of its files expect a whole one if it is.
    alpha: Any = int(settings.alpha) if settings.alpha.is_integer() else settings.alpha
    config = LoraConfig(
        task_type="CAUSAL_LM",
        r=settings.r,
        lora_alpha=alpha,
        lora_dropout=settings.dropout,
        target_modules=targets,
        use_rslora=settings.rslora,
        use_dora=settings.dora,
        fan_in_fan_out=_is_transposed(model),
    )
    seeded = derive_seed(seed, "adapter")
    _inject(model, config, TRAINED, seeded, "[adapter]")
    if finished:
        rank = settings.r * finished
        # Its factors are zero until a stage is finished; a scale of 1 keeps products exact.
        below = LoraConfig(
            task_type="CAUSAL_LM",
            r=rank,
            lora_alpha=rank,
            target_modules=targets,
            fan_in_fan_out=_is_transposed(model),
        )
        _inject(model, below, FINISHED, seeded, "[adapter]")
        layers: Iterable[Any] = model.modules()
        for module in layers:
            if FINISHED in getattr(module, "lora_A", {}) or FINISHED in getattr(
                module, "lora_embedding_A", {}
            ):
                module.set_adapter([FINISHED, TRAINED])
        for name, parameter in model.named_parameters():
            if f".{FINISHED}" in name:
                parameter.data.zero_()
                parameter.requires_grad_(False)


def load_adapter(model: PreTrainedModel, files: AdapterFiles) -> None:
    """Put the adapter of a PEFT directory into a model; its weights train, and nothing else does.

    Args:
        model: its base, on any device.
        files: the directory.

    Raises:
        ModelError: it doesn't fit the model, or holds values that are not finite.
    """
    # Deferred: an optional dependency that takes a second to import.
    from peft import PeftConfig, get_peft_model_state_dict, set_peft_model_state_dict

    where = str(files.folder)
    with model_faults(lambda error: _refused(where, error)):
        config: Any = PeftConfig.from_pretrained(where)
    # The weights are read below: the cheapest initialization will do.
    for key in ("init_lora_weights", "init_weights"):
        if hasattr(config, key):
            setattr(config, key, True)
    config.inference_mode = False
    _inject(model, config, TRAINED, 0, where)
    expected = get_peft_model_state_dict(model, adapter_name=TRAINED, save_embedding_layers=False)
    tensors = _read(files, model, {name: value.shape for name, value in expected.items()})
    with model_faults(lambda error: _refused(where, error)):
        set_peft_model_state_dict(model, tensors, TRAINED)


def _inject(model: Any, config: Any, name: str, seed: int, where: str) -> None:
    # Deferred: an optional dependency.
    from peft import inject_adapter_in_model

    # The model is on the CPU until it is complete, so the draws are those of the CPU.
    with (
        torch.random.fork_rng(devices=[]),
        warnings.catch_warnings(),
        model_faults(lambda error: _refused(where, error)),
    ):
        warnings.simplefilter("ignore")
        torch.manual_seed(seed)
        inject_adapter_in_model(config, model, name)


def _refused(where: str, error: BaseException) -> ModelError:
    return ModelError(
        f"{where}: the adapter doesn't fit the model: {first_line(error)}",
        "check its targets, and that this is the model that it was made for",
    )


def _check_targets(model: PreTrainedModel, targets: list[str]) -> None:
    """Check that each target names a module; peft ignores those that don't if others do."""
    names = [name for name, _ in model.named_modules()]
    last = sorted({name.rpartition(".")[2] for name in names} - {""})
    for target in targets:
        if not any(name == target or name.endswith(f".{target}") for name in names):
            near = nearest_name(target, last)
            raise ModelError(
                f"[adapter] targets: {type(model).__name__} has no module '{target}'",
                f"did you mean '{near}'?" if near else f'or take "{ALL_LINEAR}"',
            )


def _is_transposed(model: PreTrainedModel) -> bool:
    """Return whether the model's linear layers store (in, out) weights, as GPT-2 does."""
    return any(type(module).__name__ == "Conv1D" for module in model.modules())


def _read(
    files: AdapterFiles, model: PreTrainedModel, expected: dict[str, torch.Size]
) -> dict[str, torch.Tensor]:
    """Return the tensors of an adapter's file, checked against the model by name and shape."""
    given = {name.removeprefix(PREFIX): header for name, header in files.tensors.items()}
    wrong = "it was made for another model, or its files don't belong together"
    for name, shape in expected.items():
        if name not in given:
            raise ModelError(f"{files.weights}: no tensor '{PREFIX}{name}' in it", wrong)
        if given[name].shape != tuple(shape):
            raise ModelError(
                f"{files.weights}: tensor '{PREFIX}{name}' is {_written(given[name].shape)}, and "
                f"the base needs {_written(tuple(shape))}",
                wrong,
            )
    beyond = [name for name in given if name not in expected]
    own = dict(model.named_parameters())
    found: dict[str, torch.Tensor] = {}
    with safe_open(files.weights, framework="pt") as file:
        for key in files.tensors:
            name = key.removeprefix(PREFIX)
            tensor = file.get_tensor(key)
            nans, infinite = count_not_finite(tensor)
            if nans or infinite:
                raise ModelError(
                    f"{files.weights}: tensor '{key}' holds values that are not finite: {nans} "
                    f"NaN, {infinite} inf",
                    "the adapter is damaged, or its training diverged: take an earlier one",
                )
            if name not in beyond:
                found[name] = tensor
            elif not _is_base_weight(name, tensor, own):
                raise ModelError(
                    f"{files.weights}: tensor '{key}' belongs to no adapter of the base",
                    "it changes the base itself (a resized vocabulary, for instance): merge it "
                    "with peft first"
                    if name in own
                    else wrong,
                )
    return found


def _is_base_weight(name: str, tensor: torch.Tensor, own: dict[str, torch.nn.Parameter]) -> bool:
    """Return whether a tensor is a copy of the base's: peft adds embeddings that it adapts."""
    parent, _, last = name.rpartition(".")
    for known in (name, f"{parent}.base_layer.{last}", name.replace(".base_layer.", ".")):
        weight = own.get(known)
        if weight is not None and weight.shape == tensor.shape:
            return torch.equal(weight.detach().cpu(), tensor.to(weight.dtype))
    return False


def _written(shape: tuple[int, ...]) -> str:
    return " × ".join(map(str, shape)) or "a single number"
