"""Output of a headless run: events on stdout with `--json`, narration on stderr.

Only listens to events. A closed terminal or pipe silences it and never affects the run.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable
from typing import IO

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.table import Table

from sf_tui.cli.output import drawing_console, write_event
from sf_tui.cli.target import run_name
from sf_tui.run.closing import closing_of
from sf_tui.run.course import courses
from sf_tui.run.directory import RunDirectory
from sf_tui.run.events import read_events
from sf_tui.run.losses import score_of
from sf_tui.run.stage_state import StageState
from sf_tui.run.state import RunState
from sf_tui.tui.at_risk import questions_at_risk
from sf_tui.tui.operation_words import ProgressLines
from sf_tui.vocabulary.commands import Command
from sf_tui.vocabulary.declared import Interval
from sf_tui.vocabulary.events import (
    Alert,
    CommandAnswered,
    DiagnosisMade,
    Event,
    OperationProgress,
    Rewound,
    RunFinished,
    RunStarted,
    StageFinished,
    StageStarted,
    Step,
    TasksAtRisk,
    event_object,
)
from sf_tui.vocabulary.measured import (
    NO_VALUE,
    Score,
    format_drop,
    format_number,
    format_score,
)
from sf_tui.vocabulary.metrics import KL
from sf_tui.vocabulary.sizes import counted

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
        run: the run's directory, for where its model is at the end; None: not said.
    """

    def __init__(
        self,
        console: Console,
        clock: Callable[[], float] = time.monotonic,
        run: RunDirectory | None = None,
    ) -> None:
        self._console = console
        self._run = run
        self._clock = clock
        self._state = RunState()
        self._progress: Progress | None = None
        self._bar: TaskID | None = None
        self._last_line = clock() - PLAIN_LINE_EVERY_S
        self._lines: dict[str, ProgressLines] = {}
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
                    f"{counted(model.layers, 'block')}, on {event.device} ({event.precision})"
                )
            case StageStarted():
                self._write(
                    f"stage {event.stage}: {counted(event.steps, 'step')}, {event.strategy}"
                )
                self._start_bar(stages[event.stage])
            case Step():
                self._show_step(event)
            case Alert():
                self._write(f"{event.level}: {event.message}")
                for one in event.answers:
                    self._write(f"  {one.spelled()}")
            case CommandAnswered() if event.status != "accepted":
                why = "" if event.value is None else f" at {event.value:.3f}"
                reason = f": {event.reason}" if event.reason else ""
                by = Command.from_event(event).sender
                self._write(f"{event.action} by {by}{why} {event.status} @{event.step}{reason}")
            case OperationProgress():
                self._show_progress(event)
            case Rewound():
                self._write(
                    f"{event.reason}: continues from step {event.step} of stage {event.stage}, "
                    f"{counted(event.lost, 'step')} lost"
                )
                if event.stage in stages:
                    self._start_bar(stages[event.stage])
            case TasksAtRisk():
                questions = questions_at_risk(event)
                if questions:
                    self._write(f"stage {event.stage}: at risk: {questions[0]}")
            case DiagnosisMade():
                self._write(f"diagnosis: {diagnosis_line(event)}")
            case StageFinished():
                self._stop_bar()
                self._write(f"stage {event.stage} done: {self._accuracies(stages[event.stage])}")
            case RunFinished():
                self._stop_bar()
                self._finish(event)

    def _show_progress(self, event: OperationProgress) -> None:
        if not event.part:
            # One for each: a test beside the training and an operation may alternate.
            self._lines[event.op] = ProgressLines(self._clock)
        text = self._lines.setdefault(event.op, ProgressLines(self._clock)).event_line(event)
        if text:
            self._write(f"{event.op}: {text}")

    def _show_step(self, event: Step) -> None:
        stage = self._state.stages[event.stage]
        if self._progress is not None and self._bar is not None:
            self._progress.update(self._bar, completed=event.step, said=self._accuracies(stage))
            return
        now = self._clock()
        if now - self._last_line >= PLAIN_LINE_EVERY_S:
            self._last_line = now
            self._write(
                f"{event.stage} {event.step}/{stage.steps}  loss {format_number(event.loss)}  "
                f"{self._accuracies(stage)}  {event.tokens_per_second or 0:.0f} tokens/s"
            )

    def _accuracies(self, stage: StageState) -> str:
        if not stage.probes:
            return ""
        latest = stage.probes[-1]
        parts = [
            f"{task} {format_score(score_of(self._state, task, latest), kl=True)}"
            for task in latest.metrics
        ]
        window = stage.danger
        danger = f"  danger {stage.step - window.start}/{window.length}" if window else ""
        # A step's line must not pass an earlier probe's scores off as its own.
        probed = f" (step {latest.step})" if latest.step != stage.step else ""
        return "  ".join(parts) + probed + danger

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
        # A terminal would break a long line within a word; a log file keeps it whole.
        whole = not self._console.is_terminal
        self._console.print(text, markup=False, highlight=False, soft_wrap=whole)

    def _finish(self, event: RunFinished) -> None:
        if self._state.stages:
            self._console.print(closing_table(self._state))
            for line in table_legend(self._state):
                self._write(line)
        if event.status == "failed":
            # The failure is also raised, and the command reports it once.
            return
        reason = f": {event.reason}" if event.reason else ""
        self._write(f"{event.status} (exit {event.exit_code}){reason}")
        if self._run is not None:
            for line in closing_lines(self._run, self._state):
                self._write(line)


def diagnosis_line(event: DiagnosisMade) -> str:
    """Return a diagnosis as one line: task, verdict, and the share that came back."""
    start = "unknown" if event.start is None else f"{event.start:.2f}"
    back = ""
    if event.recovered is not None:
        back = f", recovered to {_of_test(event.recovered, event.recovered_interval)}"
        back += f" by '{event.arm}'"
    scored = f" on {counted(event.held_out, 'example')}" if event.held_out else ""
    is_bound = event.verdict in {"inconclusive", "partial"} and event.spurious_share is not None
    bound = f". {event.evidence[0]}" if is_bound and event.evidence else ""
    return (
        f"{event.task} {event.verdict}: {_of_test(event.now, event.now_interval)} now{scored}, "
        f"{start} at the start{back} (stage {event.stage}, step {event.step}){bound}"
    )


def _of_test(value: float | None, interval: Interval | None) -> str:
    """Return a share that a recovery test measured, with its interval if it has one."""
    if value is None:
        return NO_VALUE
    if interval is None or None in interval or len(interval) != 2:
        return f"{value:.2f}"
    low, high = interval
    return f"{value:.2f} ({low:.2f} to {high:.2f})"


def closing_table(state: RunState) -> Table:
    """Return each task's score at its stage's start, at its worst in the window, and at the end."""
    rows = courses(state)
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("stage")
    table.add_column("task")
    for name in ("n", "start", "worst in window", "end", "change"):
        table.add_column(name, justify="right", no_wrap=True)
    for row in rows:
        examples = row.start.examples if row.start else 0
        table.add_row(
            row.stage,
            row.task,
            str(examples or NO_VALUE),
            *(_cell(score, examples) for score in (row.start, row.worst, row.end)),
            "" if row.since_run is None else format_drop(row.since_run),
        )
    return table


def table_legend(state: RunState) -> list[str]:
    """Return what the figures of the closing table are, a line each."""
    metrics = {task: state.metric_of(task) for row in courses(state) if (task := row.task)}
    usual = max(set(metrics.values()), key=list(metrics.values()).count, default="")
    others = "".join(f", {task}: {name}" for task, name in metrics.items() if name != usual)
    return [
        f"{usual}{others}, ± to the farther end of its 95 % interval",
        "n: held-out examples, the whole split; change: in points, since the run began or taught "
        "the task",
        *_divergence_lines(state),
    ]


def _divergence_lines(state: RunState) -> list[str]:
    """Return how far the model is from the start model on its own answers, a line for each task."""
    lines = []
    for row in courses(state):
        found = row.divergence
        if found is None:
            continue
        most = ""
        if found.largest is not None:
            most = f", at most {format_number(found.largest)} in the window"
            most += f" (step {found.largest_step})"
        lines.append(
            f"{row.task}: KL {format_number(found.end)} at the end{most}: {KL.description}, in "
            f"{KL.unit}"
        )
    return lines


def _cell(score: Score | None, examples: int) -> str:
    if score is None:
        return NO_VALUE
    of = f" of {score.examples}" if score.examples != examples else ""
    return f"{format_score(score)}{of}"


_LOAD_MODEL = "AutoModelForCausalLM.from_pretrained("
_LOAD_ADAPTER = "AutoPeftModelForCausalLM.from_pretrained("


def closing_lines(run: RunDirectory, state: RunState, *, is_dead: bool = False) -> list[str]:
    """Return what to read at a run's end: outcome, where the model is, and the next commands.

    Args:
        run: the run.
        state: the fold of its events.
        is_dead: whether its worker ended without a word.
    """
    closing = closing_of(run, state, run_name(run), is_dead=is_dead)
    lines = list(closing.outcome)
    if closing.model == run.model:
        lines += model_lines(run)
    elif closing.model is not None:
        lines.append(f"checkpoint: {closing.model}")
    for command, why in closing.next_steps:
        named = not command or command in why
        lines.append(f"next: {why}" if named else f"next: `{command}`: {why}")
    return lines


def model_lines(run: RunDirectory) -> list[str]:
    """Return where a run's final model is, and the line of Python that loads it."""
    is_adapter = (run.model / "adapter_config.json").is_file()
    loader = _LOAD_ADAPTER if is_adapter else _LOAD_MODEL
    return [f"model: {run.model}", f'load it: {loader}"{run.model}")']


def headless_listeners(run: RunDirectory, *, json: bool) -> list[Callable[[Event], None]]:
    """Return the listeners of a headless run: narration on stderr and, if asked, JSON on stdout."""
    narrator = Narrator(drawing_console(err=True), run=run)
    narrator.catch_up(read_events(run.events))
    listeners: list[Callable[[Event], None]] = [narrator]
    if json:
        listeners.append(JsonStream(sys.stdout.buffer))
    return listeners
