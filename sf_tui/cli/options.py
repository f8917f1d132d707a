"""Options that several commands have, each declared once."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sf_tui.home import user_path

if TYPE_CHECKING:
    from sf_tui.tui.terminal import ConsoleOptions

AsJsonObject = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
AsJsonList = Annotated[bool, typer.Option("--json", help="Print one JSON list.")]
SetValues = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="TABLE.KEY=VALUE", help="Replace a value; repeatable."),
]

Seed = Annotated[int | None, typer.Option("--seed", help="Replace the profile's seed.")]
NewRunDir = Annotated[
    Path | None,
    typer.Option(
        "--run-dir",
        parser=user_path,
        metavar="DIR",
        help="Create the run in DIR, which must not exist; default: in SF_HOME.",
    ),
]


def console_options(
    lite: Annotated[
        bool,
        typer.Option(
            "--lite", help="Console: send fewer bytes (slow links); no mouse, no background."
        ),
    ] = False,
    ascii_only: Annotated[
        bool, typer.Option("--ascii", help="Console: draw without braille and line characters.")
    ] = False,
    light: Annotated[
        bool, typer.Option("--light", help="Console: start with the light theme; default: dark.")
    ] = False,
    no_mouse: Annotated[
        bool,
        typer.Option(
            "--no-mouse", help="Console: leave the mouse to the terminal, to select text."
        ),
    ] = False,
    bell: Annotated[
        bool,
        typer.Option(
            "--bell",
            help="Console: ring the bell at warnings and at the run's end; default: the profile's.",
        ),
    ] = False,
) -> ConsoleOptions:
    """Return the options of a console as the command line has them."""
    # Deferred: not needed for `sf --help`.
    from sf_tui.tui.terminal import ConsoleOptions

    return ConsoleOptions(
        lite=lite, ascii_only=ascii_only, light=light, mouse=not no_mouse, bell=bell
    )


def opens_console(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the parameters of `console_options` in place of its parameter `console`.

    Typer reads the command line's options from the parameters; it can't group them itself.
    """
    shared = _parameters(console_options)
    parameters: list[inspect.Parameter] = []
    for parameter in _parameters(command):
        parameters += shared if parameter.name == "console" else [parameter]

    @wraps(command)
    def run(**given: Any) -> None:
        of_console = {one.name: given.pop(one.name) for one in shared}
        command(**given, console=console_options(**of_console))

    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {one.name: one.annotation for one in parameters}
    return run


def _parameters(function: Callable[..., Any]) -> list[inspect.Parameter]:
    # The console's class is imported for type checking alone.
    names = {"ConsoleOptions": Any}
    signature = inspect.signature(function, locals=names, eval_str=True)
    return list(signature.parameters.values())
