"""A run's state with what the console draws beside it: curves, activity, speed; in bounded room."""

from __future__ import annotations

from collections import deque

from sf_tui.run.state import RunState
from sf_tui.tui.activity import ActivityLog, Entry, Kind
from sf_tui.tui.curves import Curves
from sf_tui.tui.numbers import seconds_since_epoch
from sf_tui.vocabulary.events import CommandAnswered, Event, Rewound, StageStarted, Step

STEPS_TIMED = 400
"""Newest steps whose times give the speed."""


class LiveState(RunState):
    """A run, folded for display.

    Attributes:
        curves: decimated series.
        activity: what happened besides measurements.
        damaged_lines: lines of the log that were left out or are missing.
        version: rises with every event.
    """

    def __init__(self) -> None:
        super().__init__()
        self.curves = Curves(self)
        self.activity = ActivityLog()
        self.damaged_lines = 0
        self.version = 0
        self._damage_row: Entry | None = None
        self._step_times: deque[tuple[str, int, str]] = deque(maxlen=STEPS_TIMED)

    def add(self, event: Event) -> None:
        """Fold one event in."""
        self.version += 1
        super().add(event)
        self.curves.add(event)
        if isinstance(event, Step):
            self._step_times.append((event.stage, event.step, event.time))
            return
        self.activity.add(event)
        if isinstance(event, Rewound | StageStarted | CommandAnswered):
            # A pause or a rewind is no step time.
            self._step_times.clear()

    def note_damage(self, count: int, first: str) -> None:
        """Show in one row how many of the log's lines are damaged.

        Args:
            count: lines left out or missing so far.
            first: where the first one is and what is wrong with it.
        """
        text = f"{count} damaged line{'' if count == 1 else 's'} in the log left out: {first}"
        if self._damage_row is None:
            self._damage_row = Entry(Kind.ALERT, "", None, None, text, "error")
            self.activity.rows.append(self._damage_row)
        elif self._damage_row.text == text:
            return
        self._damage_row.text = text
        self.damaged_lines = count
        self.version += 1
        self.activity.version += 1

    def suppose_stages_until(self, stage: str) -> None:
        """Begin the planned stages up to one whose beginning was not read yet.

        The plan in `run_started` gives what lies before it, so that the step axis is right.
        """
        planned = self.started.stages if self.started else ()
        if stage not in {entry.stage for entry in planned}:
            return
        learned = self.tasks[:1]
        for entry in planned:
            known = [task for task in learned if task != entry.task]
            supposed = StageStarted(entry.stage, entry.task, entry.steps, known=known)
            super().add(supposed)
            self.curves.add(supposed)
            learned.append(entry.task)
            if entry.stage == stage:
                return

    @property
    def steps_per_second(self) -> float | None:
        """Speed of the newest steps, probes between them included."""
        if len(self._step_times) < 3:
            return None
        (stage, first, began), (last_stage, last, ended) = self._step_times[0], self._step_times[-1]
        start, end = seconds_since_epoch(began), seconds_since_epoch(ended)
        if start is None or end is None or end <= start or stage != last_stage or last <= first:
            return None
        return (last - first) / (end - start)

    @property
    def stages_planned(self) -> list[tuple[str, int]]:
        """All stages of the run with their steps, as far as they are known."""
        stages = self.started.stages if self.started else ()
        planned = [(entry.stage, entry.steps) for entry in stages]
        named = {name for name, _ in planned}
        return planned + [
            (stage.name, stage.steps) for stage in self.stages.values() if stage.name not in named
        ]

    @property
    def seconds_left(self) -> float | None:
        """Time to the run's planned end at the present speed; None while it is unknown."""
        stage, speed = self.stage, self.steps_per_second
        if stage is None or speed is None or self.finished is not None:
            return None
        left = stage.steps - stage.step
        seen = False
        for name, steps in self.stages_planned:
            if seen:
                left += steps
            seen = seen or name == stage.name
        return left / speed

    @property
    def worst_known(self) -> str | None:
        """The watched earlier task that has lost most in this stage, by the newest values."""
        stage = self.curves.current
        if stage is None:
            return None
        worst: tuple[float, str] | None = None
        for task in self.watched_of(stage.known):
            series = stage.accuracy.get(task)
            start = None if series is None else series.value_at(0)
            if series is None or start is None or series.last_value is None:
                continue
            lost = self.metric(task).drop(start, series.last_value)
            if worst is None or lost > worst[0]:
                worst = (lost, task)
        return worst[1] if worst else None

    def marks(self, *kinds: Kind) -> list[Entry]:
        """Return the activity of some kinds that has a place on the step axis."""
        return [
            row
            for row in self.activity.rows
            if row.kind in kinds and row.stage is not None and row.step is not None
        ]
