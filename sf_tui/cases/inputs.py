"""Digests of a run's input files outside its directory, and changes to them since it began.

`inputs.json` in the run directory holds sizes and digests for each profile key that names files,
taken at the run's first preparation. Reads bytes only and parses nothing.

Detects any change to a data file, configuration, tokenizer or weight file up to 64 MiB, and any
change of size. Of larger weight files, it reads 64 blocks of 1 MiB, evenly spaced from the first
byte to the last: further training changes all of them, but a byte altered between two blocks is not
detected. A new modification time alone is not a change.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from sf_tui.errors import DataError, RunError
from sf_tui.profile import Profile, starter_directory
from sf_tui.profile.sources import STARTER_PREFIX
from sf_tui.run.clock import rfc3339_now
from sf_tui.run.directory import RunDirectory
from sf_tui.run.durable import read_regular, reason_of, replace_file
from sf_tui.vocabulary.sizes import counted

SCHEMA_VERSION = 1

_BLOCK = 1 << 20
_BLOCKS = 64
_WEIGHTS = (".safetensors", ".gguf")
# Suffixes read in a model directory; other files in it (a README, a training log) may change.
_OF_A_MODEL = (*_WEIGHTS, ".json", ".model", ".txt", ".jinja", ".py", ".tiktoken")
_MOST_SHOWN = 5

Digests = dict[str, dict[str, Any]]
"""By file path: `bytes` and `sha256`."""


@dataclass(frozen=True)
class Change:
    """An input file that differs from the one that the run started with."""

    key: str
    """The profile key that names it or its folder."""
    path: str
    what: str
    """How it differs, in words."""


def take_inputs(profile: Profile) -> dict[str, Digests]:
    """Return the digests of all files that a profile names, by profile key.

    Files that are missing or can't be read are left out; the code that needs them reports them.
    """
    return {key: _digests(place, data=data) for key, place, data in _places(profile)}


def record_inputs(run: RunDirectory, inputs: dict[str, Digests], **more: Any) -> None:
    """Write the record of a run's inputs into its directory.

    Raises:
        RunError: it can't be written.
    """
    facts = {"schema": SCHEMA_VERSION, "taken": rfc3339_now(), "inputs": inputs, **more}
    path = _record(run)
    try:
        replace_file(path, orjson.dumps(facts, option=orjson.OPT_INDENT_2) + b"\n")
    except OSError as error:
        raise RunError(
            f"{path}: can't be written: {error.strerror}",
            "check the owner of the run directory and the room on its disk",
        ) from error


def read_record(run: RunDirectory) -> dict[str, Any] | None:
    """Return the record of a run's inputs; None if there is none.

    Raises:
        RunError: the record is damaged.
    """
    path = _record(run)
    try:
        facts = orjson.loads(read_regular(path))
    except FileNotFoundError:
        return None
    except OSError as error:
        raise _damaged(path, reason_of(error)) from error
    except orjson.JSONDecodeError as error:
        raise _damaged(path, str(error)) from error
    if not (isinstance(facts, dict) and _well_formed(facts.get("inputs"))):
        raise _damaged(path, "it holds no digests")
    return facts


def changes(then: dict[str, Digests], now: dict[str, Digests]) -> list[Change]:
    """Return the files that differ; skips keys whose files are all gone."""
    found = []
    for key, files in then.items():
        current = now.get(key, {})
        if files and not current:
            continue
        found += [
            Change(key, path, what)
            for path in sorted({*files, *current})
            if (what := _difference(files.get(path), current.get(path)))
        ]
    return found


def changed_inputs(run: RunDirectory, profile: Profile) -> list[Change]:
    """Return the inputs that changed since a run began, without raising an error for them.

    Raises:
        RunError: the record is damaged.
    """
    facts = read_record(run)
    return [] if facts is None else changes(facts["inputs"], take_inputs(profile))


def check_inputs(
    run: RunDirectory, profile: Profile, *, begun: bool, accept_changed: bool
) -> list[Change]:
    """Compare a run's files with its record, or write the record when the run begins.

    Args:
        run: the run; the caller holds its lock.
        profile: the run's.
        begun: whether the run has passed its first preparation.
        accept_changed: add the new digests to the record and go on.

    Returns:
        The changes that were accepted.

    Raises:
        DataError: files have changed; the message names them and how to continue.
        RunError: the record is damaged or can't be written.
    """
    now = take_inputs(profile)
    facts = read_record(run) if begun else None
    if facts is None:
        record_inputs(run, now)
        return []
    found = changes(facts["inputs"], now)
    if not found:
        return []
    if not accept_changed:
        raise DataError(
            f"changed since the run began: {describe_changes(found)}",
            "restore the files the run began with, or continue with the present ones: `sf resume "
            f"{run.path} --accept-changed-data` (rows, batches and held-out rows may differ)",
        )
    earlier = facts.get("replaced")
    replaced = {"taken": facts.get("taken"), "inputs": facts["inputs"]}
    # Keep the digest of a missing file: it may come back.
    merged = {key: now.get(key) or files for key, files in facts["inputs"].items()} | {
        key: files for key, files in now.items() if files
    }
    record_inputs(run, merged, replaced=[*(earlier if isinstance(earlier, list) else []), replaced])
    return found


def describe_changes(found: list[Change]) -> str:
    """Return a text that lists the changed files, at most five of them."""
    lines = [f"{change.path} ({change.key}): {change.what}" for change in found[:_MOST_SHOWN]]
    rest = len(found) - _MOST_SHOWN
    return "; ".join([*lines, *([f"and {counted(rest, 'more file')}"] if rest > 0 else [])])


def _record(run: RunDirectory) -> Path:
    return run.path / "inputs.json"


def _damaged(path: Path, why: str) -> RunError:
    return RunError(
        f"{path}: can't be read: {why}",
        "it only records what the run was started with: move it away, and the next resume uses "
        "the files as they are now",
    )


def _well_formed(inputs: object) -> bool:
    return isinstance(inputs, dict) and all(
        isinstance(files, dict)
        and all(
            isinstance(one, dict)
            and isinstance(one.get("bytes"), int)
            and isinstance(one.get("sha256"), str)
            for one in files.values()
        )
        for files in inputs.values()
    )


def _places(profile: Profile) -> Iterator[tuple[str, Path, bool]]:
    """Yield (key, path, is data) for each local path that a profile names."""
    model = profile.model
    if model.source.startswith(STARTER_PREFIX):
        yield "model.source", starter_directory(model.source.removeprefix(STARTER_PREFIX)), False
    elif os.path.isabs(model.source):  # noqa: PTH117
        yield "model.source", Path(model.source), False
    if model.tokenizer is not None and os.path.isabs(model.tokenizer):  # noqa: PTH117
        yield "model.tokenizer", Path(model.tokenizer), False
    if profile.adapter is not None and profile.adapter.source is not None:
        yield "adapter.source", Path(profile.adapter.source), False
    for task in profile.tasks:
        for key, value in (("data", task.data), ("held_out", task.held_out)):
            if isinstance(value, str) and os.path.isabs(value):  # noqa: PTH117
                yield f"tasks.{task.name}.{key}", Path(value), True
    diagnose = profile.diagnose
    for key, value in (("control", diagnose.control), ("unrelated", diagnose.unrelated)):
        if value is not None and os.path.isabs(value):  # noqa: PTH117
            yield f"diagnose.{key}", Path(value), True


def _digests(place: Path, *, data: bool) -> Digests:
    found: Digests = {}
    for path in _files(place, data=data):
        digest = digest_file(path, whole=data or path.suffix.lower() not in _WEIGHTS)
        if digest is not None:
            found[str(path)] = digest
    return found


def _files(place: Path, *, data: bool) -> Iterator[Path]:
    if not place.is_dir():
        yield place
        return
    if data:
        for folder, folders, names in os.walk(place):
            folders[:] = sorted(name for name in folders if not name.startswith("."))
            yield from (Path(folder, name) for name in sorted(names) if not name.startswith("."))
        return
    for path in sorted(place.iterdir()):
        if path.suffix.lower() in _OF_A_MODEL:
            yield path


def digest_file(path: Path, *, whole: bool) -> dict[str, Any] | None:
    """Return a regular file's size and digest; None if it can't be read.

    Args:
        path: the file.
        whole: read all of it, however large; else of a large file 64 blocks.
    """
    try:
        # Opening a pipe would block.
        if not stat.S_ISREG(path.stat().st_mode):
            return None
        with path.open("rb", buffering=0) as file:
            size = os.fstat(file.fileno()).st_size
            digest = hashlib.sha256()
            if whole or size <= _BLOCK * _BLOCKS:
                while block := file.read(_BLOCK):
                    digest.update(block)
            else:
                for number in range(_BLOCKS):
                    file.seek((size - _BLOCK) * number // (_BLOCKS - 1))
                    digest.update(file.read(_BLOCK))
    except OSError:
        return None
    return {"bytes": size, "sha256": digest.hexdigest()}


def _difference(then: dict[str, Any] | None, now: dict[str, Any] | None) -> str:
    if then is None:
        return "is new"
    if now is None:
        return "is gone"
    if then["bytes"] != now["bytes"]:
        return f"{counted(format(then['bytes'], ','), 'byte')} then, {now['bytes']:,} now"
    return "" if then["sha256"] == now["sha256"] else "the same size, other content"
