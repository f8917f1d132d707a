"""`--set table.key=value`: values from the command line, applied to a raw profile.

Knows TOML values and how to walk to a key, creating missing tables. The schema knows which keys
exist.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import tomli

from sf_tui.errors import ProfileError, did_you_mean
from sf_tui.profile.locate import KeyPath
from sf_tui.profile.problems import Origin
from sf_tui.profile.sources import make_paths_absolute
from sf_tui.profile.train_schema import INSTEAD_OF

# A value with one of these prefixes is meant as TOML, so a mistake in it is reported.
TOML_OPENINGS = ('"', "'", "[", "{")


def parse_override(text: str) -> tuple[list[str], Any]:
    """Return the parts of the key and the value of one `table.key=value`.

    Raises:
        ProfileError: the key is missing, or the value is invalid TOML.
    """
    if not _is_utf8(text):
        raise ProfileError(f"--set {text!r}: not UTF-8 text", "check the terminal's encoding")
    key_text, equals, value_text = split_override(text)
    if not equals:
        raise ProfileError(
            f"--set {text}: there is no value", "write table.key=value, e.g. train.steps=100"
        )
    if "\n" in key_text:
        raise ProfileError(
            f"--set {text!r}: there is a line break in the key", "write it on one line"
        )
    try:
        parts = _parts(tomli.loads(f"{key_text} = 0"))
    except (tomli.TOMLDecodeError, RecursionError) as error:
        raise ProfileError(
            f"--set {text}: '{key_text}' is not a key", "write table.key, e.g. train.steps"
        ) from error
    return parts, _value(text, value_text.strip())


def _is_utf8(text: str) -> bool:
    # Bytes of the command line that are not UTF-8 arrive as lone surrogates.
    return not any("\ud800" <= char <= "\udfff" for char in text)


def split_override(text: str) -> tuple[str, str, str]:
    """Return key, equals sign and value; sign and value are empty without one outside quotes."""
    quote = ""
    for place, char in enumerate(text):
        if quote:
            quote = "" if char == quote else quote
        elif char in "\"'":
            quote = char
        elif char == "=":
            return text[:place].strip(), "=", text[place + 1 :]
    return text, "", ""


def _parts(table: dict[str, Any]) -> list[str]:
    parts = []
    inner: Any = table
    while isinstance(inner, dict):
        [(key, inner)] = inner.items()
        parts.append(key)
    return parts


def _value(text: str, value_text: str) -> Any:
    if not value_text:
        raise ProfileError(f"--set {text}: there is no value", "an empty text is written '\"\"'")
    try:
        table = tomli.loads(f"value = {value_text}")
    except (tomli.TOMLDecodeError, RecursionError) as error:
        if value_text.startswith(TOML_OPENINGS):
            reason = getattr(error, "msg", str(error))
            raise ProfileError(
                f"--set {text}: the value is not valid TOML: {reason}",
                "put the whole option in single quotes to protect it from the shell",
            ) from error
        if not value_text.isprintable():
            raise ProfileError(
                f"--set {text!r}: the value contains unprintable characters",
                "write it as a TOML text in quotes",
            ) from error
        return value_text
    # A value with a line break could add other keys.
    return table["value"] if len(table) == 1 else value_text


def apply_overrides(origin: Origin, raw: dict[str, Any], overrides: Sequence[str]) -> None:
    """Apply all `table.key=value` texts to a raw profile, in place; later ones win.

    Relative paths in them start at the current directory, not at the profile's folder.

    Raises:
        ProfileError: a key or value can't be read, a key is not a table, or a task or rule is
            unknown.
    """
    parsed = [(text, *parse_override(text)) for text in overrides]
    set_paths: list[KeyPath] = []
    for text, parts, value in parsed:
        path = _set(origin, raw, parts, value, f"--set {split_override(text)[0]}")
        make_paths_absolute(raw, Path.cwd(), within=path)
        _remove_alternative(raw, path, set_paths)
        set_paths.append(path)


def _set(origin: Origin, raw: dict[str, Any], parts: list[str], value: Any, option: str) -> KeyPath:
    here: Any = raw
    path: KeyPath = ()
    for place, part in enumerate(parts):
        last = place == len(parts) - 1
        if isinstance(here, list):
            index = _index(here, part, path, option)
            path = (*path, index)
            if not last:
                here = here[index]
                continue
            here[index] = value
        elif isinstance(here, dict):
            path = (*path, part)
            if not last:
                if part not in here:
                    here[part] = {}
                    origin.options.setdefault(path, option)
                here = here[part]
                continue
            here[part] = value
        else:
            name = ".".join(map(str, parts[:place]))
            raise ProfileError(
                f"{option}: {name} is a single value and has no key '{part}'",
                f"set {name} itself",
            )
    origin.lines.forget(path)
    for known in [known for known in origin.options if known[: len(path)] == path]:
        del origin.options[known]
    origin.options[path] = option
    return path


def _index(elements: list[Any], part: str, path: KeyPath, option: str) -> int:
    names = [element.get("name") if isinstance(element, dict) else None for element in elements]
    if part in names:
        return names.index(part)
    if part.isdecimal() and int(part) < len(elements):
        return int(part)
    what = str(path[-1])
    singular = what.removesuffix("s")
    raise ProfileError(
        f"{option}: no {singular} is named '{part}'",
        did_you_mean(part, [name for name in names if isinstance(name, str)], what),
    )


def _remove_alternative(raw: dict[str, Any], path: KeyPath, set_before: list[KeyPath]) -> None:
    """Let `steps` replace the file's `epochs`, and the like; setting both is still a mistake."""
    *table_path, key = path
    other = INSTEAD_OF.get(str(key))
    where_it_counts = path[0] == "rules" or (table_path and table_path[-1] == "train")
    if other is None or not where_it_counts or (*table_path, other) in set_before:
        return
    table: Any = raw
    for part in table_path:
        table = table[part]
    if isinstance(table, dict):
        table.pop(other, None)
