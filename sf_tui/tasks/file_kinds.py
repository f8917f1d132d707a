"""What a file is by its first bytes, whatever its name says.

Knows the marks of containers that data comes in. Knows nothing of rows.
"""

from __future__ import annotations

import stat
from pathlib import Path

GZIP, XZ, BZIP2 = "gzip", "xz", "bzip2"
PARQUET, ARROW_FILE, ARROW_STREAM = "parquet", "an Arrow file", "an Arrow stream"

ZIP = "a zip archive"

# The longest mark stands at 257 in a tar file.
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
    """Return what a file is by its first `HEAD_BYTES` bytes; None for what may be text."""
    if head.startswith(b"PK") and (b"[Content_Types]" in head or b"xl/" in head):
        return "an Excel workbook"
    if head[257:262] == b"ustar":
        return "a tar archive"
    if head.startswith(b"BZh") and head[4:10] != b"1AY&SY":
        return None
    if head.startswith(b"ORC") and (len(head) < 4 or head[3] >= 32):
        return None  # a text that begins so
    return next((kind for mark, kind in _MARKS if head.startswith(mark)), None)


def hint_for(kind: str, known: str) -> str:
    """Return what to do with a file of a kind that can't be read."""
    return _HINTS.get(kind, f"write it as one of {known}")


def special_file(path: Path) -> str | None:
    """Return what a path is that is neither a regular file nor a folder, without opening it."""
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
