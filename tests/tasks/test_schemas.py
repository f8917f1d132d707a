from __future__ import annotations

from typing import Any

import pytest

from sf_tui.errors import DataError
from sf_tui.tasks.fields import field_map, unrecognized
from sf_tui.tasks.schemas import SCHEMAS, also_fitting, recognize, row_example
from sf_tui.tasks.task import Message, Row, RowError


def example_of(values: dict[str, Any]) -> Any:
    schema = recognize(values)
    assert schema is not None
    return row_example(schema, Row("x:1", values))


def turns(values: dict[str, Any]) -> list[tuple[str, str]]:
    return [(message.role, message.content) for message in example_of(values).messages]


@pytest.mark.parametrize(
    ("fields", "name"),
    [
        (["prompt", "completion"], "prompt/completion"),
        (["prompt", "answer"], "prompt/answer"),
        (["question", "answer", "id"], "question/answer"),
        (["instruction", "input", "output"], "instruction/input/output"),
        (["instruction", "output"], "instruction/input/output"),
        (["messages"], "messages"),
        (["conversations", "system", "tools"], "conversations"),
        (["prompt", "prompt_id", "messages"], "messages"),
    ],
)
def test_a_schema_is_recognized_by_its_fields(fields: list[str], name: str) -> None:
    schema = recognize(fields)
    assert schema is not None
    assert schema.name == name


def test_fields_of_no_schema_are_not_recognized() -> None:
    assert recognize(["prompt", "chosen", "rejected"]) is None
    assert recognize([]) is None


def test_other_schemas_that_fit_are_named() -> None:
    fields = ["prompt", "completion", "answer"]
    schema = recognize(fields)
    assert schema is not None
    assert also_fitting(schema, fields) == ("prompt/answer",)


def test_a_prompt_and_its_completion_stay_as_they_stand() -> None:
    example = example_of({"prompt": "Capital of France:", "completion": " Paris "})
    assert (example.prompt, example.completion) == ("Capital of France:", " Paris ")
    assert example.messages == ()


def test_a_completion_may_have_an_empty_prompt() -> None:
    assert example_of({"prompt": "", "completion": "A text."}).completion == "A text."


@pytest.mark.parametrize(
    "values", [{"prompt": "q", "answer": "a"}, {"question": "q", "answer": "a"}]
)
def test_a_question_and_its_answer_become_a_conversation(values: dict[str, str]) -> None:
    assert turns(values) == [("user", "q"), ("assistant", "a")]


def test_an_instruction_takes_its_input_along() -> None:
    row = {"instruction": "Add.", "input": "1 2", "output": "3"}
    assert turns(row) == [("user", "Add.\n1 2"), ("assistant", "3")]
    for nothing in ("", None):
        assert turns(row | {"input": nothing})[0] == ("user", "Add.")


def test_an_instruction_takes_its_history_and_system_text_along() -> None:
    row = {
        "instruction": "And now?",
        "output": "Then.",
        "history": [["Hello", "Hi"]],
        "system": "Be brief.",
    }
    assert turns(row) == [
        ("system", "Be brief."),
        ("user", "Hello"),
        ("assistant", "Hi"),
        ("user", "And now?"),
        ("assistant", "Then."),
    ]


def test_messages_keep_their_roles() -> None:
    messages = [
        {"role": "system", "content": "s"},
        {"role": "user", "content": "u"},
        {"role": "assistant", "content": "a"},
    ]
    assert turns({"messages": messages}) == [("system", "s"), ("user", "u"), ("assistant", "a")]


def test_conversations_map_their_roles() -> None:
    said = [
        {"from": "human", "value": "u"},
        {"from": "function_call", "value": '{"name": "f"}'},
        {"from": "observation", "value": "7"},
        {"from": "gpt", "value": "a"},
    ]
    assert turns({"conversations": said}) == [
        ("user", "u"),
        ("assistant", '{"name": "f"}'),
        ("tool", "7"),
        ("assistant", "a"),
    ]


def test_either_field_takes_either_way_of_writing_turns() -> None:
    by_role = [{"role": "user", "content": "u"}, {"role": "assistant", "content": "a"}]
    by_from = [{"from": "human", "value": "u"}, {"from": "gpt", "value": "a"}]
    assert turns({"conversations": by_role}) == turns({"messages": by_from})


def test_tables_fill_absent_keys_with_null() -> None:
    said = [
        {"role": "user", "content": "u", "from": None, "value": None, "tool_calls": None},
        {"role": "assistant", "content": "a", "from": None, "value": None, "tool_calls": None},
    ]
    assert turns({"messages": said}) == [("user", "u"), ("assistant", "a")]


def test_turns_may_be_a_text_of_json() -> None:
    said = '[{"role": "user", "content": "u"}, {"role": "assistant", "content": "a"}]'
    assert turns({"messages": said}) == [("user", "u"), ("assistant", "a")]


def test_tools_are_told_in_the_system_turn() -> None:
    said = [{"from": "human", "value": "u"}, {"from": "gpt", "value": "a"}]
    assert turns({"conversations": said, "tools": '[{"name": "f"}]'})[0] == (
        "system",
        'Tools:\n[{"name": "f"}]',
    )
    with_system = [{"from": "system", "value": "s"}, *said]
    assert turns({"conversations": with_system, "tools": [{"name": "f"}]})[0] == (
        "system",
        's\n\nTools:\n[{"name":"f"}]',
    )
    assert turns({"conversations": said, "tools": "[]"})[0] == ("user", "u")


def test_content_parts_of_text_are_joined() -> None:
    said = [
        {
            "role": "user",
            "content": [{"type": "text", "text": "a"}, {"type": "text", "value": "b"}],
        },
        {"role": "assistant", "content": [{"type": "text", "value": "c"}], "loss_weight": 1.0},
    ]
    assert turns({"messages": said}) == [("user", "ab"), ("assistant", "c")]


def test_tool_calls_become_the_text_of_the_assistants_turn() -> None:
    call = {"id": "1", "type": "function", "function": {"name": "f", "arguments": '{"x": 1}'}}
    said = [
        {"role": "user", "content": "u"},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "content": "7"},
        {"role": "assistant", "content": "a"},
    ]
    assert turns({"messages": said})[1] == ("assistant", '{"name":"f","arguments":{"x":1}}')


USER = {"role": "user", "content": "u"}
ANSWER = {"role": "assistant", "content": "a"}


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"prompt": "a", "completion": ""}, "'completion' is empty"),
        ({"prompt": "a", "completion": " \n"}, "'completion' is empty"),
        ({"prompt": "a", "completion": None}, "'completion' is null, not text"),
        ({"prompt": "a", "completion": 4}, r"'completion' is a number \(4\), not text"),
        ({"prompt": "a", "completion": ["b"]}, "'completion' is a list, not text"),
        ({"prompt": {"x": 1}, "completion": "b"}, "'prompt' is an object, not text"),
        ({"prompt": True, "completion": "b"}, "'prompt' is true or false, not text"),
        ({"prompt": "a\udce9", "completion": "b"}, "'prompt' is not UTF-8 at sign 2"),
        ({"question": "", "answer": "b"}, "'question' is empty"),
        ({"instruction": "a", "input": 3, "output": "b"}, "'input' is a number"),
        ({"instruction": "a", "output": "b", "history": [["x"]]}, "'history' 1 is no pair"),
        ({"instruction": "a", "output": "b", "history": "x"}, "'history' is text"),
        ({"messages": []}, "holds no turn"),
        ({"messages": "hello"}, "'messages' is text, not a list of turns"),
        ({"messages": "[1, "}, "text that is no JSON list"),
        ({"messages": [[USER, ANSWER]]}, "turn 1 is a list, not an object"),
        ({"messages": [USER]}, "no assistant turn"),
        ({"messages": [ANSWER, USER]}, "first turn is the assistant's"),
        ({"messages": [USER, ANSWER, USER]}, "last turn is the user's"),
        ({"messages": [USER, {"role": "assistant", "content": ""}]}, r"turn 2 \(assistant\) is em"),
        ({"messages": [USER, {"role": "assistant", "content": None}]}, r"turn 2 .* is null"),
        (
            {"messages": [USER, {"role": "bot", "content": "a"}]},
            "turn 2 has the unknown role 'bot'",
        ),
        ({"messages": [USER, {"role": 3, "content": "a"}]}, "turn 2 has the unknown role a number"),
        ({"messages": [USER, {"content": "a"}]}, "turn 2 has no 'role'"),
        ({"messages": [USER, {"role": "assistant"}]}, "turn 2 has no 'content'"),
        ({"messages": [USER, ANSWER, {"role": "system", "content": "s"}]}, "only the first may"),
        ({"messages": [USER, ANSWER | {"loss_weight": 0.5}]}, "loss_weight = 0.5"),
        ({"messages": [USER, ANSWER | {"loss_weight": 0}]}, "marks every assistant turn"),
        ({"messages": [USER | {"weight": 1}, ANSWER]}, "weight = 1"),
        ({"messages": [USER | {"content": [{"type": "image_url"}]}, ANSWER]}, "type 'image_url'"),
        ({"messages": [USER, ANSWER], "system": 3}, "'system' is a number"),
        ({"messages": [{"role": "system", "content": "s"}, USER, ANSWER], "system": "t"}, "both"),
        ({"conversations": [{"from": "human", "value": 3}]}, r"turn 1 \(human\) is a number"),
    ],
)
def test_a_bad_row_is_told_by_what_is_wrong_with_it(values: dict[str, Any], reason: str) -> None:
    with pytest.raises(RowError, match=reason):
        example_of(values)


def test_a_missing_field_is_told_with_those_there() -> None:
    with pytest.raises(RowError, match=r"'completion' is missing \(fields: prompt, text\)"):
        row_example(SCHEMAS[2], Row("x:1", {"prompt": "a", "text": "b"}))


def mapped(table: dict[str, str], values: dict[str, Any]) -> Any:
    found = field_map(table)
    assert found is not None
    return found.example(Row("x:1", values))


def test_a_fields_table_names_the_fields() -> None:
    example = mapped({"prompt": "q", "completion": "a"}, {"q": "Q", "a": "A", "b": 3})
    assert (example.prompt, example.completion) == ("Q", "A")


def test_a_fields_table_makes_texts_of_fields() -> None:
    example = mapped(
        {"prompt": "In {year}, the capital of {where} was", "completion": " {city}"},
        {"where": "Italy", "city": "Turin", "year": 1861},
    )
    assert example.prompt == "In 1861, the capital of Italy was"
    assert example.completion == " Turin"


def test_a_fields_table_may_leave_the_prompt_empty() -> None:
    assert mapped({"prompt": "", "completion": "text"}, {"text": "A."}).prompt == ""


def test_a_fields_table_may_name_another_schema() -> None:
    example = mapped({"question": "q", "answer": "a"}, {"q": "Q", "a": "A"})
    assert example.messages == (Message("user", "Q"), Message("assistant", "A"))


def test_a_braced_text_inside_a_value_is_no_placeholder() -> None:
    example = mapped({"prompt": "{q}:", "completion": "a"}, {"q": "{a}", "a": "A"})
    assert example.prompt == "{a}:"


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        (
            {"questions": "Q", "a": "A"},
            "no field 'question', which fields.prompt names; did you me",
        ),
        ({"question": "Q", "a": ["A"]}, r"'completion' is a list.*\(fields.completion = \"a\"\)"),
        ({"question": "Q", "a": ""}, "'completion' is empty"),
    ],
)
def test_a_row_that_a_fields_table_does_not_fit_is_told(values: Any, reason: str) -> None:
    with pytest.raises(RowError, match=reason):
        mapped({"prompt": "question", "completion": "a"}, values)


@pytest.mark.parametrize(
    ("value", "reason"), [(None, "is null"), ("", "is empty"), ([1], "a list")]
)
def test_a_field_that_makes_no_text_is_told(value: Any, reason: str) -> None:
    with pytest.raises(RowError, match=rf"'x' {reason}|'x' is {reason}"):
        mapped({"prompt": "of {x}:", "completion": "a"}, {"x": value, "a": "A"})


def test_a_fields_table_of_no_schema_is_refused() -> None:
    with pytest.raises(DataError, match=r"fields\.promt: no schema.*did you mean 'prompt'"):
        field_map({"promt": "q", "completion": "a"})
    with pytest.raises(DataError, match="make no known schema"):
        field_map({"prompt": "q"})
    assert field_map({}) is None


def test_prompt_and_response_are_a_schema() -> None:
    schema = recognize({"prompt": "Where is it?", "response": "aisle 8"})
    assert schema is not None
    built = schema.build({"prompt": "Where is it?", "response": "aisle 8"})
    assert [turn.content for turn in built.messages] == ["Where is it?", "aisle 8"]


def test_unknown_fields_are_answered_with_the_table_to_write() -> None:
    error = unrecognized("x.csv", ["Question", "Answer"])
    assert "the fields (Answer, Question) fit no known schema" in error.message
    assert 'fields = {question = "Question", answer = "Answer"}' in error.hint
    assert 'prompt = "prompt"' in unrecognized("x.csv", ["prompt", "chosen"]).hint
    assert "completion = " in unrecognized("x.csv", ["text"]).hint


@pytest.mark.parametrize(
    ("fields", "table"),
    [
        (
            ["instruction", "context", "response", "category"],
            'question = "instruction", answer = "response", context = "context"',
        ),
        (["id", "system_prompt", "question", "response"], 'system = "system_prompt"'),
        (["query", "response", "type"], 'question = "query", answer = "response"'),
        (["conversation", "model"], 'messages = "conversation"'),
        (["input", "output"], 'question = "input", answer = "output"'),
    ],
)
def test_names_of_public_data_sets_get_the_table_to_write(fields: list[str], table: str) -> None:
    hint = unrecognized("a.jsonl", fields).hint
    assert table in hint
