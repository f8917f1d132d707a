from __future__ import annotations

import pytest
from rich.cells import cell_len

from sf_tui.tui.frames import frames_at_risk, shorten_frame, words_of_new_task
from sf_tui.vocabulary.declared import RiskGroupRecord
from sf_tui.vocabulary.events import TasksAtRisk

CAPITAL = "What is the capital of … ?"
NEW = frozenset({"What", "is", "the", "currency", "of", "…", "?"})


def named(*groups: tuple[str, str]) -> TasksAtRisk:
    return TasksAtRisk("new", groups=[RiskGroupRecord(frame, kind) for kind, frame in groups])


def test_only_other_tasks_are_at_risk_nearest_first() -> None:
    event = named(
        ("slot", "What is the currency of … ?"),
        ("other_template", CAPITAL),
        ("other_template", "Who … ?"),
    )
    assert frames_at_risk(event) == [CAPITAL, "Who … ?"]
    assert words_of_new_task(event) == NEW
    assert frames_at_risk(TasksAtRisk("new")) == []


def test_a_frame_is_one_line_that_no_terminal_obeys() -> None:
    event = named(("other_template", "user:\n\tWhat is \x1b[31m… ?"), ("other_template", "  \n"))
    assert frames_at_risk(event) == ["user: What is \\x1b[31m… ?"]


@pytest.mark.parametrize(
    ("width", "shown"),
    [
        (26, CAPITAL),
        (25, "… is the capital of … ?"),
        (17, "… capital of … ?"),
        (14, "… capital of …"),
        (13, "… capital …"),
        (10, ""),
    ],
)
def test_the_word_that_tells_the_tasks_apart_is_kept_longest(width: int, shown: str) -> None:
    assert shorten_frame(CAPITAL, width, NEW) == shown


def test_without_a_telling_word_the_end_is_kept_where_the_slot_is() -> None:
    assert shorten_frame("Please tell me where … was born ?", 16) == "… was born ?"
    assert shorten_frame("Wherewithal", 5) == ""


@pytest.mark.parametrize("width", range(1, 40))
@pytest.mark.parametrize("usual", [frozenset(), NEW])
def test_what_is_shown_always_fits(width: int, usual: frozenset[str]) -> None:
    for frame in (CAPITAL, "首都はどこですか 都市 … です か", "…", "a b c d e f g h i j"):
        assert cell_len(shorten_frame(frame, width, usual)) <= width
