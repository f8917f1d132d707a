"""Writes a tuned text part back in the file layout of the original model.

Each safetensors file is rewritten under its own name: the text part's tensors with their trained
values, all other tensors byte for byte, whatever their dtype. The config, the index and the
processor files are written next to them.

The source files are opened when the model is loaded and stay open, so deleting the directory
during a run loses nothing: the system keeps open files. If a file was changed in place, writing
the model fails.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import torch

from sf_tui.engine.model_files import INDEX, SINGLE, find_weights
from sf_tui.errors import ModelError, RunError

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from sf_tui.engine.model_files import StoredNames

_PIECE = 2**24
_COPIED = frozenset({".json", ".jinja", ".txt", ".model", ".py"})
# Written by the tokenizer and the model.
_WRITTEN_AGAIN = frozenset(
    {
        "config.json",
        "generation_config.json",
        "tokenizer.json",
        "tokenizer_config.json",
        "special_tokens_map.json",
        "added_tokens.json",
        "tokenizer.model",
        "vocab.json",
        "vocab.txt",
        "merges.txt",
        "chat_template.jinja",
    }
)
_STORED_TYPES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
}
_BACK = "put the model's directory back as it was, then try again: checkpoints are intact"


@dataclass(frozen=True)
class _Entry:
    """One tensor in a file: its header and byte offsets."""

    kind: str
    shape: list[int]
    start: int
    length: int


class SourceFiles:
    """The files of a model directory, kept open from loading to writing.

    Args:
        folder: a directory with `model.safetensors`, or shards and their index.

    Attributes:
        folder: as given.

    Raises:
        ModelError: a file is missing or isn't a safetensors file.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._config: dict[str, Any] = json.loads((folder / "config.json").read_text("utf-8"))
        self._index: dict[str, Any] | None = None
        if not (folder / SINGLE).is_file():
            self._index = json.loads((folder / INDEX).read_text("utf-8"))
        shards = [str(path.relative_to(folder)) for path in find_weights(folder)]
        self._files = {name: self._opened(name) for name in shards}
        self._stamps = {name: _stamp(file) for name, file in self._files.items()}
        self._headers: dict[str, tuple[dict[str, str], dict[str, _Entry]]] = {
            name: _read_header(folder / name, file) for name, file in self._files.items()
        }
        self._beside = {
            path.name: path.read_bytes()
            for path in sorted(folder.iterdir())
            if path.is_file()
            and path.suffix in _COPIED
            and path.name not in _WRITTEN_AGAIN
            and not path.name.endswith(".index.json")
        }

    def shapes(self) -> dict[str, list[int]]:
        """Return the shape of every tensor, by its name in the files."""
        return {
            key: entry.shape
            for _, entries in self._headers.values()
            for key, entry in entries.items()
        }

    def write(self, path: Path, trained: Mapping[str, torch.Tensor]) -> None:
        """Write weights, index, config and processor files into an empty directory.

        Args:
            path: the directory.
            trained: new values by name in the files; every other tensor is copied.

        Raises:
            RunError: a source file changed since it was loaded.
            OSError: a file can't be written.
        """
        for name, file in self._files.items():
            if _stamp(file) != self._stamps[name]:
                raise RunError(
                    f"{self.folder / name}: changed since the model was loaded, so the tensors "
                    "that were not tuned can't be copied from it",
                    _BACK,
                )
        path.mkdir(parents=True, exist_ok=True)
        total = sum(self._write_shard(path, name, trained) for name in self._files)
        if self._index is not None:
            about = dict(self._index.get("metadata") or {}) | {"total_size": total}
            _write_json(path / INDEX, self._index | {"metadata": about})
        kinds = {tensor.dtype for tensor in trained.values()}
        _write_json(path / "config.json", _with_dtype(self._config, kinds))
        for name, content in self._beside.items():
            (path / name).write_bytes(content)

    def _write_shard(self, path: Path, name: str, trained: Mapping[str, torch.Tensor]) -> int:
        """Write one safetensors file and return the size of its tensors in bytes."""
        metadata, entries = self._headers[name]
        header: dict[str, Any] = {"__metadata__": metadata} if metadata else {}
        at = 0
        for key, entry in entries.items():
            kind, length = entry.kind, entry.length
            if key in trained:
                kind = _STORED_TYPES[trained[key].dtype]
                length = trained[key].numel() * trained[key].element_size()
            header[key] = {"dtype": kind, "shape": entry.shape, "data_offsets": [at, at + length]}
            at += length
        content = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
        # The format requires tensor data to be aligned to 8 bytes.
        content += b" " * (-len(content) % 8)
        with (path / name).open("wb") as out:
            out.write(len(content).to_bytes(8, "little"))
            out.write(content)
            for key, entry in entries.items():
                pieces = (
                    _bytes_of(trained[key])
                    if key in trained
                    else _pieces(self._files[name], entry.start, entry.length)
                )
                for piece in pieces:
                    out.write(piece)
        return at

    def _opened(self, name: str) -> BinaryIO:
        path = self.folder / name
        if Path(name).name != name or path.suffix != ".safetensors":
            raise ModelError(
                f"{self.folder / INDEX}: names '{name}', which is no safetensors file beside it",
                "fetch the model again",
            )
        try:
            return path.open("rb")
        except OSError as error:
            raise ModelError(
                f"{path}: can't be read: {error.strerror}",
                "the tensors that are not tuned are copied from it when the model is written",
            ) from error


class TextTensors:
    """The trained values of a text part, by their names in the files.

    Raises:
        ModelError: a parameter has no tensor of its shape in the files.
    """

    def __init__(
        self,
        source: str,
        files: SourceFiles,
        names: StoredNames,
        whole: PreTrainedModel,
        text_model: PreTrainedModel,
        part: str,
        trained: set[str],
    ) -> None:
        shapes = files.shapes()
        live = dict(text_model.named_parameters(remove_duplicate=False))
        found, _ = names.loaded(shapes)
        # The files may hold a weight under several names (a tied output projection).
        self._direct = {key: name for key, name in found.items() if name in trained}
        stored = {id(live[name]) for name in self._direct.values()}
        self._converted = sorted(
            name for name in trained & set(live) if id(live[name]) not in stored
        )
        self._prefix = f"{part}." if part else ""
        self._text_model = text_model
        # Its conversions are needed to split tensors that were fused on loading.
        self._whole = whole if self._converted else None
        wanted = {key: list(live[name].shape) for key, name in self._direct.items()}
        blank = {
            name: torch.empty_like(live[name], device="meta", requires_grad=False)
            for name in self._converted
        }
        wanted |= {key: list(tensor.shape) for key, tensor in self._split(blank)}
        for key, shape in wanted.items():
            if shapes.get(key) != shape:
                raise ModelError(
                    f"[model] {source}: no tensor '{key}' of shape {shape} in its files, so the "
                    "tuned model can't be written in the form that it came in",
                    "load the model with transformers, save it with save_pretrained, and use that "
                    "directory",
                )

    def current(self) -> dict[str, torch.Tensor]:
        """Return the current values of the tensors, by their names in the files."""
        live = dict(self._text_model.named_parameters(remove_duplicate=False))
        trained = {key: live[name].detach() for key, name in self._direct.items()}
        return trained | dict(self._split({name: live[name].detach() for name in self._converted}))

    def _split(self, tensors: dict[str, torch.Tensor]) -> Iterator[tuple[str, torch.Tensor]]:
        if self._whole is None:
            return
        from transformers.core_model_loading import revert_weight_conversion

        named = {self._prefix + name: tensor for name, tensor in tensors.items()}
        yield from revert_weight_conversion(self._whole, named).items()


def _read_header(path: Path, file: BinaryIO) -> tuple[dict[str, str], dict[str, _Entry]]:
    try:
        length = int.from_bytes(os.pread(file.fileno(), 8, 0), "little")
        if length > _stamp(file)[0]:
            raise ValueError("its header is longer than the file")
        content = json.loads(os.pread(file.fileno(), length, 8))
        metadata = content.pop("__metadata__", {})
        entries = {
            key: _Entry(
                entry["dtype"],
                entry["shape"],
                8 + length + entry["data_offsets"][0],
                entry["data_offsets"][1] - entry["data_offsets"][0],
            )
            for key, entry in content.items()
        }
    except (ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        raise ModelError(
            f"{path}: not a safetensors file: {error}", "fetch the model again"
        ) from error
    return metadata, dict(sorted(entries.items(), key=lambda item: item[1].start))


def _stamp(file: BinaryIO) -> tuple[int, int]:
    status = os.fstat(file.fileno())
    return status.st_size, status.st_mtime_ns


def _pieces(file: BinaryIO, start: int, length: int) -> Iterator[bytes]:
    end = start + length
    while start < end:
        piece = os.pread(file.fileno(), min(_PIECE, end - start), start)
        if not piece:
            raise OSError(f"{file.name}: ends before its last tensor")
        yield piece
        start += len(piece)


def _bytes_of(tensor: torch.Tensor) -> Iterator[bytes]:
    flat = tensor.detach().contiguous().reshape(-1)
    for at in range(0, len(flat), _PIECE // 8):
        yield flat[at : at + _PIECE // 8].cpu().view(torch.uint8).numpy().tobytes()


def _with_dtype(config: dict[str, Any], kinds: set[torch.dtype]) -> dict[str, Any]:
    """Return a config with the dtype of the stored text part."""
    kind = str(next(iter(kinds))).removeprefix("torch.")
    found = dict(config)
    named = [key for key in ("dtype", "torch_dtype") if key in found] or ["dtype"]
    found |= dict.fromkeys(named, kind)
    text = found.get("text_config")
    if isinstance(text, dict):
        inner = [key for key in ("dtype", "torch_dtype") if key in text]
        found["text_config"] = text | dict.fromkeys(inner, kind)
    return found


def _write_json(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
