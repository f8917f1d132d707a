from __future__ import annotations

import pytest

from sf_tui.diagnosis.decomposition import decompose


def test_parts_by_hand() -> None:
    parts = decompose(now=0.36, recovered=0.9, start=0.98)
    assert parts.knowledge == 0.9
    assert parts.alignment == pytest.approx(0.4)
    assert parts.alignment_loss == pytest.approx(0.54)
    assert parts.knowledge_loss == pytest.approx(0.08)


def test_the_two_losses_make_up_the_drop() -> None:
    parts = decompose(now=0.2, recovered=0.7, start=0.95)
    assert parts.knowledge_loss is not None
    assert parts.alignment_loss + parts.knowledge_loss == pytest.approx(0.95 - 0.2)


def test_no_loss_is_negative() -> None:
    beyond = decompose(now=0.5, recovered=0.99, start=0.9)
    below = decompose(now=0.5, recovered=0.4, start=0.9)
    assert beyond.knowledge_loss == 0
    assert below.alignment_loss == 0
    assert below.alignment == 1
    assert below.knowledge_loss == pytest.approx(0.5)


def test_nothing_known_has_no_alignment() -> None:
    assert decompose(now=0.0, recovered=0.0, start=0.9).alignment is None


def test_an_unknown_start_leaves_the_loss_of_knowledge_open() -> None:
    parts = decompose(now=0.2, recovered=0.8)
    assert parts.knowledge_loss is None
    assert parts.alignment == pytest.approx(0.25)
