"""Prints the questions of a sheet of answers: in columns where they fit, else one below another."""

from __future__ import annotations

import shutil
from collections.abc import Sequence

from rich.cells import cell_len, set_cell_size

from sf_tui.cli.columns import Column, to_terminal, write_columns
from sf_tui.cli.output import write_line
from sf_tui.printable import cut, printable
from sf_tui.run.answers import AnswerSheet, Question, shortened_questions

_LEAST_CELLS = 16
"""Narrowest useful column of answers."""
_WRONG = "✗ "
_GAP = 2
_LONGEST = 400
"""Characters of a text that is printed below another; `--json` has all of it."""


def summary_of(sheet: AnswerSheet, task: str) -> str:
    """Return how many answers of a task are right in each state, and how many changed."""
    count = sum(one.task == task for one in sheet.questions)
    part = sheet.part(tasks=[task])
    scores = [f"{sheet.right(task, at)} {one.label}" for at, one in enumerate(sheet.states)]
    changes = f"{part.lost} right -> wrong, {part.gained} wrong -> right"
    return f"{task}: right of {count}: {', '.join(scores)}; {changes}"


def print_questions(sheet: AnswerSheet, limit: int) -> int:
    """Print questions with their answers, those that became wrong first.

    Args:
        sheet: the questions.
        limit: most of each task; 0 for all.

    Returns:
        The number of questions that were left out.
    """
    shown: list[Question] = []
    for task in sheet.tasks:
        several = [one for one in sheet.questions if one.task == task]
        shown += several[: limit or None]
    if not shown:
        write_line("no question matches")
        return 0
    heads = ["question", "wanted", *(state.label for state in sheet.states)]
    fixed = [[one.task, sheet.change(one) or "-"] for one in shown]
    texts = [_texts(one) for one in shown]
    names = [Column("task"), Column("change"), *map(Column, heads)]
    if not to_terminal():
        write_columns(names, [[*a, *b] for a, b in zip(fixed, texts, strict=True)])
        return len(sheet.questions) - len(shown)
    head = [column.name for column in names[:2]]
    taken = sum(max(map(len, each)) + _GAP for each in zip(head, *fixed, strict=True))
    share = (shutil.get_terminal_size().columns - taken) // len(heads) - _GAP
    if share >= _LEAST_CELLS:
        asked = shortened_questions(shown, share)
        rows = [
            [*a, *(_cut(text, share) for text in (question, *b[1:]))]
            for a, question, b in zip(fixed, asked, texts, strict=True)
        ]
        write_columns(names, rows)
    else:
        _print_blocks(heads, fixed, texts)
    return len(sheet.questions) - len(shown)


def _print_blocks(
    heads: Sequence[str], fixed: Sequence[Sequence[str]], texts: Sequence[Sequence[str]]
) -> None:
    width = max(map(len, heads))
    for (task, change), (question, *answers) in zip(fixed, texts, strict=True):
        mark = "" if change == "-" else f"  [{change}]"
        write_line(f"{task}: {_shortened(question)}{mark}")
        for head, text in zip(heads[1:], answers, strict=True):
            write_line(f"  {head:<{width}}  {_shortened(text)}")


def _texts(question: Question) -> list[str]:
    answers = [
        ("" if one.right else _WRONG)
        + (one.text.strip() or "(nothing)")
        + ("" if one.ended else " …")
        for one in question.answers
    ]
    return [question.question, question.wanted.strip(), *answers]


def _shortened(text: str) -> str:
    return cut(printable(text, multiline=False), _LONGEST)


def _cut(text: str, cells: int) -> str:
    text = printable(text[: 2 * cells], multiline=False)
    return text if cell_len(text) <= cells else set_cell_size(text, cells - 1) + "…"
