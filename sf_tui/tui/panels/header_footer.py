"""The first and last lines: the run's progress, speed and state; the keys or a notice.

Knows the run's state and the key table; handles no key.
"""

from __future__ import annotations

import re

from sf_tui.run.hosted import way_to_resume
from sf_tui.run.liveness import WorkerState
from sf_tui.tui.actions import CONSOLE_KEYS, Action, keyed_actions, shown_key
from sf_tui.tui.lines import (
    Line,
    as_many_as_fit,
    first_that_fits,
    fit,
    join,
    line_width,
    spread,
)
from sf_tui.tui.numbers import (
    format_count,
    format_duration,
    format_rate,
    format_value,
    scientific,
)
from sf_tui.tui.operation import offers_cancel
from sf_tui.tui.panels.panel import Panel
from sf_tui.tui.rank_rows import trouble_notes
from sf_tui.tui.resuming import can_resume, resume_action
from sf_tui.vocabulary.ops import ANCHORED, FROZEN, GO_BACK, OPS, PAUSED, Op, op_named, ops_for
from sf_tui.vocabulary.sizes import counted

_ALWAYS = 3
"""Console keys that the footer always shows: leave, help and the palette."""
_BAR_CELLS = 16
_LEAST_NAME = 13
"""Cells that the run's name keeps; what tells runs apart is at its end."""
_DATE = re.compile(r"^\d{8}-\d{6}-")


class Header(Panel):
    """Two lines about the whole run."""

    def compose_lines(self, width: int, height: int) -> list[Line]:
        """Return the run's line and the line of its numbers."""
        del height
        ellipsis = self.view.glyphs.ellipsis
        right = self._state()
        room = width - line_width(right) - 2
        progress = first_that_fits(self._progress(width), max(room - _LEAST_NAME, 0))
        name = self._run_name(room - line_width(progress) - 2)
        left = as_many_as_fit([name, progress], width, "  ")
        notes = self._notes()
        return [
            spread(left, right, width, ellipsis),
            spread(self._numbers(width - line_width(notes) - 2), notes, width, ellipsis),
        ]

    def _run_name(self, width: int) -> Line:
        """Return the run's id; to fit, drop first its date, then its beginning."""
        run = self.view.run.id
        room = max(width - 3, 8)
        shown = run if len(run) <= room else _DATE.sub("", run)
        if len(shown) > room:
            shown = f"{self.view.glyphs.ellipsis}{shown[-room + 1 :]}"
        return [("sf ", "muted"), (shown, "strong")]

    def _progress(self, width: int) -> list[Line]:
        """Return stage, step and the time left, the longest form first."""
        view = self.view
        stage = view.stage
        if stage is None:
            return [[]]
        names = [name for name, _ in view.live.stages_planned]
        count = f" {names.index(stage.name) + 1}/{len(names)}" if stage.name in names else ""
        role, marker = view.task_paint(stage.task)
        name: Line = [(f"{marker} {stage.name}", role)]
        step: Line = [("step ", "muted"), (f"{view.step}/{stage.steps}", "text")]
        bar: Line = []
        if width >= 110:
            filled = round(_BAR_CELLS * min(view.step / max(stage.steps, 1), 1.0))
            glyphs = view.glyphs
            bar = [(glyphs.filled * filled, role), (glyphs.empty * (_BAR_CELLS - filled), "rule")]
        left = self._time_left()
        where: Line = [("stage ", "muted"), *name, (count, "muted")]
        return [
            join([where, step, bar, left[0]]),
            join([where, step, left[0]]),
            join([name, step, left[0]]),
            join([where, step, left[-1]]),
            join([name, step, left[-1]]),
            join([step, left[0]]),
            join([step, left[-1]]),
            step,
        ]

    def _time_left(self) -> list[Line]:
        """Return the time to the stage's and the run's end, the longest form first."""
        view, history = self.view, self.view.newest
        if view.place is not None or history.finished is not None or history.paused:
            return [[]]
        if not self._runs:
            return [[]]
        stage, run = history.stage_seconds_left, history.seconds_left
        short: Line = [("ETA ", "muted"), (format_duration(run), "text")]
        if stage is None or run is None or stage >= run:
            return [short]
        both: Line = [
            ("ETA stage ", "muted"),
            (format_duration(stage), "text"),
            (", run ", "muted"),
            (format_duration(run), "text"),
        ]
        return [both, short]

    @property
    def _runs(self) -> bool:
        return self.view.liveness.has_worker

    def _state(self) -> Line:
        view = self.view
        history, state = view.newest, view.liveness.state
        if state is WorkerState.DEAD:
            return [("worker dead", "danger")]
        if state is WorkerState.SILENT:
            return [("worker silent", "danger")]
        missed = trouble_notes(view.liveness)
        if missed:
            return [(missed, "danger")]
        if state is WorkerState.STARTING or (history.started is None and not history.finished):
            return [("starting", "text")]
        work = view.work
        if work is not None:
            doing, seconds = work
            return [
                (f"{doing} {view.glyphs.ellipsis} ", "strong"),
                (format_duration(int(seconds)), "text"),
            ]
        status = history.status.replace("_", " ")
        if history.finished is not None:
            code = history.finished.exit_code
            role = "ok" if history.status == "completed" else "danger"
            return [(status, role), (f" exit {code}", "muted")]
        return [(status, "strong" if history.paused else "ok")]

    def _numbers(self, width: int) -> Line:
        view = self.view
        history, record = view.live, view.live
        last = history.stage.last_step if history.stage else None
        stage, place = view.stage, view.place
        loss = last.loss if last else None
        norm = last.grad_norm if last else None
        if place is not None and stage is not None:
            loss, norm = stage.loss.value_at(place.step), stage.grad_norm.value_at(place.step)
        parts: list[Line] = [
            _pair("loss", format_value(loss)),
            _pair("grad norm", format_value(norm)),
        ]
        if view.anchor_loss is not None:
            parts.append(_pair("anchor KL", format_value(view.anchor_loss)))
        if place is None and last is not None:
            parts.append(_pair("lr", _rate_text(last.learning_rate)))
            # Speeds are of a run that goes on.
            if self._runs and not history.paused and history.finished is None:
                rate = format_rate(last.tokens_per_second)
                parts.append([(rate, "text"), (" tokens/s", "muted")])
                if record.steps_per_second is not None:
                    speed = format_value(record.steps_per_second)
                    parts.append([(speed, "text"), (" steps/s", "muted")])
        started = history.started
        if started is not None and self.size.width >= 110:
            if started.model.parameters:
                count = format_count(started.model.parameters)
                parts.append([(count, "text"), (" parameters", "muted")])
            if started.device:
                parts.append([("on ", "muted"), (started.device, "text")])
        return as_many_as_fit(parts, width, "  ")

    def _notes(self) -> Line:
        view = self.view
        notes = []
        if view.progress is not None:
            notes.append(f"reading history {view.progress:.0%}")
        place = view.place
        if place is not None:
            notes.append(f"replay {place.stage}@{place.step}, esc: live")
        if view.read_only:
            notes.append("read-only")
        damaged = view.live.damaged_lines
        if damaged:
            notes.append(counted(damaged, "damaged line"))
        line: Line = [(f" {view.glyphs.middot} ".join(notes), "strong")] if notes else []
        if view.anchor is not None:
            held: Line = [(f"anchored, strength {view.anchor_strength:g}", "ok")]
            return join([held, line], f" {view.glyphs.middot} ")
        return line


def _pair(name: str, value: str) -> Line:
    return [(f"{name} ", "muted"), (value, "text")]


def _rate_text(rate: float | None) -> str:
    return "–" if rate is None else scientific(rate)


class Footer(Panel):
    """The line at the bottom: keys or a notice."""

    def compose_lines(self, width: int, height: int) -> list[Line]:
        """Return actions on the left, the console's keys (or a notice) on the right."""
        del height
        view = self.view
        ellipsis = view.glyphs.ellipsis
        console = [
            [(shown_key(entry.keys[0]), "key"), (f" {entry.label}", "muted")]
            for entry in CONSOLE_KEYS
            if entry.footer
        ]
        # Priority: leave and help, then the actions, then the console's other keys.
        always = as_many_as_fit(console[:_ALWAYS], width)
        if view.notice:
            room = width - line_width(always) - 2
            notice = self._notice()
            if line_width(notice) > room:
                return [join([fit(notice, room, ellipsis), always])]
            actions = as_many_as_fit(self._actions(), room - line_width(notice) - 2)
            return [spread(actions, join([notice, always]), width, ellipsis)]
        actions = as_many_as_fit(self._actions(), width - line_width(always) - 2)
        right = as_many_as_fit(console, width - line_width(actions) - 2)
        return [spread(actions, right or always, width, ellipsis)]

    def _notice(self) -> Line:
        view = self.view
        row = view.newest.activity.commands.get(view.notice_command)
        text = view.glyphs.spell(row.text) if row is not None else view.notice
        level = row.level if row is not None else view.notice_level
        return [(text, {"warn": "warn", "error": "error"}.get(level, "strong"))]

    def _actions(self) -> list[Line]:
        view = self.view
        if view.read_only:
            return [[("read-only: no actions", "muted")]]
        resume = resume_action(view.actions) if can_resume(view) else None
        way_on: list[Line] = []
        if resume is not None:
            way_on = [[(shown_key(resume.key), "key"), (" resume the run", "text")]]
        if view.newest.finished is not None:
            status = view.newest.status.replace("_", " ")
            return [*way_on, [(f"the run has ended: {status}", "muted")]]
        if view.liveness.state is WorkerState.DEAD:
            return [*way_on, [("no worker: ", "muted"), (way_to_resume(view.run), "strong")]]
        if view.actions.problem:
            return [[(view.actions.problem, "warn")]]
        parts: list[Line] = []
        if offers_cancel(view):
            parts.append([("esc", "key"), (" cancel", "text")])
        for action in self._most_important_first():
            newest = view.newest.activity.newest_command(action.name)
            waiting = view.glyphs.ellipsis if newest is not None and newest.is_under_way else ""
            label = action.label
            op = op_named(action.op)
            if op.turns_on == PAUSED and view.newest.paused:
                label = op.inverse
            parts.append([(shown_key(action.key), "key"), (f" {label}{waiting}", "text")])
        return parts

    def _most_important_first(self) -> list[Action]:
        """Return the keyed actions by rank, without those that would have no effect now."""
        view = self.view
        stage = view.newest.stage
        on = {FROZEN: bool(stage and stage.frozen), ANCHORED: bool(stage and stage.anchor)}

        def is_idle(op: Op) -> bool:
            # A second freeze adds layers; a second anchor changes nothing.
            anchored_again = op.turns_on == ANCHORED and on[ANCHORED]
            return anchored_again or not on.get(op.turns_off, True)

        def rank(op: Op) -> int:
            # Already done: undoing it is more relevant now.
            done = op.turns_on == FROZEN and on[FROZEN]
            return last_resort if done else op.footer_rank

        last_resort = max(OPS[name].footer_rank for name in ops_for(GO_BACK))
        actions = keyed_actions(view.offered.actions)
        useful = [action for action in actions if not is_idle(op_named(action.op))]
        return sorted(useful, key=lambda action: rank(op_named(action.op)))
