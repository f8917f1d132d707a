from __future__ import annotations

import contextlib
import gzip
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sf_tui.errors import DataError
from sf_tui.tasks.json_rows import json_document, json_lines
from sf_tui.tasks.reading import file_rows, locate, read_rows
from sf_tui.tasks.task import BadRow, Row

Write = Callable[[str, str | bytes], Path]

ROW = '{"prompt": "a", "completion": "b"}'


def places(path: Path) -> list[str]:
    return [row.place for row in file_rows(path)]


def only_bad(path: Path) -> BadRow:
    bad = [row for row in file_rows(path) if isinstance(row, BadRow)]
    assert len(bad) == 1
    return bad[0]


def test_jsonl_rows_carry_their_line_through_mark_crlf_and_blank_lines(write: Write) -> None:
    path = write("a.jsonl", b"\xef\xbb\xbf" + f"{ROW}\r\n\r\n  \n{ROW}\r\n\n{ROW}".encode())
    assert places(path) == ["a.jsonl:1", "a.jsonl:4", "a.jsonl:6"]
    assert all(isinstance(row, Row) for row in file_rows(path))


def test_a_line_separator_inside_a_text_breaks_no_row(write: Write) -> None:
    text = json.dumps({"prompt": "a\u2028b\x85c", "completion": "d"}, ensure_ascii=False)
    path = write("a.jsonl", f"{text}\n{ROW}\n")
    assert places(path) == ["a.jsonl:1", "a.jsonl:2"]


def test_bytes_that_are_not_utf8_make_one_bad_row(write: Write) -> None:
    path = write("a.jsonl", ROW.encode() + b'\n{"prompt": "caf\xe9", "completion": "b"}\n')
    assert str(only_bad(path)) == "a.jsonl:2: byte 16 of the line is not UTF-8"


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ('{"prompt": "a", "completion": }', "invalid JSON at column"),
        ('{"prompt": "a", "prompt": "c", "completion": "b"}', "'prompt' occurs twice"),
        ('{"prompt": NaN, "completion": "b"}', "invalid JSON at column"),
        ('["a", "b"]', "is a list, not an object"),
        ("3", "is a number (3), not an object"),
        ('"text"', "is text, not an object"),
        ("null", "is null, not an object"),
        ("<<<<<<< HEAD", "unfinished merge"),
        ('{"prompt": ' + "[" * 5000 + "]" * 5000 + "}", "invalid JSON"),
        ('{"prompt": "\\ud800", "completion": "b"}', "invalid JSON"),
    ],
)
def test_a_bad_line_is_told_with_its_place_and_spoils_no_other(
    write: Write, line: str, reason: str
) -> None:
    path = write("a.jsonl", f"{ROW}\n{line}\n{ROW}\n")
    bad = only_bad(path)
    assert bad.place == "a.jsonl:2"
    assert reason in bad.reason
    assert len(list(file_rows(path))) == 3


def test_a_key_that_only_recurs_in_a_nested_object_is_no_duplicate(write: Write) -> None:
    path = write("a.jsonl", '{"prompt": "a", "meta": {"prompt": "x"}, "completion": "b"}\n')
    assert [type(row) for row in file_rows(path)] == [Row]


def test_json_list_rows_carry_the_line_they_start_on(write: Write) -> None:
    path = write("a.json", '[\n  {\n    "prompt": "a\\nb"\n  },\n\n  {"prompt": "c"}, 7\n]\n')
    rows = list(file_rows(path))
    assert [row.place for row in rows] == ["a.json:2", "a.json:6", "a.json:6"]
    assert isinstance(rows[2], BadRow)


def test_json_list_tells_doubled_keys_and_nan_of_their_row_alone(write: Write) -> None:
    path = write("a.json", '[{"a": 1, "a": 2},\n{"a": NaN},\n{"a": 1}]')
    kinds = [(type(row).__name__, row.place) for row in file_rows(path)]
    assert kinds == [("BadRow", "a.json:1"), ("BadRow", "a.json:2"), ("Row", "a.json:3")]


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ('[\n{"a": 1}\n{"a": 2}]', "a.json:3:1"),
        ('[\n{"a": 1},\n]', "a.json:2:9"),
        ('[\n{"a": 1}', "a.json:2:9"),
        ('[\n{"a": }]', "a.json:2:7"),
        ('{\n"a" 1}', "a.json:2:5"),
        ('{\n"a": 1} x', "a.json:2:9"),
        ("{\na: 1}", "a.json:2:1"),
    ],
)
def test_a_syntax_error_in_a_json_file_is_told_with_line_and_column(
    write: Write, text: str, place: str
) -> None:
    with pytest.raises(DataError, match="invalid JSON") as caught:
        list(file_rows(write("a.json", text)))
    assert caught.value.message.startswith(f"{place}: ")
    assert ".jsonl" in caught.value.hint


def test_an_object_with_one_list_of_objects_holds_its_rows(write: Write) -> None:
    text = '{"name": "x", "templates": ["t"],\n "samples": [\n{"a": 1},\n{"a": 2}]}'
    assert places(write("a.json", text)) == ["a.json:3", "a.json:4"]


def test_an_object_with_several_lists_of_objects_is_refused_by_their_names(write: Write) -> None:
    path = write("a.json", '{"train": [{"a": 1}], "test": [{"a": 2}]}')
    with pytest.raises(DataError, match="2 lists of rows: test, train"):
        list(file_rows(path))


def test_a_single_conversation_is_one_row_and_not_a_list_of_turns(write: Write) -> None:
    path = write("a.json", '{"messages": [{"role": "user", "content": "hi"}]}')
    (row,) = file_rows(path)
    assert isinstance(row, Row)
    assert "messages" in row.values


def test_content_tells_json_lines_from_a_list_whatever_the_suffix(write: Write) -> None:
    assert places(write("a.json", f"{ROW}\n{ROW}\n")) == ["a.json:1", "a.json:2"]
    assert places(write("a.jsonl", f"[\n{ROW},\n{ROW}\n]")) == ["a.jsonl:2", "a.jsonl:3"]
    assert places(write("b.jsonl", f"[{ROW}, {ROW}]")) == ["b.jsonl:1", "b.jsonl:1"]
    assert places(write("c.jsonl", '{\n"prompt": "a"\n}')) == ["c.jsonl:1"]


def test_csv_rows_carry_the_line_they_start_on(write: Write) -> None:
    text = '\ufeffprompt, completion\n"two\nlines",b\n\nc,d\n'
    rows = list(file_rows(write("a.csv", text)))
    assert [row.place for row in rows] == ["a.csv:2", "a.csv:5"]
    assert isinstance(rows[0], Row)
    assert rows[0].values == {"prompt": "two\nlines", "completion": "b"}


@pytest.mark.parametrize(("name", "mark"), [("a.csv", ";"), ("a.csv", "\t"), ("a.tsv", "\t")])
def test_cells_may_be_parted_by_other_marks(write: Write, name: str, mark: str) -> None:
    (row,) = file_rows(write(name, f"prompt{mark}completion\na, b{mark}c\n"))
    assert isinstance(row, Row)
    assert row.values == {"prompt": "a, b", "completion": "c"}


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("a", "has 1 column where the header has 2"),
        ("a,b,c", "has 3 columns"),
        ('"a" b,c', "invalid CSV"),
        ('"a,b', "invalid CSV"),
    ],
)
def test_a_bad_csv_line_is_told_with_its_place(write: Write, line: str, reason: str) -> None:
    bad = only_bad(write("a.csv", f"prompt,completion\na,b\n{line}\n"))
    assert bad.place == "a.csv:3"
    assert reason in bad.reason


@pytest.mark.parametrize(
    ("text", "message"),
    [("a,a\n1,2\n", "names 'a' twice"), ("\n1,2\n", "header is empty")],
)
def test_a_csv_header_without_sense_is_refused(write: Write, text: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        list(file_rows(write("a.csv", text)))


def test_a_csv_cell_of_a_megabyte_is_read_whole(write: Write) -> None:
    (row,) = file_rows(write("a.csv", f"prompt,completion\n{'x' * 2**20},b\n"))
    assert isinstance(row, Row)
    assert len(row.values["prompt"]) == 2**20


def test_parquet_rows_are_numbered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    table = pa.table({"prompt": ["a", "b"], "turns": [[{"role": "user"}], None]})
    pq.write_table(table, tmp_path / "a.parquet")
    rows = list(file_rows(tmp_path / "a.parquet"))
    assert [row.place for row in rows] == ["a.parquet row 1", "a.parquet row 2"]
    assert isinstance(rows[0], Row)
    assert rows[0].values == {"prompt": "a", "turns": [{"role": "user"}]}


def test_a_file_that_only_calls_itself_parquet_is_refused(write: Write) -> None:
    with pytest.raises(DataError, match=r"a\.parquet: can't be read as parquet"):
        list(file_rows(write("a.parquet", "prompt,completion\n")))


def test_compressed_files_are_unpacked(write: Write) -> None:
    assert places(write("a.jsonl.gz", gzip.compress(f"{ROW}\n{ROW}\n".encode()))) == [
        "a.jsonl.gz:1",
        "a.jsonl.gz:2",
    ]
    packed = gzip.compress(b"prompt,completion\na,b\n")
    assert places(write("a.csv.gz", packed)) == ["a.csv.gz:2"]
    packed = gzip.compress(f"[{ROW}]".encode())
    assert places(write("a.json.gz", packed)) == ["a.json.gz:1"]


def test_a_cut_off_compressed_file_is_refused(write: Write) -> None:
    packed = gzip.compress(b"".join(b'{"prompt": "%d"}\n' % n for n in range(10_000)))
    with pytest.raises(DataError, match="damaged"):
        list(file_rows(write("a.jsonl.gz", packed[: len(packed) // 2])))


def test_a_file_that_is_only_named_as_compressed_is_read(write: Write) -> None:
    assert places(write("b.jsonl.gz", ROW)) == ["b.jsonl.gz:1"]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.jsonl", b"", "the file is empty"),
        ("a.jsonl", ROW.encode("utf-16"), "the text is UTF-16"),
        ("a.jsonl", ROW.encode("utf-16-le"), "the text is UTF-16"),
        ("a.csv", b"\0p\0,\0c\0\n", "the text is UTF-16"),
        ("a.jsonl", ROW.encode("utf-32"), "the text is UTF-32"),
        ("a.txt", b"hello", "unknown format '.txt'"),
        ("noend", b"hello", "unknown format 'noend'"),
        ("a.parquet.gz", b"hello", "unknown format"),
    ],
)
def test_a_file_that_can_not_be_read_is_refused(
    write: Write, name: str, content: bytes, message: str
) -> None:
    with pytest.raises(DataError, match=message) as caught:
        list(file_rows(write(name, content)))
    assert caught.value.message.startswith(f"{name}: ")
    assert caught.value.hint


def test_a_folder_is_refused_and_its_files_are_named(write: Write, tmp_path: Path) -> None:
    write("train.jsonl", ROW)
    write("notes.md", "x")
    with pytest.raises(DataError, match="is a folder") as caught:
        list(file_rows(tmp_path))
    assert "train.jsonl" in caught.value.hint
    assert "notes.md" not in caught.value.hint


def test_a_missing_file_names_the_nearest_one(write: Write, tmp_path: Path) -> None:
    write("questions.jsonl", ROW)
    for data in ("question.jsonl", "./question.jsonl", str(tmp_path / "question.jsonl")):
        with pytest.raises(DataError, match="no such file") as caught:
            locate(data, tmp_path)
        assert "did you mean 'questions.jsonl'?" in caught.value.hint
    with pytest.raises(DataError, match="no such file") as caught:
        locate("completely-else.csv", tmp_path)
    assert "the folder holds questions.jsonl" in caught.value.hint
    with pytest.raises(DataError, match="no such file") as caught:
        locate("nowhere/a.jsonl", tmp_path)
    assert "there is no folder nowhere" in caught.value.hint


def test_a_name_without_a_suffix_that_a_file_has_is_no_id(write: Write, tmp_path: Path) -> None:
    write("questions.jsonl", ROW)
    with pytest.raises(DataError) as caught:
        locate("questions", tmp_path)
    assert caught.value.hint == "did you mean 'questions.jsonl'?"


@pytest.mark.parametrize("data", ["squad", "owner/name", "owner/name-v1.0"])
def test_an_id_is_no_path(tmp_path: Path, data: str) -> None:
    assert locate(data, tmp_path) is None


@pytest.mark.parametrize("data", ["/no/such", "./x", "a/b/c", "~/nothing-here", "x y", "", "a\\b"])
def test_what_is_neither_path_nor_id_is_refused(tmp_path: Path, data: str) -> None:
    with pytest.raises(DataError):
        locate(data, tmp_path)


def test_split_and_subset_mean_nothing_for_a_file(write: Write, tmp_path: Path) -> None:
    write("a.jsonl", ROW)
    with pytest.raises(DataError, match='split = "test" has no meaning'):
        list(read_rows("a.jsonl", tmp_path, split="test"))
    with pytest.raises(DataError, match='subset = "x" has no meaning'):
        list(read_rows("a.jsonl", tmp_path, subset="x"))


def test_reading_json_lines_brings_in_no_heavy_library(write: Write) -> None:
    write("a.jsonl", f"{ROW}\n{ROW.replace('a', 'c')}\n")
    code = (
        "import sys; from pathlib import Path; from sf_tui.tasks.user_data import load_examples;"
        "load_examples('a.jsonl', Path.cwd());"
        "print([m for m in ('torch', 'transformers', 'datasets', 'pyarrow') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=Path.cwd()
    )
    assert done.stdout.strip() == "[]"


texts = st.text(st.characters(exclude_categories=("Cs",)))
objects = st.dictionaries(texts, st.one_of(texts, st.integers(-100, 100), st.none()), max_size=4)


@given(st.lists(objects, max_size=8), st.sampled_from([None, 2]))
def test_json_text_gives_back_its_rows(rows: list[dict[str, object]], indent: int | None) -> None:
    text = json.dumps(rows, indent=indent, ensure_ascii=False)
    found = list(json_document(text, "x"))
    assert [row.values for row in found if isinstance(row, Row)] == rows
    lines = text.split("\n")
    for row in found:
        assert "{" in lines[int(row.place.removeprefix("x:")) - 1]


@given(st.lists(objects, max_size=8))
def test_json_lines_give_back_their_rows(rows: list[dict[str, object]]) -> None:
    lines = [json.dumps(row, ensure_ascii=False).encode() + b"\n" for row in rows]
    found = list(json_lines(lines, "x"))
    assert [row.values for row in found if isinstance(row, Row)] == rows
    assert [row.place for row in found] == [f"x:{n}" for n in range(1, len(rows) + 1)]


@given(st.binary(max_size=60))
def test_any_bytes_are_rows_bad_rows_or_a_data_error(content: bytes) -> None:
    for row in json_lines(content.split(b"\n"), "x"):
        assert isinstance(row, (Row, BadRow))
    with contextlib.suppress(DataError):
        list(json_document(content.decode("utf-8-sig", errors="surrogateescape"), "x"))
