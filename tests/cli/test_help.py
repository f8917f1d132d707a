"""Every help text reaches the screen whole: rich takes `[name]` in one for markup and drops it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
import typer
from typer.main import get_command
from typer.testing import CliRunner

from sf_tui.cli.app import app
from sf_tui.cli.options import opens_console
from sf_tui.tui.terminal import ConsoleOptions

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


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_no_help_page_shows_a_type_of_python(
    path: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    shown = CliRunner().invoke(app, [*path, "--help"], terminal_width=200).stdout
    for leak in ("<", "range", "list[", "bool", "x>="):
        assert leak not in shown


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_every_bracket_of_a_help_text_is_shown(
    path: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "400")
    shown = CliRunner().invoke(app, [*path, "--help"], terminal_width=400).stdout
    screen = " ".join(shown.split())
    for text in texts(COMMANDS[path]):
        for bracket in re.findall(r"\\?(\[[^\]]*\])", text):
            assert bracket in screen, text


def test_the_commands_are_grouped() -> None:
    shown = CliRunner().invoke(app, ["--help"], terminal_width=200).stdout
    names = ("Run and watch", "Repair", "Look", "Look after runs", "Measure")
    places = [shown.index(f"─ {name} ─") for name in names]
    assert places == sorted(places)
    assert "─ Commands ─" not in shown
    groups = dict(zip(names, shown.split("╭")[-5:], strict=True))
    assert all(f"│ {name} " in groups["Run and watch"] for name in ("run", "resume", "act", "stop"))
    assert all(f"│ {name} " in groups["Repair"] for name in ("diagnose", "recover"))
    assert all(f"│ {name} " in groups["Look after runs"] for name in ("rm", "prune", "du"))


def test_the_console_has_the_same_options_wherever_it_opens() -> None:
    def options_of(name: str) -> dict[str, tuple[str, object]]:
        return {
            option: (parameter.help, parameter.default)
            for parameter in COMMANDS[(name,)].params
            for option in parameter.opts
            if str(getattr(parameter, "help", "")).startswith("Console: ")
        }

    first = options_of("attach")
    assert set(first) == {"--lite", "--ascii", "--light", "--no-mouse", "--bell"}
    for name in ("run", "resume", "watch"):
        assert options_of(name) == first


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ((), ConsoleOptions()),
        (("--lite", "--ascii"), ConsoleOptions(lite=True, ascii_only=True)),
        (
            ("--light", "--no-mouse", "--bell"),
            ConsoleOptions(light=True, mouse=False, bell=True),
        ),
    ],
)
def test_a_command_that_opens_a_console_gets_its_options(
    given: tuple[str, ...], expected: ConsoleOptions
) -> None:
    found: list[tuple[str, ConsoleOptions, int]] = []

    @opens_console
    def show(name: str, *, console: ConsoleOptions, count: int = 1) -> None:
        found.append((name, console, count))

    app = typer.Typer()
    app.command()(show)
    assert CliRunner().invoke(app, ["one", *given, "--count", "2"]).exit_code == 0
    assert found == [("one", expected, 2)]
