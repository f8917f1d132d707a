"""Help pages without Python in them: `--steps N`, nothing after a flag, text that flows.

typer prints Python's own type names (`<bool>` after every flag, `<list[str]>`,
`<int range> [x>=1]`) and keeps the line breaks of a docstring's later paragraphs. It has no setting
for either, so the built commands are changed.
"""

from __future__ import annotations

from typing import Any

import typer

_PLACEHOLDERS: dict[type, str] = {bool: "", int: "N", float: "NUMBER", str: "TEXT"}
_OTHER_HELP = {
    "--install-completion": "Install completion: adds a line to your shell's startup file.",
    "--show-completion": "Print the completion script, to install it yourself.",
}


def tidy_help(command: Any, parent: typer.Context | None = None) -> None:
    """Change the help of a command and of all commands below it.

    Args:
        command: a command as typer built it.
        parent: the context of the group that holds it, whose settings it inherits.
    """
    context = typer.Context(
        command, parent=parent, info_name=command.name, **command.context_settings
    )
    command.help = _flowing(command.help or "")
    for parameter in command.get_params(context):
        hide_type(parameter)
    for inner in getattr(command, "commands", {}).values():
        tidy_help(inner, context)


def hide_type(parameter: Any) -> None:
    """Replace the type that the help shows for an option or an argument."""
    if parameter.param_type_name == "argument":
        if parameter.metavar is None:
            parameter.metavar = parameter.name.upper()
        # The name alone: `RUN`, not `RUN <str>`.
        parameter.display_type_rich = lambda ctx: None  # noqa: ARG005
        return
    parameter.help = next(
        (_OTHER_HELP[name] for name in parameter.opts if name in _OTHER_HELP), parameter.help
    )
    # Bounds are in an option's own text where they matter, and in the error.
    parameter._get_number_range_help_str = lambda: None
    if parameter.metavar is None:
        found = parameter.type_descriptor.annotation
        parameter.metavar = _PLACEHOLDERS.get(found, "TEXT")


def _flowing(text: str) -> str:
    """Return a text with each paragraph on one line; `\\b` keeps a paragraph's lines."""
    paragraphs = text.split("\n\n")
    return "\n\n".join(
        part if part.lstrip().startswith("\b") else " ".join(part.split()) for part in paragraphs
    )
