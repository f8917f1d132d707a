"""Large imports run without garbage collection, and only they do."""

from __future__ import annotations

import gc

import pytest

from sf_tui.quick_imports import without_collecting


def test_nothing_is_collected_inside_and_what_was_made_is_left_alone_later() -> None:
    before = gc.get_freeze_count()
    with without_collecting():
        assert not gc.isenabled()
        kept: list[list[int]] = [[] for _ in range(100)]
    assert gc.isenabled()
    assert gc.get_freeze_count() >= before + len(kept)


def test_a_failed_import_turns_it_on_again() -> None:
    with pytest.raises(ImportError), without_collecting():
        raise ImportError
    assert gc.isenabled()


def test_where_it_is_off_it_stays_off() -> None:
    gc.disable()
    try:
        with without_collecting():
            pass
        assert not gc.isenabled()
    finally:
        gc.enable()
