"""The `sf` command: its sub-commands, and the one place where errors are shown."""

from __future__ import annotations

import os
import sys
import traceback
from typing import Annotated

import typer

from sf_tui import __version__
from sf_tui.cli import (
    act,
    analyze,
    attach,
    bench,
    data_biography,
    data_check,
    diagnose,
    doctor,
    guide,
    profile_commands,
    recover,
    resume,
    run,
    runs,
    show,
    stop,
)
from sf_tui.cli.interrupt import INTERRUPT, INTERRUPTED
from sf_tui.cli.output import write_line
from sf_tui.cli.usage_errors import PrintableGroup
from sf_tui.errors import SfError
from sf_tui.guarded_stream import guard_streams

app = typer.Typer(
    name="sf",
    cls=PrintableGroup,
    help="The operator's console for sequential fine-tuning of language models.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
data = typer.Typer(help="Look at data and make the built-in experiment's.", no_args_is_help=True)
data.command("check")(data_check.check)
data.command("biography")(data_biography.biography)

app.command("run")(run.run)
app.command("attach")(attach.attach)
app.command("watch")(attach.watch)
app.command("runs")(runs.runs)
app.command("show")(show.show)
app.command("act")(act.act)
app.command("stop")(stop.stop)
app.command("resume")(resume.resume)
app.command("diagnose")(diagnose.diagnose)
app.command("recover")(recover.recover)
app.add_typer(analyze.app, name="analyze")
app.add_typer(profile_commands.app, name="profile")
app.add_typer(data, name="data")
app.add_typer(bench.app, name="bench")
app.command("doctor")(doctor.doctor)
app.command("guide")(guide.guide)


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
    # Taken from the arguments by `main`, wherever it stands; here for the help.
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks.")] = False,
) -> None:
    """Tune language models on one task after another and watch what is forgotten."""


def main() -> None:
    """Run the command line; every failure becomes one message and an exit code."""
    guard_streams()
    debug = "--debug" in sys.argv[1:] or bool(os.environ.get("SF_DEBUG"))
    arguments = [argument for argument in sys.argv[1:] if argument != "--debug"]
    INTERRUPT.heed()
    try:
        app(args=arguments)
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    except BrokenPipeError:
        # Whoever read stdout has gone; nothing is left to say, not even at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except Exception as error:
        if debug:
            # By this path and not by Python's own: it quotes what a color may stand in.
            write_line(traceback.format_exc(), err=True)
            sys.exit(error.exit_code if isinstance(error, SfError) else 1)
        if INTERRUPT.came:
            # Whatever a library made of it.
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
    """Print an error to stderr: what and where in the first line, what to do below."""
    write_line(f"sf: {error}", err=True)
