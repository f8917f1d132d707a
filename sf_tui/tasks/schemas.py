"""The conventional schemas of tuning data, and how a row of each becomes an example.

A row's schema is recognized by its fields; for other rows the profile's `fields` table names them.
Knows nothing of files or tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any

import orjson

from sf_tui.tasks.marks import PREFERENCES, is_present
from sf_tui.tasks.messages import check_turns, read_turns, text_of
from sf_tui.tasks.task import Example, Message, Row, RowError, kind_of, listed

Values = Mapping[str, Any]


@dataclass(frozen=True)
class Schema:
    """A conventional layout of rows."""

    name: str
    required: tuple[str, ...]
    optional: tuple[str, ...]
    build: Callable[[Values], Example]
    """Makes an example from a row with the required fields; raises RowError."""


CONTEXTS = ("context", "passage", "paragraph", "background", "document", "article")
"""Fields with a text that a question is about."""

CONTEXTS_OF_QUESTIONS = (*CONTEXTS, "input")


def _build_completion(values: Values) -> Example:
    if has_turns(values):
        return _build_conversational(values)
    # An empty prompt means plain text: a pretraining corpus.
    prompt = text_of(values["prompt"], "'prompt'", may_be_empty=True)
    for name in CONTEXTS:
        # The prompt is used unchanged, so the user must say where the context goes.
        if is_present(text := values.get(name)) and not (isinstance(text, str) and text in prompt):
            raise RowError(
                f"has a field '{name}' that the prompt does not hold: is it part of the prompt?",
                f'with it: fields = {{prompt = "{{{name}}}\\n\\n{{prompt}}", completion = '
                '"completion"}; without it: fields = {prompt = "prompt", '
                'completion = "completion"}',
            )
    return Example(prompt=prompt, completion=text_of(values["completion"], "'completion'"))


def has_turns(values: Values) -> bool:
    """Return whether prompt or completion is a list of turns instead of a text."""
    return any(
        isinstance(value := values.get(key), (list, tuple))
        and bool(value)
        and isinstance(value[0], Mapping)
        for key in ("prompt", "completion")
    )


def _build_conversational(values: Values) -> Example:
    """Make a conversation in which only the answers of the completion are learned."""
    asked, answered = values["prompt"], values["completion"]
    if isinstance(asked, str):
        asked = [{"role": "user", "content": asked}] if asked.strip() else []
    if isinstance(answered, str):
        answered = [{"role": "assistant", "content": answered}]
    given = [
        replace(turn, learnt=False) if turn.role == "assistant" else turn
        for turn in read_turns(asked, "prompt")
    ]
    return _conversation(values, (*given, *read_turns(answered, "completion")), "completion")


def _pair(question: str, answer: str) -> Callable[[Values], Example]:
    def build(values: Values) -> Example:
        asked = text_of(values[question], f"'{question}'")
        answered = text_of(values[answer], f"'{answer}'")
        asked = _with_context(values, CONTEXTS_OF_QUESTIONS, asked)
        return _conversation(values, (Message("user", asked), Message("assistant", answered)))

    return build


def _with_context(values: Values, names: Collection[str], asked: str) -> str:
    """Return a question with its context before it, separated by a blank line.

    Raises:
        RowError: there are several contexts, or it is not a text: the user must choose.
    """
    found = [name for name in names if is_present(values.get(name))]
    if not found:
        return asked
    if len(found) > 1:
        raise RowError(
            f"has {listed(repr(name) for name in found)} beside its question: what is asked about?",
            "declare it with a fields table (see `sf data check --help`), for example "
            f'fields.context = "{found[0]}"',
        )
    name = found[0]
    text = values[name]
    if not isinstance(text, str):
        raise RowError(
            f"'{name}' is {kind_of(text)}, not text, so it can't stand before the question",
            "write it as text, or leave it out with a fields table that names the other fields",
        )
    text = text_of(text, f"'{name}'")
    return asked if text in asked else f"{text}\n\n{asked}"


def _build_instruction(values: Values) -> Example:
    instruction = text_of(values["instruction"], "'instruction'")
    given = values.get("input")
    if given is not None:
        given = text_of(given, "'input'", may_be_empty=True)
    asked = f"{instruction}\n{given}" if given else instruction
    asked = _with_context(values, CONTEXTS, asked)
    answered = text_of(values["output"], "'output'")
    turns = [*_history(values), Message("user", asked), Message("assistant", answered)]
    return _conversation(values, tuple(turns))


def _history(values: Values) -> list[Message]:
    """Return the earlier turns of `history`, pairs of question and answer."""
    turns = []
    history = values.get("history") or []
    if not isinstance(history, (list, tuple)):
        raise RowError(f"'history' is {kind_of(history)}, not a list of pairs")
    for number, pair in enumerate(history, 1):
        if not isinstance(pair, (list, tuple)) or len(pair) != 2:
            raise RowError(f"'history' {number} is no pair of question and answer")
        turns.append(Message("user", text_of(pair[0], f"'history' {number}")))
        turns.append(Message("assistant", text_of(pair[1], f"'history' {number}")))
    return turns


def _turns(field: str) -> Callable[[Values], Example]:
    def build(values: Values) -> Example:
        return _conversation(values, read_turns(values[field], field), field)

    return build


def _conversation(values: Values, turns: tuple[Message, ...], field: str = "turns") -> Example:
    """Make an example from turns and the row's `system` text and `tools`.

    Tools become text in the system turn: without them the model could not know what to call, and
    chat templates differ in how, or whether, they take them.
    """
    system = []
    if values.get("system"):
        if turns[0].role == "system":
            raise RowError("has both a 'system' field and a system turn")
        system.append(text_of(values["system"], "'system'", may_be_empty=True))
    given = [values[key] for key in ("tools", "functions") if _holds_tools(values.get(key))]
    if len(given) == 2 and given[0] != given[1]:
        raise RowError("has both 'tools' and 'functions'", "keep the intended one")
    for tools in given[:1]:
        system.append(
            f"Tools:\n{tools if isinstance(tools, str) else orjson.dumps(tools).decode()}"
        )
    if system:
        if turns[0].role == "system":
            system.insert(0, turns[0].content)
            turns = turns[1:]
        turns = (Message("system", text_of("\n\n".join(system), "'tools'")), *turns)
    check_turns(turns, field)
    return Example(messages=turns)


def _holds_tools(tools: Any) -> bool:
    return is_present(tools) and tools != "[]"


_AROUND_TURNS = ("system", "tools", "functions")
_AROUND_QUESTIONS = (*_AROUND_TURNS, *CONTEXTS_OF_QUESTIONS)

# The first match decides: whole conversations before their parts.
SCHEMAS: tuple[Schema, ...] = (
    Schema("messages", ("messages",), _AROUND_TURNS, _turns("messages")),
    Schema("conversations", ("conversations",), _AROUND_TURNS, _turns("conversations")),
    Schema("prompt/completion", ("prompt", "completion"), _AROUND_TURNS, _build_completion),
    Schema("prompt/answer", ("prompt", "answer"), _AROUND_QUESTIONS, _pair("prompt", "answer")),
    Schema(
        "prompt/response", ("prompt", "response"), _AROUND_QUESTIONS, _pair("prompt", "response")
    ),
    Schema(
        "question/answer", ("question", "answer"), _AROUND_QUESTIONS, _pair("question", "answer")
    ),
    Schema(
        "instruction/input/output",
        ("instruction", "output"),
        ("input", "history", *_AROUND_TURNS, *CONTEXTS),
        _build_instruction,
    ),
)

KNOWN_SCHEMAS = ", ".join(schema.name for schema in SCHEMAS)


_ANSWERS = ("completion", "answer", "output", "response")


def recognize(values: Mapping[str, Any] | Collection[str]) -> Schema | None:
    """Return the first schema whose required fields are all present.

    Fields with a value are matched first, because tables fill absent fields with null.
    """
    names = set(values)
    if isinstance(values, Mapping):
        filled = {name for name in names if values[name] is not None}
        names = filled if any(set(s.required) <= filled for s in SCHEMAS) else names
    return next((s for s in SCHEMAS if set(s.required) <= names), None)


def also_fitting(schema: Schema, fields: Collection[str]) -> tuple[str, ...]:
    """Return the names of the other schemas that `fields` also fit."""
    fitting = [s.name for s in SCHEMAS if set(s.required) <= set(fields)]
    return tuple(name for name in fitting if name != schema.name)


def check_answers(schema: Schema, values: Values) -> None:
    """Refuse a row with a second answer that its schema does not read.

    Raises:
        RowError: there are two, and they differ.
    """
    own = next((name for name in schema.required if name in _ANSWERS), None)
    if own is None or own not in values:
        return
    for other in _ANSWERS:
        if other != own and is_present(values.get(other)) and values[other] != values.get(own):
            table = ", ".join(f'{name} = "{name}"' for name in schema.required if name != own)
            raise RowError(
                f"has two answers, '{own}' and '{other}'",
                f'choose one of them: fields = {{{table}, {own} = "{own}"}} or '
                f'fields = {{{table}, {own} = "{other}"}}',
            )


def check_preference(values: Values) -> None:
    """Refuse a row with a better and a worse answer; a fields table must choose one.

    Raises:
        RowError: the row has both; the hint is the table to write.
    """
    for better, worse in PREFERENCES:
        chosen, rejected = values.get(better), values.get(worse)
        if not is_present(chosen) or not is_present(rejected):
            continue
        if isinstance(chosen, bool) or isinstance(rejected, bool):
            continue
        asked = next((k for k in ("prompt", "question", "instruction") if k in values), None)
        whole = isinstance(chosen, (list, tuple)) and len(chosen) > 1
        if whole or (asked is None and isinstance(chosen, (list, tuple))):
            table = f'messages = "{better}"'
        else:
            table = f'prompt = "{asked or ""}", completion = "{better}"'
        raise RowError(
            f"is a preference row: '{better}' and '{worse}' are two answers",
            f"to learn the better one: fields = {{{table}}}",
        )


def used_fields(schema: Schema, values: Values) -> set[str]:
    """Return the names of the fields of a row that its schema reads."""
    if schema.build is _build_completion and not has_turns(values):
        return {*schema.required, *CONTEXTS}
    return {*schema.required, *schema.optional}


def context_of(schema: Schema, values: Values) -> str | None:
    """Return the field whose text goes before a row's question, if there is one."""
    names = [name for name in CONTEXTS_OF_QUESTIONS if name in schema.optional]
    if schema.build is _build_instruction:
        names.remove("input")  # goes after the instruction
    return next((name for name in names if is_present(values.get(name))), None)


def row_example(schema: Schema, row: Row, group: str = "") -> Example:
    """Make an example from a row.

    Raises:
        RowError: a field is missing, empty or of the wrong type.
    """
    for field in schema.required:
        if field not in row.values:
            reason = f"'{field}' is missing (fields: {listed(row.values) or 'none'})"
            other = recognize(row.values)
            if other is None or other is schema:
                raise RowError(reason)
            raise RowError(
                f"{reason}: the row is {other.name}, and those before it are {schema.name}",
                "give the rows of each schema a file, and a task, of their own; or leave these "
                'out with on_bad_row = "skip"',
            )
    built = schema.build(row.values)
    return Example(built.prompt, built.completion, built.messages, group=group, place=row.place)
