"""Reads the rows of a file, a folder or a data set's id, in any supported format.

The first bytes of a file decide its format; the suffix only distinguishes text formats. Each format
has its own module. Knows nothing of schemas.
"""

from __future__ import annotations

import bz2
import gzip
import lzma
import re
import stat
import zlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, BinaryIO, Literal, cast

import orjson

from sf_tui.errors import DataError, nearest_name
from sf_tui.tasks.data_sets import folder_files, hub_rows
from sf_tui.tasks.json_rows import json_document, json_lines
from sf_tui.tasks.table_rows import arrow_rows, csv_rows, parquet_rows
from sf_tui.tasks.task import BadRow, Row

GZIP, XZ, BZIP2 = "gzip", "xz", "bzip2"
PARQUET, ARROW_FILE, ARROW_STREAM = "parquet", "an Arrow file", "an Arrow stream"

ZIP = "a zip archive"

# The mark of a tar file starts at byte 257.
HEAD_BYTES = 264

_MARKS: tuple[tuple[bytes, str], ...] = (
    (b"\x1f\x8b", GZIP),
    (b"\xfd7zXZ\x00", XZ),
    (b"BZh", BZIP2),
    (b"PAR1", PARQUET),
    (b"PARE", "an encrypted parquet file"),
    (b"ARROW1\x00\x00", ARROW_FILE),
    (b"\xff\xff\xff\xff", ARROW_STREAM),
    (b"FEA1", "a Feather file of version 1"),
    (b"\x28\xb5\x2f\xfd", "compressed by zstd"),
    (b"\x04\x22\x4d\x18", "compressed by lz4"),
    (b"PK\x03\x04", ZIP),
    (b"PK\x05\x06", ZIP),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive"),
    (b"Rar!\x1a\x07", "a rar archive"),
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "an old Excel or Word file"),
    (b"SQLite format 3\x00", "an SQLite database"),
    (b"\x89HDF\r\n\x1a\n", "an HDF5 file"),
    (b"\x93NUMPY", "a NumPy array"),
    (b"Obj\x01", "an Avro file"),
    (b"ORC", "an ORC file"),
    (b"%PDF-", "a PDF document"),
    (b"\x89PNG\r\n", "a PNG image"),
    (b"\xff\xd8\xff", "a JPEG image"),
    (b"GGUF", "a GGUF model"),
    *((bytes((0x80, protocol)), "a Python pickle") for protocol in range(2, 6)),
    (b"version https://git-lfs.github.com/spec/", "a Git LFS pointer, not the file itself"),
)

_HINTS = {
    "compressed by zstd": "unpack it first: zstd -d FILE",
    "compressed by lz4": "unpack it first: lz4 -d FILE",
    ZIP: "unpack it first: unzip FILE",
    "an Excel workbook": "save the sheet as CSV (UTF-8)",
    "an old Excel or Word file": "save the sheet as CSV (UTF-8)",
    "a Git LFS pointer, not the file itself": "fetch the file: git lfs pull",
    "a tar archive": "unpack it first: tar xf FILE",
}


def kind_by_content(head: bytes) -> str | None:
    """Return the kind of a file by its first `HEAD_BYTES` bytes; None if it may be text."""
    if head.startswith(b"PK") and (b"[Content_Types]" in head or b"xl/" in head):
        return "an Excel workbook"
    if head[257:262] == b"ustar":
        return "a tar archive"
    if head.startswith(b"BZh") and head[4:10] != b"1AY&SY":
        return None
    if head.startswith(b"ORC") and (len(head) < 4 or head[3] >= 32):
        return None  # a text that starts with ORC
    return next((kind for mark, kind in _MARKS if head.startswith(mark)), None)


def hint_for(kind: str, known: str) -> str:
    """Return advice for a file of a kind that can't be read."""
    return _HINTS.get(kind, f"write it as one of {known}")


def special_file(path: Path) -> str | None:
    """Return the kind of a path that is neither a file nor a folder, without opening it."""
    mode = path.stat().st_mode
    for test, kind in (
        (stat.S_ISFIFO, "a pipe"),
        (stat.S_ISSOCK, "a socket"),
        (stat.S_ISCHR, "a device"),
        (stat.S_ISBLK, "a device"),
    ):
        if test(mode):
            return kind
    return None


_JSON = (".jsonl", ".ndjson", ".json")
_TABLES = (".csv", ".tsv")
_PARQUET = (".parquet", ".pq")
_COMPRESSED = (".gz", ".xz", ".bz2")

# Names with these endings are files, even if no such file exists.
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
    """Return the file that `data` names, or None if it can only be a data set's id.

    Args:
        data: a path, relative to `base_dir` or absolute, or an id such as `owner/name`.
        base_dir: directory that relative paths start from.

    Raises:
        DataError: it names a missing file, or is neither a path nor an id.
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
    """Return a path for messages: relative to the working directory if it is below it."""
    here = Path.cwd()
    path = path if path.is_absolute() else here / path
    return str(path.relative_to(here)) if path.is_relative_to(here) else str(path)


def read_rows(
    data: str, base_dir: Path, split: str | None = None, subset: str | None = None
) -> Iterator[Row | BadRow]:
    """Yield the rows of a file or of a data set in order, good and bad.

    Args:
        data: a path or a data set's id; see `locate`.
        base_dir: directory that relative paths start from.
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
    """Return the files that a task's `data` names, in reading order.

    Raises:
        DataError: it is a folder that is ambiguous or can't be read.
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
    """Yield the rows of one file in order, good and bad.

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
            yield from parquet_rows(path, shown)  # raises the error
        elif suffix in _TABLES:
            yield from csv_rows(file, shown, tabs=suffix == ".tsv")
        elif suffix in _JSON:
            yield from _json_rows(file, shown, suffix)
        else:
            raise DataError(
                f"{shown}: unknown format '{Path(name).suffix or name}'",
                f"known are {KNOWN_FORMATS}; the suffix decides",
            )


def _content_of(file: BinaryIO) -> str | None:
    head = file.read(HEAD_BYTES)
    file.seek(0)
    return kind_by_content(head)


@contextmanager
def _opened(path: Path, shown: str) -> Iterator[tuple[BinaryIO, str | None]]:
    """Open a file for bytes, decompressed if needed; faults become `DataError`.

    Yields:
        The file at its start, and its compression.
    """
    try:
        # Opening a pipe would block, and a resumed run could not read it again.
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
            file = cast(BinaryIO, opened)  # decompressing files read like any other
            head = file.read(4)
            if not head:
                raise DataError(f"{shown}: the file is empty", "it must hold at least two rows")
            # Without a byte order mark, every other byte of ASCII text is NUL.
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
            f"{shown}: the compressed file is damaged: {error}", "copy or write it again"
        ) from error
    except OSError as error:
        raise DataError(
            f"{shown}: can't be read: {error.strerror or error}", "check the file and its rights"
        ) from error


def _json_rows(file: BinaryIO, shown: str, suffix: str) -> Iterator[Row | BadRow]:
    """Return the rows of JSON or JSON Lines; the content decides, not the suffix."""
    if _holds_one_text(file, suffix):
        text = file.read().decode("utf-8-sig", errors="surrogateescape")
        return json_document(text, shown)
    return json_lines(file, shown)


def _holds_one_text(file: BinaryIO, suffix: str) -> bool:
    """Return whether a file is one JSON text, not JSON Lines; leaves it at its start."""
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
        # An object or a list over several lines; otherwise the first row is a bad row.
        return first in (b"{", b"[") or first[:1] == b"[" or (suffix == ".json" and more)
    return not more and (isinstance(value, list) or suffix == ".json")
