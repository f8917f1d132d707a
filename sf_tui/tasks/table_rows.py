"""Rows of CSV, TSV and parquet files, each with its line or row number.

Knows the formats. Knows nothing of schemas.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from sf_tui.errors import DataError
from sf_tui.tasks.rows import BadRow, Row

# The csv module refuses cells above 128 KiB by itself; long answers are told later, in tokens.
_LARGEST_CELL = 2**31 - 1

_PARQUET_ROWS_AT_ONCE = 1024


def csv_rows(file: BinaryIO, shown: str, tabs: bool = False) -> Iterator[Row | BadRow]:
    """Yield the rows of a CSV file whose first line names the columns; every cell is text.

    Bytes that are not UTF-8 become lone surrogates, which make their row a bad one later.

    Args:
        file: opened for bytes; a leading byte order mark is no part of the first name.
        shown: how the file is called in places.
        tabs: whether tabs part the cells; otherwise it is the one of `,` `;` and tab that the
            header holds most of.

    Raises:
        DataError: if there is no header, or it names a column twice.
    """
    csv.field_size_limit(_LARGEST_CELL)
    text = io.TextIOWrapper(file, encoding="utf-8-sig", errors="surrogateescape", newline="")
    first = text.readline()
    delimiter = "\t" if tabs else max(",;\t", key=first.count)
    lines = _first_then(first, text)
    reader = csv.reader(lines, delimiter=delimiter, strict=True)
    try:
        header = [name.strip() for name in next(reader, [])]
    except csv.Error as error:
        raise DataError(
            f"{shown}:1: the header can't be read: {error}",
            "the first line of a CSV file names the columns",
        ) from error
    if not any(header):
        raise DataError(f"{shown}:1: the header is empty", "the first line names the columns")
    twice = sorted({name for name in header if header.count(name) > 1})
    if twice:
        raise DataError(f"{shown}:1: the header names '{twice[0]}' twice", "rename one of them")
    while True:
        place = f"{shown}:{reader.line_num + 1}"
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            yield BadRow(place, f"invalid CSV: {error}")
            continue
        if not cells:
            continue
        if len(cells) != len(header):
            yield BadRow(place, f"has {len(cells)} columns where the header has {len(header)}")
        else:
            yield Row(place, dict(zip(header, cells, strict=True)))


def _first_then(first: str, rest: io.TextIOWrapper) -> Iterator[str]:
    if first:
        yield first
    yield from rest


def parquet_rows(path: Path, shown: str) -> Iterator[Row | BadRow]:
    """Yield the rows of a parquet file, numbered from 1.

    Raises:
        DataError: if the file is no parquet or is damaged.
    """
    # Heavy, and JSON files do without it.
    import pyarrow
    import pyarrow.parquet

    number = 0
    try:
        with pyarrow.parquet.ParquetFile(path) as table:
            for batch in table.iter_batches(batch_size=_PARQUET_ROWS_AT_ONCE):
                for values in batch.to_pylist():
                    number += 1
                    yield Row(f"{shown} row {number}", values)
    except (pyarrow.ArrowException, UnicodeDecodeError) as error:
        reason = str(error).splitlines()[0]
        raise DataError(
            f"{shown}: can't be read as parquet after row {number}: {reason}",
            "write the file anew; a damaged parquet file can't be read in part",
        ) from error
