"""The header: which run, how far, how fast, until when, and in what state."""

from __future__ import annotations

import re

from sf_tui.run.liveness import WorkerState
from sf_tui.tui.lines import Line, as_many_as_fit, join, line_width, spread
from sf_tui.tui.numbers import (
    format_count,
    format_duration,
    format_rate,
    format_share,
    format_value,
)
from sf_tui.tui.panels.panel import Panel

_BAR_CELLS = 16
_DATE = re.compile(r"^\d{8}-\d{6}-")


class Header(Panel):
    """Two lines about the run as a whole."""

    def compose_lines(self, width: int, height: int) -> list[Line]:
        """Return the line of the run and the line of its numbers."""
        del height
        ellipsis = self.scene.glyphs.ellipsis
        right = self._state()
        room = width - line_width(right) - 2
        progress = as_many_as_fit(self._progress(width), max(room - 22, 0), "  ")
        name = self._run_name(room - line_width(progress) - 2)
        left = as_many_as_fit([name, progress], width, "  ")
        notes = self._notes()
        return [
            spread(left, right, width, ellipsis),
            spread(self._numbers(width - line_width(notes) - 2), notes, width, ellipsis),
        ]

    def _run_name(self, width: int) -> Line:
        """Return the run's id; where it doesn't fit, first its date goes, then its beginning."""
        run = self.scene.run.id
        room = max(width - 3, 8)
        shown = run if len(run) <= room else _DATE.sub("", run)
        if len(shown) > room:
            shown = f"{self.scene.glyphs.ellipsis}{shown[-room + 1 :]}"
        return [("sf ", "muted"), (shown, "strong")]

    def _progress(self, width: int) -> list[Line]:
        scene = self.scene
        stage = scene.stage
        if stage is None:
            return []
        names = [name for name, _ in scene.record.stages_planned]
        count = f" {names.index(stage.name) + 1}/{len(names)}" if stage.name in names else ""
        _, marker = scene.task_paint(stage.task)
        role, _ = scene.task_paint(stage.task)
        parts: list[Line] = [
            [("stage ", "muted"), (f"{marker} {stage.name}", role), (count, "muted")],
            [("step ", "muted"), (f"{scene.step}/{stage.steps}", "text")],
        ]
        if width >= 110:
            filled = round(_BAR_CELLS * min(scene.step / max(stage.steps, 1), 1.0))
            glyphs = scene.glyphs
            parts.append(
                [
                    (glyphs.filled * filled, role),
                    (glyphs.empty * (_BAR_CELLS - filled), "rule"),
                ]
            )
        history = scene.record.history
        if history.finished is None and not history.paused and self._runs:
            parts.append([("ETA ", "muted"), (format_duration(scene.record.seconds_left), "text")])
        return parts

    @property
    def _runs(self) -> bool:
        return self.scene.liveness.has_worker

    def _state(self) -> Line:
        scene = self.scene
        history, state = scene.record.history, scene.liveness.state
        if state is WorkerState.DEAD:
            return [("worker dead", "danger")]
        if state is WorkerState.SILENT:
            return [("worker silent", "danger")]
        if state is WorkerState.STARTING or (history.started is None and not history.finished):
            return [("starting", "text")]
        work = scene.work
        if work is not None:
            doing, seconds = work
            return [
                (f"{doing} {scene.glyphs.ellipsis} ", "strong"),
                (format_duration(int(seconds)), "text"),
            ]
        status = history.status.replace("_", " ")
        if history.finished is not None:
            code = history.finished.get("exit_code")
            role = "ok" if history.status == "completed" else "danger"
            return [(status, role), (f" exit {code}", "muted")]
        return [(status, "strong" if history.paused else "ok")]

    def _numbers(self, width: int) -> Line:
        scene = self.scene
        history, record = scene.record.history, scene.record
        last = history.stage.last_step if history.stage else None
        stage, place = scene.stage, scene.place
        loss = last.get("loss") if last else None
        norm = last.get("grad_norm") if last else None
        if place is not None and stage is not None:
            loss, norm = stage.loss.value_at(place.step), stage.grad_norm.value_at(place.step)
        parts: list[Line] = [
            _pair("loss", format_value(loss)),
            _pair("grad norm", format_value(norm)),
        ]
        if scene.anchor_loss is not None:
            parts.append(_pair("anchor KL", format_value(scene.anchor_loss)))
        if place is None and last is not None:
            speed = record.steps_per_second if self._runs and not history.paused else None
            parts += [
                _pair("lr", _rate_text(last.get("lr"))),
                [(format_rate(last.get("tokens_per_second")), "text"), (" tokens/s", "muted")],
            ]
            if speed is not None:
                parts.append([(format_value(speed), "text"), (" steps/s", "muted")])
        started = history.started or {}
        model = started.get("model") or {}
        if self.size.width >= 110 and model:
            parts.append(
                [(format_count(model.get("parameters")), "text"), (" parameters", "muted")]
            )
        if self.size.width >= 110 and started.get("device"):
            parts.append([("on ", "muted"), (str(started["device"]), "text")])
        if self.size.width >= 150 and scene.tasks:
            parts += [
                [(f"{task} ", "muted"), (format_share(scene.accuracy_now(task)), "text")]
                for task in scene.tasks[:3]
            ]
        return as_many_as_fit(parts, width, "  ")

    def _notes(self) -> Line:
        scene = self.scene
        notes = []
        if scene.progress is not None:
            notes.append(f"reading history {scene.progress:.0%}")
        place = scene.place
        if place is not None:
            notes.append(f"replay {place.stage}@{place.step}, esc: live")
        if scene.read_only:
            notes.append("read-only")
        if scene.record.passed_over:
            notes.append(f"{scene.record.passed_over} unknown events")
        line: Line = [(f" {scene.glyphs.middot} ".join(notes), "strong")] if notes else []
        if scene.anchor is not None:
            held: Line = [(f"anchored, strength {scene.anchor_strength:g}", "ok")]
            return join([held, line], f" {scene.glyphs.middot} ")
        return line


def _pair(name: str, value: str) -> Line:
    return [(f"{name} ", "muted"), (value, "text")]


def _rate_text(rate: float | None) -> str:
    return "–" if rate is None else f"{rate:.1e}".replace("e-0", "e-")
