"""Reads a PEFT directory by its names, JSON and safetensors headers, and finds its base.

A directory is external input: a pickle, a file of another model, or an adapter whose base can't be
told from it is refused before peft opens anything.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sf_tui.engine.adapters.layers import SUPPORTED
from sf_tui.engine.model_files import INDEX, PICKLED, SINGLE, TensorHeader, read_headers
from sf_tui.errors import ModelError
from sf_tui.tasks.model_source import read_model_config

ADAPTER_CONFIG = "adapter_config.json"
ADAPTER_WEIGHTS = "adapter_model.safetensors"
_PICKLE = "adapter_model.bin"
_CHECKPOINT = re.compile(r"checkpoint-[0-9]+")
"""Folders below a training's, each with an adapter of another step."""

_CHANGES_BASE = ("pissa", "olora", "corda", "loftq", "lora_ga")
"""Initializations that take their part out of the base's weights: without the adapter, the model
would no longer be the base."""

_UNREADABLE = {
    "layer_replication": "it repeats the base's layers",
    "trainable_token_indices": "it trains single rows of the embedding",
    "target_parameters": "it adapts parameters that are no module's weight",
    "alora_invocation_tokens": "it is active only after certain tokens",
    "arrow_config": "it routes between several adapters",
    "use_qalora": "it pools the base's inputs",
    "use_bdlora": "its factors are block-diagonal",
    "kasa_config": "it takes its part out of the base's weights",
    "velora_config": "its gradients are compressed",
    "monteclora_config": "its weights are random draws",
    "megatron_config": "it is made for Megatron's layers",
}
"""Keys of an adapter's configuration that sf doesn't support, and why."""


@dataclass(frozen=True)
class AdapterFiles:
    """A PEFT directory that is safe to load."""

    folder: Path
    config: dict[str, Any]
    tensors: dict[str, TensorHeader]
    """By name in the file."""

    @property
    def weights(self) -> Path:
        """The file with its weights."""
        return self.folder / ADAPTER_WEIGHTS


def adapter_place(folder: Path) -> Path:
    """Return the folder in which a directory has its adapter: itself, or one below.

    peft writes an adapter that isn't called `default` into a folder of its own name. A whole model
    hides adapters below it.

    Raises:
        ModelError: there are several, and none is called `default`.
    """
    if any((folder / name).is_file() for name in (ADAPTER_CONFIG, SINGLE, INDEX)):
        return folder
    named = sorted(
        config.parent
        for config in folder.glob(f"*/{ADAPTER_CONFIG}")
        if not _CHECKPOINT.fullmatch(config.parent.name)
    )
    if len(named) > 1:
        names = ", ".join(place.name for place in named)
        raise ModelError(
            f"{folder}: several adapters in it: {names}",
            f"name one of them, such as {named[0]}, or move the others away",
        )
    return named[0] if named else folder


def is_adapter(folder: Path) -> bool:
    """Return whether a directory is a PEFT adapter and holds no whole model.

    Some trainers (axolotl) put the base's config.json beside the adapter.

    Raises:
        ModelError: it holds several adapters.
    """
    if any((folder / name).is_file() for name in (SINGLE, INDEX)):
        return False
    return (adapter_place(folder) / ADAPTER_CONFIG).is_file()


def inspect_adapter(folder: Path) -> AdapterFiles:
    """Check a PEFT directory without opening its tensors.

    Raises:
        ModelError: it isn't one, is pickled or damaged, or of a kind that sf doesn't support.
    """
    folder = adapter_place(folder)
    config = folder / ADAPTER_CONFIG
    if not config.is_file():
        raise ModelError(
            f"{folder}: no {ADAPTER_CONFIG} in it",
            "an adapter is a directory that peft's save_pretrained wrote"
            if folder.is_dir()
            else "there is no such directory",
        )
    content = read_model_config(config)
    _refuse_kind(config, content)
    weights = folder / ADAPTER_WEIGHTS
    if not weights.is_file():
        pickled = (folder / _PICKLE).is_file()
        raise ModelError(
            f"{folder}: no {ADAPTER_WEIGHTS} in it" + (f", only {_PICKLE}" if pickled else ""),
            PICKLED if pickled else "the adapter's weights are missing: copy them again",
        )
    return AdapterFiles(folder, content, read_headers(weights))


def find_base(files: AdapterFiles) -> str:
    """Return the base of an adapter, as `[model] source`: a directory, a .gguf file or a hub id.

    A relative path starts at the adapter's directory, or else at the current one.

    Raises:
        ModelError: the adapter names no base, or one that doesn't exist.
    """
    named = files.config.get("base_model_name_or_path")
    config = files.folder / ADAPTER_CONFIG
    if not isinstance(named, str) or not named.strip() or "\0" in named:
        raise ModelError(
            f"{config}: it names no base (base_model_name_or_path)",
            f"write the base's directory or hub id there, or {SET_BASE}",
        )
    place = Path(named).expanduser()
    for start in (files.folder, Path.cwd()):
        found = start / place
        if found.exists():
            return str(found.resolve() if not place.is_absolute() else found)
    if place.is_absolute() or named.startswith((".", "~")) or named.count("/") > 1:
        raise ModelError(
            f"{config}: its base {named[:200]} doesn't exist",
            f"it was moved or is on another machine: correct the path, or {SET_BASE}",
        )
    return named


SET_BASE = "name it with --set model.source=BASE"


def _refuse_kind(config: Path, content: dict[str, Any]) -> None:
    kind = str(content.get("peft_type") or "")[:40].upper()
    if kind not in SUPPORTED:
        prompts = "PROMPT" in kind or "TUNING" in kind
        why = (
            "it changes the prompt, not the model's layers"
            if prompts
            else "its change is no sum with the base's weights that sf knows"
        )
        raise ModelError(
            f"{config}: an adapter of type {kind or 'unknown'}: {why}",
            f"sf reads {', '.join(SUPPORTED)}; others can be merged into their base with peft",
        )
    start = str(content.get("init_lora_weights", "")).lower()
    if start.startswith(_CHANGES_BASE):
        raise ModelError(
            f"{config}: its base was changed when it was made (init_lora_weights = {start[:40]})",
            "convert it to a plain LoRA (peft: save_pretrained with "
            "path_initial_model_for_weight_conversion), or merge it",
        )
    if content.get("bias", "none") != "none":
        raise ModelError(
            f"{config}: it trained the base's biases (bias = {str(content['bias'])[:40]}), which "
            "can't be turned off with it",
            "merge it into its base first",
        )
    for key, why in _UNREADABLE.items():
        if content.get(key):
            raise ModelError(
                f"{config}: {key}: {why}, which sf doesn't support", "merge it into its base first"
            )
