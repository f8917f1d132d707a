"""`sf log`: a run's events as readable lines, once or as they come; or its worker's output."""

from __future__ import annotations

import re
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from sf_tui.cli.complete import complete_run, complete_stage
from sf_tui.cli.output import write_json, write_line
from sf_tui.errors import RunError, UsageError, did_you_mean

if TYPE_CHECKING:
    from sf_tui.cli.log_lines import LogLine
    from sf_tui.run.directory import RunDirectory

POLL_EVERY_S = 0.2
_CHUNK_BYTES = 1 << 16


def complete_kind(incomplete: str) -> list[tuple[str, str]]:
    """Return the kinds of lines, and `all`."""
    # Deferred: not needed for `sf --help`.
    from sf_tui.cli.log_lines import KINDS

    return [(kind, "") for kind in (*KINDS, "all") if kind.startswith(incomplete)]


def log(
    run: Annotated[
        str,
        typer.Argument(
            metavar="RUN",
            help="Read this run: an id, a name, a prefix, `last` or a directory.",
            autocompletion=complete_run,
        ),
    ],
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Print what comes, until the run ends.")
    ] = False,
    kind: Annotated[
        list[str] | None,
        typer.Option(
            "--kind",
            metavar="KINDS",
            help="Print these kinds, comma-separated, or all; default: all but probe, step, drift "
            "and, without -f, progress.",
            autocompletion=complete_kind,
        ),
    ] = None,
    grep: Annotated[
        str | None,
        typer.Option(
            "--grep", metavar="PATTERN", help="Print lines that match; case doesn't count."
        ),
    ] = None,
    stage: Annotated[
        str | None,
        typer.Option("--stage", help="Print events of this stage.", autocompletion=complete_stage),
    ] = None,
    since_step: Annotated[
        int | None,
        typer.Option("--since-step", metavar="N", min=0, help="Print events from this step on."),
    ] = None,
    lines: Annotated[
        int | None,
        typer.Option("--lines", "-n", min=0, help="Begin with the last N lines; default: all."),
    ] = None,
    worker: Annotated[
        bool, typer.Option("--worker", help="Print what a detached worker printed instead.")
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="Print whole events, one a line.")] = False,
) -> None:
    """Print what happened in a run, a line an event: time, stage@step, kind, text.

    In a pipe the four are separated by tabs and times are RFC 3339. With `--follow` it ends with
    the run. For example: `sf log last -f --kind alert,action`.
    """
    # Deferred: not needed for `sf --help`.
    from sf_tui.run.directory import find_run

    found = find_run(run)
    pattern = _pattern(grep)
    if worker:
        if kind or stage or since_step is not None or json:
            raise UsageError(
                "--worker prints plain text: --kind, --stage, --since-step and --json don't apply",
                "choose lines with --grep and -n",
            )
        _print_worker_log(found, pattern, lines, follow=follow)
        return
    wanted = _Wanted(_kinds(kind, follow=follow), pattern, stage, since_step)
    _print_events(found, wanted, lines, follow=follow, json=json)


def _pattern(grep: str | None) -> re.Pattern[str] | None:
    try:
        return None if grep is None else re.compile(grep, re.IGNORECASE)
    except re.error as error:
        raise UsageError(
            f"--grep {grep}: not a regular expression: {error}",
            "write a backslash before signs such as ( [ * + ? to find them as they are",
        ) from error


def _kinds(given: list[str] | None, *, follow: bool) -> tuple[str, ...]:
    # Deferred: not needed for `sf --help`.
    from sf_tui.cli.log_lines import KINDS, PROGRESS, USUAL

    names = [name.strip() for one in given or () for name in one.split(",") if name.strip()]
    if "all" in names:
        return KINDS
    for name in names:
        if name not in KINDS:
            raise UsageError(f"--kind: no kind '{name}'", did_you_mean(name, KINDS, "kinds"))
    # How far an operation was matters only while it runs.
    return tuple(names) or (*USUAL, *([PROGRESS] if follow else []))


@dataclass
class _Wanted:
    """Which lines are printed."""

    kinds: tuple[str, ...]
    pattern: re.Pattern[str] | None
    stage: str | None
    since_step: int | None
    reached: bool = False
    """Whether an event at `since_step` or later has come."""

    def fits(self, line: LogLine) -> bool:
        """Return whether a line is wanted; call it for each line in order."""
        if self.stage is not None and line.stage != self.stage:
            return False
        if self.since_step is not None:
            if line.step is None:
                # The end of the run and the like belong to the steps before them.
                if not self.reached:
                    return False
            elif line.step < self.since_step:
                return False
            else:
                self.reached = True
        return self.pattern is None or bool(self.pattern.search(f"{line.kind} {line.text}"))


def _print_events(
    run: RunDirectory, wanted: _Wanted, most: int | None, *, follow: bool, json: bool
) -> None:
    # Deferred: not needed for `sf --help`.
    from sf_tui.cli.columns import to_terminal
    from sf_tui.cli.log_lines import LogReader
    from sf_tui.run.events import EventTail
    from sf_tui.run.reading import describe_damage
    from sf_tui.vocabulary.events import event_object

    reader, tail = LogReader(wanted.kinds), EventTail(run.events)
    here = to_terminal()
    told = 0

    def show(line: LogLine) -> None:
        if json:
            write_json(event_object(line.event))
        else:
            write_line(_spelled(line, aligned=here))

    def poll() -> Iterator[LogLine]:
        for event in tail.iterate():
            for line in reader.read(event):
                if wanted.fits(line):
                    yield line

    def tell_damage() -> None:
        nonlocal told
        damage = describe_damage(run, tail)
        for problem in damage[told:]:
            write_line(f"damaged: {problem}", err=True)
        told = max(told, len(damage))

    try:
        _show_all(poll, show, run if follow else None, most, tell_damage)
    except OSError as error:
        raise RunError(
            f"{run.events}: can't be read: {error.strerror}", "check its owner and its disk"
        ) from error
    if not follow and not run.events.exists():
        write_line(f"damaged: {run.events}: missing", err=True)


def _show_all(
    poll: Callable[[], Iterable[LogLine]],
    show: Callable[[LogLine], None],
    followed: RunDirectory | None,
    most: int | None,
    tell_damage: Callable[[], None],
) -> None:
    """Print what is there, then what comes until a followed run ends."""
    ended = followed is None or _has_ended(followed)
    first = poll() if most is None else deque(poll(), maxlen=most)
    for line in first:
        show(line)
    tell_damage()
    while not ended:
        _flush()
        time.sleep(POLL_EVERY_S)
        # Asked before the events are read: a worker writes its last one before it ends.
        ended = followed is None or _has_ended(followed)
        for line in poll():
            show(line)
        tell_damage()
    if followed is not None:
        _tell_end(followed)


def _flush() -> None:
    # In a pipe, what has come must not wait for a full block.
    sys.stdout.flush()


def _has_ended(run: RunDirectory) -> bool:
    # Deferred: not needed for `sf --help`.
    from sf_tui.run.liveness import WorkerState, probe_liveness

    if not run.path.is_dir():
        return True
    return probe_liveness(run).state in (WorkerState.FINISHED, WorkerState.DEAD)


def _tell_end(run: RunDirectory) -> None:
    # Deferred: not needed for `sf --help`.
    from sf_tui.cli.target import run_name
    from sf_tui.run.hosted import way_on
    from sf_tui.run.liveness import WorkerState, probe_liveness

    name = run_name(run)
    if not run.path.is_dir():
        write_line(f"{name}: the run was deleted", err=True)
    elif probe_liveness(run).state is WorkerState.DEAD:
        write_line(f"{name}: its worker died; {way_on(run, name)}", err=True)


def _spelled(line: LogLine, *, aligned: bool) -> str:
    # Deferred: not needed for `sf --help`.
    from sf_tui.cli.show import clock
    from sf_tui.printable import printable

    text = printable(line.text, multiline=False)
    stage = printable(line.stage or "", multiline=False)
    at = stage if line.step is None else f"{stage}@{line.step}"
    if not aligned:
        text = text if line.level == "info" else f"{line.level}: {text}"
        time_ = printable(line.event.time, multiline=False)
        return f"{time_}\t{at}\t{line.kind}\t{text}"
    mark = {"warn": "! ", "error": "!! "}.get(line.level, "")
    return f"{clock(line.event.time)}  {at:<14} {line.kind:<10} {mark}{text}"


def _print_worker_log(
    run: RunDirectory, pattern: re.Pattern[str] | None, most: int | None, *, follow: bool
) -> None:
    # Deferred: not needed for `sf --help`.
    from sf_tui.run.durable import reason_of

    try:
        _show_worker_log(run, pattern, most, follow=follow)
    except FileNotFoundError as error:
        raise RunError(
            f"{run.path}: has no worker.log",
            "only a detached worker has one; a worker in the foreground prints to its terminal",
        ) from error
    except OSError as error:
        raise RunError(
            f"{run.worker_log}: can't be read: {reason_of(error)}", "check its owner"
        ) from error


def _show_worker_log(
    run: RunDirectory, pattern: re.Pattern[str] | None, most: int | None, *, follow: bool
) -> None:
    # Deferred: not needed for `sf --help`.
    from sf_tui.run.durable import open_regular

    with open_regular(run.worker_log) as file:
        rest = b""

        def poll(*, last: bool) -> Iterator[str]:
            nonlocal rest
            while chunk := file.read(_CHUNK_BYTES):
                *whole, rest = (rest + chunk).split(b"\n")
                for line in whole:
                    yield from _decoded(line)
            if last and rest:
                yield from _decoded(rest)
                rest = b""

        def fits(text: str) -> bool:
            return pattern is None or bool(pattern.search(text))

        ended = not follow or _has_ended(run)
        found = filter(fits, poll(last=ended))
        for text in found if most is None else deque(found, maxlen=most):
            write_line(text)
        while not ended:
            _flush()
            time.sleep(POLL_EVERY_S)
            ended = _has_ended(run)
            for text in filter(fits, poll(last=ended)):
                write_line(text)
    if follow:
        _tell_end(run)


def _decoded(line: bytes) -> list[str]:
    # A progress bar writes over its line by carriage returns; each state is a line of its own here.
    return [text for text in line.decode("utf-8", "replace").split("\r") if text] or [""]
