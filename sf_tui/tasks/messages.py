"""The turns of a conversation as messages, in the ways that data sets write them.

Knows roles, contents, tool calls and an assistant's thoughts. Knows nothing of files, chat
templates or tokens.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from sf_tui.tasks.marks import MEDIA, MEDIA_HINT, check_turn_media, is_learnt, is_present
from sf_tui.tasks.task import Message, RowError, kind_of, listed

THOUGHT_KEYS = ("reasoning_content", "reasoning", "thinking")
"""Keys of a turn that hold its thoughts; templates read one of them."""

THOUGHT_PARTS = ("thinking", "reasoning")
"""Types of a content part that holds thoughts."""


@dataclass(frozen=True)
class ThoughtMarks:
    """The marks before and after thoughts, without whitespace."""

    opening: str = "<think>"
    closing: str = "</think>"

    def around(self, thoughts: str, answer: str) -> str:
        """Return thoughts and answer as one text, the way Qwen3 and DeepSeek-R1 write them."""
        return f"{self.opening}\n{thoughts}\n{self.closing}\n\n{answer}"


ROLES = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "human": "user",
    "assistant": "assistant",
    "gpt": "assistant",
    "model": "assistant",
    "function_call": "assistant",
    "tool": "tool",
    "function": "tool",
    "observation": "tool",
    "function_response": "tool",
}
"""Roles in data sets, mapped to the roles of `Message`."""


def _as_text(value: Any, what: str) -> str:
    """Return a hint for reading a number as text without changing the file; else empty."""
    field = what.strip("'")
    if isinstance(value, bool) or not isinstance(value, (int, float)) or what != f"'{field}'":
        return ""
    return (
        'write it as text, leave such rows out with on_bad_row = "skip", or let a fields table '
        f'that names the other fields too make it text: fields.{field} = "{{{field}}}"'
    )


def text_of(value: Any, what: str, may_be_empty: bool = False) -> str:
    """Return `value` if it is a usable text.

    Args:
        value: the value in the row.
        what: its name in messages.
        may_be_empty: whether an empty text is usable.

    Raises:
        RowError: it is not a text, is empty, or holds bytes that were not UTF-8.
    """
    if not isinstance(value, str):
        raise RowError(f"{what} is {kind_of(value)}, not text", _as_text(value, what))
    if not may_be_empty and not value.strip():
        raise RowError(f"{what} is empty")
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError as error:
            raise RowError(f"{what} is not UTF-8 at sign {error.start + 1}") from error
    return value


def read_turns(value: Any, field: str) -> tuple[Message, ...]:
    """Turn a row's list of turns into messages.

    Turns are objects with `role` and `content`, or with `from` and `value`. A content may be a
    list of text parts. A function call becomes an assistant's turn with JSON as its text.
    `check_turns` checks whether the turns make a conversation.

    Args:
        value: the value of the row's field; a text with a JSON list is read as the list.
        field: the field's name, for messages.

    Raises:
        RowError: it is not a list of turns, or a turn can't be used.
    """
    if isinstance(value, str) and value.lstrip().startswith("["):
        try:  # a table's cell
            value = orjson.loads(value)
        except orjson.JSONDecodeError as error:
            raise RowError(f"'{field}' is text that is no JSON list: {error.msg}") from error
    if not isinstance(value, (list, tuple)):
        raise RowError(f"'{field}' is {kind_of(value)}, not a list of turns")
    return tuple(_read_turn(turn, number) for number, turn in enumerate(value, 1))


def check_turns(messages: tuple[Message, ...], field: str) -> None:
    """Refuse a conversation without a question, or whose last turn is not an answer.

    Raises:
        RowError: there is no question, or the last turn is not an answer.
    """
    if not messages:
        raise RowError(f"'{field}' holds no turn")
    for number, message in enumerate(messages, 1):
        if message.role == "system" and number > 1:
            raise RowError(f"turn {number} is a system turn; only the first may be one")
    roles = [message.role for message in messages if message.role != "system"]
    if "assistant" not in roles:
        raise RowError(f"'{field}' holds no assistant turn, so nothing to learn")
    if roles[0] != "user":
        raise RowError(f"the first turn is the {roles[0]}'s; the user must speak first")
    if roles[-1] != "assistant":
        raise RowError(f"the last turn is the {roles[-1]}'s, and nothing answers it")
    if not any(message.learnt for message in messages if message.role == "assistant"):
        raise RowError(f"'{field}' marks every assistant turn as not to be learnt")


_BARE_KEYS = frozenset({"role", "content", "from", "value"})


def _read_turn(turn: Any, number: int) -> Message:
    where = f"turn {number}"
    # The exact type first: checking against an abstract class costs more than everything else here.
    if type(turn) is not dict and not isinstance(turn, Mapping):
        raise RowError(f"{where} is {kind_of(turn)}, not an object with role and content")
    # Tables fill absent keys with null, so a key's presence means nothing.
    has_from = turn.get("from") is not None
    role_key, content_key = ("from", "value") if has_from else ("role", "content")
    for key in (role_key, content_key):
        if key in turn:
            continue
        if key == role_key or not (turn.get("tool_calls") or turn.get("function_call")):
            raise RowError(f"{where} has no '{key}' (it has {listed(turn)})")
    named = turn[role_key]
    role = ROLES.get(named) if isinstance(named, str) else None
    if role is None:
        known = ", ".join(ROLES)
        shown = f"'{named}'" if isinstance(named, str) else kind_of(named)
        raise RowError(f"{where} has the unknown role {shown}; known are {known}")
    where = f"{where} ({named})"
    content = turn.get(content_key)
    if turn.keys() <= _BARE_KEYS and isinstance(content, str):
        # The fast path for the most common turn: just a text.
        text = text_of(content, where, may_be_empty=role in ("system", "tool"))
        message = Message(role, text)
        return add_thoughts(message, turn) if "</" in text else message
    check_turn_media(turn, where)
    content = _content(content, _calls(turn, where), where, role)
    # Marks on other roles have no effect: some data sets give every turn a weight.
    learnt = is_learnt(turn, role, where) or role != "assistant"
    return add_thoughts(Message(role, content, learnt=learnt), turn)


def _calls(turn: Mapping[str, Any], where: str) -> list[str]:
    """Return a turn's tool calls, OpenAI's older `function_call` included."""
    calls = turn.get("tool_calls") or []
    if not isinstance(calls, (list, tuple)):
        raise RowError(f"{where}: 'tool_calls' is {kind_of(calls)}, not a list")
    if is_present(turn.get("function_call")):
        calls = [*calls, turn["function_call"]]
    return [_call(call, where) for call in calls]


def _content(content: Any, calls: list[str], where: str, role: str) -> str:
    if calls:
        if content is None or content == "":
            return "\n".join(calls)
        return "\n".join([text_of(_joined(content, where), where, may_be_empty=True), *calls])
    # Tool and system turns may be empty; questions and answers may not.
    return text_of(_joined(content, where), where, may_be_empty=role in ("system", "tool"))


def _joined(content: Any, where: str) -> Any:
    """Join a content that is a list of text parts; return any other unchanged."""
    if not isinstance(content, (list, tuple)):
        return content
    texts = []
    for part in content:
        if isinstance(part, str):
            texts.append(part)
            continue
        kind = part.get("type", "text") if isinstance(part, Mapping) else kind_of(part)
        if kind in THOUGHT_PARTS:  # read by `add_thoughts`
            continue
        if isinstance(kind, str) and kind in MEDIA:
            raise RowError(
                f"{where} holds a part of type '{kind}': it needs {MEDIA[kind]}, and only text "
                "can be learnt",
                MEDIA_HINT,
            )
        if not isinstance(part, Mapping) or kind != "text":
            raise RowError(f"{where} holds a part of type '{kind}'; only text can be used")
        text = part.get("value") if part.get("text") is None else part["text"]
        texts.append(text_of(text, where, may_be_empty=True))
    return "".join(texts)


def _call(call: Any, where: str) -> str:
    function = call.get("function", call) if isinstance(call, Mapping) else None
    if not isinstance(function, Mapping) or not isinstance(function.get("name"), str):
        raise RowError(f"{where} has a tool call without a name")
    arguments = function.get("arguments")
    if isinstance(arguments, str) and arguments.strip():
        try:
            arguments = orjson.loads(arguments)
        except orjson.JSONDecodeError as error:
            raise RowError(f"{where} has a tool call whose arguments are no JSON") from error
    # Clients write a call without arguments as null or an empty text.
    arguments = {} if arguments in (None, "") or isinstance(arguments, str) else arguments
    return orjson.dumps({"name": function["name"], "arguments": arguments}).decode()


def add_thoughts(message: Message, turn: Mapping[str, Any]) -> Message:
    """Return an assistant's turn with the thoughts in its row.

    Looks at the keys for thoughts first, then at content parts, then for `<think>…</think>` in the
    content, which `Message.inline` keeps as written.

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
    """Return the thoughts that a content starts with and its answer; None if there are none.

    The opening mark may be missing, because it is often part of the prompt. Then the closing mark
    must start or end a line; within a line it is an ordinary word.
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


def _part_thoughts(part: Any) -> str:
    if not isinstance(part, Mapping) or part.get("type") not in THOUGHT_PARTS:
        return ""
    value = next((part[key] for key in (*THOUGHT_KEYS, "text") if part.get(key)), "")
    if isinstance(value, (list, tuple)):
        value = "".join(str(one.get("text", "")) for one in value if isinstance(one, Mapping))
    return value.strip() if isinstance(value, str) else ""


def _with(message: Message, thoughts: str, content: str = "", inline: str = "") -> Message:
    return Message(message.role, content or message.content, thoughts, message.learnt, inline)
