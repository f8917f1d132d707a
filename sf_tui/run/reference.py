"""The reference of all events as Markdown for the guide, generated from their declarations."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import is_dataclass
from typing import Annotated, Any, get_args, get_origin, get_type_hints

from sf_tui.vocabulary.declared import Field, fields_of
from sf_tui.vocabulary.events import EVENTS, Event

INTRODUCTION = """\
# Events reference

Generated from the declarations in `sf_tui/vocabulary/`. Each line of `events.jsonl` is one JSON
object with `seq` (its position, from 1, rising by one), `time` (UTC, RFC 3339), `type`, and the
fields below. A line without its newline is not there yet. Readers ignore types and fields that they
don't know, and leave out a line that breaks a declaration.

A field marked *required* is in every event of its type; others may be missing. "On rewind" says
what a `rewound` event does to an earlier event of its stage at a later step.
"""


def events_reference() -> str:
    """Return the reference of all events as Markdown, one section each."""
    sections = [INTRODUCTION, *(_event_section(cls) for cls in EVENTS.values())]
    nested: dict[type, None] = {}
    for cls in EVENTS.values():
        for inner in _nested(cls):
            nested.setdefault(inner)
    return "\n".join([*sections, *(_object_section(cls) for cls in nested)])


def _event_section(cls: type[Event]) -> str:
    fields = [field for field in fields_of(cls) if field.name not in {"seq", "time"}]
    return "\n".join(
        [
            f"## `{cls.TYPE}`",
            "",
            f"{_description(cls)} On rewind: {cls.ON_REWIND.value}.",
            "",
            *_table(cls, fields),
            "",
        ]
    )


def _object_section(cls: type) -> str:
    title = f"## {_spaced(cls.__name__)}"
    return "\n".join([title, "", _description(cls), "", *_table(cls, fields_of(cls)), ""])


def _table(cls: type, fields: Any) -> list[str]:
    hints = get_type_hints(cls, include_extras=True)
    return ["| field | type | unit | content |", "|---|---|---|---|"] + [
        f"| `{field.name}`{' *required*' if field.required else ''} | {_type(field, hints)} | "
        f"{field.doc.unit or '–'} | {_cell(field.doc.text)} |"
        for field in fields
    ]


def _type(field: Field, hints: dict[str, Any]) -> str:
    inner = next(_dataclasses(hints[field.name]), None)
    words = (
        field.kind.wanted.removeprefix("a ").removeprefix("an ").replace(", each item a ", " of ")
    )
    return _cell(words) + (f" ({_spaced(inner.__name__)})" if inner else "")


def _nested(cls: type) -> Iterator[type]:
    for hint in get_type_hints(cls, include_extras=True).values():
        for inner in _dataclasses(hint):
            yield inner
            yield from _nested(inner)


def _dataclasses(hint: Any) -> Iterator[type]:
    if isinstance(hint, type) and is_dataclass(hint):
        yield hint
    elif get_origin(hint) is Annotated:
        yield from _dataclasses(get_args(hint)[0])
    else:
        for part in get_args(hint):
            yield from _dataclasses(part)


def _description(cls: type) -> str:
    return (cls.__doc__ or "").strip().splitlines()[0]


def _spaced(name: str) -> str:
    words = "".join(f" {sign.lower()}" if sign.isupper() else sign for sign in name).strip()
    return words[:1].upper() + words[1:]


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


if __name__ == "__main__":
    # To write sf_tui/guide/events.md: python -m sf_tui.run.reference > that file.
    print(events_reference(), end="")
