"""`sf compare`: runs side by side: scores with intervals, curves on one axis, profiles."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from sf_tui.cli.complete import complete_run
from sf_tui.cli.options import AsJsonObject
from sf_tui.cli.output import write_json, write_line
from sf_tui.errors import UsageError

if TYPE_CHECKING:
    from sf_tui.report.comparison import ComparedScore, Comparison

_ROWS_SHOWN = 12
"""Rows of a curve that are printed; `--json` has 200."""
_MOST_RUNS = 26


def compare(
    runs: Annotated[
        list[str],
        typer.Argument(
            metavar="RUN…",
            help="Compare these runs, the first is the reference: ids, names, `last`, directories.",
            autocompletion=complete_run,
        ),
    ],
    json: AsJsonObject = False,
) -> None:
    """Compare runs: scores at each stage's end, curves by step, and profile keys that differ.

    Each difference is to the first run, with its 95 % interval: paired (Newcombe's, and a bootstrap
    over the examples) where both runs kept the results of the same single examples, else the wider
    one of two independent measurements, with the reason. For example: `sf compare baseline last`.
    """
    # Deferred: pydantic and the profile package take a tenth of a second.
    from sf_tui.report.comparison import compare_runs
    from sf_tui.run.directory import find_run

    found = list({run.path: run for run in map(find_run, runs)}.values())
    if len(found) < 2:
        raise UsageError("one run alone can't be compared", "name two runs or more")
    if len(found) > _MOST_RUNS:
        raise UsageError(f"{len(found)} runs; at most {_MOST_RUNS}", "name fewer")
    comparison = compare_runs(found)
    for note in comparison.notes:
        write_line(note, err=True)
    if json:
        write_json(_as_json(comparison))
        return
    _print_scores(comparison)
    _print_curves(comparison)
    _print_profiles(comparison)


def _label(at: int) -> str:
    return chr(ord("A") + at)


def _as_json(comparison: Comparison) -> dict[str, Any]:
    # Deferred: not needed for `sf --help`.
    from dataclasses import asdict

    ids = [str(run.run.path) for run in comparison.runs]
    curves = comparison.curves()
    for curve in curves:
        for row in curve["rows"]:
            row["values"] = [row["values"][str(at)] for at in range(len(ids))]
    return {
        "runs": [
            {
                "run": run.run.id,
                "path": str(run.run.path),
                "profile": run.state.profile,
                "status": run.state.status,
                "damage": run.damage,
            }
            for run in comparison.runs
        ],
        "tasks": [
            {
                "stage": row.stage,
                "task": row.task,
                "metric": row.metric,
                "scores": [_score_object(score) for score in row.scores],
            }
            for row in comparison.tasks
        ],
        "curves": curves,
        "profiles": [asdict(one) for one in comparison.profiles],
        "notes": list(comparison.notes),
    }


def _score_object(compared: ComparedScore) -> dict[str, Any]:
    score = compared.score
    own = score.estimate if score else None
    return {
        "value": score.value if score else None,
        "examples": score.examples if score else None,
        "interval": list(own.interval) if own else None,
        "whole_split": score.full if score else None,
        "difference": compared.difference,
        "difference_interval": list(compared.estimate.interval) if compared.estimate else None,
        "paired": compared.paired,
        "lost": compared.lost,
        "gained": compared.gained,
        "p_value": compared.p_value,
        "bootstrap_interval": list(compared.bootstrap.interval) if compared.bootstrap else None,
        "why_unpaired": compared.why_unpaired or None,
    }


def _print_scores(comparison: Comparison) -> None:
    # Deferred: not needed for `sf --help`.
    from sf_tui.cli.columns import Column, write_columns
    from sf_tui.vocabulary.measured import format_score, signed

    for at, run in enumerate(comparison.runs):
        write_line(f"{_label(at)}  {run.run.id}  {run.state.profile}  {run.state.status}")
    write_line()
    labels = [_label(at) for at in range(len(comparison.runs))]
    header = ["stage", "task", "n", *labels, *(f"{label} − A" for label in labels[1:])]
    rows: list[list[str]] = []
    resampled: list[str] = []
    reasons: dict[str, list[str]] = {}
    for row in comparison.tasks:
        counts = [score.score.examples for score in row.scores if score.score]
        cells = [row.stage, row.task, "/".join(map(str, dict.fromkeys(counts))) or "–"]
        cells += [format_score(score.score) for score in row.scores]
        cells += [_difference_text(score) for score in row.scores[1:]]
        rows.append(cells)
        for label, score in zip(labels[1:], row.scores[1:], strict=True):
            where = f"{row.task} after {row.stage} ({label})"
            if score.bootstrap is not None:
                ends = " to ".join(signed(100 * end, 1) for end in score.bootstrap.interval)
                resampled.append(f"{where} {ends}")
            if score.why_unpaired:
                reasons.setdefault(score.why_unpaired, []).append(where)
    write_columns([Column(name) for name in header], rows)
    write_line()
    write_line("± and brackets: 95 % intervals; differences of shares in points")
    if resampled:
        write_line(f"paired bootstrap over the same examples: {', '.join(resampled)}")
    for reason, places in reasons.items():
        write_line(f"not paired: {', '.join(places)}: {reason}")


def _difference_text(compared: ComparedScore) -> str:
    # Deferred: not needed for `sf --help`.
    from sf_tui.vocabulary.measured import NO_VALUE, signed

    if compared.difference is None:
        return NO_VALUE
    estimate = compared.estimate
    if estimate is None:
        return signed(compared.difference, 3)
    points = [signed(100 * value, 1) for value in (estimate.value, *estimate.interval)]
    text = f"{points[0]} ({points[1]} to {points[2]})"
    if compared.p_value is None:
        return text
    p = "p < 0.001" if compared.p_value < 0.001 else f"p = {compared.p_value:.3f}"
    return f"{text} paired, {p}"


def _print_curves(comparison: Comparison) -> None:
    # Deferred: not needed for `sf --help`.
    from sf_tui.cli.columns import Column, write_columns
    from sf_tui.vocabulary.measured import NO_VALUE, format_number

    def cell(values: dict[str, float] | None) -> str:
        if values is None:
            return NO_VALUE
        low, high, last = (format_number(values[name]) for name in ("min", "max", "last"))
        return last if low == high else f"{last} ({low} to {high})"

    labels = [_label(at) for at in range(len(comparison.runs))]
    rows = [
        [
            *(curve["stage"], curve["series"], str(row["step"])),
            *(cell(row["values"][str(at)]) for at in range(len(labels))),
        ]
        for curve in comparison.curves(_ROWS_SHOWN)
        for row in curve["rows"]
    ]
    if rows:
        write_line()
        write_line("curves: last value up to a step since the row above (smallest to largest)")
        columns = [Column("stage"), Column("series"), Column("step", right=True)]
        write_columns([*columns, *map(Column, labels)], rows)


def _print_profiles(comparison: Comparison) -> None:
    # Deferred: not needed for `sf --help`.
    from sf_tui.cli.columns import Column, write_columns

    write_line()
    if not comparison.profiles:
        write_line("profiles: no key differs")
        return
    labels = [_label(at) for at in range(len(comparison.runs))]
    rows = [
        [one.key, *("–" if value is None else value for value in one.values)]
        for one in comparison.profiles
    ]
    write_columns([Column("profile key"), *(Column(label, cut=True) for label in labels)], rows)
