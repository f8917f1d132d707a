"""`sf exec`: run a training command with every transformers Trainer in it watched.

Checks --old and --profile before the command starts. Afterwards it reports on stderr which run it
was, or why nothing was watched, and ends as the command did.
"""

from __future__ import annotations

import json
import os
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sf_tui.cli.complete import complete_profile
from sf_tui.cli.output import write_line
from sf_tui.errors import SfError, UsageError
from sf_tui.home import expand_home, user_path

if TYPE_CHECKING:
    from sf_tui.cli.exec_record import ExecRecord

SETTINGS = {"allow_interspersed_args": False}
"""Options behind the first word of the command are the command's own."""


def exec_(
    command: Annotated[
        list[str],
        typer.Argument(help="Run this command; put -- before it."),
    ],
    old: Annotated[
        list[str] | None,
        typer.Option(
            "--old",
            metavar="FILE",
            help="Probe these old examples; repeatable; default: neighbor prompts.",
        ),
    ] = None,
    profile: Annotated[
        str | None,
        typer.Option(
            "--profile",
            metavar="FILE",
            help="Take rules, guards and settings from this profile.",
            autocompletion=complete_profile,
        ),
    ] = None,
    run_dir: Annotated[
        Path | None,
        typer.Option(
            "--run-dir",
            parser=user_path,
            metavar="DIR",
            help="Write the run to DIR; default: a new one in SF_HOME.",
        ),
    ] = None,
) -> None:
    """Run a training command of yours, unchanged, and watch its Trainer.

    For example: sf exec --old old.jsonl -- trl sft --config sft.yaml
    """
    # Deferred: not needed for `sf --help`.
    from sf_tui.cli.child_process import run_in_place
    from sf_tui.cli.exec_record import ExecRecord, command_words
    from sf_tui.masking import mask_argv

    old_files = [_absolute(file) for file in old or ()]
    profile_file = None if profile is None else _absolute(profile)
    if run_dir is not None:
        run_dir = run_dir.absolute()
        _check_run_dir(run_dir)
    if old_files or profile_file is not None:
        _in_another_process(lambda: _check_inputs(old_files, profile_file))
    record = ExecRecord.write(
        {
            "old": old_files,
            "profile": profile_file,
            "run_dir": None if run_dir is None else str(run_dir),
            "command": mask_argv(command_words(command)),
            "cwd": str(Path.cwd()),
        }
    )

    def report(code: int) -> None:
        for line in _report(record, code):
            write_line(line, err=True)
        record.remove()

    try:
        code = run_in_place(command, record.environment(os.environ), report)
    except BaseException:
        record.remove()
        raise
    raise typer.Exit(code)


def command_start(arguments: Sequence[str]) -> int:
    """Return where the command of `sf exec` begins in a command line; its length if nowhere.

    What follows belongs to the command, also a word that is an option of `sf`.
    """
    if "exec" not in arguments:
        return len(arguments)
    place = arguments.index("exec") + 1
    if any(not word.startswith("-") for word in arguments[: place - 1]):
        return len(arguments)
    while place < len(arguments) and arguments[place].startswith("-"):
        word = arguments[place]
        if word == "--":
            return place
        place += 2 if word in _WITH_VALUE else 1
    return min(place, len(arguments))


_WITH_VALUE = {"--old", "--profile", "--run-dir"}


def _report(record: ExecRecord, code: int) -> list[str]:
    """Return what is said once the command has ended: its run, or why there is none."""
    # Deferred: not needed for `sf --help`.
    from sf_tui.run.directory import runs_home

    run_dir = record.taken()
    if run_dir is not None:
        found = Path(run_dir)
        name = found.name if found.parent == runs_home() else run_dir
        stopped = record.failure()
        if stopped is None:
            return [f"sf: watched as {name}: `sf show {name}`"]
        return [f"sf: watched as {name}, but not to its end: {stopped[0]}", f"  `sf show {name}`"]
    why, what = record.why_not()
    ended = f" (it ended with exit code {code})" if code > 0 else ""
    return [f"sf: not watched: {why}{ended}", f"  {what}"]


def _absolute(name: str) -> str:
    """Return the absolute path of a file; the command may change its directory before it trains.

    What is no file is an id or a built-in profile's name, and stays as it is.
    """
    path = Path(expand_home(name))
    return str(path.absolute()) if path.exists() else name


def _check_run_dir(path: Path) -> None:
    # Deferred: not needed for `sf --help`.
    from sf_tui.run.directory import check_utf8

    check_utf8(path)
    if (path / "run.json").exists() or not os.path.lexists(path):
        return
    raise UsageError(
        f"{path}: exists and is not a run; it is never overwritten", "choose another --run-dir"
    )


def _check_inputs(old: Sequence[str], profile: str | None) -> None:
    """Read what the training will read, so that no mistake shows up minutes later.

    Raises:
        SfError: a file or the profile can't be used.
    """
    # Deferred: profiles and data take a quarter of a second to import.
    from sf_tui.integrations.host_profile import Settings, scored_rows

    for path in Settings.read(old or None, profile).old.values():
        scored_rows(path)


def _in_another_process(check: Callable[[], None]) -> None:
    """Run a check in a forked process.

    This process waits for a training of days: it shall have neither the memory of what the check
    imports nor its threads, to which signals could be delivered.

    Raises:
        SfError: what the check raised.
    """
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        found: dict[str, Any] = {}
        try:
            check()
        except SfError as error:
            found = {"message": error.message, "hint": error.hint, "code": error.exit_code}
        except BaseException:
            found = {"message": traceback.format_exc().strip(), "hint": "", "code": 1}
        finally:
            os.write(writing, json.dumps(found).encode())
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as stream:
        text = stream.read()
    os.waitpid(pid, 0)
    found = json.loads(text) if text else {"message": "the check was killed", "hint": "", "code": 1}
    if found:
        raised = SfError(found["message"], found["hint"])
        raised.exit_code = found["code"]
        raise raised
