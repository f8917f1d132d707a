"""Whatever a row holds is learnt, named as unused, or refused by name."""

from __future__ import annotations

import gzip
import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sf_tui.errors import DataError
from sf_tui.tasks.json_rows import json_lines
from sf_tui.tasks.loaded_rows import LoadedExamples, load_examples
from sf_tui.tasks.task import BadRow

QA = {"question": "q?", "answer": "a"}
PAIR = {"prompt": "p", "completion": "c"}
USER = {"role": "user", "content": "u"}
ANSWER = {"role": "assistant", "content": "a"}


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def load(*rows: dict[str, Any], **options: Any) -> LoadedExamples:
    Path("a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return load_examples("a.jsonl", Path.cwd(), **options)


def turns(*said: dict[str, Any]) -> list[tuple[str, str, bool]]:
    messages = load({"messages": said}).examples[0].messages
    return [(m.role, m.content, m.learnt) for m in messages]


def test_unused_fields_and_turn_keys_are_counted() -> None:
    row = {"messages": [USER | {"id": 1}, ANSWER], "source": "x", "empty": None, "group": "g"}
    loaded = load(row, row | {"source": None}, group="group")
    assert dict(loaded.unused) == {"source": 1, "messages[].id": 2}
    assert any("fields not used: messages[].id (2 rows), source (1 row)" in n for n in loaded.notes)


@pytest.mark.parametrize(
    "mark",
    [{"train": False}, {"loss_mask": 0}, {"weight": 0.0}, {"loss": "false"}, {"masked": True}],
)
def test_a_marked_turn_is_not_learnt(mark: dict[str, Any]) -> None:
    said = turns(USER, ANSWER | mark, USER, ANSWER)
    assert [learnt for role, _, learnt in said if role == "assistant"] == [False, True]


@pytest.mark.parametrize(
    ("turn", "named"),
    [
        (ANSWER | {"weight": 0.5}, "weight = 0.5"),
        (ANSWER | {"loss_mask": [0, 1]}, "loss_mask"),
        (ANSWER | {"mask": 1}, "mask = 1"),
        (ANSWER | {"train": True, "loss": 0}, "contradict"),
    ],
)
def test_a_mark_that_can_not_be_honored_is_refused(turn: dict[str, Any], named: str) -> None:
    with pytest.raises(DataError, match=named):
        load({"messages": [USER, turn]})


@pytest.mark.parametrize(
    ("extra", "named"),
    [
        ({"label": False}, "'label' is false"),
        ({"label": "False"}, "'label' is 'False'"),
        ({"train": 0}, "'train' is 0"),
        ({"weight": 0.5}, "'weight' is 0.5"),
        ({"rejected": True}, "'rejected' is true"),
        ({"images": ["a.png"]}, "needs an image"),
        ({"audio": {"path": "a.wav"}}, "needs audio"),
        ({"answer": "other"}, "two answers"),
        ({"context": "A text."}, "'context'"),
        ({"chosen": "x", "rejected": "y"}, "preference row"),
    ],
)
def test_a_row_is_refused_by_the_name_of_its_field(extra: dict[str, Any], named: str) -> None:
    with pytest.raises(DataError, match=named):
        load(PAIR, PAIR | extra)
    assert load(PAIR, PAIR | extra, on_bad_row="skip").bad == 1


@pytest.mark.parametrize(
    "extra",
    [
        *({"label": True}, {"label": 0}, {"label": "sports"}, {"weight": 72.5}, {"weight": 1}),
        *({"images": []}, {"image": None}, {"images": [None]}, {"image": {"bytes": None}}),
        *({"answer": "c"}, {"context": "p"}, {"context": ""}, {"loss": 0.83}),
    ],
)
def test_a_field_that_only_has_a_marks_name_passes(extra: dict[str, Any]) -> None:
    assert load(PAIR | extra).bad == 0


def test_text_with_an_image_mark_passes() -> None:
    assert load({"prompt": "What is <image> in HTML?", "completion": "a tag"}).bad == 0


def test_a_context_stands_before_the_question() -> None:
    assert load(QA | {"context": "T."}).examples[0].messages[0].content == "T.\n\nq?"
    assert load(QA | {"context": "q"}).examples[0].messages[0].content == "q?"
    with pytest.raises(DataError, match="what is asked about"):
        load(QA | {"context": "T.", "passage": "U."})


def test_a_preference_hint_names_the_table_to_write() -> None:
    row = {"prompt": "p", "chosen": "x", "rejected": "y"}
    with pytest.raises(DataError) as caught:
        load(row)
    assert 'prompt = "prompt", completion = "chosen"' in caught.value.hint
    mapped = load(row, fields={"prompt": "prompt", "completion": "chosen"})
    assert mapped.unused == (("rejected", 1),)


def test_a_conversational_prompt_is_given_and_its_completion_learnt() -> None:
    row = {"prompt": [USER, ANSWER, USER], "completion": [ANSWER]}
    messages = load(row).examples[0].messages
    assert [m.learnt for m in messages if m.role == "assistant"] == [False, True]


def test_legacy_calls_read_like_tool_calls() -> None:
    def said(call: dict[str, Any]) -> Any:
        return turns(USER, {"role": "assistant", "content": None, **call}, USER, ANSWER)

    legacy = said({"function_call": {"name": "f", "arguments": '{"x": 1}'}})
    assert legacy == said({"tool_calls": [{"function": {"name": "f", "arguments": {"x": 1}}}]})
    none = said({"function_call": {"name": "f", "arguments": ""}})
    assert none[1][1] == '{"name":"f","arguments":{}}'
    row = {"messages": [USER, ANSWER], "functions": [{"name": "f"}]}
    assert load(row).examples[0].messages[0].content == 'Tools:\n[{"name":"f"}]'


def test_several_answers_to_one_prompt_are_told() -> None:
    loaded = load(QA, QA | {"answer": "b"}, {"question": "r", "answer": "c"})
    assert any("1 prompt has several answers (2 rows)" in note for note in loaded.notes)


texts = st.text(st.sampled_from('ab":\\ {}\u00e9'), max_size=6)
values = st.recursive(
    texts | st.integers(0, 9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(texts, values, max_size=4), st.booleans())
def test_rows_without_doubled_keys_are_read_however_they_are_written(
    row: dict[str, Any], ascii_only: bool
) -> None:
    for separators in ((",", ":"), (", ", " : ")):
        line = json.dumps(row, ensure_ascii=ascii_only, separators=separators).encode()
        (read,) = json_lines([line], "x")
        assert not isinstance(read, BadRow)
        assert read.values == row


@given(texts, values, st.integers(0, 3), st.booleans())
def test_a_doubled_key_is_refused_at_any_depth(
    key: str, value: Any, depth: int, escaped: bool
) -> None:
    first = json.dumps(key)
    second = '"' + "".join(f"\\u{ord(c):04x}" for c in key) + '"' if escaped else first
    text = f"{{{first}:{json.dumps(value)},{second}:1}}"
    for _ in range(depth):
        text = f'{{"k":[{text}]}}'
    (read,) = json_lines([text.encode()], "x")
    assert isinstance(read, BadRow)
    assert "occurs twice" in read.reason


@pytest.mark.parametrize("name", ["a.csv", "a.tsv"])
def test_an_open_quote_counts_every_line_that_it_takes(name: str) -> None:
    mark = "," if name == "a.csv" else "\t"
    rows = [f"q{n}{mark}a{n}" for n in range(100)]
    rows[4] = '"' + rows[4]
    Path(name).write_text("\n".join([f"question{mark}answer", *rows]) + "\n")
    with pytest.raises(DataError, match="reaches to line 101"):
        load_examples(name, Path.cwd())
    loaded = load_examples(name, Path.cwd(), on_bad_row="skip")
    assert (loaded.rows, loaded.bad) == (100, 96)


def test_a_table_of_many_columns_is_refused_in_a_short_message() -> None:
    names = ",".join(f"column{n}" for n in range(100_000))
    Path("a.csv").write_text(f"{names}\n{names}\n")
    with pytest.raises(DataError) as caught:
        load_examples("a.csv", Path.cwd())
    assert len(str(caught.value)) < 1000


def test_excel_delimiters_and_old_line_ends_are_read() -> None:
    Path("a.csv").write_text('sep=;\nquestion;answer\n"a, b";c\n')
    assert load_examples("a.csv", Path.cwd()).examples[0].place == "a.csv:3"
    Path("b.csv").write_text('"question";answer;"a, b, c"\nx;y;z\n')
    assert load_examples("b.csv", Path.cwd()).unused == (("a, b, c", 1),)
    Path("c.jsonl").write_bytes(b"\r".join(json.dumps(QA).encode() for _ in range(3)))
    places = [e.place for e in load_examples("c.jsonl", Path.cwd()).examples]
    assert places == ["c.jsonl:1", "c.jsonl:2", "c.jsonl:3"]


def test_content_decides_what_a_file_is() -> None:
    Path("a.jsonl").write_bytes(gzip.compress(json.dumps(QA).encode()))
    assert load_examples("a.jsonl", Path.cwd()).rows == 1
    os.mkfifo("f.jsonl")
    with pytest.raises(DataError, match="is a pipe"):
        load_examples("f.jsonl", Path.cwd())
    with pytest.raises(DataError, match="is a device"):
        load_examples("/dev/zero", Path.cwd())


def test_shards_and_saved_data_sets_are_read() -> None:
    import datasets

    made = datasets.Dataset.from_list([QA | {"question": f"q{n}"} for n in range(20)])
    made.save_to_disk("saved")
    datasets.DatasetDict({"train": made, "test": made.select(range(3))}).save_to_disk("dict")
    Path("hub/data").mkdir(parents=True)
    for n in range(2):
        shard = made.shard(2, n, contiguous=True)
        shard.to_parquet(f"hub/data/train-{n:05d}-of-00002.parquet")
    made.select(range(3)).to_parquet("hub/data/test-00000-of-00001.parquet")
    made.to_parquet("named.jsonl")
    for data in ("saved", "dict", "hub", "named.jsonl"):
        loaded = load_examples(data, Path.cwd())
        assert [e.messages[0].content for e in loaded.examples] == [f"q{n}" for n in range(20)]
    for data in ("dict", "hub"):
        assert load_examples(data, Path.cwd(), split="test").rows == 3
        with pytest.raises(DataError, match='split "dev"'):
            load_examples(data, Path.cwd(), split="dev")
    Path("hub/data/train-00001-of-00002.parquet").unlink()
    with pytest.raises(DataError, match="1 of 2 shards"):
        load_examples("hub", Path.cwd())


@pytest.mark.parametrize("words", ["a picture of a cat", "noun", "Meow, then silence."])
def test_ordinary_words_under_the_name_of_a_medium_are_unused_and_named(words: str) -> None:
    assert dict(load(QA | {"image": words, "sound": words}).unused) == {"image": 1, "sound": 1}


@pytest.mark.parametrize(
    "row",
    [
        {"image": "cat.png"},
        {"image": "000000033471"},
        {"image": "https://example.org/cat"},
        {"image": "cats/one"},
        {"image": "a cat", "question": "<image> What is it?"},
    ],
)
def test_what_names_an_image_is_refused(row: dict[str, Any]) -> None:
    with pytest.raises(DataError, match="needs an image"):
        load(QA | row)


def test_lines_that_two_neat_quotes_merge_are_told() -> None:
    lines = [f"q{at},a{at}" for at in range(40)]
    lines[5], lines[9] = 'q5,"a5', 'q9,a9"'
    Path("a.csv").write_text("\n".join(["question,answer", *lines]) + "\n")
    notes = load_examples("a.csv", Path.cwd()).notes
    assert any(
        "1 of 36 rows reaches over several lines" in n and "a.csv:7, 5 lin" in n for n in notes
    )


def test_tables_whose_answers_have_line_breaks_are_ordinary() -> None:
    lines = [f'q{at},"a\nb\nc\nd{at}"' if at % 2 else f"q{at},a{at}" for at in range(40)]
    Path("a.csv").write_text("\n".join(["question,answer", *lines]) + "\n")
    assert not any("several lines" in note for note in load_examples("a.csv", Path.cwd()).notes)


def test_weights_of_user_turns_are_no_unlearnt_answers() -> None:
    loaded = load({"messages": [USER | {"weight": 0.0}, ANSWER | {"weight": 1.0}]})
    assert not any("not to be learnt" in note for note in loaded.notes)


@pytest.mark.parametrize("nothing", ["0", "False", "none", "[]"])
def test_a_cell_that_says_there_is_no_image_needs_none(nothing: str) -> None:
    Path("a.csv").write_text(f"question,answer,images\nq,a,{nothing}\n")
    assert load_examples("a.csv", Path.cwd()).bad == 0
