from __future__ import annotations

import io
import json
import unicodedata

import pytest
import tomli
import tomlkit
from hypothesis import example, given
from hypothesis import strategies as st

from sf_tui.printable import GuardedStream, printable, printable_json, printable_toml

any_text = st.text(st.characters(exclude_categories=[]))


def is_safe(sign: str) -> bool:
    return sign in "\n\t\u200c\u200d" or unicodedata.category(sign) not in {
        *("Cc", "Cs", "Zl", "Zp"),
    }


@given(any_text)
@example("\x1b]52;c;AAAA\x07 \x9d0;t\x9c \x00\x7f\r\b \ud800 \u202e \u2028 \U000e0041")
def test_no_sign_that_steers_is_left(text: str) -> None:
    shown = printable(text)
    assert all(map(is_safe, shown))
    assert printable(shown) == shown
    shown.encode()
    assert not set("\n\t") & set(printable(text, multiline=False))


def test_every_control_and_direction_mark_becomes_visible() -> None:
    for code in range(0x110000):
        sign = chr(code)
        bidi = unicodedata.bidirectional(sign) in {
            *("LRE", "RLE", "PDF", "LRO", "RLO", "LRI", "RLI", "FSI", "PDI")
        }
        if not is_safe(sign) or bidi:
            shown = printable(sign)
            assert shown.isascii()
            assert shown.isprintable()
            assert len(shown) > 1


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b]0;t\x07", "\\x1b]0;t\\x07"),
        ("\x9b2J", "\\x9b2J"),
        ("a\rb", "a\\x0db"),
        ("a\u202eb\u2066", "a\\u202eb\\u2066"),
        ("\ud83d", "\\ud83d"),
        ("\U000e0041", "\\U000e0041"),
        ("a\tb\nc", "a\tb\nc"),
    ],
)
def test_a_sign_is_spelled_as_its_escape(text: str, shown: str) -> None:
    assert printable(text) == shown


@pytest.mark.parametrize(
    "text",
    [
        *("naïve café", "日本語 한국어", "e\u0301", "👩\u200d🔬 ❤\ufe0f", "क\u094d\u200dष"),
        *("نمی\u200cخواهم", "שלום", "C:\\x1b", "⟦…⟧"),
    ],
)
def test_text_of_any_script_stays(text: str) -> None:
    assert printable(text, multiline=False) == text


def test_a_line_break_in_one_line_is_visible() -> None:
    assert printable("a\n\tb", multiline=False) == "a\\n\\tb"


@given(any_text)
@example("\x7f\x9b\u202e\ud800\U000e0041")
def test_json_says_the_same(text: str) -> None:
    shown = printable_json(json.dumps({text: [text]}, ensure_ascii=False, indent=1))
    assert all(map(is_safe, shown))
    assert json.loads(shown) == {text: [text]}


@given(st.text())
@example("\x7f\x9b\u202e\U000e0041\x1b")
def test_toml_says_the_same(text: str) -> None:
    shown = printable_toml(tomlkit.dumps({"table": {text: text}}))
    assert all(map(is_safe, shown))
    assert tomli.loads(shown) == {"table": {text: text}}


class Screen(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_the_guard_passes_colors_to_a_terminal_only(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("FORCE_COLOR", "PY_COLORS", "GITHUB_ACTIONS"):
        monkeypatch.delenv(name, raising=False)
    text = "\x1b[1;31mred\x1b[0m\x1b]0;t\x07\x1b[2J"
    screen, file = Screen(), io.StringIO()
    for stream in (screen, file):
        assert GuardedStream(stream).write(text) == len(text)
    assert screen.getvalue() == "\x1b[1;31mred\x1b[0m\\x1b]0;t\\x07\\x1b[2J"
    assert file.getvalue() == "\\x1b[1;31mred\\x1b[0m\\x1b]0;t\\x07\\x1b[2J"


def test_the_guard_takes_text_only() -> None:
    with pytest.raises(TypeError, match="must be str"):
        GuardedStream(io.StringIO()).write(b"x")  # type: ignore[arg-type]
