"""A run's labels: a name, a note and tags that people give it, in `labels.json`.

The worker neither reads nor writes this file, so a run can be labeled while it trains. The id of a
run stays the name of its directory: paths, logs and commands keep their meaning.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import orjson

from sf_tui.errors import RunError, UsageError
from sf_tui.printable import UNPRINTABLE
from sf_tui.run.durable import read_regular, reason_of, replace_file
from sf_tui.vocabulary.declared import TEXT, Field, fields_problem, list_of

LABELS_FILE = "labels.json"
MOST_CHARACTERS = 200
"""Longest name or tag; a note may be `MOST_NOTE_CHARACTERS` long."""
MOST_NOTE_CHARACTERS = 4000

_FIELDS = (Field("name", TEXT), Field("note", TEXT), Field("tags", list_of(TEXT)))
# Neither a path nor an option, and one word for the shell.
_NAME = re.compile(r"[^\W_][\w.+=@-]*")


@dataclass(frozen=True)
class Labels:
    """What people call a run.

    Attributes:
        name: a name besides the id, unique among the runs; empty without one.
        note: free text; empty without one.
        tags: in the order in which they were added.
    """

    name: str = ""
    note: str = ""
    tags: tuple[str, ...] = ()

    def tagged(self, add: tuple[str, ...] = (), remove: tuple[str, ...] = ()) -> Labels:
        """Return the labels with tags added and removed."""
        kept = [tag for tag in self.tags if tag not in remove]
        kept += [tag for tag in dict.fromkeys(add) if tag not in kept]
        return replace(self, tags=tuple(kept))


def checked_labels(note: str, tags: Iterable[str]) -> Labels:
    """Return the labels of a new run.

    Raises:
        UsageError: the note or a tag can't be one.
    """
    check_note(note)
    found = Labels(note=note).tagged(tuple(tags))
    for tag in found.tags:
        check_word(tag, "tag")
    return found


def read_labels(run: Path) -> tuple[Labels, list[str]]:
    """Return the labels in a run directory, and the damage to their file; no file means none."""
    path = run / LABELS_FILE
    try:
        found = orjson.loads(read_regular(path))
    except FileNotFoundError:
        return Labels(), []
    except OSError as error:
        return Labels(), [f"{path}: can't be read: {reason_of(error)}"]
    except orjson.JSONDecodeError:
        return Labels(), [f"{path}: not JSON"]
    if not isinstance(found, dict):
        return Labels(), [f"{path}: not a JSON object"]
    problem = fields_problem(_FIELDS, found)
    if problem is not None:
        return Labels(), [f"{path}: {problem}"]
    tags = tuple(dict.fromkeys(found.get("tags", [])))
    return Labels(found.get("name", ""), found.get("note", ""), tags), []


def write_labels(run: Path, labels: Labels) -> None:
    """Replace a run's labels; a reader sees the old file or the new one.

    Raises:
        RunError: the run directory can't be written.
    """
    path = run / LABELS_FILE
    content = {"name": labels.name, "note": labels.note, "tags": list(labels.tags)}
    try:
        replace_file(path, orjson.dumps(content, option=orjson.OPT_INDENT_2) + b"\n")
    except OSError as error:
        raise RunError(
            f"{path}: can't be written: {reason_of(error)}",
            "check the owner of the run directory and the room on its disk",
        ) from error


def check_word(word: str, kind: str) -> None:
    """Refuse a name or tag that is not one plain word.

    Raises:
        UsageError: it is not.
    """
    if len(word) > MOST_CHARACTERS or not _NAME.fullmatch(word):
        raise UsageError(
            f"'{word:.60}' can't be a {kind}",
            "it begins with a letter or digit and has letters, digits and . _ + = @ - only",
        )


def check_note(note: str) -> None:
    """Refuse a note that is too long, or has characters that control a terminal.

    Raises:
        UsageError: it is not plain text.
    """
    if len(note) > MOST_NOTE_CHARACTERS:
        raise UsageError(
            f"a note of {len(note)} characters; at most {MOST_NOTE_CHARACTERS}", "shorten it"
        )
    if UNPRINTABLE.search(note):
        raise UsageError("the note has control characters or is not UTF-8", "give plain text")
