"""The events page of the guide is what the declarations say."""

from __future__ import annotations

from sf_tui.cli.guide import page_text
from sf_tui.run.reference import events_reference
from sf_tui.vocabulary.declared import fields_of
from sf_tui.vocabulary.events import EVENTS


def test_the_events_page_is_up_to_date() -> None:
    assert page_text("events") == events_reference(), (
        "write it again: python -m sf_tui.run.reference > sf_tui/guide/events.md"
    )


def test_every_field_of_every_event_is_described() -> None:
    for cls in EVENTS.values():
        assert cls.__doc__
        for field in fields_of(cls):
            assert field.doc.text, f"{cls.__name__}.{field.name}"
