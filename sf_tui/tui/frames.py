"""Frames of neighbor prompts as the console writes them: on one line, cut around what is telling.

A frame is a prompt's text with its slot as `…`. Knows the `tasks_at_risk` event; knows nothing of
panels.
"""

from __future__ import annotations

from collections.abc import Collection

from rich.cells import cell_len

from sf_tui.printable import printable
from sf_tui.vocabulary.event_records import RiskGroupRecord
from sf_tui.vocabulary.events import TasksAtRisk

SLOT = "…"


def frames_at_risk(event: TasksAtRisk) -> list[str]:
    """Return the frames of other tasks that the start model names, nearest first."""
    return [_on_one_line(group) for group in event.groups if _is_other(group)]


def words_of_new_task(event: TasksAtRisk) -> frozenset[str]:
    """Return the words that the new task's own prompts have around their slot."""
    own = [group for group in event.groups if not _is_other(group)]
    return frozenset(word for group in own for word in _on_one_line(group).split())


def shorten_frame(frame: str, width: int, usual: Collection[str] = ()) -> str:
    """Return as many whole words of a frame as fit; empty when not even the telling one does.

    Args:
        frame: on one line.
        width: in cells.
        usual: words that tell nothing, because the new task's own prompts have them, too. The
            first other word is kept longest; without any, the end is, which stands at the slot.
    """
    if cell_len(frame) <= width:
        return frame
    words = frame.split()
    telling = [
        index
        for index, word in enumerate(words)
        if usual and SLOT not in word and word not in usual
    ]
    first = telling[0] if telling else len(words) - 1
    end = first + 1
    if cell_len(_cut(words, first, end)) > width:
        return ""
    while end < len(words) and cell_len(_cut(words, first, end + 1)) <= width:
        end += 1
    while first > 0 and cell_len(_cut(words, first - 1, end)) <= width:
        first -= 1
    return _cut(words, first, end)


def _cut(words: list[str], first: int, end: int) -> str:
    before = [SLOT] if first > 0 and not words[first].startswith(SLOT) else []
    after = [SLOT] if end < len(words) and not words[end - 1].endswith(SLOT) else []
    return " ".join([*before, *words[first:end], *after])


def _is_other(group: RiskGroupRecord) -> bool:
    return group.kind == "other_template" and bool(group.frame.strip())


def _on_one_line(group: RiskGroupRecord) -> str:
    """Return a group's frame without line ends, and signs that a terminal would obey as escapes."""
    words = group.frame.split()
    return printable(" ".join(words), multiline=False)
