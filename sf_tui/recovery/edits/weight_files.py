"""Which safetensors files of a Hugging Face directory hold its weights; never a pickle.

It reads headers only and knows nothing of any model.
"""

from __future__ import annotations

import json
from pathlib import Path

from safetensors import SafetensorError, safe_open

from sf_tui.errors import ModelError

_SINGLE = "model.safetensors"
_INDEX = "model.safetensors.index.json"
_ADAPTER = "adapter_model.safetensors"
_PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt")
_GGUF = "GGUF weights are quantized: name a directory with the same model as *.safetensors"
_FETCH_ANEW = "the file is damaged or incomplete: fetch it anew"


def weight_files(folder: Path) -> list[Path]:
    """Return the files of a directory that hold its weights: the single one, or every shard.

    Raises:
        ModelError: there is no such directory, or it holds no whole model as safetensors.
    """
    if not folder.is_dir():
        kind = "not a directory" if folder.exists() else "no such directory"
        hint = "start weights are a stage's first checkpoint or a directory with *.safetensors"
        raise ModelError(f"{folder}: {kind}", _GGUF if folder.suffix == ".gguf" else hint)
    # The single file first, as transformers does where both are there.
    if (folder / _SINGLE).is_file():
        return [folder / _SINGLE]
    index = folder / _INDEX
    if not index.is_file():
        raise ModelError(f"{folder}: no {_SINGLE} in it", _what_instead(folder))
    shards = _shards_of(index)
    for shard in shards:
        if not shard.is_file():
            raise ModelError(f"{shard}: missing, though {_INDEX} names it", "fetch it anew")
    return shards


def list_tensors(path: Path) -> list[str]:
    """Return the names of a file's tensors.

    Raises:
        ModelError: it isn't a whole safetensors file.
    """
    try:
        with safe_open(path, framework="pt") as file:
            return list(file.keys())
    except (OSError, SafetensorError) as error:
        raise ModelError(f"{path}: can't be read: {error}", _FETCH_ANEW) from error


def _shards_of(index: Path) -> list[Path]:
    try:
        content = json.loads(index.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ModelError(f"{index}: not JSON: {error}", _FETCH_ANEW) from error
    named = content.get("weight_map") if isinstance(content, dict) else None
    if not isinstance(named, dict) or not all(isinstance(name, str) for name in named.values()):
        raise ModelError(f"{index}: it has no weight_map from tensors to files", _FETCH_ANEW)
    return [index.parent / name for name in sorted(set(named.values()))]


def _what_instead(folder: Path) -> str:
    if (folder / _ADAPTER).is_file():
        return "it is an adapter: merge it into its model, or name the model that it adapts"
    if any(folder.glob("*.gguf")):
        return _GGUF
    if (folder / "model" / _SINGLE).is_file():
        return f"did you mean '{folder / 'model'}'?"
    if any(path for pattern in _PICKLES for path in folder.glob(pattern)):
        return "its weights are pickled, which sf never loads: convert them to safetensors first"
    return "the weights are missing: fetch them anew"
