"""Rows of JSON Lines and of JSON files, each with the line that it starts on.

Knows JSON and nothing of schemas.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import orjson

from sf_tui.errors import DataError
from sf_tui.tasks.task import BadRow, Row, kind_of

# If a file is one object with any of these lists, the object is the row.
_LISTS_OF_A_ROW = frozenset({"messages", "conversations", "tools", "history"})

_WHITESPACE = " \t\r\n"

_NOT_AN_OBJECT = "is {kind}, not an object with fields"


def json_lines(lines: Iterable[bytes], shown: str) -> Iterator[Row | BadRow]:
    """Yield the rows of JSON Lines; ignores blank lines, CR and a leading byte order mark.

    Args:
        lines: the file's lines as bytes, split at "\\n" only.
        shown: the file's name in places.
    """
    for number, line in enumerate(lines, 1):
        if number == 1:
            line = line.removeprefix(b"\xef\xbb\xbf")
        line = line.strip()
        if line:
            yield from _rows_of_line(line, shown, number)


def _rows_of_line(line: bytes, shown: str, number: int) -> Iterator[Row | BadRow]:
    row = _line_row(line, f"{shown}:{number}")
    # In JSON a carriage return can only be whitespace. Some tools end lines with it, as old Macs
    # did; then the whole file is one line here.
    if isinstance(row, BadRow) and b"\r" in line:
        for at, part in enumerate(line.split(b"\r")):
            if part.strip():
                yield _line_row(part.strip(), f"{shown}:{number + at}")
    else:
        yield row


def _line_row(line: bytes, place: str) -> Row | BadRow:
    try:
        value = orjson.loads(line)
    except orjson.JSONDecodeError as error:
        return BadRow(place, _syntax_reason(line, error))
    if not isinstance(value, dict):
        return BadRow(place, _NOT_AN_OBJECT.format(kind=kind_of(value)))
    # orjson silently keeps the last of two equal keys.
    if _members(value) != _written_members(line):
        try:
            problems = _decode(line.decode(), 0).problems
        except RecursionError:
            return BadRow(place, "nested too deeply")
        except ValueError as error:  # an integer with thousands of digits
            return BadRow(place, f"invalid JSON: {error}")
        if problems:
            return BadRow(place, problems[0])
    return Row(place, value)


_SPACED_COLON = re.compile(rb'"[ \t\r\n]+:')


def _written_members(line: bytes) -> int:
    """Return the number of members in the objects of a JSON text, duplicate keys included.

    A quote before a colon ends a key, except inside a string, where a backslash precedes it.
    Returns -1 if that rule does not hold: a space before a colon, or a string that ends with a
    backslash. So only lines that may have a duplicate key are parsed again, slowly.
    """
    if b'\\\\"' in line or _SPACED_COLON.search(line):
        return -1
    return line.count(b'":') - line.count(b'\\":')


def _members(value: Any) -> int:
    """Return the number of members in the objects inside a value, at any depth."""
    members = 0
    waiting = [value]
    while waiting:
        each = waiting.pop()
        if type(each) is dict:
            members += len(each)
            waiting += [child for child in each.values() if type(child) in _NESTED]
        else:
            waiting += [child for child in each if type(child) in _NESTED]
    return members


_NESTED = frozenset({dict, list})


def _syntax_reason(line: bytes, error: orjson.JSONDecodeError) -> str:
    try:
        line.decode()
    except UnicodeDecodeError as wrong:
        return f"byte {wrong.start + 1} of the line is not UTF-8"
    if line.startswith((b"<<<<<<<", b"=======", b">>>>>>>")):
        return "is a mark of an unfinished merge, not JSON"
    return f"invalid JSON at column {error.colno}: {error.msg}"


def json_document(text: str, shown: str) -> Iterator[Row | BadRow]:
    """Yield the rows of one JSON text: a list of objects, or an object that holds one such list.

    Args:
        text: the whole file.
        shown: the file's name in places.

    Raises:
        DataError: the text is not JSON or has no single list of rows. After a syntax error the
            start of the next row is unknown, so it is a fault of the file, not of a row.
    """
    start = _skip(text, 0)
    if text[start : start + 1] == "[":
        yield from _list_rows(text, start, shown)
        return
    value, starts, problems = _object(text, start, shown)
    lists = {
        key: starts[key]
        for key, member in value.items()
        if isinstance(member, list)
        and member
        and all(isinstance(element, dict) for element in member)
    }
    if _LISTS_OF_A_ROW & lists.keys() or not lists:
        place = f"{shown}:{_line_of(text, start)}"
        yield BadRow(place, problems[0]) if problems else Row(place, value)
    elif len(lists) == 1:
        yield from _list_rows(text, next(iter(lists.values())), shown)
    else:
        raise DataError(
            f"{shown}: holds {len(lists)} lists of rows: {', '.join(sorted(lists))}",
            "write the intended one to its own file",
        )


class _Decoded(NamedTuple):
    value: Any
    end: int
    problems: list[str]


def _decode(text: str, start: int) -> _Decoded:
    """Parse the value at `start`; duplicate keys and NaN become problems, not errors."""
    problems: list[str] = []

    def build(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        built: dict[str, Any] = {}
        for key, value in pairs:
            if key in built:
                problems.append(f"the field '{key}' occurs twice")
            built[key] = value
        return built

    def refuse(constant: str) -> None:
        problems.append(f"{constant} is not JSON")

    decoder = json.JSONDecoder(object_pairs_hook=build, parse_constant=refuse)
    value, end = decoder.raw_decode(text, start)
    return _Decoded(value, end, problems)


def _decode_or_fail(text: str, start: int, shown: str) -> _Decoded:
    try:
        return _decode(text, start)
    except json.JSONDecodeError as error:
        raise _syntax_error(text, error.pos, error.msg, shown) from error
    except RecursionError as error:
        raise _syntax_error(text, start, "nested too deeply", shown) from error
    except ValueError as error:  # an integer with thousands of digits
        raise _syntax_error(text, start, str(error), shown) from error


def _syntax_error(text: str, position: int, message: str, shown: str) -> DataError:
    line = _line_of(text, position)
    column = position - text.rfind("\n", 0, position)
    return DataError(
        f"{shown}:{line}:{column}: invalid JSON: {message}",
        "fix the file, or write one object per line (.jsonl), where a bad row affects no other",
    )


def _list_rows(text: str, start: int, shown: str) -> Iterator[Row | BadRow]:
    position = _skip(text, start + 1)
    line, counted = _line_of(text, position), position
    while text[position : position + 1] != "]":
        line += text.count("\n", counted, position)
        counted = position
        decoded = _decode_or_fail(text, position, shown)
        place = f"{shown}:{line}"
        if decoded.problems:
            yield BadRow(place, decoded.problems[0])
        elif not isinstance(decoded.value, dict):
            yield BadRow(place, _NOT_AN_OBJECT.format(kind=kind_of(decoded.value)))
        else:
            yield Row(place, decoded.value)
        position = _after_element(text, decoded.end, "]", shown)


def _object(text: str, start: int, shown: str) -> tuple[dict[str, Any], dict[str, int], list[str]]:
    """Parse the object at `start`; return it, the start of each value, and its problems."""
    if text[start : start + 1] != "{":
        raise DataError(
            f"{shown}:{_line_of(text, start)}: holds neither a list nor an object",
            "a JSON file holds a list of objects, one a row",
        )
    value: dict[str, Any] = {}
    starts: dict[str, int] = {}
    problems: list[str] = []
    position = _skip(text, start + 1)
    while text[position : position + 1] != "}":
        if text[position : position + 1] != '"':
            raise _syntax_error(text, position, "expected a field name in quotes", shown)
        key = _decode_or_fail(text, position, shown)
        colon = _skip(text, key.end)
        if text[colon : colon + 1] != ":":
            raise _syntax_error(text, colon, "expected ':'", shown)
        if key.value in value:
            problems.append(f"the field '{key.value}' occurs twice")
        starts[key.value] = _skip(text, colon + 1)
        member = _decode_or_fail(text, starts[key.value], shown)
        value[key.value] = member.value
        problems += member.problems
        position = _after_element(text, member.end, "}", shown)
    rest = _skip(text, position + 1)
    if rest < len(text):
        raise _syntax_error(text, rest, "more follows after the end of the object", shown)
    return value, starts, problems


def _after_element(text: str, end: int, closing: str, shown: str) -> int:
    """Return the position of the next element or of `closing`."""
    position = _skip(text, end)
    mark = text[position : position + 1]
    if mark == closing:
        return position
    if mark != ",":
        raise _syntax_error(text, position, f"',' or '{closing}' must stand here", shown)
    following = _skip(text, position + 1)
    if text[following : following + 1] == closing:
        raise _syntax_error(text, position, f"a ',' before the closing '{closing}'", shown)
    return following


def _skip(text: str, position: int) -> int:
    while position < len(text) and text[position] in _WHITESPACE:
        position += 1
    return position


def _line_of(text: str, position: int) -> int:
    return text.count("\n", 0, position) + 1
