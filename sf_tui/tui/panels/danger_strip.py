"""The danger strip: is the old task being lost, how much, and what can be done about it.

When the worker is gone it says how to go on instead: nothing else matters then.
"""

from __future__ import annotations

from sf_tui.run.liveness import WorkerState
from sf_tui.tui.keys import shown_key
from sf_tui.tui.lines import Line, as_many_as_fit, join, line_width
from sf_tui.tui.numbers import format_clock, format_points, format_share
from sf_tui.tui.panels.panel import Panel

_BAR_CELLS = 30


class DangerStrip(Panel):
    """One line (two where there is room) about the danger window and the drop."""

    def compose_lines(self, width: int, height: int) -> list[Line]:
        """Return what is at stake, and below it the window's bar and extremes."""
        worker = self._worker_line(width)
        if worker is not None:
            first, second = worker
        else:
            first = as_many_as_fit([self._where(), self._loss(), self._advice()], width, "   ")
            second = self._second_line(width)
        return [first, second][:height]

    def _worker_line(self, width: int) -> tuple[Line, Line] | None:
        scene = self.scene
        state, beat = scene.liveness.state, self._last_beat()
        if state is WorkerState.DEAD:
            told = [("The worker is dead", "danger"), (beat, "text")]
            resume: Line = [
                (f"sf resume {scene.run.id}", "strong"),
                (f" goes on {self._from_checkpoint()}", "text"),
            ]
        elif state is WorkerState.SILENT:
            told = [("The worker is silent", "danger"), (beat, "text")]
            resume = [
                ("it may come back; if it does not, ", "text"),
                (f"sf resume {scene.run.id}", "strong"),
            ]
        elif state is WorkerState.STARTING and scene.record.history.started is None:
            return [("waiting for the worker's first word", "muted")], []
        else:
            return None
        one_line = join([told, resume], "   ")
        if line_width(one_line) <= width:
            return one_line, self._second_line(width)
        return (as_many_as_fit([resume, told], width, "   ") or resume), told

    def _last_beat(self) -> str:
        scene = self.scene
        if scene.liveness.heartbeat_age_s is None:
            return ""
        last = format_clock(scene.record.history.last_time, scene.zone).strip()
        return f" (last event {last})" if last else ""

    def _from_checkpoint(self) -> str:
        checkpoints = self.scene.record.history.checkpoints
        if not checkpoints:
            return "from the beginning"
        newest = checkpoints[-1]
        return f"from {newest['stage']}/step-{newest['step']:06d}"

    def _where(self) -> Line:
        scene = self.scene
        stage = scene.stage
        if stage is None:
            return [("no stage has begun", "muted")]
        if not scene.known:
            return [("no earlier task is watched yet: nothing to lose", "muted")]
        if scene.in_window:
            return [("DANGER WINDOW", "danger"), (f" {scene.step}/{stage.window}", "strong")]
        if stage.window:
            return [("danger window over", "muted")]
        return [("outside the danger window", "muted")]

    def _loss(self) -> Line:
        scene = self.scene
        drop, task = scene.drop, scene.record.worst_known
        if drop is None or task is None:
            return []
        role, marker = scene.task_paint(task)
        start, now = scene.accuracy_at_start(task), scene.accuracy_now(task)
        loud = "danger" if drop >= scene.actions.alert_drop else "text"
        return [
            (f"{marker} {task} ", role),
            (f"{format_points(-drop)} points", loud),
            (f" ({format_share(start)} to {format_share(now)})", "muted"),
        ]

    def _advice(self) -> Line:
        scene = self.scene
        drop, stage = scene.drop, scene.stage
        if drop is None or stage is None or scene.place is not None:
            return []
        frozen = scene.frozen_layers
        if frozen and scene.record.history.finished is None:
            undo = scene.actions.of_op("unfreeze")
            key = f", {shown_key(undo.key)} {undo.label}" if undo and undo.key else ""
            return [(f"{len(frozen)} layers frozen", "ok"), (key, "text")]
        if scene.record.history.finished is not None or scene.read_only:
            return []
        if drop < scene.actions.alert_drop:
            return [(f"alert at {100 * scene.actions.alert_drop:.0f} points", "muted")]
        for op in ("freeze", "rollback") if scene.in_window else ("rollback",):
            action = scene.actions.of_op(op)
            if action is not None and action.key:
                return [
                    (f"{scene.glyphs.pointer} ", "danger"),
                    (shown_key(action.key), "key"),
                    (f" {action.label}", "text"),
                ]
        return []

    def _second_line(self, width: int) -> Line:
        scene = self.scene
        stage = scene.stage
        if stage is None or not scene.known:
            return []
        parts: list[Line] = []
        if stage.window:
            done = min(scene.step / stage.window, 1.0)
            filled = round(_BAR_CELLS * done)
            glyphs = scene.glyphs
            role = "danger" if scene.in_window else "muted"
            left = max(stage.window - scene.step, 0)
            parts.append(
                [
                    (glyphs.filled * filled, role),
                    (glyphs.empty * (_BAR_CELLS - filled), "rule"),
                    (f" {left} steps left" if left else " over", "muted"),
                ]
            )
        task = scene.record.worst_known
        series = stage.accuracy.get(task) if task else None
        extremes = series.extremes(0, stage.window or stage.steps) if series else None
        if task and extremes is not None:
            parts.append(
                [
                    (f"lowest {task} ", "muted"),
                    (format_share(extremes[0]), "text"),
                    (" in the window" if stage.window else " in the stage", "muted"),
                ]
            )
        rate = self._loss_rate()
        if rate is not None:
            parts.append([(f"{format_points(rate)} points", "text"), (" in 25 steps", "muted")])
        return as_many_as_fit(parts, width, "   ")

    def _loss_rate(self) -> float | None:
        """Return how the worst earlier task changed over the newest 25 steps."""
        scene = self.scene
        task, stage = scene.record.worst_known, scene.stage
        series = stage.accuracy.get(task) if stage and task else None
        if series is None:
            return None
        now, before = series.value_at(scene.step), series.value_at(max(scene.step - 25, 0))
        if now is None or before is None or scene.step < 5:
            return None
        return now - before
