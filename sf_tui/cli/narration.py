"""Output of a headless run: events on stdout with `--json`, narration on stderr.

Only listens to events. A closed terminal or pipe silences it and never affects the run.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable
from typing import IO, Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.table import Table

from sf_tui.cli.output import drawing_console, write_event
from sf_tui.run.directory import RunDirectory
from sf_tui.run.events import read_events
from sf_tui.run.state import RunState, StageState
from sf_tui.tui.activity import frames_at_risk
from sf_tui.vocabulary.events import (
    Alert,
    CommandAnswered,
    DiagnosisMade,
    Event,
    Rewound,
    RunFinished,
    RunStarted,
    StageFinished,
    StageStarted,
    Step,
    TasksAtRisk,
    event_object,
)

# Without a terminal, a line every few seconds is enough for a log file.
PLAIN_LINE_EVERY_S = 5.0


class JsonStream:
    """Prints every event to stdout as it is written."""

    def __init__(self, output: IO[bytes]) -> None:
        self._output: IO[bytes] | None = output

    def __call__(self, event: Event) -> None:
        """Print one event."""
        if self._output is None:
            return
        try:
            write_event(self._output, event_object(event))
        except (OSError, ValueError):
            # The reader is gone; the event is in the log and the run goes on.
            self._output = None


class Narrator:
    """Narrates a run on stderr: a progress bar on a terminal, else a line every few seconds.

    Args:
        console: the output; rich handles NO_COLOR, FORCE_COLOR and the terminal.
        clock: monotonic seconds.
    """

    def __init__(self, console: Console, clock: Callable[[], float] = time.monotonic) -> None:
        self._console = console
        self._clock = clock
        self._state = RunState()
        self._progress: Progress | None = None
        self._bar: TaskID | None = None
        self._last_line = clock() - PLAIN_LINE_EVERY_S
        self._silent = False

    def catch_up(self, events: Iterable[Event]) -> None:
        """Fold the events before this process, without printing them."""
        for event in events:
            self._state.add(event)

    def __call__(self, event: Event) -> None:
        """Fold one event, and print it if it is worth a line."""
        self._state.add(event)
        if self._silent:
            return
        try:
            self._narrate(event)
        except OSError:
            # The terminal is gone; the run continues.
            self._silent = True

    def _narrate(self, event: Event) -> None:
        stages = self._state.stages
        match event:
            case RunStarted(model=model):
                self._write(
                    f"run {event.run}: {model.parameters / 1e6:.2f} M parameters, "
                    f"{model.layers} blocks, on {event.device} ({event.precision})"
                )
            case StageStarted():
                self._write(f"stage {event.stage}: {event.steps} steps, {event.strategy}")
                self._start_bar(stages[event.stage])
            case Step():
                self._show_step(event)
            case Alert():
                self._write(f"{event.level}: {event.message}")
            case CommandAnswered() if event.status != "accepted":
                why = "" if event.value is None else f" at {event.value:.3f}"
                reason = f": {event.reason}" if event.reason else ""
                self._write(
                    f"{event.action} by {event.by}{why} {event.status} @{event.step}{reason}"
                )
            case Rewound():
                self._write(
                    f"{event.reason}: goes on from step {event.step} of stage {event.stage}, "
                    f"{event.lost} steps lost"
                )
                if event.stage in stages:
                    self._start_bar(stages[event.stage])
            case TasksAtRisk():
                frames = frames_at_risk(event)
                if frames:
                    self._write(f"stage {event.stage}: nearest other task: {frames[0]}")
            case DiagnosisMade():
                self._write(f"diagnosis: {diagnosis_line(event)}")
            case StageFinished():
                self._stop_bar()
                self._write(f"stage {event.stage} done: {self._accuracies(stages[event.stage])}")
            case RunFinished():
                self._stop_bar()
                self._finish(event)

    def _show_step(self, event: Step) -> None:
        stage = self._state.stages[event.stage]
        if self._progress is not None and self._bar is not None:
            self._progress.update(self._bar, completed=event.step, said=self._accuracies(stage))
            return
        now = self._clock()
        if now - self._last_line >= PLAIN_LINE_EVERY_S:
            self._last_line = now
            self._write(
                f"{event.stage} {event.step}/{stage.steps}  loss {_figure(event.loss)}  "
                f"{self._accuracies(stage)}  {event.tokens_per_second or 0:.0f} tokens/s"
            )

    def _accuracies(self, stage: StageState) -> str:
        if not stage.probes:
            return ""
        latest = stage.probes[-1].metrics
        parts = [f"{task} {_figure(self._state.value_of(task, latest))}" for task in latest]
        danger = f"  danger {stage.step}/{stage.window}" if stage.in_danger else ""
        return "  ".join(parts) + danger

    def _start_bar(self, stage: StageState) -> None:
        if not self._console.is_terminal:
            return
        self._stop_bar()
        self._progress = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=24),
            TextColumn("{task.completed:.0f}/{task.total:.0f}"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[said]}", markup=False),
            console=self._console,
            refresh_per_second=4,
        )
        self._progress.start()
        self._bar = self._progress.add_task(
            stage.name, total=stage.steps, completed=stage.step, said=""
        )

    def _stop_bar(self) -> None:
        if self._progress is not None:
            self._progress.stop()
        self._progress = self._bar = None

    def _write(self, text: str) -> None:
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)

    def _finish(self, event: RunFinished) -> None:
        if self._state.stages:
            self._console.print(closing_table(self._state))
        if event.status == "failed":
            # The failure is also raised, and the command reports it once.
            return
        reason = f": {event.reason}" if event.reason else ""
        self._write(f"{event.status} (exit {event.exit_code}){reason}")


def diagnosis_line(event: DiagnosisMade) -> str:
    """Return a diagnosis as one line: task, verdict, and the share that came back."""
    start = "unknown" if event.start is None else f"{event.start:.3f}"
    back = (
        "" if event.recovered is None else f", recovered to {event.recovered:.3f} by '{event.arm}'"
    )
    is_bound = event.verdict in {"inconclusive", "partial"} and event.spurious_share is not None
    bound = f". {event.evidence[0]}" if is_bound and event.evidence else ""
    return (
        f"{event.task} {event.verdict}: {_figure(event.now)} now, "
        f"{start} at the start{back} (stage {event.stage}, step {event.step}){bound}"
    )


def closing_table(state: RunState) -> Table:
    """Return each task's value at its stage's start, at its worst in the window, and at the end."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("stage")
    table.add_column("task")
    table.add_column("measure")
    for name in ("start", "worst in window", "end"):
        table.add_column(name, justify="right")
    for row in closing_rows(state):
        table.add_row(
            row["stage"],
            row["task"],
            row["metric"],
            *(_figure(row[key]) for key in ("start", "worst_in_window", "end")),
        )
    return table


def closing_rows(state: RunState) -> list[dict[str, Any]]:
    """Return start, worst value in the danger window with its step, and end by stage and task.

    The worst value is taken over the stage's own examples, start and end over the whole held-out
    split. For a metric where lower is better, the worst value is the highest.
    """
    rows = []
    for stage in state.stages.values():
        if not stage.probes:
            continue
        for task in stage.probes[0].metrics:
            series = [
                (probe.step, value)
                for probe in stage.probes
                if probe.step <= stage.window
                and (value := state.value_of(task, probe.subset or probe.metrics)) is not None
            ]
            worst: tuple[int, float] | None = None
            if stage.window and series:
                value = state.metric(task).worst(value for _, value in series)
                worst = next(point for point in series if point[1] == value)
            rows.append(
                {
                    "stage": stage.name,
                    "task": task,
                    "metric": state.metric_of(task),
                    "start": state.value_of(task, stage.probes[0].metrics),
                    "worst_in_window": worst[1] if worst else None,
                    "worst_at_step": worst[0] if worst else None,
                    "end": state.value_of(task, stage.probes[-1].metrics),
                    "step": stage.step,
                }
            )
    return rows


def _figure(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def headless_listeners(run: RunDirectory, *, json: bool) -> list[Callable[[Event], None]]:
    """Return the listeners of a headless run: narration on stderr and, if asked, JSON on stdout."""
    narrator = Narrator(drawing_console(err=True))
    narrator.catch_up(read_events(run.events))
    listeners: list[Callable[[Event], None]] = [narrator]
    if json:
        listeners.append(JsonStream(sys.stdout.buffer))
    return listeners
