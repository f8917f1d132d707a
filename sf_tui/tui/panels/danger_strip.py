"""The danger strip: how much of the old task is lost, and which actions the console suggests.

If the worker is dead or silent it shows how to resume instead. Knows the drop, the danger window,
the verdict and the active protections; sends nothing.
"""

from __future__ import annotations

from sf_tui.run.liveness import WorkerState
from sf_tui.tui.actions import Action, shown_key
from sf_tui.tui.activity import frames_at_risk, words_of_new_task
from sf_tui.tui.lines import Line, as_many_as_fit, join, line_width, shorten_frame
from sf_tui.tui.numbers import format_change, format_clock, format_share, format_value
from sf_tui.tui.panels.panel import Panel
from sf_tui.tui.view_state import ViewState
from sf_tui.vocabulary.ops import (
    ANCHORED,
    FROZEN,
    GO_BACK,
    OPS,
    PROTECT,
    RECOVER,
    TEST,
    op_that_turns_off,
    ops_for,
)
from sf_tui.vocabulary.verdicts import is_recoverable

MOST_SUGGESTED = 2
"""Most actions suggested at a time; more would be no suggestion."""
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
                (f" ({self._from_checkpoint()})", "text"),
            ]
        elif state is WorkerState.SILENT:
            status = [("The worker is silent", "danger"), (beat, "text")]
            resume = [
                ("it may come back; if it does not, ", "text"),
                (f"sf resume {view.run.id}", "strong"),
            ]
        elif state is WorkerState.STARTING and view.live.started is None:
            return [("starting the worker", "muted")], []
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
            return [("first task: nothing to forget yet", "muted")]
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
        return [
            [
                *([] if index else [pointer]),
                (shown_key(action.key), "key"),
                (f" {action.label}", "text"),
            ]
            for index, action in enumerate(suggested_actions(view))
        ]

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


def suggested_actions(view: ViewState) -> list[Action]:
    """Return the suggested actions, all with a key; none while the drop is below the alert."""
    drop = view.drop
    if drop is None or view.place is not None or view.read_only:
        return []
    if drop < view.actions.alert_drop or view.live.finished is not None:
        return []
    wanted, last_resorts = _ranked_ops(view)
    return _usable(view, wanted)[:MOST_SUGGESTED] or _usable(view, last_resorts)[:1]


def closing_command(view: ViewState) -> str:
    """Return the next command for a run that ended with a drop above the alert; else empty."""
    drop, run = view.drop, view.run.id
    if view.live.finished is None or drop is None or drop < view.actions.alert_drop:
        return ""
    if is_recoverable(view.verdict):
        return f"sf recover {run} --out DIR"
    return "" if view.verdict else f"sf diagnose {run}"


def _ranked_ops(view: ViewState) -> tuple[list[str], list[str]]:
    """Return suitable ops, best first, and the ops to suggest if none of those is available."""
    on = {FROZEN: bool(view.frozen_layers), ANCHORED: bool(view.anchor)}
    protecting = [op for op in ops_for(PROTECT) if not on.get(OPS[op].turns_on)]
    recovering, going_back = ops_for(RECOVER), ops_for(GO_BACK)
    if view.verdict == "real":
        # These weights no longer contain the knowledge; recovering can't work.
        return [*going_back, *protecting], []
    if view.verdict == "spurious":
        # Recovered knowledge is lost again unless the next steps are protected.
        return [*recovering, *reversed(protecting)], going_back
    if view.in_window:
        return protecting, [*recovering, *going_back]
    return recovering if view.verdict else [*recovering, *ops_for(TEST)], going_back


def _usable(view: ViewState, ops: list[str]) -> list[Action]:
    """Return the actions of some ops that have a key and are not already requested."""
    found = []
    for op in ops:
        action = view.actions.of_op(op)
        newest = view.live.activity.newest_command(action.name) if action else None
        asked_for = newest is not None and newest.is_under_way
        if action is not None and action.key and not asked_for:
            found.append(action)
    return found
