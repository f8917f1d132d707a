"""The line of every key is found, however the TOML is written."""

from __future__ import annotations

from typing import Any

import tomli
import tomlkit
from hypothesis import given, settings
from hypothesis import strategies as st

from sf_tui.profile.locate import KeyPath, locate_keys

TEXT = '''# a comment with = and [brackets]
name = "a = b # no comment"   # one
"quoted.key" = 1
'literal' = 2
dotted . inner = 3
multi = """
[not.a.table]
key = "no"
""""
literal_multi = \'\'\'
x = 'y'\'\'\'
array = [
  1, # first ]
  "]",
  { in_array = 1, deep = { deeper = [ 1 ] } },
]
date = 1979-05-27 07:32:00

[table]
key = 1
inline = { a = 1, b.c = 2 }
[table.sub]
key = 1

[[rows]]
key = 1
[rows.sub]
key = 2
[[rows.inner]]
key = 3
[[rows.inner]]
key = 4
[[rows]]
key = 5
[[rows.inner]]
key = 6
'''

LINES: dict[KeyPath, int] = {
    ("name",): 2,
    ("quoted.key",): 3,
    ("literal",): 4,
    ("dotted", "inner"): 5,
    ("multi",): 6,
    ("literal_multi",): 10,
    ("array",): 12,
    ("array", 0): 13,
    ("array", 1): 14,
    ("array", 2, "in_array"): 15,
    ("array", 2, "deep", "deeper", 0): 15,
    ("date",): 17,
    ("table",): 19,
    ("table", "inline", "b", "c"): 21,
    ("table", "sub"): 22,
    ("table", "sub", "key"): 23,
    ("rows",): 25,
    ("rows", 0, "key"): 26,
    ("rows", 0, "sub", "key"): 28,
    ("rows", 0, "inner", 1): 31,
    ("rows", 0, "inner", 1, "key"): 32,
    ("rows", 1, "key"): 34,
    ("rows", 1, "inner", 0, "key"): 36,
}


def test_lines_of_keys_in_every_way_of_writing_them() -> None:
    tomli.loads(TEXT)
    found = locate_keys(TEXT)
    assert {path: found.line(path) for path in LINES} == LINES


def test_unknown_key_has_the_line_of_its_table() -> None:
    found = locate_keys(TEXT)
    assert found.line(("table", "sub", "absent")) == 22
    assert found.line(("rows", 1, "absent")) == 33
    assert found.line(("absent",)) == 1


def test_header_counts_more_than_a_table_that_it_only_implies() -> None:
    assert locate_keys("[a.b]\nx = 1\n[a]\ny = 2\n").line(("a",)) == 3


VALUES = st.recursive(
    st.text(max_size=12) | st.integers() | st.booleans() | st.floats(allow_nan=False),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3)
    ),
    max_leaves=8,
)


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(["key", "table", "rows"]), VALUES), max_size=6))
def test_every_key_is_found_on_the_line_that_holds_it(parts: list[tuple[str, Any]]) -> None:
    plain = [(f"k{n}", value) for n, (kind, value) in enumerate(parts) if kind == "key"]
    lines = [f"{key} = {_toml(value)}" for key, value in plain]
    expected: dict[KeyPath, str] = {(key,): key for key, _ in plain}
    rows = 0
    for number, (kind, value) in enumerate(parts):
        key = f"k{number}"
        if kind == "table":
            lines += [f"[t{number}]", f"{key} = {_toml(value)}"]
            expected[(f"t{number}", key)] = key
        elif kind == "rows":
            lines += ["[[rows]]", f"{key} = {_toml(value)}"]
            expected[("rows", rows, key)] = key
            rows += 1
    text = "\n".join(lines)
    tomli.loads(text)
    found = locate_keys(text)
    for path, key in expected.items():
        assert path in found.lines
        assert text.split("\n")[found.line(path) - 1].startswith(f"{key} = ")


def _toml(value: Any) -> str:
    if isinstance(value, dict):
        pairs = (f"{tomlkit.key(key).as_string()} = {_toml(inner)}" for key, inner in value.items())
        return "{ " + ", ".join(pairs) + " }"
    if isinstance(value, list):
        return "[ # ]\n" + "".join(f"  {_toml(inner)},\n" for inner in value) + "]"
    return tomlkit.item(value).as_string()


def test_array_of_tables_whose_parts_are_apart() -> None:
    found = locate_keys(
        "[[tasks]]\na = 1\n[train]\nb = 2\n[[tasks]]\nc = 3\n[tasks.train]\nd = 4\n"
    )
    lines = {("tasks", 0, "a"): 2, ("train", "b"): 4, ("tasks", 1): 5, ("tasks", 1, "c"): 6}
    lines[("tasks", 1, "train", "d")] = 8
    assert {path: found.line(path) for path in lines} == lines


def test_inline_table_over_several_lines_and_tables_out_of_order() -> None:
    found = locate_keys(
        "a = {\n  x = 1, # one\n  y.z = 2,\n}\n[b]\nc.d = 1\n[e]\nf = 1\n[b.g]\nh = 1\n"
    )
    lines = {("a", "x"): 2, ("a", "y", "z"): 3, ("b", "c", "d"): 6, ("b", "g"): 9}
    lines[("b", "g", "h")] = 10
    assert {path: found.line(path) for path in lines} == lines


def test_more_levels_than_tomlkit_takes() -> None:
    found = locate_keys("a = " + "[" * 150 + "\n1" + "]" * 150 + "\n")
    assert found.line(("a", *[0] * 150)) == 2
