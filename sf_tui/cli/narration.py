"""What a headless run says: events on stdout if asked, narration on stderr.

Only listens to events; a terminal that goes away or a reader that closes its pipe silences it and
never hurts the run.
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
from sf_tui.run.events import Event, read_events
from sf_tui.run.history import History, StageHistory
from sf_tui.tui.frames import frames_at_risk

# Without a terminal a line every few seconds is enough for a log file.
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
            write_event(self._output, event)
        except (OSError, ValueError):
            # The reader is gone; the event stands in the log, and the run goes on.
            self._output = None


class Narrator:
    """Tells a run's course on stderr: a bar on a terminal, else a line every few seconds.

    Args:
        console: where to; rich follows NO_COLOR, FORCE_COLOR and the terminal by itself.
        clock: seconds, monotonic.
    """

    def __init__(self, console: Console, clock: Callable[[], float] = time.monotonic) -> None:
        self._console = console
        self._clock = clock
        self._history = History()
        self._progress: Progress | None = None
        self._bar: TaskID | None = None
        self._last_line = clock() - PLAIN_LINE_EVERY_S
        self._silent = False

    def catch_up(self, events: Iterable[Event]) -> None:
        """Take in what happened before this process, without telling it again."""
        for event in events:
            self._history.add(event)

    def __call__(self, event: Event) -> None:
        """Tell one event if there is something in it to be told."""
        self._history.add(event)
        if self._silent:
            return
        try:
            self._tell(event)
        except OSError:
            # The terminal went away; the run does not.
            self._silent = True

    def _tell(self, event: Event) -> None:
        kind = event["type"]
        if kind == "run_started":
            self._say(
                f"run {event['run']}: {event['model']['parameters'] / 1e6:.2f} M parameters, "
                f"{event['model']['layers']} blocks, on {event['device']} ({event['precision']})"
            )
        elif kind == "stage_started":
            self._say(f"stage {event['stage']}: {event['steps']} steps, {event['strategy']}")
            self._start_bar(self._history.stages[event["stage"]])
        elif kind == "step":
            self._tell_step(event)
        elif kind == "alert":
            self._say(f"{event['level']}: {event['message']}")
        elif kind == "command" and event["status"] != "accepted":
            self._tell_command(event)
        elif kind == "rewound":
            self._say(
                f"{event['reason']}: goes on from step {event['step']} of stage "
                f"{event['stage']}, {event['lost']} steps lost"
            )
            if event["stage"] in self._history.stages:
                self._start_bar(self._history.stages[event["stage"]])
        elif kind == "tasks_at_risk":
            self._tell_neighbors(event)
        elif kind == "diagnosis":
            self._say(f"diagnosis: {diagnosis_line(event)}")
        elif kind == "stage_finished":
            self._stop_bar()
            stage = self._history.stages[event["stage"]]
            self._say(f"stage {event['stage']} done: {self._accuracies(stage)}")
        elif kind == "run_finished":
            self._stop_bar()
            self._finish(event)

    def _tell_step(self, event: Event) -> None:
        stage = self._history.stages[event["stage"]]
        if self._progress is not None and self._bar is not None:
            self._progress.update(self._bar, completed=event["step"], said=self._accuracies(stage))
            return
        now = self._clock()
        if now - self._last_line >= PLAIN_LINE_EVERY_S:
            self._last_line = now
            self._say(
                f"{event['stage']} {event['step']}/{stage.steps}  loss {event['loss']:.3f}  "
                f"{self._accuracies(stage)}  {event['tokens_per_second']:.0f} tokens/s"
            )

    def _tell_command(self, event: Event) -> None:
        value = event.get("value")
        why = f" at {value:.3f}" if value is not None else ""
        reason = f": {event['reason']}" if event.get("reason") else ""
        self._say(
            f"{event['action']} by {event['by']}{why} {event['status']} @{event['step']}{reason}"
        )

    def _tell_neighbors(self, event: Event) -> None:
        frames = frames_at_risk(event)
        if frames:
            self._say(f"stage {event['stage']}: nearest other task: {frames[0]}")

    def _accuracies(self, stage: StageHistory) -> str:
        if not stage.probes:
            return ""
        latest = stage.probes[-1].accuracy
        parts = [f"{task} {_figure(self._history.value_of(task, latest))}" for task in latest]
        danger = f"  danger {stage.step}/{stage.window}" if stage.in_danger else ""
        return "  ".join(parts) + danger

    def _start_bar(self, stage: StageHistory) -> None:
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

    def _say(self, text: str) -> None:
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)

    def _finish(self, event: Event) -> None:
        if self._history.stages:
            self._console.print(closing_table(self._history))
        if event["status"] == "failed":
            # The failure is raised too, and whoever started the worker tells it, once.
            return
        reason = f": {event['reason']}" if event["reason"] else ""
        self._say(f"{event['status']} (exit {event['exit_code']}){reason}")


def diagnosis_line(event: Event) -> str:
    """Return a diagnosis in one line: task, verdict, and what came back."""
    start = "unknown" if event.get("start") is None else f"{event['start']:.3f}"
    recovered = event.get("recovered")
    arm = event.get("arm")
    back = f", recovered to {recovered:.3f} by '{arm}'" if recovered is not None else ""
    return (
        f"{event['task']} {event['verdict']}: {_figure(event['now'])} now, "
        f"{start} at the start{back} (stage {event.get('stage')}, step {event.get('step')})"
    )


def closing_table(history: History) -> Table:
    """Return each task's measure at its stage's start, worst in the window, and at the end."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("stage")
    table.add_column("task")
    table.add_column("measure")
    for name in ("start", "worst in window", "end"):
        table.add_column(name, justify="right")
    for row in closing_rows(history):
        table.add_row(
            row["stage"],
            row["task"],
            row["metric"],
            *(_figure(row[key]) for key in ("start", "worst_in_window", "end")),
        )
    return table


def closing_rows(history: History) -> list[dict[str, Any]]:
    """Return for each stage and task: start, worst in the danger window with its step, and end.

    The worst value is taken over the stage's own examples, start and end over the whole held-out
    split; for a metric where lower is better the worst value is the highest.
    """
    rows = []
    for stage in history.stages.values():
        if not stage.probes:
            continue
        for task in stage.probes[0].accuracy:
            series = [
                (probe.step, value)
                for probe in stage.probes
                if probe.step <= stage.window
                and (value := history.value_of(task, probe.paired or probe.accuracy)) is not None
            ]
            worst: tuple[int, float] | None = None
            if stage.window and series:
                value = history.metric(task).worst(value for _, value in series)
                worst = next(point for point in series if point[1] == value)
            rows.append(
                {
                    "stage": stage.name,
                    "task": task,
                    "metric": history.metric_of(task),
                    "start": history.value_of(task, stage.probes[0].accuracy),
                    "worst_in_window": worst[1] if worst else None,
                    "worst_at_step": worst[0] if worst else None,
                    "end": history.value_of(task, stage.probes[-1].accuracy),
                    "step": stage.step,
                }
            )
    return rows


def _figure(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def headless_listeners(run: RunDirectory, *, json: bool) -> list[Callable[[Event], None]]:
    """Return who listens to a headless run: narration on stderr and, if asked, JSON on stdout."""
    narrator = Narrator(drawing_console(err=True))
    narrator.catch_up(read_events(run.events))
    listeners: list[Callable[[Event], None]] = [narrator]
    if json:
        listeners.append(JsonStream(sys.stdout.buffer))
    return listeners
