"""`sf bench`: cost of probes, speed, memory, accuracy of the verdict, comparison of repairs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sf_tui.cli.options import AsJsonObject
from sf_tui.cli.output import drawing_console, write_json, write_line
from sf_tui.home import user_path

if TYPE_CHECKING:
    from sf_tui.bench.harness import BenchReport

app = typer.Typer(
    help="Measure cost, speed, memory, the verdict's accuracy and repairs.",
    no_args_is_help=True,
)

_Model = Annotated[
    str,
    typer.Option("--model", help="Measure on starter:NAME, a directory, a .gguf or random:SHAPE."),
]
_Steps = Annotated[
    int | None,
    typer.Option("--steps", min=1, help="Set the optimizer steps; default: chosen for the model."),
]
_BatchSize = Annotated[
    int | None,
    typer.Option(
        "--batch-size", min=1, help="Set the examples per step; default: 48 (starter) or 8."
    ),
]
_Threads = Annotated[
    int, typer.Option("--threads", min=1, help="Use this many CPU threads, pinned.")
]

STARTER = "starter:biography-mini"


@app.command()
def overhead(
    model: _Model = STARTER,
    steps: _Steps = None,
    batch_size: _BatchSize = None,
    threads: _Threads = 1,
    json: AsJsonObject = False,
) -> None:
    """Measure the cost of probes and of an anchor, and probes against `generate`.

    A run with default probes and the same run without them take one step each in turn, and so do
    anchored and plain steps. Then a teacher-forced pass and batched greedy `generate` answer the
    same examples.
    """
    _measure("overhead", model, steps, batch_size, threads, json)


@app.command()
def hosted(
    model: _Model = STARTER,
    steps: _Steps = None,
    batch_size: _BatchSize = None,
    threads: _Threads = 1,
    json: AsJsonObject = False,
) -> None:
    """Measure the time that `SfCallback` adds to transformers' Trainer.

    A watched Trainer and a plain one take one step each in turn, with all hooks and probes; then
    again with the sides exchanged.
    """
    _measure("hosted", model, steps, batch_size, threads, json)


@app.command()
def throughput(
    model: _Model = STARTER,
    steps: _Steps = None,
    batch_size: _BatchSize = None,
    threads: _Threads = 1,
    json: AsJsonObject = False,
) -> None:
    """Measure tokens per second against transformers' Trainer, and the gain of a freeze."""
    _measure("throughput", model, steps, batch_size, threads, json)


@app.command()
def memory(
    model: _Model = STARTER,
    steps: _Steps = None,
    batch_size: _BatchSize = None,
    threads: _Threads = 1,
    json: AsJsonObject = False,
) -> None:
    """Measure peak memory against transformers' Trainer: in training, and in a recovery test."""
    # Deferred: not needed for `sf --help`.
    from sf_tui.bench.memory import measure_memory

    _show(measure_memory(_absolute(model), steps, batch_size, threads), json)


_Out = Annotated[
    Path | None,
    typer.Option(
        "--out",
        parser=user_path,
        metavar="FILE",
        help="Add to this JSONL file and skip its cases; default: in SF_HOME.",
    ),
]
_Seeds = Annotated[int, typer.Option("--seeds", min=1, help="Set the number of seeds.")]


@app.command()
def verdict(
    out: _Out = None,
    seeds: _Seeds = 3,
    case: Annotated[
        list[str] | None,
        typer.Option("--case", help="Run only this case; repeatable; default: all."),
    ] = None,
    threads: _Threads = 1,
    json: AsJsonObject = False,
) -> None:
    """Score the verdict of `sf diagnose` on cases whose truth is known by construction.

    75 damaged models of four kinds; the paper's own recovery confirms each label. Takes about
    90 minutes on one core; an interrupted call continues when it is repeated.
    """
    arguments = {"seeds": seeds, "threads": threads, "cases": case or None}
    _measure_into("verdict", out, arguments, threads, json)


@app.command()
def repair(
    out: _Out = None,
    seeds: _Seeds = 2,
    steps: Annotated[
        int, typer.Option("--steps", min=25, help="Set the optimizer steps of each repair.")
    ] = 150,
    threads: _Threads = 1,
    json: AsJsonObject = False,
) -> None:
    """Measure what brings an old task back: examples, neighbors, and edits of the weights.

    Old and new accuracy for 0, 10, 100, 1000 and all old examples, with neighbors and without,
    and for every edit without data. An interrupted call continues when it is repeated.
    """
    arguments = {"seeds": seeds, "threads": threads, "steps": steps}
    _measure_into("repair", out, arguments, threads, json)


def _measure_into(
    part: str, out: Path | None, arguments: dict[str, Any], threads: int, json: bool
) -> None:
    # Deferred: not needed for `sf --help`.
    from sf_tui.bench.harness import BenchReport, run_part
    from sf_tui.run.directory import runs_home

    file = (out or runs_home().parent / "bench" / f"{part}.jsonl").absolute()
    file.parent.mkdir(parents=True, exist_ok=True)
    write_line(f"sf bench {part}: cases are added to {file}", err=True)
    found = run_part(part, {"out": str(file), **arguments}, threads)
    _show(BenchReport.from_plain(found), json)


def _measure(
    part: str, model: str, steps: int | None, batch_size: int | None, threads: int, json: bool
) -> None:
    # Deferred: not needed for `sf --help`.
    from sf_tui.bench.harness import BenchReport, run_part

    arguments = {
        "model": _absolute(model),
        "steps": steps,
        "batch_size": batch_size,
        "threads": threads,
    }
    found = run_part(part, arguments, threads, steady_memory=part == "hosted")
    _show(BenchReport.from_plain(found), json)


def _absolute(model: str) -> str:
    """Return a local model as an absolute path."""
    path = user_path(model)
    return str(path.absolute()) if path.exists() else model


def _show(report: BenchReport, json: bool) -> None:
    if json:
        write_json(report.as_json())
        return
    drawing_console().print(report.as_table())
