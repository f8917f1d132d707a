"""Where a user's rows come from: a file of a known format, or a data set's id.

Knows paths, suffixes and compression; each format has a module of its own. What a file is, its
first bytes decide; its suffix only tells texts apart. Knows nothing of schemas.
"""

from __future__ import annotations

import bz2
import gzip
import lzma
import re
import zlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, BinaryIO, Literal, cast

import orjson

from sf_tui.errors import DataError, nearest_name
from sf_tui.tasks.file_kinds import (
    ARROW_FILE,
    ARROW_STREAM,
    BZIP2,
    GZIP,
    HEAD_BYTES,
    PARQUET,
    XZ,
    hint_for,
    kind_by_content,
    special_file,
)
from sf_tui.tasks.folder_rows import folder_files
from sf_tui.tasks.hub_rows import hub_rows
from sf_tui.tasks.json_rows import json_document, json_lines
from sf_tui.tasks.rows import BadRow, Row
from sf_tui.tasks.table_rows import arrow_rows, csv_rows, parquet_rows

_JSON = (".jsonl", ".ndjson", ".json")
_TABLES = (".csv", ".tsv")
_PARQUET = (".parquet", ".pq")
_COMPRESSED = (".gz", ".xz", ".bz2")

# A name that ends so means a file, even when no such file exists.
_FILE_SUFFIXES = (
    *(*_JSON, *_TABLES, *_PARQUET, *_COMPRESSED),
    *(".arrow", ".feather", ".txt", ".xlsx", ".zip", ".zst"),
)

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")

_OPENERS: dict[str, Callable[[Path, Literal["rb"]], AbstractContextManager[Any]]] = {
    GZIP: gzip.open,
    XZ: lzma.open,
    BZIP2: bz2.open,
}

KNOWN_FORMATS = "JSONL, JSON, CSV, TSV (each may be .gz), parquet and Arrow"


def locate(data: str, base_dir: Path) -> Path | None:
    """Return the file that `data` names, or None when it can only be a data set's id.

    Args:
        data: a path, relative to `base_dir` or absolute, or an id such as `owner/name`.
        base_dir: where relative paths start.

    Raises:
        DataError: if it names a file that isn't there, or is neither path nor id.
    """
    if not data.strip():
        raise DataError("data: is empty", f"name a file ({KNOWN_FORMATS}) or a data set's id")
    path = base_dir / Path(data).expanduser()
    if path.exists():
        return path
    looks_like_a_path = (
        data.startswith((".", "/", "~"))
        or "\\" in data
        or data.count("/") > 1
        or data.lower().endswith(_FILE_SUFFIXES)
    )
    if not looks_like_a_path and _HUB_ID.fullmatch(data):
        for suffix in (*_JSON, *_TABLES, *_PARQUET):
            if path.with_name(path.name + suffix).is_file():
                raise DataError(
                    f"{shown_path(path)}: no such file", f"did you mean '{data}{suffix}'?"
                )
        return None
    raise DataError(f"{shown_path(path)}: no such file", _what_is_there(path))


def _what_is_there(path: Path) -> str:
    folder = path.parent
    if not folder.is_dir():
        return f"there is no folder {shown_path(folder)}"
    names = sorted(entry.name for entry in folder.iterdir() if entry.is_file())
    near = nearest_name(path.name, names)
    if near:
        return f"did you mean '{near}'?"
    files = [name for name in names if name.lower().endswith(_FILE_SUFFIXES)]
    if files:
        more = f" and {len(files) - 5} more" if len(files) > 5 else ""
        return f"the folder holds {', '.join(files[:5])}{more}"
    return f"the folder {shown_path(folder)} holds no data file"


def shown_path(path: Path) -> str:
    """Return how a path is told: from the working directory where it lies below it."""
    here = Path.cwd()
    path = path if path.is_absolute() else here / path
    return str(path.relative_to(here)) if path.is_relative_to(here) else str(path)


def read_rows(
    data: str, base_dir: Path, split: str | None = None, subset: str | None = None
) -> Iterator[Row | BadRow]:
    """Yield the rows of a file or of a data set, good and bad, in their order.

    Args:
        data: a path or a data set's id; see `locate`.
        base_dir: where relative paths start.
        split: the split of a data set.
        subset: the configuration of a data set.

    Raises:
        DataError: if the file or data set can't be read as a whole.
    """
    path = locate(data, base_dir)
    if path is None:
        yield from hub_rows(data, split, subset)
        return
    if path.is_dir():
        for file in data_files(path, split, subset):
            yield from file_rows(file)
        return
    for key, value in (("split", split), ("subset", subset)):
        if value is not None:
            raise DataError(
                f'{shown_path(path)}: {key} = "{value}" has no meaning for a file',
                f"take out {key}; it names a part of a `datasets` id",
            )
    yield from file_rows(path)


def data_files(path: Path, split: str | None = None, subset: str | None = None) -> list[Path]:
    """Return the files whose rows make up what a task's `data` names, in the order of reading.

    Raises:
        DataError: if it is a folder in which that can't be told, or can't be read.
    """
    if not path.is_dir():
        return [path]
    shown = shown_path(path)
    try:
        return folder_files(path, shown, split, subset)
    except OSError as error:
        raise DataError(
            f"{shown}: can't be read: {error.strerror or error}", "check the folder and its rights"
        ) from error


def file_rows(path: Path) -> Iterator[Row | BadRow]:
    """Yield the rows of one file, good and bad, in their order.

    Raises:
        DataError: if the file is missing, empty, unreadable or of an unknown format.
    """
    shown = shown_path(path)
    if path.is_dir():
        names = sorted(e.name for e in path.iterdir() if e.name.lower().endswith(_FILE_SUFFIXES))
        hint = f"name one of its files: {', '.join(names[:5])}" if names else "name a file"
        raise DataError(f"{shown}: is a folder, not a file", hint)
    with _opened(path, shown) as (file, compression):
        kind = _content_of(file)
        if kind is not None and kind in (PARQUET, ARROW_FILE, ARROW_STREAM) and not compression:
            table = parquet_rows if kind == PARQUET else arrow_rows
            yield from table(path, shown)
            return
        if kind is not None:
            inside = f"{kind} inside {compression}" if compression else kind
            raise DataError(
                f"{shown}: can't be read: the file is {inside}", hint_for(kind, KNOWN_FORMATS)
            )
        name = path.name.lower()
        packed = next((end for end in _COMPRESSED if name.endswith(end)), "")
        suffix = Path(name.removesuffix(packed)).suffix
        if suffix in _PARQUET and not packed:
            yield from parquet_rows(path, shown)  # says why it is none
        elif suffix in _TABLES:
            yield from csv_rows(file, shown, tabs=suffix == ".tsv")
        elif suffix in _JSON:
            yield from _json_rows(file, shown, suffix)
        else:
            raise DataError(
                f"{shown}: unknown format '{Path(name).suffix or name}'",
                f"known are {KNOWN_FORMATS}; the suffix tells",
            )


def _content_of(file: BinaryIO) -> str | None:
    head = file.read(HEAD_BYTES)
    file.seek(0)
    return kind_by_content(head)


@contextmanager
def _opened(path: Path, shown: str) -> Iterator[tuple[BinaryIO, str | None]]:
    """Open a file for bytes, unpacked where it is compressed, past the ways that files fail.

    Yields:
        The file at its start, and how it is compressed.
    """
    try:
        # Opening a pipe waits for a writer, and a run reads its data again when it is resumed.
        special = special_file(path)
        if special is not None:
            raise DataError(
                f"{shown}: is {special}, not a file",
                "write the data to a file: a run reads it again when it is resumed",
            )
        with path.open("rb") as plain:
            compression = kind_by_content(plain.read(HEAD_BYTES))
        opener = _OPENERS.get(compression or "")
        with opener(path, "rb") if opener else path.open("rb") as opened:
            file = cast(BinaryIO, opened)  # the unpacking ones read like any other
            head = file.read(4)
            if not head:
                raise DataError(f"{shown}: the file is empty", "it must hold at least two rows")
            # Without a mark of the byte order, every other byte of a file's first words is NUL.
            if head.startswith((b"\xff\xfe\0\0", b"\0\0")):
                raise DataError(f"{shown}: the text is UTF-32", "save the file as UTF-8")
            if head.startswith((b"\xff\xfe", b"\xfe\xff")) or b"\0\0" in (
                head[::2],
                head[1::2],
            ):
                raise DataError(f"{shown}: the text is UTF-16", "save the file as UTF-8")
            file.seek(0)
            yield file, compression if opener else None
    except (EOFError, zlib.error, lzma.LZMAError, gzip.BadGzipFile) as error:
        raise DataError(
            f"{shown}: the compressed file is damaged: {error}", "copy or write it anew"
        ) from error
    except OSError as error:
        raise DataError(
            f"{shown}: can't be read: {error.strerror or error}", "check the file and its rights"
        ) from error


def _json_rows(file: BinaryIO, shown: str, suffix: str) -> Iterator[Row | BadRow]:
    """Yield rows of one JSON text or of JSON Lines: the content tells, whatever the suffix."""
    if _holds_one_text(file, suffix):
        text = file.read().decode("utf-8-sig", errors="surrogateescape")
        return json_document(text, shown)
    return json_lines(file, shown)


def _holds_one_text(file: BinaryIO, suffix: str) -> bool:
    """Tell one JSON text from JSON Lines by its first line; the file is then at its start."""
    first = b""
    while not first:
        line = file.readline()
        if not line:
            break
        first = line.removeprefix(b"\xef\xbb\xbf").strip()
    more = any(line.strip() for line in file)
    file.seek(0)
    try:
        value = orjson.loads(first)
    except orjson.JSONDecodeError:
        # A row that is broken over lines, or a list of rows; else the first row is a bad one.
        return first in (b"{", b"[") or first[:1] == b"[" or (suffix == ".json" and more)
    return not more and (isinstance(value, list) or suffix == ".json")
