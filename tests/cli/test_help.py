"""Every help text reaches the screen whole: rich takes `[name]` in one for markup and drops it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
from typer.main import get_command
from typer.testing import CliRunner

from sf_tui.cli.app import app

# Named in a help text, a table of a profile has to be written \[table].
TABLE = re.compile(r"\\?(\[[a-z_]+(?:\.[a-z_]+)?\])")


def commands(command: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    yield path, command
    for name, inner in getattr(command, "commands", {}).items():
        yield from commands(inner, (*path, name))


COMMANDS = dict(commands(get_command(app)))


def texts(command: Any) -> list[str]:
    options = [getattr(parameter, "help", None) or "" for parameter in command.params]
    return [command.help or "", *options]


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_no_table_named_in_a_help_text_is_eaten(
    path: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    # Wide enough that no text is broken.
    monkeypatch.setenv("COLUMNS", "400")
    shown = CliRunner().invoke(app, [*path, "--help"], terminal_width=400)
    assert shown.exit_code == 0
    screen = " ".join(shown.stdout.split())
    for text in texts(COMMANDS[path]):
        for table in TABLE.findall(text):
            assert table in screen, text


def test_some_help_text_names_a_table() -> None:
    assert any(TABLE.search(text) for command in COMMANDS.values() for text in texts(command))
