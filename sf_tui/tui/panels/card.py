"""The card: the most important numbers in large digits, for a screen too small for panels."""

from __future__ import annotations

from sf_tui.run.hosted import way_to_resume
from sf_tui.run.liveness import WorkerState
from sf_tui.run.losses import TaskLoss
from sf_tui.tui.actions import CONSOLE_KEYS, shown_key
from sf_tui.tui.advice import closing_command, suggested_actions
from sf_tui.tui.event_rows import pinned
from sf_tui.tui.lines import Line, as_many_as_fit, first_that_fits, join, wrap_cells
from sf_tui.tui.numbers import format_clock, format_duration, format_value
from sf_tui.tui.operation import operation_lines
from sf_tui.tui.panels.danger_strip import failure_lines
from sf_tui.tui.panels.panel import Panel
from sf_tui.tui.panels.score_words import (
    count_text,
    is_lost,
    loss_forms,
    score_text,
    task_forms,
)
from sf_tui.tui.rank_rows import trouble_notes
from sf_tui.tui.scores import losses, new_task, score_now, viewed_state, viewed_window
from sf_tui.vocabulary.measured import Score, format_drop

_LEAST_LARGE = 50
"""Width from which large digits have room for the interval and the loss beside them."""
_FEWEST_EVENT_ROWS = 3
"""Rows left on the card from which events are listed: an empty one and two of them."""
_DIGITS = {
    "0": ("╭─╮", "│ │", "╰─╯"),
    "1": ("╶╮ ", " │ ", "╶┴╴"),
    "2": ("╶─╮", "┌─┘", "╰─╴"),
    "3": ("╶─╮", " ─┤", "╶─╯"),
    "4": ("╷ ╷", "╰─┤", "  ╵"),
    "5": ("╭─╴", "╰─╮", "╶─╯"),
    "6": ("╭─╴", "├─╮", "╰─╯"),
    "7": ("╶─┐", "  │", "  ╵"),
    "8": ("╭─╮", "├─┤", "╰─╯"),
    "9": ("╭─╮", "╰─┤", "╶─╯"),
    ".": (" ", " ", "."),
    "–": ("   ", "╶─╴", "   "),
}


class Card(Panel):
    """Accuracy of every task, the step, the drop, and the key that leaves."""

    def compose_lines(self, width: int, height: int) -> list[Line]:
        """Return the lines that fit, most important first."""
        view = self.view
        stage = view.stage
        state = view.liveness.state
        status = view.newest.status.replace("_", " ")
        if state in {WorkerState.DEAD, WorkerState.SILENT}:
            status = f"worker {state.value}"
        work = view.work
        if work is not None:
            status = f"{work[0]} {view.glyphs.ellipsis} {format_duration(int(work[1]))}"
        missed = trouble_notes(view.liveness)
        status = missed or status
        bad = state in {WorkerState.DEAD, WorkerState.SILENT} or bool(missed)
        where = f"{stage.name} {view.step}/{stage.steps}" if stage else "no stage yet"
        first: list[Line] = [
            [(where, "strong"), (f"  {status}", "danger" if bad else "ok")],
            self._progress(),
        ]
        lines: list[Line] = [as_many_as_fit(first, width) or first[0]]
        lines += operation_lines(view, width)
        lines += self._numbers(width, height)
        lines += failure_lines(view, width) or [self._danger()]
        lines += [self._held()]
        if state is WorkerState.DEAD:
            lines.append([(way_to_resume(view.run), "strong")])
        lines += self._next(width)
        lines = [line for line in lines if line]
        if view.notice:
            notice: list[Line] = [[(line, "warn")] for line in wrap_cells(view.notice, width)]
            notice = notice[: max(height - 1, 1)]
            return [*lines[: height - len(notice)], *notice]
        if len(lines) < height:
            lines += self._pinned(width, height - len(lines) - 1)
            lines += self._newest(height - len(lines) - 1)
            lines += [[] for _ in range(height - len(lines) - 1)]
            lines.append(self._keys(width))
        return lines[:height]

    def _next(self, width: int) -> list[Line]:
        """Return what to press, or after the run's end the command, and the loss."""
        view = self.view
        line: Line = [(f"{view.glyphs.pointer} ", "danger")]
        command = closing_command(view)
        actions = suggested_actions(view)
        if command:
            wrapped = wrap_cells(command, width - 2)
            lines: list[Line] = [[*line, (wrapped[0], "strong")]]
            return lines + [[("  ", "text"), (each, "strong")] for each in wrapped[1:]]
        if not actions:
            return []
        for index, action in enumerate(actions):
            line += [("  ", "text")] if index else []
            line += [(shown_key(action.key), "key"), (f" {action.label}", "text")]
        return [line]

    def _pinned(self, width: int, rows: int) -> list[Line]:
        """Return the newest alert and the newest verdict in full, as far as there is room."""
        view = self.view
        lines: list[Line] = []
        for row in reversed(pinned(view.live.activity, most=2)):
            role = "warn" if row.main.level in {"warn", "error"} else "strong"
            wrapped = wrap_cells(view.glyphs.spell(row.text), width)
            lines += [[], *([(line, role)] for line in wrapped)]
        return lines if len(lines) <= rows else lines[: max(rows, 0)]

    def _newest(self, rows: int) -> list[Line]:
        """Return the newest events, oldest first, after an empty line."""
        view = self.view
        if rows < _FEWEST_EVENT_ROWS:
            return []
        above = {id(row.main) for row in pinned(view.live.activity, most=2)}
        found = view.events.rows(view.live.activity, view.event_filter)
        newest = [row for row in found if id(row.main) not in above][1 - rows :]
        lines: list[Line] = [
            [
                (f"{format_clock(row.main.time, view.zone)} ", "muted"),
                (view.glyphs.spell(row.text), "muted"),
            ]
            for row in newest
        ]
        return [[], *lines] if lines else []

    def _keys(self, width: int) -> Line:
        """Return the console's own keys, which all work here too."""
        parts: list[Line] = [
            [(shown_key(entry.keys[0]), "key"), (f" {entry.label}", "muted")]
            for entry in CONSOLE_KEYS
            if entry.footer or entry.command == "open"
        ]
        return as_many_as_fit(parts, width)

    def _progress(self) -> Line:
        """Return the newest loss and the time left, while the run goes on."""
        view = self.view
        last = view.live.stage.last_step if view.live.stage else None
        loss: Line = [("loss ", "muted"), (format_value(last.loss), "text")] if last else []
        if view.newest.finished is not None or not view.liveness.has_worker or view.newest.paused:
            return loss
        left = view.newest.seconds_left
        return join([loss, [("ETA ", "muted"), (format_duration(left), "text")]])

    def _numbers(self, width: int, height: int) -> list[Line]:
        """Return a row for each task, or large digits with the interval and the loss beside."""
        view = self.view
        scores = [(task, score) for task in view.tasks if (score := score_now(view, task))]
        if not scores:
            return [[("no probe yet", "muted")]]
        lost = {loss.task: loss for loss in losses(view)}
        bare = [score_text(view, score, interval=False) for _, score in scores]
        drawable = all(sign in _DIGITS for text in bare for sign in text)
        fits = height >= 4 + 3 * len(scores) and width >= _LEAST_LARGE
        lines: list[Line] = []
        for (task, score), text in zip(scores, bare, strict=True):
            if view.glyphs.braille and drawable and fits:
                lines += self._large(task, score, text, lost.get(task))
            else:
                loss = lost.get(task)
                forms = (
                    loss_forms(view, loss)
                    if loss is not None
                    else task_forms(view, task, score, None)
                )
                lines.append(first_that_fits(forms, width))
        return lines

    def _large(self, task: str, score: Score, text: str, loss: TaskLoss | None) -> list[Line]:
        view = self.view
        role, marker = view.task_paint(task)
        full = score_text(view, score)
        interval = full.removeprefix(text).strip()
        drop = (loss.since_run or loss.in_stage) if loss is not None else None
        paint = "danger" if is_lost(view, drop) else "text"
        since = "since the run began" if loss is not None and loss.since_run else "in this stage"
        beside: list[Line] = [
            [(count_text(score), "muted")],
            [(interval, "strong")],
            [(format_drop(drop), paint), (f" {since}", "muted")] if drop is not None else [],
        ]
        signs = [_DIGITS[sign] for sign in text]
        return [
            [
                (f"{f'{marker} {task}'[:10] if row == 1 else '':<11}", role),
                ("".join(sign[row] for sign in signs), role),
                ("  ", "text"),
                *beside[row],
            ]
            for row in range(3)
        ]

    def _danger(self) -> Line:
        """Return the danger window, and whether the new task does not rise."""
        view = self.view
        stage, window, new = viewed_state(view), viewed_window(view), new_task(view)
        if stage is None:
            return []
        parts: list[Line] = []
        if window is not None and view.known:
            count = f"{view.step - window.start}/{window.length}"
            cause = f" after {window.cause}" if window.cause else ""
            parts.append([(f"danger window {count}{cause}", "danger")])
        if new is not None and new.not_learned:
            parts.append([(f"{new.task} not learned", "danger")])
        return as_many_as_fit(parts, self.size.width or _LEAST_LARGE)

    def _held(self) -> Line:
        """Return the active protections and the verdict."""
        view = self.view
        parts: list[Line] = []
        if view.frozen_layers:
            parts.append([(f"{len(view.frozen_layers)} frozen", "ok")])
        if view.anchor is not None:
            parts.append([("anchored", "ok")])
        if view.verdict:
            parts.append([(view.verdict, "strong")])
        return as_many_as_fit(parts, self.size.width)
