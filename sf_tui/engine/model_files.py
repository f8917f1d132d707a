"""Finds the weight files of a model directory, and maps their tensors to parameters.

Names, JSON and safetensors headers decide whether a directory can be loaded, before transformers
opens it: a pickle, a file outside the directory, an adapter or a quantized model never reaches the
loader. This module never reads a tensor.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError, safe_open

from sf_tui.errors import ModelError
from sf_tui.tasks.model_source import (
    CONFIG,
    adapter_alone,
    describe_adapter,
    first_line,
    read_model_config,
    refuse_own_code,
)

if TYPE_CHECKING:
    from transformers import PreTrainedModel

SINGLE = "model.safetensors"
INDEX = "model.safetensors.index.json"
SUFFIX = ".safetensors"
FETCH_AGAIN = "the file is damaged or incomplete: download it again"
PICKLED = "its weights are pickled, which sf never loads: convert them to safetensors first"

_DISTRIBUTED = re.compile(r"shard-[0-9]{5}-model-[0-9]{5}-of-[0-9]{5}\.safetensors$")
PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt")


@dataclass(frozen=True)
class TensorHeader:
    """One tensor's header in a safetensors file."""

    path: Path
    shape: tuple[int, ...]

    @property
    def elements(self) -> int:
        """Number of scalars."""
        count = 1
        for length in self.shape:
            count *= length
        return count


@dataclass(frozen=True)
class ModelFiles:
    """A model directory that is safe to load with transformers."""

    folder: Path
    config: dict[str, Any]
    tensors: dict[str, TensorHeader]
    """By name in the file."""

    @property
    def elements(self) -> int:
        """Number of scalars in all tensors."""
        return sum(tensor.elements for tensor in self.tensors.values())


def inspect_directory(source: str, folder: Path, *, trusts_code: bool) -> ModelFiles:
    """Check a model directory by its file names and headers.

    Args:
        source: the directory as named in the profile.
        folder: the directory.
        trusts_code: whether the profile allows the model's own code to run.

    Raises:
        ModelError: it is an adapter, damaged, quantized or pickled, or refers to outside files.
    """
    _refuse_adapter(f"[model] {source}", folder)
    config = folder / CONFIG
    if not config.is_file():
        raise ModelError(f"[model] {source}: no {CONFIG} in it", _what_instead(folder))
    content = read_model_config(config)
    refuse_own_code(source, config, content, trusts_code)
    if "model_type" not in content:
        raise ModelError(f"{config}: it names no model_type", "is this a transformers model?")
    if "quantization_config" in content:
        raise ModelError(
            f"{config}: the weights are quantized and can't be tuned as they are",
            "take the unquantized model",
        )
    if content.get("transformers_weights") is not None:
        # transformers would load that file instead of model.safetensors, whatever its format.
        raise ModelError(
            f"{config}: transformers_weights names a weight file of its own",
            f"remove the key; sf reads {SINGLE} or the files that {INDEX} names",
        )
    _refuse_distributed(folder)
    files = find_weights(folder)
    if not files:
        if any(folder.glob("*" + SUFFIX)):
            raise ModelError(
                f"[model] {source}: can't be loaded: neither {SINGLE} nor {INDEX} in it",
                f"rename its only weight file to {SINGLE}, or complete the download",
            )
        pickled = any(path for pattern in PICKLES for path in folder.glob(pattern))
        raise ModelError(
            f"[model] {source}: no *{SUFFIX} in it",
            PICKLED if pickled else "the weights are missing",
        )
    tensors = {name: header for path in files for name, header in read_headers(path).items()}
    return ModelFiles(folder, content, tensors)


def find_weights(folder: Path) -> list[Path]:
    """Return the safetensors files that transformers would load from a directory.

    Returns:
        The single file if there is one, else all shards; empty if there are neither.

    Raises:
        ModelError: the index is damaged, or names a file that is missing, is not a safetensors
            file, or is outside the directory.
    """
    # Like transformers, prefer the single file if both exist.
    if (folder / SINGLE).is_file():
        return [folder / SINGLE]
    index = folder / INDEX
    if not index.is_file():
        return []
    shards = shards_of(index)
    for shard in shards:
        if not shard.is_file():
            raise ModelError(
                f"{shard}: can't be loaded: missing, though {INDEX} names it",
                "the directory is not complete: download it again",
            )
    return shards


def shards_of(index: Path) -> list[Path]:
    """Return the files listed in a shard index, whether or not they exist.

    Raises:
        ModelError: it is damaged, or names a file that is not a safetensors file or is outside the
            index's directory.
    """
    try:
        content = json.loads(index.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(f"{index}: not JSON: {first_line(error)}", FETCH_AGAIN) from error
    named = content.get("weight_map") if isinstance(content, dict) else None
    if (
        not isinstance(named, dict)
        or not named
        or not all(isinstance(name, str) for name in named.values())
    ):
        raise ModelError(f"{index}: it has no weight_map from tensors to files", FETCH_AGAIN)
    shards = []
    for name in sorted(set(named.values())):
        _refuse_name(index, name)
        shard = index.parent / name
        _refuse_link(index, name, shard)
        shards.append(shard)
    return shards


def read_headers(path: Path) -> dict[str, TensorHeader]:
    """Return the tensor headers of a safetensors file, by name.

    Raises:
        ModelError: it isn't a complete safetensors file (but a pickle of that name, for instance).
    """
    try:
        with safe_open(path, framework="pt") as file:
            return {
                name: TensorHeader(path, tuple(file.get_slice(name).get_shape()))
                for name in file.keys()  # noqa: SIM118  no mapping
            }
    except (OSError, ValueError, SafetensorError) as error:
        raise ModelError(f"{path}: can't be loaded: {first_line(error)}", _damage(path)) from error


def _refuse_adapter(source: str, folder: Path) -> None:
    adapter = describe_adapter(folder)
    if adapter is None:
        return
    whole = (folder / SINGLE).is_file() or (folder / INDEX).is_file()
    if whole:
        raise ModelError(
            f"{source}: it holds full weights and {adapter}: which of them is meant is unclear",
            "merge the adapter into the weights first, or move its files away to tune the weights "
            "without it",
        )
    raise adapter_alone(source, adapter)


def _refuse_name(index: Path, name: str) -> None:
    # The index may have been written on Windows or on a POSIX system.
    parts = {*PurePosixPath(name).parts, *PureWindowsPath(name).parts}
    absolute = PurePosixPath(name).is_absolute() or PureWindowsPath(name).anchor
    if absolute or ".." in parts or "\0" in name:
        raise ModelError(
            f"{index}: it names '{name}', a file outside the directory",
            "the weights of a model are in its own directory: put them there and name them so",
        )
    if not name.endswith(SUFFIX):
        raise ModelError(
            f"{index}: it names '{name}', which is no safetensors file; a pickle is never loaded",
            "convert the weights to safetensors first",
        )


def _refuse_link(index: Path, name: str, shard: Path) -> None:
    """Refuse a shard that links outside the directory, except into the hub's own cache."""
    home, target = index.parent.resolve(), shard.resolve()
    if target.is_relative_to(home):
        return
    # The hub's cache stores a repository's files under blobs/ and links to them.
    if target.parent.name == "blobs" and target.parent.parent.name.startswith("models--"):
        return
    raise ModelError(
        f"{index}: it names '{name}', a link to {target}, outside the directory",
        "copy the file into the directory",
    )


def _refuse_distributed(folder: Path) -> None:
    # transformers prefers such files to model.safetensors, whatever their origin.
    found = next((path.name for path in folder.iterdir() if _DISTRIBUTED.match(path.name)), None)
    if found:
        raise ModelError(
            f"{folder}: it holds a distributed training checkpoint ({found})",
            "name the directory that save_pretrained wrote",
        )


def _what_instead(folder: Path) -> str:
    if any(folder.glob("*.gguf")):
        return "name the .gguf file itself"
    if (folder / "model" / CONFIG).is_file():
        return f"did you mean '{folder / 'model'}'?"
    return f"a Hugging Face model directory holds {CONFIG} and *{SUFFIX}"


def _damage(path: Path) -> str:
    try:
        start = path.open("rb").read(4)
    except OSError:
        return FETCH_AGAIN
    if start.startswith((b"PK\x03\x04", b"\x80\x02", b"\x80\x04", b"\x80\x05")):
        return "it is a pickle under another name, which sf never loads: convert it to safetensors"
    return "check that the file is complete and undamaged: download it again"


class StoredNames:
    """Maps tensor names in a model's files to parameter and buffer names in the live model.

    transformers renames keys on loading (`language_model.model.…` to `model.language_model.…`) and
    converts some tensors (experts stored one by one become a single tensor). Both mappings come
    from transformers.

    Args:
        model: the model that the files load as.
        part: name of the module that is tuned on its own; empty for the whole model.
    """

    def __init__(self, model: PreTrainedModel, part: str = "") -> None:
        # Deferred: this imports the conversions of every model family.
        from transformers.conversion_mapping import get_model_conversion_mapping
        from transformers.core_model_loading import WeightConverter, WeightRenaming

        transforms = get_model_conversion_mapping(model)
        self._renamings = [entry for entry in transforms if isinstance(entry, WeightRenaming)]
        self._converters = [entry for entry in transforms if isinstance(entry, WeightConverter)]
        self._base = model.base_model_prefix
        # transformers looks names up with `get`; storing the tensors would keep them in memory.
        self._known: dict[str, Any] = dict.fromkeys(model.state_dict(), True)
        self._part = f"{part}." if part else ""

    def loaded(self, keys: Iterable[str]) -> tuple[dict[str, str], bool]:
        """Return the live name of each key, and whether any tensors are converted on loading.

        Args:
            keys: tensor names in the files. Converted tensors, and tensors outside the tuned part,
                are omitted from the result.
        """
        from transformers.core_model_loading import rename_source_key

        names: dict[str, str] = {}
        converted = False
        for key in sorted(keys):
            # The last two parameters have different names across versions of transformers.
            name, pattern = rename_source_key(
                key, self._renamings, self._converters, self._base, self._known
            )
            if name not in self._known and key in self._known:
                # As on loading: a name that already exists in the model is kept.
                name, pattern = key, None
            if pattern is not None:
                converted = True
            elif name.startswith(self._part):
                names[key] = name.removeprefix(self._part)
        return names, converted
