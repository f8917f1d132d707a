from __future__ import annotations

from sf_tui.tui.at_risk import questions_at_risk
from sf_tui.vocabulary.declared import RiskGroupRecord
from sf_tui.vocabulary.events import TasksAtRisk


def named(*groups: tuple[str, str, float | None]) -> TasksAtRisk:
    return TasksAtRisk(
        "new", groups=[RiskGroupRecord("…", kind, text, value) for kind, text, value in groups]
    )


def test_whole_questions_of_other_tasks_are_named_likeliest_first() -> None:
    event = named(
        ("slot", "What is the continent of Africa?", -1.2),
        ("other_template", "What is the capital of France?", -1.6),
        ("other_template", "Who wrote Emma?", -2.9),
        ("other_template", "  \n", -2.9),
    )
    assert questions_at_risk(event) == ["What is the capital of France?", "Who wrote Emma?"]


def test_fragments_that_the_model_itself_finds_unlikely_are_not_named() -> None:
    event = named(
        ("other_template", "What is the purpose of Bangladesh?", -3.1),
        ("other_template", "Wherepink Tudugi sold", -4.6),
        ("other_template", "unknown", None),
    )
    assert questions_at_risk(event) == []
    assert questions_at_risk(TasksAtRisk("new")) == []


def test_a_question_is_one_line_that_no_terminal_obeys() -> None:
    event = named(("other_template", "user:\n\tWhat is \x1b[31m?", -2.0))
    assert questions_at_risk(event) == ["user: What is \\x1b[31m?"]
