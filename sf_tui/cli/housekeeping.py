"""`sf rm`, `sf prune` and `sf du`: what runs occupy on the disk, and how it is freed."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sf_tui.cli.complete import complete_run
from sf_tui.cli.options import AsJsonList
from sf_tui.cli.output import write_json, write_line
from sf_tui.errors import RunBusyError, SfError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sf_tui.run.directory import RunDirectory
    from sf_tui.run.storage import Prunable


def rm(
    runs: Annotated[
        list[str],
        typer.Argument(
            metavar="RUN…",
            help="Delete these runs: ids, names, prefixes, `last` or directories.",
            autocompletion=complete_run,
        ),
    ],
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Don't ask.")] = False,
) -> None:
    """Delete runs for good: checkpoints, model and logs.

    Never deletes a run that has a worker. It asks on a terminal; elsewhere it needs `--yes`. For
    example: `sf rm 20261129-1801 baseline`.
    """
    # Deferred: not needed for `sf --help`.
    from sf_tui.cli.confirm import confirmed
    from sf_tui.run.directory import find_run
    from sf_tui.run.removal import check_removable, clear_removed, foreign_entries, remove_run
    from sf_tui.run.storage import size_of
    from sf_tui.vocabulary.sizes import format_bytes

    # All are found and checked before one is deleted: `last` means the same run for each.
    found = list({run.path: run for run in map(find_run, runs)}.values())
    for run in found:
        check_removable(run)
    sizes = {run.path: size_of(run.path) for run in found}
    for run in found:
        foreign = foreign_entries(run)
        more = f"; also files that sf did not write: {', '.join(foreign[:5])}" if foreign else ""
        others = f" and {len(foreign) - 5} more" if len(foreign) > 5 else ""
        write_line(f"{run.path}  {format_bytes(sizes[run.path])}{more}{others}", err=True)
    what = "this run" if len(found) == 1 else f"these {len(found)} runs"
    if not confirmed(f"delete {what} for good", yes=yes, command="sf rm"):
        write_line("nothing was deleted", err=True)
        raise typer.Exit(1)
    for folder in {run.path.parent for run in found}:
        clear_removed(folder)
    for run in found:
        remove_run(run)
        write_line(f"deleted {run.id}: {format_bytes(sizes[run.path])} freed", err=True)


@dataclass
class Plan:
    """What is deleted of one run.

    Attributes:
        run: the run.
        folders: the folders, checkpoints first.
        skipped: why nothing is deleted; empty otherwise.
    """

    run: RunDirectory
    folders: list[Prunable] = field(default_factory=list)
    skipped: str = ""

    @property
    def bytes(self) -> int:
        """Bytes that it frees."""
        return sum(folder.bytes for folder in self.folders)

    def as_json(self) -> dict[str, Any]:
        """Return the row of `--json`."""
        return {
            "run": self.run.id,
            "path": str(self.run.path),
            "bytes": self.bytes,
            "skipped": self.skipped or None,
            "folders": [
                {
                    "path": str(folder.path.relative_to(self.run.path)),
                    "bytes": folder.bytes,
                    "stage": folder.stage,
                    "step": folder.step,
                }
                for folder in self.folders
            ],
        }


def prune(
    runs: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[RUN…]",
            help="Prune these runs; default: all that have ended.",
            autocompletion=complete_run,
        ),
    ] = None,
    yes: Annotated[
        bool, typer.Option("--yes", "-y", help="Delete; without it, only show what would be.")
    ] = False,
    keep: Annotated[
        int,
        typer.Option(
            "--keep", min=0, help="Keep this many newest intermediate checkpoints a stage."
        ),
    ] = 0,
    older_than: Annotated[
        str | None,
        typer.Option("--older-than", metavar="AGE", help="Only runs that ended this long ago: 7d."),
    ] = None,
    asked_for: Annotated[
        bool,
        typer.Option("--asked-for", help="Also checkpoints that an operator or a rule asked for."),
    ] = False,
    json: AsJsonList = False,
) -> None:
    """Delete the intermediate checkpoints and caches of runs that have ended.

    Shows what it would free; `--yes` does it. A stage's first and last checkpoint, `model/` and
    the logs stay, so show, diagnose, recover and resume work as before; only rollbacks to the
    deleted checkpoints are gone. For example: `sf prune --older-than 7d --yes`.
    """
    # Deferred: not needed for `sf --help`.
    from sf_tui.cli.periods import age_seconds
    from sf_tui.run.directory import find_run, list_runs, runs_home
    from sf_tui.run.removal import clear_removed

    least_age_s = age_seconds(older_than, "--older-than") if older_than else 0.0
    found = [find_run(run) for run in runs] if runs else list_runs()
    plans = [
        _plan(run, keep=keep, asked_for=asked_for, least_age_s=least_age_s)
        for run in {run.path: run for run in found}.values()
    ]
    failed = False
    if yes:
        clear_removed(runs_home())
        failed = not all([_carry_out(plan) for plan in plans if plan.folders])
    if json:
        write_json([plan.as_json() for plan in plans if runs or plan.folders])
    else:
        _print_plans(plans, named=bool(runs), done=yes)
    if failed:
        raise typer.Exit(1)


def _plan(run: RunDirectory, *, keep: int, asked_for: bool, least_age_s: float) -> Plan:
    # Deferred: not needed for `sf --help`.
    from sf_tui.run.hosted import way_on
    from sf_tui.run.liveness import WorkerState, end_status, probe_liveness
    from sf_tui.run.next_steps import is_complete
    from sf_tui.run.reading import read_state
    from sf_tui.run.storage import prunable_of

    live = probe_liveness(run).state
    if live is not WorkerState.FINISHED:
        why = {
            WorkerState.DEAD: f"its worker died; {way_on(run)}",
            WorkerState.STARTING: "it has not begun",
        }
        return Plan(run, skipped=why.get(live, "it is running"))
    if run.checkpoints.is_symlink():
        return Plan(run, skipped="its checkpoints/ is a link")
    try:
        age_s = time.time() - run.events.stat().st_mtime
    except OSError as error:
        return Plan(run, skipped=f"its log can't be read: {error.strerror}")
    if age_s < least_age_s:
        return Plan(run, skipped="it ended later")
    state, damage = read_state(run)
    if damage:
        # Which checkpoint is the last one can't be told from a damaged log.
        return Plan(run, skipped=f"it is damaged: {damage[0]}")
    folders = prunable_of(
        run, state, keep=keep, asked_for=asked_for, caches=is_complete(end_status(run))
    )
    return Plan(run, folders)


def _carry_out(plan: Plan) -> bool:
    """Delete what a plan names; return whether all of it is gone."""
    # Deferred: not needed for `sf --help`.
    from sf_tui.run.durable import reason_of
    from sf_tui.run.removal import check_idle, lock_to_delete
    from sf_tui.run.storage import delete

    try:
        check_idle(plan.run)
        with lock_to_delete(plan.run):
            for folder in plan.folders:
                delete(folder)
    except RunBusyError as error:
        plan.skipped = error.message
    except SfError as error:
        plan.skipped = str(error)
    except OSError as error:
        plan.skipped = f"{error.filename or plan.run.path}: {reason_of(error)}"
    if plan.skipped:
        # What was deleted before the failure stays deleted.
        plan.folders = [folder for folder in plan.folders if not os.path.lexists(folder.path)]
        write_line(f"{plan.run.id}: {plan.skipped}", err=True)
    return not plan.skipped


def _print_plans(plans: Sequence[Plan], *, named: bool, done: bool) -> None:
    # Deferred: not needed for `sf --help`.
    from sf_tui.cli.columns import Column, to_terminal, write_columns
    from sf_tui.vocabulary.sizes import format_bytes

    for plan in plans:
        if named and plan.skipped and not done:
            write_line(f"{plan.run.id}: nothing to prune: {plan.skipped}", err=True)
    rows = []
    for plan in plans:
        for folder in plan.folders:
            size = format_bytes(folder.bytes) if to_terminal() else str(folder.bytes)
            path = str(folder.path.relative_to(plan.run.path))
            rows.append((plan.run.id, path, size))
    if rows or not to_terminal():
        columns = [Column("run"), Column("folder"), Column("size", right=True)]
        write_columns(columns, rows)
    total = format_bytes(sum(plan.bytes for plan in plans))
    checkpoints = [one for plan in plans for one in plan.folders if one.step is not None]
    if not rows:
        write_line("nothing to prune", err=True)
        return
    write_line(f"{'freed' if done else 'would free'} {total}", err=True)
    if checkpoints:
        gone = "are gone" if done else "would be gone"
        write_line(
            f"{len(checkpoints)} rollback targets {gone}; each stage's first and last stay",
            err=True,
        )
    if not done:
        write_line("nothing was deleted; add --yes to do it", err=True)


def du(
    runs: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[RUN…]", help="Measure these runs; default: all.", autocompletion=complete_run
        ),
    ] = None,
    json: AsJsonList = False,
) -> None:
    """Print what runs occupy on the disk, the largest first.

    `prunable` is what `sf prune` would free. In a pipe sizes are in bytes. For example:
    `sf du | sort -t "$(printf '\\t')" -k2 -n`.
    """
    # Deferred: not needed for `sf --help`.
    from dataclasses import asdict

    from sf_tui.cli.columns import Column, to_terminal, write_columns
    from sf_tui.run.directory import find_run, list_runs
    from sf_tui.run.storage import usage_of
    from sf_tui.vocabulary.sizes import format_bytes

    found = [find_run(run) for run in runs] if runs else list_runs()
    rows = []
    for run in {run.path: run for run in found}.values():
        usage = usage_of(run)
        plan = _plan(run, keep=0, asked_for=False, least_age_s=0.0)
        row = {"run": run.id, "path": str(run.path), "total": usage.total, **asdict(usage)}
        rows.append(row | {"prunable": plan.bytes})
    rows.sort(key=lambda row: (-row["total"], row["run"]))
    if json:
        write_json(rows)
        return
    here = to_terminal()
    names = ("total", "model", "checkpoints", "count", "neighbors", "logs", "other", "prunable")

    def cell(row: dict[str, Any], name: str) -> str:
        return format_bytes(row[name]) if here and name != "count" else str(row[name])

    lines = [(row["run"], *(cell(row, name) for name in names)) for row in rows]
    if here and len(rows) > 1:
        sums = {name: sum(row[name] for row in rows) for name in names}
        lines.append((f"{len(rows)} runs", *(cell(sums, name) for name in names)))
    write_columns([Column("run"), *(Column(name, right=True) for name in names)], lines)
