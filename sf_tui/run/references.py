"""Checkpoints that stay outside a run's directory, where another program wrote them.

`references.json` lists the weights of an imported run: stage, step, folder, and the size, time and
digest of each file when the run was made. Reads no weights: a file of the same size with another
time has to be digested by the caller.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from sf_tui.errors import RunError, UsageError, did_you_mean
from sf_tui.run.directory import RunDirectory
from sf_tui.run.durable import read_regular, reason_of, replace_file

SCHEMA_VERSION = 1

_HINT = "restore it from a copy of the run directory, or import the training again"


@dataclass(frozen=True)
class FileFacts:
    """A file as it was when the run was made."""

    bytes: int
    mtime_ns: int
    """Time of its last change, in ns since the epoch."""
    sha256: str
    """Digest of its content, or of 64 blocks of a large file of weights."""


@dataclass(frozen=True)
class WeightFiles:
    """A folder with weights, and its files.

    Attributes:
        folder: a Hugging Face model directory, or a PEFT adapter's.
        is_adapter: whether it is an adapter.
        files: its files by name.
    """

    folder: Path
    is_adapter: bool
    files: Mapping[str, FileFacts]

    @property
    def bytes(self) -> int:
        """Size of all files."""
        return sum(facts.bytes for facts in self.files.values())

    def missing(self) -> str:
        """Return which file is gone or has another size, in words; empty if none."""
        for name, facts in self.files.items():
            path = self.folder / name
            try:
                size = path.stat().st_size
            except OSError:
                return f"{path} is gone"
            if size != facts.bytes:
                return f"{path} has {size:,} bytes; it had {facts.bytes:,} when the run was made"
        return ""

    def touched(self) -> list[str]:
        """Return the names of the files that were written since, whatever is in them now."""
        return [
            name
            for name, facts in self.files.items()
            if (self.folder / name).stat().st_mtime_ns != facts.mtime_ns
        ]


@dataclass(frozen=True)
class Reference:
    """Weights of a run that are outside its directory.

    Attributes:
        stage: the stage.
        step: optimizer steps done; 0 for the model that the stage began with.
        weights: where they are.
    """

    stage: str
    step: int
    weights: WeightFiles


def write_references(run: RunDirectory, references: Sequence[Reference]) -> None:
    """Write a run's references.

    Raises:
        OSError: they can't be written.
    """
    facts = {
        "schema": SCHEMA_VERSION,
        "references": [
            {
                "stage": one.stage,
                "step": one.step,
                "folder": str(one.weights.folder),
                "adapter": one.weights.is_adapter,
                "files": {
                    name: {"bytes": file.bytes, "mtime_ns": file.mtime_ns, "sha256": file.sha256}
                    for name, file in one.weights.files.items()
                },
            }
            for one in references
        ],
    }
    replace_file(run.references, orjson.dumps(facts, option=orjson.OPT_INDENT_2) + b"\n")


def read_references(run: RunDirectory) -> list[Reference]:
    """Return a run's references in order of their step; none for a run with its own checkpoints.

    Raises:
        RunError: the file is damaged.
    """
    path = run.references
    try:
        facts = orjson.loads(read_regular(path))
    except (FileNotFoundError, NotADirectoryError):
        return []
    except (OSError, ValueError) as error:
        reason = reason_of(error) if isinstance(error, OSError) else str(error)
        raise RunError(f"{path}: can't be read: {reason}", _HINT) from error
    entries = facts.get("references") if isinstance(facts, dict) else None
    found = [_reference(entry) for entry in entries] if isinstance(entries, list) else [None]
    known = [one for one in found if one is not None]
    if len(known) < len(found):
        raise RunError(f"{path}: an entry names no weights", _HINT)
    return sorted(known, key=lambda one: one.step)


def references_until(references: Sequence[Reference], name: str | None) -> list[Reference]:
    """Return the references up to a named checkpoint, which is then the last one.

    Args:
        references: of one run, in order of their step.
        name: the checkpoint's step, its folder's name, or its whole path; None for all.

    Raises:
        UsageError: there is no such checkpoint.
    """
    if name is None:
        return list(references)
    for place, one in enumerate(references):
        folder = one.weights.folder
        if one.step and name in {str(one.step), folder.name, str(folder)}:
            return list(references[: place + 1])
    names = [one.weights.folder.name for one in references if one.step]
    raise UsageError(
        f"--checkpoint {name}: the run has no such checkpoint",
        did_you_mean(name, names, "checkpoints"),
    )


def _reference(entry: Any) -> Reference | None:
    if not isinstance(entry, dict):
        return None
    stage, step, folder = (entry.get(key) for key in ("stage", "step", "folder"))
    is_adapter, files = entry.get("adapter"), entry.get("files")
    if not (isinstance(stage, str) and isinstance(step, int) and isinstance(folder, str)):
        return None
    if not (isinstance(is_adapter, bool) and isinstance(files, dict)) or "\0" in folder:
        return None
    found = {name: _facts(one) for name, one in files.items()}
    known = {name: one for name, one in found.items() if one is not None}
    if not known or len(known) < len(found):
        return None
    return Reference(stage, step, WeightFiles(Path(folder), is_adapter, known))


def _facts(facts: Any) -> FileFacts | None:
    if not isinstance(facts, dict):
        return None
    size, time, digest = (facts.get(key) for key in ("bytes", "mtime_ns", "sha256"))
    if isinstance(size, int) and isinstance(time, int) and isinstance(digest, str):
        return FileFacts(size, time, digest)
    return None
