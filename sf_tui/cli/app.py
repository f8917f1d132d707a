"""The `sf` command: its subcommands, and the only place where errors are printed."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from sf_tui import __version__
from sf_tui.cli import (
    act,
    analyze,
    ask,
    attach,
    bench,
    compare,
    data_biography,
    data_check,
    diagnose,
    doctor,
    guide,
    housekeeping,
    import_training,
    integrate,
    labels,
    log,
    merge,
    profile_commands,
    recover,
    run,
    runs,
    show,
    sweep,
    wait,
)
from sf_tui.cli import exec as exec_command
from sf_tui.cli.help_pages import hide_type, tidy_help
from sf_tui.cli.output import INTERRUPTED, install_sigint, was_interrupted, write_line
from sf_tui.cli.remote import RemoteCommand
from sf_tui.errors import SfError
from sf_tui.printable import guard_streams, printable


class PrintableGroup(TyperGroup):
    """The root command: help without Python's type names, usage errors that quote printably.

    All parsing of subcommands happens inside `make_context` and `invoke`.
    """

    def __init__(self, *arguments: Any, **more: Any) -> None:
        super().__init__(*arguments, **more)
        tidy_help(self)

    def get_params(self, context: Any) -> Any:
        """Return the parameters; typer adds those for completion after `__init__`."""
        found = super().get_params(context)
        for parameter in found:
            hide_type(parameter)
        return found

    def make_context(self, *arguments: Any, **more: Any) -> Any:
        """Parse the root's own options."""
        with _printable_errors():
            return super().make_context(*arguments, **more)

    def invoke(self, *arguments: Any, **more: Any) -> Any:
        """Parse and run the subcommand."""
        with _printable_errors():
            return super().invoke(*arguments, **more)


@contextmanager
def _printable_errors() -> Iterator[None]:
    try:
        yield
    except Exception as error:
        # typer has no public base class for usage errors; only they have format_message.
        message = getattr(error, "message", None)
        if hasattr(error, "format_message") and isinstance(message, str):
            file = _dashed_file() if message.startswith("No such option") else None
            more = f" For the file {file} write ./{file}" if file else ""
            error.message = printable(message + more)  # type: ignore[attr-defined]
        raise


def _dashed_file() -> str | None:
    """Return the name of a file that was parsed as an option because it starts with a dash."""
    dashed = (argument for argument in sys.argv[1:] if argument.startswith("-"))
    return next((argument for argument in dashed if os.path.lexists(argument)), None)


app = typer.Typer(
    name="sf",
    cls=PrintableGroup,
    help="The operator's console for sequential fine-tuning of language models.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
data = typer.Typer(
    help="Check data files, or write those of the built-in experiment.", no_args_is_help=True
)
data.command("check")(data_check.check)
data.command("biography")(data_biography.biography)

_RUN, _REPAIR, _LOOK, _MEASURE = "Run and watch", "Repair", "Look", "Measure"
_KEEP = "Look after runs"

app.command("run", rich_help_panel=_RUN)(run.run)
app.command("exec", context_settings=exec_command.SETTINGS, rich_help_panel=_RUN)(
    exec_command.exec_
)
app.command("integrate", rich_help_panel=_RUN)(integrate.integrate)
app.command("resume", rich_help_panel=_RUN)(run.resume)
app.command("import", rich_help_panel=_RUN)(import_training.import_training)
app.command("sweep", rich_help_panel=_RUN)(sweep.sweep)
app.command("attach", cls=RemoteCommand, rich_help_panel=_RUN)(attach.attach)
app.command("watch", cls=RemoteCommand, rich_help_panel=_RUN)(attach.watch)
app.command("act", cls=RemoteCommand, rich_help_panel=_RUN)(act.act)
app.command("stop", cls=RemoteCommand, rich_help_panel=_RUN)(act.stop)
app.command("wait", cls=RemoteCommand, rich_help_panel=_RUN)(wait.wait)
app.command("diagnose", rich_help_panel=_REPAIR)(diagnose.diagnose)
app.command("recover", rich_help_panel=_REPAIR)(recover.recover)
app.command("merge", rich_help_panel=_REPAIR)(merge.merge)
app.command("runs", cls=RemoteCommand, rich_help_panel=_LOOK)(runs.runs)
app.command("show", cls=RemoteCommand, rich_help_panel=_LOOK)(show.show)
app.command("ask", cls=RemoteCommand, rich_help_panel=_LOOK)(ask.ask)
app.command("log", cls=RemoteCommand, rich_help_panel=_LOOK)(log.log)
app.command("compare", cls=RemoteCommand, rich_help_panel=_LOOK)(compare.compare)
app.add_typer(analyze.app, name="analyze", rich_help_panel=_LOOK)
app.add_typer(profile_commands.app, name="profile", rich_help_panel=_LOOK)
app.add_typer(data, name="data", rich_help_panel=_LOOK)
app.command("guide", rich_help_panel=_LOOK)(guide.guide)
app.command("rename", cls=RemoteCommand, rich_help_panel=_KEEP)(labels.rename)
app.command("note", cls=RemoteCommand, rich_help_panel=_KEEP)(labels.note)
app.command("du", cls=RemoteCommand, rich_help_panel=_KEEP)(housekeeping.du)
app.command("prune", cls=RemoteCommand, rich_help_panel=_KEEP)(housekeeping.prune)
app.command("rm", cls=RemoteCommand, rich_help_panel=_KEEP)(housekeeping.rm)
app.command("doctor", rich_help_panel=_MEASURE)(doctor.doctor)
app.add_typer(bench.app, name="bench", rich_help_panel=_MEASURE)


def _print_version(wanted: bool) -> None:
    if wanted:
        write_line(f"sf {__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version."
        ),
    ] = False,
    # `main` removes it from any position in the arguments; declared here for the help.
    debug: Annotated[
        bool, typer.Option("--debug", help="Print the traceback of an error.")
    ] = False,
) -> None:
    """Tune language models on one task after another and watch what is forgotten."""


def main() -> None:
    """Run the command line; every failure becomes one message and an exit code."""
    guard_streams()
    given = sys.argv[1:]
    ours, command = given[: (start := exec_command.command_start(given))], given[start:]
    debug = "--debug" in ours or bool(os.environ.get("SF_DEBUG"))
    arguments = [argument for argument in ours if argument != "--debug"] + command
    install_sigint()
    try:
        app(args=arguments, prog_name="sf")
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    except BrokenPipeError:
        # The reader of stdout is gone; print nothing more, not even at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except Exception as error:
        if debug:
            # Python must not print it: a traceback quotes text that may contain escape sequences.
            write_line(traceback.format_exc(), err=True)
            sys.exit(error.exit_code if isinstance(error, SfError) else 1)
        if was_interrupted():
            # A library turned the interrupt into another exception.
            sys.exit(INTERRUPTED)
        if isinstance(error, SfError):
            show_error(error)
            sys.exit(error.exit_code)
        write_line(
            f"sf: internal error: {type(error).__name__}: {error}\n"
            "  run it again with --debug for the traceback, and please report it",
            err=True,
        )
        sys.exit(1)


def show_error(error: SfError) -> None:
    """Print an error to stderr: what and where on the first line, the remedy below."""
    write_line(f"sf: {error}", err=True)
