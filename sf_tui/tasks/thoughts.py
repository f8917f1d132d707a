"""What a model writes between its prompt and its answer: thoughts, and the marks around them.

Knows the keys under which rows and templates name thoughts and how opening and closing marks pair
up. Knows no templates' languages, no tokens and no files.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sf_tui.tasks.rows import RowError
from sf_tui.tasks.task import Message

THOUGHT_KEYS = ("reasoning_content", "reasoning", "thinking")
"""Keys of a turn that hold its thoughts; templates read one of them."""

THOUGHT_PARTS = ("thinking", "reasoning")
"""Types of a content part that holds thoughts."""

# A mark is a tag, or a token in brackets: <think>, [THINK], <|begin_of_thought|>, ◁think▷.
_MARK = r"<[^<>\s]{1,60}>|\[[^\[\]\s]{1,60}\]|◁[^◁▷\s]{1,60}▷|【[^【】\s]{1,60}】"
_OPENED = re.compile(rf"({_MARK})(\s*)\Z")
_ABOUT_THINKING = re.compile(
    r"think|thought|reason|reflect|ponder|deliberat|scratch|monolog|\bcot\b|analysis", re.I
)
# Words that open a mark, with those that close its counterpart.
_PAIRS = (("begin", "end"), ("start", "end"), ("open", "close"), ("bot", "eot"), ("bo", "eo"))


@dataclass(frozen=True)
class ThoughtMarks:
    """What stands before and after thoughts, without the whitespace around them."""

    opening: str = "<think>"
    closing: str = "</think>"

    def around(self, thoughts: str, answer: str) -> str:
        """Return thoughts and answer as one text, as Qwen3 and DeepSeek-R1 write them."""
        return f"{self.opening}\n{thoughts}\n{self.closing}\n\n{answer}"


@dataclass(frozen=True)
class OpenedThoughts:
    """The end of a prompt that opens the thoughts which the model has to write."""

    before: str
    """The prompt up to the opening mark."""
    marks: ThoughtMarks
    space: str
    """The whitespace after the opening mark."""


def add_thoughts(message: Message, turn: Mapping[str, Any]) -> Message:
    """Return an assistant's turn with the thoughts that its row holds.

    A key of its own is taken first, then content parts, then `<think>…</think>` in the content,
    which is kept as written in `Message.inline`.

    Raises:
        RowError: another role's turn holds a part with thoughts.
    """
    parts = turn.get("content")
    texts = []
    if isinstance(parts, (list, tuple)):
        texts = [text for part in parts if (text := _part_thoughts(part))]
    if message.role != "assistant":
        if texts:
            raise RowError(f"a {message.role} turn holds thoughts; only an assistant's may")
        return message
    for key in THOUGHT_KEYS:
        value = turn.get(key)
        if isinstance(value, str) and value.strip():
            return _with(message, thoughts=value.strip())
    if texts:
        return _with(message, thoughts="\n".join(texts))
    marks = ThoughtMarks()
    split = split_thoughts(message.content, marks)
    if split is None or not split[1]:
        return message
    return _with(message, thoughts=split[0], content=split[1], inline=message.content)


def split_thoughts(content: str, marks: ThoughtMarks) -> tuple[str, str] | None:
    """Return the thoughts that a content opens with and its answer; None where it has none.

    The opening mark may be missing: it often stands in the prompt. Then the closing one ends or
    begins a line; within a line it is a word like others.
    """
    before, closing, answer = content.partition(marks.closing)
    if not closing:
        return None
    alone = before.endswith("\n") or answer.startswith("\n") or not before.strip()
    if marks.opening not in before and not alone:
        return None
    before = before.strip()
    if marks.opening in before:
        if not before.startswith(marks.opening):
            return None
        before = before[len(marks.opening) :]
    return before.strip(), answer.strip()


def opened_thoughts(prompt: str, template: str) -> OpenedThoughts | None:
    """Return what a prompt ends with if it opens thoughts.

    Args:
        prompt: as the template writes it for generation.
        template: its source, in which the closing mark may stand.
    """
    found = _OPENED.search(prompt)
    if found is None:
        return None
    mark, space = found.groups()
    for closing in _counterparts(mark):
        if closing in template or _ABOUT_THINKING.search(mark):
            return OpenedThoughts(prompt[: found.start()], ThoughtMarks(mark, closing), space)
    return None


def closed_thoughts(prompt: str) -> str | None:
    """Return a prompt without the closed block of thoughts that it ends with; None without one."""
    found = _OPENED.search(prompt)
    if found is None or not _ABOUT_THINKING.search(found[1]):
        return None
    before = prompt[: found.start()]
    opened = _OPENED.search(before)
    if opened is not None and found[1] in _counterparts(opened[1]):
        return before[: opened.start()]
    # DeepSeek-V3.1 closes thoughts that nothing has opened.
    return before if _is_closing(found[1]) else None


def find_marks(template: str) -> ThoughtMarks | None:
    """Return the pair of thought marks that a template's source names; None without any."""
    marks = list(dict.fromkeys(re.findall(_MARK, template)))
    about = [mark for mark in marks if _ABOUT_THINKING.search(mark)]
    for mark in about:
        for closing in _counterparts(mark):
            if closing in about:
                return ThoughtMarks(mark, closing)
    for mark in about:
        # A template that only cuts thoughts away names no more than their end.
        if mark[1] == "/":
            return ThoughtMarks(mark[0] + mark[2:], mark)
    return None


def is_thought_mark(token: str) -> bool:
    """Tell whether a token opens or closes thoughts, by its name."""
    return re.fullmatch(_MARK, token) is not None and bool(_ABOUT_THINKING.search(token))


def _is_closing(mark: str) -> bool:
    return "/" in mark or re.search(r"end|close|eot", mark, re.I) is not None


def _counterparts(mark: str) -> list[str]:
    """Return what could close an opening mark, the likeliest first; empty for a closing one."""
    if "/" in mark[:3]:
        return []
    inner = re.search(r"\w", mark)
    if inner is None:
        return []
    found = []
    for opening, closing in _PAIRS:
        match = re.search(rf"(?<![a-z]){opening}(?![a-z])", mark, re.I)
        if match is not None:
            word = closing.upper() if match[0].isupper() else closing
            word = closing.capitalize() if match[0].istitle() else word
            found.append(mark[: match.start()] + word + mark[match.end() :])
    slashed = mark[0] + "/" + mark[1:]
    within = mark[: inner.start()] + "/" + mark[inner.start() :]
    return [*found, slashed, *([within] if within != slashed else [])]


def _part_thoughts(part: Any) -> str:
    if not isinstance(part, Mapping) or part.get("type") not in THOUGHT_PARTS:
        return ""
    value = next((part[key] for key in (*THOUGHT_KEYS, "text") if part.get(key)), "")
    if isinstance(value, (list, tuple)):
        value = "".join(str(one.get("text", "")) for one in value if isinstance(one, Mapping))
    return value.strip() if isinstance(value, str) else ""


def _with(message: Message, thoughts: str, content: str = "", inline: str = "") -> Message:
    return Message(message.role, content or message.content, thoughts, message.learnt, inline)
