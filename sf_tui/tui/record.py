"""All that the console knows of a run: its history, its curves and what happened, in bounded room.

Folds events one at a time. What it can't fold (a newer version's event) it counts and passes over.
"""

from __future__ import annotations

from collections import deque

from sf_tui.run.events import Event
from sf_tui.run.history import History
from sf_tui.tui.curves import Curves
from sf_tui.tui.notable import Kind, Notable, Notables
from sf_tui.tui.numbers import seconds_since_epoch

PROBES_KEPT = 400
"""Probes that the history keeps a stage; the curves keep the rest in less room."""
STEPS_TIMED = 400
"""Newest steps whose times tell the speed."""


class Record:
    """A run, folded for showing.

    Attributes:
        history: the fold that every reader of a run shares.
        curves: decimated curves.
        notables: what happened besides measuring.
        passed_over: events that could not be folded.
        version: rises with every event.
    """

    def __init__(self) -> None:
        self.history = History()
        self.curves = Curves()
        self.notables = Notables()
        self.passed_over = 0
        self.version = 0
        self._damage_row: Notable | None = None
        self._step_times: deque[tuple[str, int, str]] = deque(maxlen=STEPS_TIMED)

    def add(self, event: Event) -> None:
        """Fold one event in."""
        self.version += 1
        try:
            self.history.add(event)
            self.curves.add(event)
            self.notables.add(event)
        except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError):
            # A field is missing or means something else: written by another version. The rest
            # of the run can still be shown.
            self.passed_over += 1
            return
        type_ = event.get("type")
        if type_ == "step":
            self._step_times.append((event["stage"], event["step"], event.get("time", "")))
        elif type_ in {"rewound", "stage_started", "command"}:
            # A pause or a rewind is no step time.
            self._step_times.clear()
        elif type_ == "probe" and self.history.stage is not None:
            probes = self.history.stage.probes
            if len(probes) > 2 * PROBES_KEPT:
                # The first one stays: it is what drops are measured from.
                del probes[1:-PROBES_KEPT]

    def note_damage(self, count: int, first: str) -> None:
        """Show in one row how many of the log's lines are damaged.

        Args:
            count: lines left out or missing so far.
            first: where the first one is and what is wrong with it.
        """
        text = f"{count} damaged line{'' if count == 1 else 's'} in the log left out: {first}"
        if self._damage_row is None:
            self._damage_row = Notable(Kind.ALERT, "", None, None, text, "error")
            self.notables.rows.append(self._damage_row)
        elif self._damage_row.text == text:
            return
        self._damage_row.text = text
        self.passed_over = count
        self.version += 1
        self.notables.version += 1

    def suppose_stages_until(self, stage: str) -> None:
        """Take a stage as begun, though its beginning was not read yet.

        The plan in `run_started` says what lies before it, so that the step axis is right.
        """
        planned = (self.history.started or {}).get("stages", [])
        if stage not in {entry.get("stage") for entry in planned}:
            return
        learnt: list[str] = [] if len(planned) < 1 else self.history.tasks[:1]
        for entry in planned:
            known = [task for task in learnt if task != entry["task"]]
            supposed = {"type": "stage_started", **entry, "known": known}
            self.history.add(supposed)
            self.curves.add(supposed)
            learnt.append(entry["task"])
            if entry["stage"] == stage:
                return

    @property
    def steps_per_second(self) -> float | None:
        """How fast the newest steps went, probes between them included."""
        if len(self._step_times) < 3:
            return None
        (stage, first, began), (last_stage, last, ended) = self._step_times[0], self._step_times[-1]
        start, end = seconds_since_epoch(began), seconds_since_epoch(ended)
        if start is None or end is None or end <= start or stage != last_stage or last <= first:
            return None
        return (last - first) / (end - start)

    @property
    def stages_planned(self) -> list[tuple[str, int]]:
        """All stages that the run will play, with their steps, as far as it said so."""
        planned = [
            (str(entry.get("stage")), int(entry.get("steps") or 0))
            for entry in (self.history.started or {}).get("stages", [])
        ]
        named = {name for name, _ in planned}
        return planned + [
            (stage.name, stage.steps)
            for stage in self.history.stages.values()
            if stage.name not in named
        ]

    @property
    def seconds_left(self) -> float | None:
        """Time to the run's planned end at the present speed; None while it can't be told."""
        stage, speed = self.history.stage, self.steps_per_second
        if stage is None or speed is None or self.history.finished is not None:
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
        """The earlier task that has lost most in this stage, by the newest values."""
        stage = self.curves.current
        if stage is None:
            return None
        worst: tuple[float, str] | None = None
        watched = (self.history.started or {}).get("watched", stage.known)
        for task in stage.known:
            series = stage.accuracy.get(task) if task in watched else None
            start = None if series is None else series.value_at(0)
            if series is None or start is None or series.last_value is None:
                continue
            lost = self.history.metric(task).drop(start, series.last_value)
            if worst is None or lost > worst[0]:
                worst = (lost, task)
        return worst[1] if worst else None

    def marks(self, *kinds: Kind) -> list[Notable]:
        """Return what happened of some kinds that has a place on the step axis."""
        return [
            row
            for row in self.notables.rows
            if row.kind in kinds and row.stage is not None and row.step is not None
        ]
