"""`sf sweep`: one run for each combination of profile values, and old task against new."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sf_tui.cli.complete import complete_profile
from sf_tui.cli.options import AsJsonObject, Seed
from sf_tui.cli.output import INTERRUPTED, write_json, write_line
from sf_tui.errors import UsageError
from sf_tui.home import user_path
from sf_tui.vocabulary.sizes import counted

if TYPE_CHECKING:
    from sf_tui.cli.sweep_plot import Tradeoff
    from sf_tui.cli.sweep_trials import Sweep
    from sf_tui.report.sweep import TrialResult

_STOPPED = 5
_PLOT_LINES = 20


def sweep(
    profile: Annotated[
        str,
        typer.Argument(
            help="Run variants of this built-in profile or TOML file.",
            autocompletion=complete_profile,
        ),
    ],
    set_: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="TABLE.KEY=VALUES",
            help="Try these values: `0..12`, `1e-5,3e-5`, or one value for all; repeatable.",
        ),
    ] = None,
    seed: Seed = None,
    jobs: Annotated[
        int | None,
        typer.Option(
            "--jobs", min=1, help="Train this many at once; default: one on each GPU, else one."
        ),
    ] = None,
    svg: Annotated[
        Path | None,
        typer.Option(
            "--svg", parser=user_path, metavar="FILE", help="Also write the plot to FILE as SVG."
        ),
    ] = None,
    json: AsJsonObject = False,
) -> None:
    """Train every combination of values, and show what the new task costs the old ones.

    Each trial is an ordinary run, tagged with the sweep: `sf runs --tag SWEEP`. The same command
    again keeps the trials that are done and resumes those that are not. For example:
    `sf sweep mine.toml --set train.strategy=freeze --set train.freeze.layers=0..12`.

    Exits with 0 if every trial was trained to its end, 1 if one failed, 5 if it was stopped.
    """
    # Deferred: pydantic and the profile package take a tenth of a second, optuna half a second.
    from sf_tui.cli.launching import start_detached
    from sf_tui.cli.ranks import processes_of
    from sf_tui.cli.sweep_trials import Stop, load_optuna, run_trials, visible_devices

    planned = _plan(profile, set_ or (), seed)
    load_optuna()
    processes = max(map(processes_of, planned.profiles))
    # Trials that train in several processes spread over the devices themselves.
    devices = visible_devices(os.environ) if processes == 1 else [None]
    start = partial(start_detached, processes=processes)
    done = sum(trial.done for trial in planned.read())
    write_line(
        f"{planned.id}: {counted(len(planned.profiles), 'trial')}, {done} done; "
        f"`sf runs --tag {planned.id}` lists them",
        err=True,
    )
    stop = Stop()
    with stop.on_signals():
        front = run_trials(planned, devices, jobs or len(devices), stop, _narrate, sys.argv, start)
    results = planned.read()
    tradeoff = _tradeoff(planned, results, front)
    if svg is not None:
        _write_svg(svg, tradeoff)
    if json:
        write_json(_as_json(planned, results, front))
    else:
        _print(planned, results, front, tradeoff)
    if stop.signal is not None:
        write_line("stopped; the same command continues the sweep", err=True)
        raise typer.Exit(INTERRUPTED if stop.signal == signal.SIGINT else _STOPPED)
    raise typer.Exit(0 if all(result.done for result in results) else 1)


def _plan(profile: str, texts: Sequence[str], seed: int | None) -> Sweep:
    """Return the sweep, with every trial's profile checked before the first one starts."""
    # Deferred: pydantic and the profile package take a tenth of a second.
    from sf_tui.cli.sweep_trials import Sweep
    from sf_tui.errors import ProfileError
    from sf_tui.profile import load_profile
    from sf_tui.profile.grid import parse_grid
    from sf_tui.report.sweep import tasks_of

    grid = parse_grid(texts)
    profiles = []
    for at, point in enumerate(grid.points(), start=1):
        try:
            profiles.append(load_profile(profile, grid.overrides(point), seed, files=True))
        except ProfileError as error:
            values = ", ".join(f"{key}={value}" for key, value in point.items())
            raise ProfileError(f"trial {at} ({values}): {error.message}", error.hint) from error
    tasks = {tasks_of(one) for one in profiles}
    if len(tasks) > 1:
        raise UsageError("the trials train different tasks", "give all of them the same tasks")
    return Sweep(grid, profiles, tasks.pop())


def _values_text(result: TrialResult) -> str:
    return ", ".join(f"{key} = {value}" for key, value in result.values.items())


def _narrate(result: TrialResult) -> None:
    # Deferred: not needed for `sf --help`.
    from sf_tui.vocabulary.measured import format_score

    end = result.state if result.exit_code is not None else "training"
    if result.scores is not None:
        end += "".join(f", {task} {format_score(one)}" for task, one in result.scores.items())
    elif result.reason:
        end += f": {result.reason}"
    write_line(f"trial {result.number} ({_values_text(result)}): {end}", err=True)


def _print(
    planned: Sweep, results: Sequence[TrialResult], front: Sequence[int], tradeoff: Tradeoff
) -> None:
    # Deferred: not needed for `sf --help`.
    import shutil

    from sf_tui.cli.columns import Column, to_terminal, write_columns
    from sf_tui.cli.sweep_plot import draw_text
    from sf_tui.vocabulary.measured import NO_VALUE, format_score

    tasks = planned.tasks.names
    columns = [Column("trial", right=True), *map(Column, planned.grid.axes), *map(Column, tasks)]
    rows = []
    for result in results:
        scores = result.scores or {}
        rows.append(
            [
                str(result.number),
                *result.values.values(),
                *(format_score(scores[name]) if name in scores else NO_VALUE for name in tasks),
                "*" if result.number in front else "",
                result.state or "not begun",
                result.reason or "",
            ]
        )
    write_columns([*columns, Column("front"), Column("state"), Column("why", cut=True)], rows)
    if not to_terminal():
        return
    if tradeoff.marks:
        write_line()
        width = min(shutil.get_terminal_size().columns, 100)
        for line in draw_text(tradeoff, width, _PLOT_LINES):
            write_line(line)
    write_line()
    write_line("* the front: no other trial is as good in every task and better in one")


def _tradeoff(planned: Sweep, results: Sequence[TrialResult], front: Sequence[int]) -> Tradeoff:
    # Deferred: not needed for `sf --help`.
    from sf_tui.cli.sweep_plot import Mark, Tradeoff

    new = planned.tasks.new
    marks, shown = [], planned.tasks.old
    for result in results:
        if result.scores is None or not planned.tasks.old:
            continue
        first = result.scores[planned.tasks.old[0]].metric
        # Different metrics have no mean; the table has them all.
        shown = tuple(name for name in planned.tasks.old if result.scores[name].metric == first)
        old = sum(result.scores[name].value for name in shown) / len(shown)
        marks.append(Mark(result.number, result.scores[new].value, old, result.number in front))
    mean = "mean of " if len(shown) > 1 else ""
    return Tradeoff(planned.id, f"new task: {new}", f"old: {mean}{', '.join(shown)}", marks)


def _write_svg(path: Path, tradeoff: Tradeoff) -> None:
    # Deferred: not needed for `sf --help`.
    from sf_tui.cli.sweep_plot import draw_svg
    from sf_tui.errors import RunError
    from sf_tui.run.durable import reason_of, replace_file

    if not tradeoff.marks:
        write_line(f"{path}: not written: no trial with an old task is done", err=True)
        return
    try:
        replace_file(path, draw_svg(tradeoff).encode())
    except OSError as error:
        raise RunError(
            f"{path}: can't be written: {reason_of(error)}",
            "the trials are kept; give another --svg",
        ) from error


def _as_json(
    planned: Sweep, results: Sequence[TrialResult], front: Sequence[int]
) -> dict[str, Any]:
    return {
        "sweep": planned.id,
        "profile": planned.profiles[0].name,
        "axes": {key: list(values) for key, values in planned.grid.axes.items()},
        "old": list(planned.tasks.old),
        "new": planned.tasks.new,
        "trials": [
            {
                "trial": result.number,
                "values": dict(result.values),
                "run": result.run.id,
                "path": str(result.run.path),
                "state": result.state or None,
                "exit_code": result.exit_code,
                "reason": result.reason or None,
                "front": result.number in front,
                "scores": {
                    name: {
                        "metric": score.metric.name,
                        "value": score.value,
                        "examples": score.examples,
                        "interval": list(score.estimate.interval) if score.estimate else None,
                    }
                    for name, score in (result.scores or {}).items()
                },
            }
            for result in results
        ],
    }
