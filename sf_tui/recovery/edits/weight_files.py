"""Which safetensors files of a Hugging Face directory hold its weights; never a pickle.

It reads headers only and knows nothing of any model.
"""

from __future__ import annotations

from pathlib import Path

from safetensors import SafetensorError, safe_open

from sf_tui.engine.model_files import FETCH_AGAIN, PICKLED, SINGLE, describe_adapter, find_weights
from sf_tui.errors import ModelError

_PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt")
_GGUF = "GGUF weights are quantized: name a directory with the same model as *.safetensors"


def weight_files(folder: Path) -> list[Path]:
    """Return the files of a directory that hold its weights: the single one, or every shard.

    Raises:
        ModelError: there is no such directory, it holds no whole model as safetensors, or its
            index names a pickle or a file outside.
    """
    if not folder.is_dir():
        kind = "not a directory" if folder.exists() else "no such directory"
        hint = "start weights are a stage's first checkpoint or a directory with *.safetensors"
        raise ModelError(f"{folder}: {kind}", _GGUF if folder.suffix == ".gguf" else hint)
    adapter = describe_adapter(folder)
    files = find_weights(folder)
    if adapter and files:
        raise ModelError(
            f"{folder}: it holds full weights and {adapter}: which of them was the start is "
            "unclear",
            "merge the adapter into the weights, or move its files away",
        )
    if not files:
        raise ModelError(f"{folder}: no {SINGLE} in it", _what_instead(folder, adapter))
    return files


def list_tensors(path: Path) -> list[str]:
    """Return the names of a file's tensors.

    Raises:
        ModelError: it isn't a whole safetensors file.
    """
    try:
        with safe_open(path, framework="pt") as file:
            return list(file.keys())
    except (OSError, SafetensorError) as error:
        raise ModelError(f"{path}: can't be read: {error}", FETCH_AGAIN) from error


def _what_instead(folder: Path, adapter: str | None) -> str:
    if adapter:
        return f"it is {adapter}: merge it into its model, or name the model that it adapts"
    if any(folder.glob("*.gguf")):
        return _GGUF
    if (folder / "model" / SINGLE).is_file():
        return f"did you mean '{folder / 'model'}'?"
    if any(path for pattern in _PICKLES for path in folder.glob(pattern)):
        return PICKLED
    return "the weights are missing: fetch them anew"
