"""The prompt frames of the tasks at risk: which to name, and how they are fitted to a width.

A frame is the text of several prompts with a slot where they differ.
"""

from __future__ import annotations

from collections.abc import Collection

from rich.cells import cell_len

from sf_tui.printable import printable
from sf_tui.vocabulary.declared import RiskGroupRecord
from sf_tui.vocabulary.events import TasksAtRisk

SLOT = "…"
"""The slot of a prompt frame, and the words cut from it."""


def frames_at_risk(event: TasksAtRisk) -> list[str]:
    """Return the frames of other tasks that the start model names, nearest first."""
    return [_on_one_line(group) for group in event.groups if _is_other(group)]


def words_of_new_task(event: TasksAtRisk) -> frozenset[str]:
    """Return the words around the slot in the new task's own prompts."""
    own = [group for group in event.groups if not _is_other(group)]
    return frozenset(word for group in own for word in _on_one_line(group).split())


def _is_other(group: RiskGroupRecord) -> bool:
    return group.kind == "other_template" and bool(group.frame.strip())


def _on_one_line(group: RiskGroupRecord) -> str:
    """Return a group's frame on one line, with control characters escaped."""
    words = group.frame.split()
    return printable(" ".join(words), multiline=False)


def shorten_frame(frame: str, width: int, usual: Collection[str] = ()) -> str:
    """Return as many whole words of a prompt frame as fit; empty if the key word does not fit.

    Args:
        frame: a prompt's text on one line, with its slot as `…`.
        width: in cells.
        usual: words that the new task's prompts contain as well. The key word is the first other
            word; if there is none, the last word, which is next to the slot.
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
    if cell_len(_mark_cuts(words, first, end)) > width:
        return ""
    while end < len(words) and cell_len(_mark_cuts(words, first, end + 1)) <= width:
        end += 1
    while first > 0 and cell_len(_mark_cuts(words, first - 1, end)) <= width:
        first -= 1
    return _mark_cuts(words, first, end)


def _mark_cuts(words: list[str], first: int, end: int) -> str:
    before = [SLOT] if first > 0 and not words[first].startswith(SLOT) else []
    after = [SLOT] if end < len(words) and not words[end - 1].endswith(SLOT) else []
    return " ".join([*before, *words[first:end], *after])
