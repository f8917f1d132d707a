"""`sf runs`: the runs on this machine, as a table, tab-separated, or JSON."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sf_tui.cli.complete import one_of
from sf_tui.cli.options import AsJsonList
from sf_tui.cli.output import write_json, write_line
from sf_tui.errors import UsageError, did_you_mean

if TYPE_CHECKING:
    from datetime import datetime

    from sf_tui.run.directory import RunDirectory

Row = dict[str, Any]
LISTED = 20
"""Runs that a terminal shows without `--limit`."""


def _text(value: object) -> str:
    return "" if value is None else str(value)


def _step(row: Row) -> str:
    return f"{row['step']}/{row['steps']}" if row["stage"] else ""


def _created(row: Row) -> str:
    # Deferred: not needed for `sf --help`.
    from sf_tui.cli.show import clock

    return clock(_text(row["created"]))


def _size(row: Row) -> str:
    # Deferred: not needed for `sf --help`.
    from sf_tui.vocabulary.sizes import format_bytes

    return format_bytes(row["size"])


@dataclass(frozen=True)
class _Shape:
    """How a column is written.

    Attributes:
        plain: its cell for other programs.
        shown: its cell on a terminal; None: the same.
        right: aligned to the right.
        cut: may be cut on a narrow terminal.
    """

    plain: Callable[[Row], str]
    shown: Callable[[Row], str] | None = None
    right: bool = False
    cut: bool = False


def _of(key: str, *, right: bool = False, cut: bool = False) -> _Shape:
    return _Shape(lambda row: _text(row[key]), right=right, cut=cut)


COLUMNS: dict[str, _Shape] = {
    "run": _of("run"),
    "name": _of("name"),
    "state": _of("state"),
    "stage": _of("stage"),
    "step": _Shape(lambda row: _text(row["step"]), _step),
    "steps": _of("steps", right=True),
    "old": _of("old", cut=True),
    "new": _of("new", cut=True),
    "profile": _of("profile"),
    "tags": _Shape(lambda row: ",".join(row["tags"]), cut=True),
    "note": _of("note", cut=True),
    "created": _Shape(lambda row: _text(row["created"]), _created),
    "exit": _of("exit_code", right=True),
    "size": _Shape(lambda row: _text(row["size"]), _size, right=True),
    "path": _of("path"),
}
"""Columns by name, in the order of the help text."""
_ON_TERMINAL = ("run", "name", "state", "stage", "step", "old", "new")
_PIPED = (
    *("run", "name", "state", "stage", "step", "steps", "old", "new", "profile", "tags"),
    *("created", "exit", "path"),
)


def runs(
    where: Annotated[
        str | None,
        typer.Argument(metavar="[HOST:]", help="List the runs of this host, over ssh."),
    ] = None,
    columns: Annotated[
        str | None,
        typer.Option(
            "--columns",
            metavar="NAMES",
            help=f"Print these columns, comma-separated: {', '.join(COLUMNS)}.",
            autocompletion=one_of(*COLUMNS),
        ),
    ] = None,
    state: Annotated[
        list[str] | None,
        typer.Option(
            "--state",
            help="List runs in this state, such as running or failed; repeatable.",
            autocompletion=one_of(
                *("starting", "running", "paused", "silent", "dead", "completed"),
                *("guard_failed", "stopped", "failed", "damaged"),
            ),
        ),
    ] = None,
    profile: Annotated[
        str | None, typer.Option("--profile", help="List runs of the profile with this name.")
    ] = None,
    tag: Annotated[
        list[str] | None,
        typer.Option("--tag", help="List runs with this tag; repeatable, all must fit."),
    ] = None,
    since: Annotated[
        str | None,
        typer.Option("--since", metavar="AGE|DATE", help="List runs created since, such as 7d."),
    ] = None,
    limit: Annotated[
        int | None,
        typer.Option(
            "--limit",
            min=0,
            help=f"List at most this many; 0: all; default: {LISTED} on a terminal, else all.",
        ),
    ] = None,
    json: AsJsonList = False,
) -> None:
    """List runs with their state, stage and accuracies, newest first.

    In a pipe the rows are tab-separated below a header line, and no row is left out:
    `sf runs --state failed --columns run | tail -n +2`.
    """
    # Deferred: not needed for `sf --help`.
    from datetime import UTC, datetime

    from sf_tui.cli.columns import Column, to_terminal, write_columns
    from sf_tui.cli.periods import moment
    from sf_tui.run.directory import list_runs, runs_home

    if where is not None:
        raise UsageError(
            f"'{where}' is not a host", f"`sf runs {where}:` lists a host's runs; RUN: `sf show`"
        )
    names = _chosen(columns)
    begun = moment(since, "--since", datetime.now(UTC)) if since else None
    here = to_terminal() and not json
    most = (LISTED if here else 0) if limit is None else limit
    found = list_runs()
    fitting = _rows(found, set(state or ()), profile, set(tag or ()), begun)
    rows: list[Row] = []
    more = False
    for row in fitting:
        if most and len(rows) == most:
            more = True
            break
        rows.append(row)
    if json or (names and "size" in names):
        _add_sizes(rows)
    if json:
        write_json(rows)
        return
    if not rows:
        none = f"no run yet in {runs_home()}" if not found else "no run fits"
        write_line(none, err=True)
    shown = names or list(_ON_TERMINAL if here else _PIPED)
    if names is None and here and not any(row["name"] for row in rows):
        shown.remove("name")
    shapes = [COLUMNS[name] for name in shown]
    if rows or not here:
        write_columns(
            [Column(n, s.right, s.cut) for n, s in zip(shown, shapes, strict=True)],
            [[(s.shown if here and s.shown else s.plain)(row) for s in shapes] for row in rows],
        )
    for row in rows:
        for problem in row["damage"][:1]:
            others = len(row["damage"]) - 1
            write_line(f"damaged: {problem}{f' (and {others} more)' if others else ''}", err=True)
    if more:
        write_line(f"more runs: `sf runs --limit 0` lists all {len(found)}", err=True)


def _chosen(columns: str | None) -> list[str] | None:
    if columns is None:
        return None
    names = [name.strip() for name in columns.split(",") if name.strip()]
    for name in names:
        if name not in COLUMNS:
            raise UsageError(
                f"--columns: no column '{name}'", did_you_mean(name, COLUMNS, "columns")
            )
    if not names:
        raise UsageError("--columns names no column", f"choose from {', '.join(COLUMNS)}")
    return names


def _rows(
    found: list[RunDirectory],
    states: set[str],
    profile: str | None,
    tags: set[str],
    begun: datetime | None,
) -> Iterator[Row]:
    """Yield the rows that fit, reading a log only if its run can."""
    # Deferred: not needed for `sf --help`.
    from sf_tui.cli.show import run_row
    from sf_tui.run.labels import read_labels

    for run in found:
        if tags and not tags <= set(read_labels(run.path)[0].tags):
            continue
        if begun is not None and not _is_since(run, begun):
            continue
        row = run_row(run)
        if states and row["state"] not in states and row["worker"] not in states:
            continue
        if profile is not None and row["profile"] != profile:
            continue
        yield row


def _is_since(run: RunDirectory, begun: datetime) -> bool:
    # Deferred: not needed for `sf --help`.
    from sf_tui.errors import RunError

    try:
        created = run.created
    except RunError:
        return False
    return created is not None and created >= begun


def _add_sizes(rows: list[Row]) -> None:
    # Deferred: not needed for `sf --help`.
    from pathlib import Path

    from sf_tui.run.storage import size_of

    for row in rows:
        row["size"] = size_of(Path(row["path"]))
