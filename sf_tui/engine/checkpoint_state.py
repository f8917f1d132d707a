"""Reads and writes `state.json` of a checkpoint, and detects damage to a checkpoint.

The file lists every other file of the checkpoint with its size and SHA-256, and holds the SHA-256
of its own content. That covers the keys that a stage adds; the stage checks their types.
"""

from __future__ import annotations

import hashlib
import os
import shlex
from pathlib import Path
from typing import Annotated, Any

import orjson
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from sf_tui.errors import RunError
from sf_tui.run.hosted import resume_by_path
from sf_tui.vocabulary.sizes import counted

STATE_FILE = "state.json"
FORMAT = 1

_CHECKSUM = "checksum"
_CHUNK_BYTES = 1 << 22

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class DamagedCheckpointError(RunError):
    """A damaged checkpoint.

    Args:
        message: the file, and what is wrong with it.
        checkpoint: its folder.
    """

    def __init__(self, message: str, checkpoint: Path) -> None:
        super().__init__(message, way_on(checkpoint))


def way_on(checkpoint: Path) -> str:
    """Return instructions for resuming a run without one of its checkpoints.

    Args:
        checkpoint: RUN/checkpoints/STAGE/step-NNNNNN.
    """
    resume = resume_way(checkpoint)
    if checkpoint.name.partition("~")[0] == "step-000000":
        # Drift and anchors need a stage's first weights: without them the stage must start over.
        stage = shlex.quote(str(checkpoint.parent))
        return (
            f"move the stage's folder away (mv {stage} {stage}.damaged), then {resume} plays the "
            "stage again from its beginning"
        )
    folder = shlex.quote(str(checkpoint))
    return (
        f"move the folder away (mv {folder} {folder}.damaged), then {resume} continues from "
        "the checkpoint before it"
    )


def resume_way(checkpoint: Path) -> str:
    """Return what resumes the run of a checkpoint, RUN/checkpoints/STAGE/step-…."""
    return resume_by_path(checkpoint.parent.parent.parent)


class FileRecord(BaseModel):
    """Size and SHA-256 of one file of a checkpoint."""

    model_config = ConfigDict(strict=True, extra="forbid")

    bytes: int = Field(ge=0)
    sha256: Sha256


class CheckpointState(BaseModel):
    """The keys of every checkpoint's state; a stage adds more."""

    model_config = ConfigDict(strict=True, extra="allow")

    format: int
    stage: str = Field(min_length=1)
    step: int = Field(ge=0)
    seq: int = Field(ge=0)
    optimizer: list[str]
    """Layers whose moments are stored."""
    files: dict[str, FileRecord]


def record_file(path: Path) -> dict[str, Any]:
    """Return the size and SHA-256 of a file, for a checkpoint's state.

    SHA-256 runs at 1,500 MB/s on one core with SHA instructions, common in servers since 2019
    (BLAKE2b: 770 MB/s); on most disks the fsync of the same bytes takes longer. A file that was
    just written is read from the page cache.
    """
    digest = hashlib.sha256()
    size = 0
    with path.open("rb", buffering=0) as file:
        while chunk := file.read(_CHUNK_BYTES):
            digest.update(chunk)
            size += len(chunk)
    return {"bytes": size, "sha256": digest.hexdigest()}


def dump_state(state: dict[str, Any]) -> bytes:
    """Serialize a state to JSON, with a checksum of its content."""
    # Round-trip first: the checksum must cover the values after JSON has replaced NaN and the like.
    plain = orjson.loads(orjson.dumps(state))
    return orjson.dumps(plain | {_CHECKSUM: _checksum(plain)}, option=orjson.OPT_INDENT_2)


def _checksum(state: dict[str, Any]) -> str:
    return hashlib.sha256(orjson.dumps(state, option=orjson.OPT_SORT_KEYS)).hexdigest()


def parse_state(content: bytes, checkpoint: Path) -> dict[str, Any]:
    """Return the state of a checkpoint.

    Raises:
        DamagedCheckpointError: it differs from the state that was written, or has another format.
    """
    file = checkpoint / STATE_FILE
    try:
        state = orjson.loads(content)
    except orjson.JSONDecodeError as error:
        raise DamagedCheckpointError(f"{file}: damaged: not JSON: {error}", checkpoint) from error
    if not isinstance(state, dict):
        raise DamagedCheckpointError(f"{file}: damaged: not a JSON object", checkpoint)
    given = state.pop(_CHECKSUM, None)
    if given is None:
        raise DamagedCheckpointError(f"{file}: damaged: it has no checksum", checkpoint)
    if given != _checksum(state):
        raise DamagedCheckpointError(
            f"{file}: damaged or changed by hand: its content does not match its checksum",
            checkpoint,
        )
    check_state(CheckpointState, state, checkpoint)
    if state["format"] != FORMAT:
        raise DamagedCheckpointError(
            f"{file}: format {state['format']}, and this sf reads {FORMAT}: it was written by "
            "another version",
            checkpoint,
        )
    return state


def check_state(schema: type[BaseModel], state: dict[str, Any], checkpoint: Path) -> None:
    """Check that a state has the keys of a schema.

    Raises:
        DamagedCheckpointError: a key is missing or its value has another type.
    """
    try:
        schema.model_validate(state)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"]))
        raise DamagedCheckpointError(
            f"{checkpoint / STATE_FILE}: damaged: key '{key}': {first['msg'].lower()}", checkpoint
        ) from error


# Files that this process has verified: device, inode, size, modification time, digest.
_verified: set[tuple[int, int, int, int, str]] = set()


def verified_file(checkpoint: Path, state: dict[str, Any], name: str) -> Path:
    """Verify the checksum of a checkpoint's file and return its path.

    A process verifies an unchanged file only once.

    Args:
        checkpoint: its folder.
        state: its state.
        name: the file's path relative to the folder.

    Raises:
        DamagedCheckpointError: it is missing, or its content differs from what was written.
    """
    path = checkpoint / name
    record = state["files"].get(name)
    if record is None:
        raise DamagedCheckpointError(
            f"{path}: can't be used: {STATE_FILE} beside it doesn't list it", checkpoint
        )
    try:
        stat = path.stat()
        identity = (stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns, record["sha256"])
        if identity in _verified:
            return path
        if stat.st_size != record["bytes"]:
            raise DamagedCheckpointError(
                f"{path}: damaged: {counted(stat.st_size, 'byte')}, and "
                f"{record['bytes']} were written",
                checkpoint,
            )
        found = record_file(path)
    except OSError as error:
        raise DamagedCheckpointError(
            f"{path}: can't be read: {os.strerror(error.errno or 0)}", checkpoint
        ) from error
    if found != record:
        raise DamagedCheckpointError(
            f"{path}: damaged: its bytes do not match the checksum in {STATE_FILE}", checkpoint
        )
    _verified.add(identity)
    return path
