"""`sf bench`: what probes cost, how fast and how large a run is beside transformers' Trainer."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from sf_tui.bench.report import BenchReport

app = typer.Typer(
    help="Measure probes, speed and memory on this machine; each ratio within one call.",
    no_args_is_help=True,
)

_Model = Annotated[
    str, typer.Option("--model", help="starter:NAME, a model directory, or a .gguf file.")
]
_Steps = Annotated[
    int | None,
    typer.Option("--steps", min=1, help="Optimizer steps; default: chosen for the model."),
]
_BatchSize = Annotated[
    int | None,
    typer.Option("--batch-size", min=1, help="Examples a step; default: 48 (starter) or 8."),
]
_Threads = Annotated[int, typer.Option("--threads", min=1, help="CPU threads of what is measured.")]
_Json = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]

STARTER = "starter:biography-mini"


@app.command()
def overhead(
    model: _Model = STARTER,
    steps: _Steps = None,
    batch_size: _BatchSize = None,
    threads: _Threads = 1,
    json: _Json = False,
) -> None:
    """Measure what probes cost a run, and their speed and agreement beside `generate`.

    A run with probes at the default budget and the same run without play side by side, a
    step each in turn. Then one teacher-forced pass and batched greedy `generate` answer the same
    examples.
    """
    _measure("overhead", model, steps, batch_size, threads, json)


@app.command()
def throughput(
    model: _Model = STARTER,
    steps: _Steps = None,
    batch_size: _BatchSize = None,
    threads: _Threads = 1,
    json: _Json = False,
) -> None:
    """Measure tokens a second beside transformers' Trainer, and what freezing half gains."""
    _measure("throughput", model, steps, batch_size, threads, json)


@app.command()
def memory(
    model: _Model = STARTER,
    steps: _Steps = None,
    batch_size: _BatchSize = None,
    threads: _Threads = 1,
    json: _Json = False,
) -> None:
    """Measure the peak memory of a run beside that of transformers' Trainer."""
    # Deferred: not needed for `sf --help`.
    from sf_tui.bench.memory import measure_memory

    _show(measure_memory(_absolute(model), steps, batch_size, threads), json)


def _measure(
    part: str, model: str, steps: int | None, batch_size: int | None, threads: int, json: bool
) -> None:
    # Deferred: not needed for `sf --help`.
    from sf_tui.bench.processes import run_part
    from sf_tui.bench.report import BenchReport

    arguments = {
        "model": _absolute(model),
        "steps": steps,
        "batch_size": batch_size,
        "threads": threads,
    }
    _show(BenchReport.from_plain(run_part(part, arguments, threads)), json)


def _absolute(model: str) -> str:
    """Return a model on this machine as a path that holds from everywhere."""
    path = Path(model).expanduser()
    return str(path.absolute()) if path.exists() else model


def _show(report: BenchReport, json: bool) -> None:
    if json:
        # Deferred: only where JSON is asked for.
        import orjson

        print(orjson.dumps(report.as_json()).decode())
        return
    # Deferred: only where a table is drawn.
    from rich.console import Console

    Console(file=sys.stdout, highlight=False).print(report.as_table())
