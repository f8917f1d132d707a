"""The danger strip: how much of the old task is lost, and the actions that `advice` suggests.

If the worker is dead or silent it shows how to resume instead. Knows the drop, the danger window,
the verdict and the active protections; sends nothing.
"""

from __future__ import annotations

from sf_tui.run.liveness import WorkerState
from sf_tui.tui.actions import shown_key
from sf_tui.tui.activity import frames_at_risk, words_of_new_task
from sf_tui.tui.advice import closing_command, remark, suggested_actions
from sf_tui.tui.lines import Line, as_many_as_fit, join, line_width, shorten_frame
from sf_tui.tui.numbers import format_change, format_clock, format_share, format_value
from sf_tui.tui.panels.panel import Panel
from sf_tui.vocabulary.ops import ANCHORED, FROZEN, op_that_turns_off

_BAR_CELLS = 30
_GAP = "   "
_AT_RISK = "at risk: "
_LEAST_FRAME_CELLS = 8
"""A shorter part of a frame is not informative."""


class DangerStrip(Panel):
    """One line (two if there is room) about the danger window and the drop."""

    def compose_lines(self, width: int, height: int) -> list[Line]:
        """Return the state of the window and the drop, then the window's bar and extremes."""
        worker = self._worker_line(width)
        if worker is not None:
            first, second = worker
        else:
            first = self._first_line(width)
            second = self._second_line(width)
        return [first, second][:height]

    def _worker_line(self, width: int) -> tuple[Line, Line] | None:
        view = self.view
        state, beat = view.liveness.state, self._last_beat()
        if state is WorkerState.DEAD:
            status = [("The worker is dead", "danger"), (beat, "text")]
            resume: Line = [
                (f"sf resume {view.run.id}", "strong"),
                (f" goes on {self._from_checkpoint()}", "text"),
            ]
        elif state is WorkerState.SILENT:
            status = [("The worker is silent", "danger"), (beat, "text")]
            resume = [
                ("it may come back; if it does not, ", "text"),
                (f"sf resume {view.run.id}", "strong"),
            ]
        elif state is WorkerState.STARTING and view.live.started is None:
            return [("waiting for the worker's first word", "muted")], []
        else:
            return None
        one_line = join([status, resume], "   ")
        if line_width(one_line) <= width:
            return one_line, self._second_line(width)
        return (as_many_as_fit([resume, status], width, "   ") or resume), status

    def _last_beat(self) -> str:
        view = self.view
        if view.liveness.heartbeat_age_s is None:
            return ""
        last = format_clock(view.live.last_time, view.zone).strip()
        return f" (last event {last})" if last else ""

    def _from_checkpoint(self) -> str:
        checkpoints = self.view.live.checkpoints
        if not checkpoints:
            return "from the beginning"
        newest = checkpoints[-1]
        return f"from {newest.stage}/step-{newest.step:06d}"

    def _where(self) -> Line:
        view = self.view
        stage = view.stage
        if stage is None:
            return [("no stage has begun", "muted")]
        if not view.known:
            return [("no earlier task is watched yet: nothing to lose", "muted")]
        if view.in_window:
            return [("DANGER WINDOW", "danger"), (f" {view.step}/{stage.window}", "strong")]
        if stage.window:
            return [("danger window over", "muted")]
        return [("outside the danger window", "muted")]

    def _first_line(self, width: int) -> Line:
        """Return the parts that fit, the countdown and the drop first.

        Some parts have a short and a long form. Later entries of the list only use the remaining
        room; a long form replaces its short form.
        """
        shown: dict[str, Line] = {}
        suggestions = self._suggestions()
        for place, part in (
            ("where", self._where()),
            ("loss", self._loss(detail=False)),
            ("advice", suggestions[0] if suggestions else []),
            ("held", self._held(detail=False)),
            ("advice", join(suggestions)),
            ("risk", None),
            ("loss", self._loss(detail=True)),
            ("held", self._held(detail=True)),
            ("calm", self._calm()),
        ):
            others = [line for name, line in shown.items() if name != place]
            room = width - sum(line_width(line) + len(_GAP) for line in others)
            line = self._risk(room) if part is None else part
            if line and line_width(line) <= room:
                shown[place] = line
        order = ("where", "loss", "held", "advice", "calm", "risk")
        return join([shown[name] for name in order if name in shown], _GAP)

    def _loss(self, *, detail: bool) -> Line:
        view = self.view
        drop, task = view.drop, view.live.worst_known
        if drop is None or task is None:
            return []
        role, marker = view.task_paint(task)
        start, now = view.accuracy_at_start(task), view.accuracy_now(task)
        loud = "danger" if drop >= view.actions.alert_drop else "text"
        metric = view.live.metric(task)
        line = [(f"{marker} {task} ", role), (format_change(-drop, metric), loud)]
        if detail:
            line.append((f" ({format_share(start)} to {format_share(now)})", "muted"))
        return line

    def _held(self, *, detail: bool) -> Line:
        """Return the active protections (frozen layers, anchor), on demand with their undo keys."""
        view = self.view
        if view.stage is None or not view.known:
            return []
        parts: list[Line] = []
        if view.frozen_layers:
            parts.append([(f"{len(view.frozen_layers)} layers frozen", "ok")])
            parts[-1] += self._undo(FROZEN) if detail else []
        if view.anchor is not None:
            parts.append([("anchored", "ok")])
            if detail and view.anchor_loss is not None:
                parts[-1].append((f", KL {format_value(view.anchor_loss)}", "text"))
            parts[-1] += self._undo(ANCHORED) if detail else []
        return join(parts)

    def _undo(self, state: str) -> Line:
        undo = self.view.actions.of_op(op_that_turns_off(state))
        over = self.view.live.finished is not None
        if over or undo is None or not undo.key:
            return []
        return [(f", {shown_key(undo.key)} {undo.label}", "text")]

    def _suggestions(self) -> list[Line]:
        """Return the suggested actions with their keys; after the run's end, the command."""
        view = self.view
        pointer = (f"{view.glyphs.pointer} ", "danger")
        command = closing_command(view)
        if command:
            return [[pointer, (command, "strong")]]
        lines: list[Line] = [
            [
                *([] if index else [pointer]),
                (shown_key(action.key), "key"),
                (f" {action.label}", "text"),
            ]
            for index, action in enumerate(suggested_actions(view))
        ]
        said = remark(view)
        if said and lines:
            lines[-1].append((f" {said}", "text"))
        elif said:
            lines.append([(said, "muted")])
        return lines

    def _calm(self) -> Line:
        """Return the drop from which actions are suggested."""
        view = self.view
        drop, bound = view.drop, view.actions.alert_drop
        over = view.live.finished is not None
        if drop is None or drop >= bound or over or view.read_only or view.place is not None:
            return []
        if view.frozen_layers or view.anchor is not None:
            return []
        return [(f"alert at {100 * bound:.0f} points", "muted")]

    def _risk(self, room: int) -> Line:
        """Return the task that the start model ranks nearest to the new one."""
        at_risk = self.view.at_risk
        frames = frames_at_risk(at_risk) if at_risk else []
        if at_risk is None or not frames:
            return []
        space = room - len(_AT_RISK)
        if space < _LEAST_FRAME_CELLS:
            return []
        frame = shorten_frame(frames[0], space, words_of_new_task(at_risk))
        return [(_AT_RISK, "muted"), (frame, "text")] if frame else []

    def _second_line(self, width: int) -> Line:
        view = self.view
        stage = view.stage
        if stage is None or not view.known:
            return []
        parts: list[Line] = []
        if stage.window:
            done = min(view.step / stage.window, 1.0)
            filled = round(_BAR_CELLS * done)
            glyphs = view.glyphs
            role = "danger" if view.in_window else "muted"
            left = max(stage.window - view.step, 0)
            parts.append(
                [
                    (glyphs.filled * filled, role),
                    (glyphs.empty * (_BAR_CELLS - filled), "rule"),
                    (f" {left} steps left" if left else " over", "muted"),
                ]
            )
        task = view.live.worst_known
        series = stage.accuracy.get(task) if task else None
        extremes = series.extremes(0, stage.window or stage.steps) if series else None
        if task and extremes is not None:
            metric = view.live.metric(task)
            parts.append(
                [
                    (f"{metric.worst_word} {task} ", "muted"),
                    (format_share(metric.worst(extremes)), "text"),
                    (" in the window" if stage.window else " in the stage", "muted"),
                ]
            )
        rate = self._loss_rate()
        if rate is not None:
            parts.append([(rate, "text"), (" in 25 steps", "muted")])
        return as_many_as_fit(parts, width, "   ")

    def _loss_rate(self) -> str | None:
        """Return the change of the worst earlier task over the newest 25 steps, with its unit."""
        view = self.view
        task, stage = view.live.worst_known, view.stage
        series = stage.accuracy.get(task) if stage and task else None
        if series is None or task is None:
            return None
        now, before = series.value_at(view.step), series.value_at(max(view.step - 25, 0))
        if now is None or before is None or view.step < 5:
            return None
        metric = view.live.metric(task)
        return format_change(-metric.drop(before, now), metric)
