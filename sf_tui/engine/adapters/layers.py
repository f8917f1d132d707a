"""Finds the adapter layers of a model, and turns its adapter off and on without changing it.

Works on any model that peft put its layers into: through `inject_adapter_in_model`, or through the
`PeftModel` of another training. `requires_grad`, gradients and weights stay as they are, so turning
an adapter off between two optimizer steps can't be noticed by the training.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, cast

from torch import nn

from sf_tui.errors import ModelError

if TYPE_CHECKING:
    from transformers import PreTrainedModel

TRAINED = "default"
"""peft's name of the adapter that trains; `PeftModel.from_pretrained` expects it, too."""

FINISHED = "finished"
"""Name of the adapter that holds the change of finished stages, under the one that trains."""

SUPPORTED = ("LORA", "LOHA", "LOKR")
"""peft's types of adapters whose change is a sum with the weight, so that it can be measured,
scaled, merged and turned off."""

_BASE_PARTS = ("base_layer", "original_module")
"""Names under which peft's layers keep the module that they adapt."""


class AdapterLayers:
    """The adapter layers of one model.

    Attributes:
        model: the model that contains them.
        modules: every layer that peft put into the model, by module name. Layers inside another
            one are not listed.
        enabled: whether the model currently uses its trained adapter.
        trained: peft's name of the adapter that trains. Other adapters may lie beside it, unused.
    """

    def __init__(self, model: nn.Module, modules: dict[str, Any]) -> None:
        self.model = model
        self.modules = modules
        self.enabled = not any(module.disable_adapters for module in modules.values())
        self.trained = next(map(active_name, modules.values()), TRAINED)
        every = {name for module in modules.values() for name in adapter_names(module)}
        self._unused = every - {self.trained, FINISHED}
        self._below = any(FINISHED in adapter_names(module) for module in modules.values())

    @property
    def parameters(self) -> dict[str, nn.Parameter]:
        """The parameters of the adapters in use, by name in the model; none of the base."""
        return {
            f"{name}.{inner}": parameter
            for name, module in self.modules.items()
            for inner, parameter in module.named_parameters()
            if not {*_BASE_PARTS, *self._unused} & set(inner.split("."))
        }

    def stored_name(self, name: str) -> str:
        """Return a parameter's name in files, in which the trained adapter is called `default`.

        A model that is loaded from them has it under that name, whatever another program calls it.
        """
        if self.trained == TRAINED:
            return name
        module = next((each for each in self.modules if name.startswith(f"{each}.")), None)
        if module is None:
            return name
        # As in `lora_A.NAME.weight`; the first part is peft's own.
        own, *parts = name.removeprefix(f"{module}.").split(".")
        if self.trained in parts:
            parts[parts.index(self.trained)] = TRAINED
        return ".".join([module, own, *parts])

    @property
    def tuned(self) -> dict[str, Any]:
        """The layers that add a change to a module's weight, by module name.

        The others are whole modules that train beside the adapter (`modules_to_save`).
        """
        return {name: module for name, module in self.modules.items() if is_tuned(module)}

    def enable(self, enabled: bool) -> None:
        """Use the trained adapter from now on, or the model without it.

        The adapter of finished stages stays in use.
        """
        if enabled == self.enabled:
            return
        # peft changes which parameters train with it; what trains is the layout's to decide.
        trains = [
            (parameter, parameter.requires_grad)
            for module in self.modules.values()
            for parameter in module.parameters()
        ]
        for module in self.modules.values():
            if self._below:
                module.set_adapter([FINISHED, TRAINED] if enabled else [FINISHED])
            else:
                module.enable_adapters(enabled)
        for parameter, wanted in trains:
            parameter.requires_grad_(wanted)
        self.enabled = enabled

    @contextmanager
    def off(self) -> Iterator[None]:
        """Run a block on the model without its trained adapter."""
        was = self.enabled
        self.enable(False)
        try:
            yield
        finally:
            self.enable(was)


def find_adapters(model: nn.Module) -> AdapterLayers | None:
    """Return the adapter layers of a model; None if it has none.

    Args:
        model: the transformers model itself, not a `PeftModel` around it: see `unwrapped`.

    Raises:
        ModelError: the adapter is merged into the weights, so that it can't be turned off, or more
            than one is in use.
    """
    if "peft" not in sys.modules:
        return None
    # Deferred: an optional dependency, loaded by whatever made the adapter.
    from peft.tuners.tuners_utils import BaseTunerLayer
    from peft.utils.other import AuxiliaryTrainingWrapper

    found: dict[str, Any] = {}
    for name, module in model.named_modules():
        if any(name.startswith(f"{outer}.") for outer in found):
            continue
        if isinstance(module, (BaseTunerLayer, AuxiliaryTrainingWrapper)):
            found[name] = module
    if not found:
        return None
    for name, module in found.items():
        if getattr(module, "merged", False):
            raise ModelError(
                f"{name}: its adapter is merged into the weights", "unmerge it before the training"
            )
        active = set(module.active_adapters) - {FINISHED}
        if len(active) > 1:
            raise ModelError(
                f"{name}: {len(active)} adapters are in use at once: {', '.join(sorted(active))}",
                "train one adapter at a time",
            )
    return AdapterLayers(model, found)


def unwrapped(model: nn.Module) -> PreTrainedModel:
    """Return the transformers model inside a `PeftModel`, with its adapter layers.

    Any other model is returned as it is.

    Raises:
        ModelError: the adapter isn't part of the model's layers (prompt tuning and its kin).
    """
    peft = sys.modules.get("peft")
    if peft is None or not isinstance(model, peft.PeftModel):
        return cast("PreTrainedModel", model)
    config: Any = model.active_peft_config
    if config.is_prompt_learning or getattr(config, "is_adaption_prompt", False):
        raise ModelError(
            f"a {kind_of(config)} adapter changes the prompt, not the model's layers",
            f"use {', '.join(SUPPORTED)}",
        )
    return cast("PreTrainedModel", model.get_base_model())


def kind_of(config: Any) -> str:
    """Return peft's name of an adapter's type, such as LORA."""
    kind = config.peft_type
    return str(getattr(kind, "value", kind))


def is_tuned(module: Any) -> bool:
    """Return whether a layer adds a change to a module's weight."""
    return hasattr(module, "base_layer")


def adapter_names(module: Any) -> set[str]:
    """Return the names of the adapters that a layer has."""
    return set(module._get_available_adapters())


def active_name(module: Any) -> str:
    """Return the name of the adapter of a layer that trains."""
    names = [name for name in module.active_adapters if name != FINISHED]
    return str(names[0]) if names else TRAINED
