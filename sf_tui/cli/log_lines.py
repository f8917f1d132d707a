"""An event as a line of text: the console's own words, plus probes, steps and drift.

Knows events and their order; knows no files and no terminal.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass

from sf_tui.run.losses import score_of
from sf_tui.run.state import RunState
from sf_tui.tui.activity import ActivityLog, Kind
from sf_tui.tui.numbers import format_rate
from sf_tui.tui.operation_words import ProgressLines
from sf_tui.vocabulary.events import (
    CheckpointWritten,
    CommandAnswered,
    Drift,
    Event,
    OperationProgress,
    Probe,
    RunStarted,
    Step,
    UnknownEvent,
)
from sf_tui.vocabulary.measured import format_number, format_score

PROBE, STEP, DRIFT, PROGRESS = "probe", "step", "drift", "progress"
USUAL = tuple(str(kind) for kind in Kind)
"""Kinds that are printed unless others are chosen: what an operator acts on."""
KINDS = (*USUAL, PROBE, STEP, DRIFT, PROGRESS)


@dataclass(frozen=True)
class LogLine:
    """One event's line.

    Attributes:
        event: the event.
        kind: one of `KINDS`.
        stage: name of the stage; None for an event of the whole run.
        step: steps done in the stage; None without one.
        level: info, warn or error.
        text: what happened, on one line.
    """

    event: Event
    kind: str
    stage: str | None
    step: int | None
    level: str
    text: str


class LogReader:
    """Turns a run's events into lines, in order.

    Args:
        kinds: kinds of which lines are wanted.
    """

    def __init__(self, kinds: Collection[str] = KINDS) -> None:
        self._kinds = frozenset(kinds)
        # Only what names metrics; the fold of a whole run is of no use here.
        self._plan = RunState()
        self._commands = ActivityLog()
        self._progress: dict[str, ProgressLines] = {}
        self._elapsed_s = 0.0

    def read(self, event: Event) -> Iterator[LogLine]:
        """Yield the line of one event; nothing for an event of no wanted kind."""
        if type(event) is Step and STEP not in self._kinds:
            # Nearly all events are steps.
            return
        if isinstance(event, RunStarted):
            self._plan.add(event)
        for line in self._lines(event):
            if line.kind in self._kinds:
                yield line

    def _lines(self, event: Event) -> Iterator[LogLine]:
        match event:
            case CommandAnswered():
                yield self._command_line(event)
            case Probe():
                yield self._line(event, PROBE, self._probe_text(event))
            case Step():
                yield self._line(event, STEP, _step_text(event))
            case OperationProgress():
                yield from self._progress_line(event)
            case Drift():
                yield self._line(event, DRIFT, _drift_text(event))
            case UnknownEvent():
                return
            case _:
                yield from self._activity_line(event)

    def _activity_line(self, event: Event) -> Iterator[LogLine]:
        if isinstance(event, CheckpointWritten) and event.is_aside:
            aside = event.path.rpartition("/")[2]
            text = f"checkpoint {event.stage}/step-{event.step:06d} put aside as {aside}"
            yield self._line(event, Kind.CHECKPOINT, text)
            return
        log = ActivityLog()
        log.add(event)
        for entry in log.rows:
            yield LogLine(event, entry.kind, entry.stage, entry.step, entry.level, entry.text)

    def _command_line(self, event: CommandAnswered) -> LogLine:
        self._commands.add(event)
        row = self._commands.commands[event.id]
        command = row.command
        value = "" if command.value is None else f" at {format_number(command.value)}"
        text = f"{command.action} by {command.sender}{value}: {row.phases[-1]}"
        return LogLine(event, row.kind, row.stage, row.step, row.level, text)

    def _progress_line(self, event: OperationProgress) -> Iterator[LogLine]:
        self._elapsed_s = event.elapsed_s
        lines = self._progress.setdefault(event.id, ProgressLines(lambda: self._elapsed_s))
        text = lines.line(event)
        if text:
            yield self._line(event, PROGRESS, f"{event.op}: {text}")

    def _probe_text(self, event: Probe) -> str:
        scores = [
            f"{task} {format_score(score, counts=event.full, kl=True)}"
            for task in event.metrics
            if (score := score_of(self._plan, task, event)) is not None
        ]
        whole = "whole held-out splits: " if event.full else ""
        return f"{whole}{', '.join(scores)}"

    def _line(self, event: Event, kind: str, text: str) -> LogLine:
        stage, step = getattr(event, "stage", None), getattr(event, "step", None)
        return LogLine(event, kind, stage, step, "info", text)


def _step_text(event: Step) -> str:
    parts = [f"loss {format_number(event.loss)}"]
    parts += [f"{name} {format_number(value)}" for name, value in event.losses.items()]
    parts += [
        f"rate {format_number(event.learning_rate)}",
        f"gradient {format_number(event.grad_norm)}",
        f"{format_rate(event.tokens_per_second)} tokens/s",
    ]
    return ", ".join(parts)


def _drift_text(event: Drift) -> str:
    return ", ".join(
        f"{layer.name} {format_number(layer.relative_update)}{' (frozen)' if layer.frozen else ''}"
        for layer in event.layers
    )
