"""Rows of CSV, TSV, parquet and Arrow files, each with its line or row number.

Knows the formats and nothing of schemas.
"""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from sf_tui.errors import DataError
from sf_tui.tasks.task import BadRow, Row
from sf_tui.vocabulary.sizes import counted

# The csv module refuses cells above 128 KiB; too long answers are reported later, in tokens.
_LARGEST_CELL = 2**31 - 1

_PARQUET_ROWS_AT_ONCE = 1024


# The line that sets the delimiter for Excel.
_DELIMITER_LINE = re.compile(r'"?sep=(.)"?\s*', re.IGNORECASE)

_QUOTED = re.compile(r'"(?:[^"]|"")*"')


class _Lines:
    """The lines of a file, and those read since the last record started."""

    def __init__(self, text: io.TextIOWrapper) -> None:
        self._text = text
        self._first: list[str] = []
        self.record: list[str] = []

    def give_back(self, line: str) -> None:
        """Yield `line` before the next one of the file."""
        self._first = [line]

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        line = self._first.pop() if self._first else next(self._text)
        self.record.append(line)
        return line


def csv_rows(file: BinaryIO, shown: str, tabs: bool = False) -> Iterator[Row | BadRow]:
    """Yield the rows of a CSV file whose first line names the columns. Every cell is text.

    Bytes that are not UTF-8 become lone surrogates, which later make their row a bad row.

    An unclosed quote turns many rows into one record. Such a record is one bad row that counts each
    of its lines. After it, a row with a stray quote is a bad row too, because the start of a record
    is uncertain.

    Args:
        file: opened for bytes; a leading byte order mark is ignored.
        shown: the file's name in places.
        tabs: whether tabs separate the cells; otherwise a line `sep=` sets the delimiter, or it is
            the one of `,` `;` and tab that is most frequent in the header outside quotes.

    Raises:
        DataError: there is no header, or it names a column twice.
    """
    csv.field_size_limit(_LARGEST_CELL)
    text = io.TextIOWrapper(file, encoding="utf-8-sig", errors="surrogateescape", newline="")
    lines = _Lines(text)
    first, above = text.readline(), 0
    if named := _DELIMITER_LINE.fullmatch(first):
        first, above = text.readline(), 1
    bare = _QUOTED.sub("", first)
    delimiter = "\t" if tabs else named[1] if named else max(",;\t", key=bare.count)
    lines.give_back(first)
    reader = csv.reader(lines, delimiter=delimiter, strict=True)
    try:
        header = [name.strip() for name in next(reader, [])]
    except csv.Error as error:
        raise DataError(
            f"{shown}:{above + 1}: the header can't be read: {error}"
            f"{_reach(above + 1, above + reader.line_num)}",
            "the first line of a CSV file names the columns",
        ) from error
    if not any(header):
        raise DataError(
            f"{shown}:{above + 1}: the header is empty", "the first line names the columns"
        )
    twice = [name for name, count in Counter(header).items() if count > 1]
    if twice:
        raise DataError(
            f"{shown}:{above + 1}: the header names '{min(twice)}' twice", "rename one of them"
        )
    # Records with quotes only at the borders of cells; see `in_doubt`.
    mark = re.escape(delimiter)
    sound = re.compile(
        rf'(?:"(?:[^"]|"")*"|[^"{mark}\r\n]*)'
        rf'(?:{mark}(?:"(?:[^"]|"")*"|[^"{mark}\r\n]*))*(?:\r\n|\n|\r)?'
    )
    in_doubt = False
    while True:
        start = above + reader.line_num + 1
        place = f"{shown}:{start}"
        lines.record.clear()
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            end = above + reader.line_num
            in_doubt = in_doubt or end > start
            yield BadRow(
                place, f"invalid CSV: {_reason_of(error)}{_reach(start, end)}", end - start + 1
            )
            continue
        end = above + reader.line_num
        if not cells:
            continue
        if len(cells) != len(header):
            # A record over several lines with too many cells: its quote closed another one.
            in_doubt = in_doubt or end > start
            reason = f"has {counted(len(cells), 'column')} where the header has {len(header)}"
            yield BadRow(place, f"{reason}{_reach(start, end)}", end - start + 1)
        elif in_doubt and not sound.fullmatch("".join(lines.record)):
            yield BadRow(
                place,
                f"has a quote inside a cell, after a record with an open quote{_reach(start, end)}",
                end - start + 1,
            )
        else:
            yield Row(place, dict(zip(header, cells, strict=True)), end - start + 1)


def _reason_of(error: csv.Error) -> str:
    if "unexpected end of data" in str(error):
        return "a quote is opened and never closed"
    return str(error)


def _reach(start: int, end: int) -> str:
    """Return a note on the last line of a record that spans several."""
    return f"; the record reaches to line {end}" if end > start else ""


def parquet_rows(path: Path, shown: str) -> Iterator[Row | BadRow]:
    """Yield the rows of a parquet file, numbered from 1.

    Raises:
        DataError: the file is not parquet or is damaged.
    """
    # Deferred: slow to import, and JSON files do not need it.
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
            "write the file again; a damaged parquet file can't be read in part",
        ) from error


def arrow_rows(path: Path, shown: str) -> Iterator[Row | BadRow]:
    """Yield the rows of an Arrow IPC file (also Feather 2) or stream, numbered from 1.

    Raises:
        DataError: the file is damaged.
    """
    # Deferred: slow to import, and JSON files do not need it.
    import pyarrow
    import pyarrow.ipc

    number = 0
    try:
        with pyarrow.memory_map(str(path)) as file:
            is_file = file.read(6) == b"ARROW1"
            file.seek(0)
            if is_file:
                reader = pyarrow.ipc.open_file(file)
                batches = (reader.get_batch(at) for at in range(reader.num_record_batches))
            else:
                batches = iter(pyarrow.ipc.open_stream(file))
            for batch in batches:
                # A batch can hold the whole file, and Python objects take many times its memory.
                for start in range(0, batch.num_rows, _PARQUET_ROWS_AT_ONCE):
                    for values in batch.slice(start, _PARQUET_ROWS_AT_ONCE).to_pylist():
                        number += 1
                        yield Row(f"{shown} row {number}", values)
    except (pyarrow.ArrowException, UnicodeDecodeError) as error:
        lines = str(error).splitlines()
        raise DataError(
            f"{shown}: can't be read as Arrow after row {number}: {lines[0] if lines else error}",
            "copy or write the file again; a damaged Arrow file can't be read in part",
        ) from error
