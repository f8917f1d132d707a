"""The danger strip: how much of the old task is lost, and the actions that `advice` suggests.

If the worker is dead or silent it shows how to resume instead. Knows the drop, the danger window,
the verdict and the active protections; sends nothing.
"""

from __future__ import annotations

from sf_tui.printable import printable
from sf_tui.run.hosted import way_to_resume
from sf_tui.run.liveness import WorkerState
from sf_tui.tui.actions import shown_key
from sf_tui.tui.advice import closing_command, remark, suggested_actions
from sf_tui.tui.at_risk import questions_at_risk
from sf_tui.tui.lines import (
    Line,
    as_many_as_fit,
    first_that_fits,
    join,
    line_width,
    those_that_fit,
    wrap_cells,
)
from sf_tui.tui.numbers import format_clock, format_value
from sf_tui.tui.operation import operation_line
from sf_tui.tui.panels.panel import Panel
from sf_tui.tui.panels.score_words import drop_text, loss_forms, score_text, task_forms
from sf_tui.tui.scores import (
    lowest_in,
    new_task,
    recent_change,
    viewed_state,
    viewed_window,
    worst,
)
from sf_tui.tui.view_state import ViewState
from sf_tui.vocabulary.ops import ANCHORED, FROZEN, op_that_turns_off
from sf_tui.vocabulary.sizes import counted

_BAR_CELLS = 30
_SHORT_BAR_CELLS = 12
_MOST_ROWS = 6
_SHORT_FORMS = 3
"""Most forms of a loss that is shown for one range of the run only."""
_FAILURES = {"failed": "Failed", "guard_failed": "Guard failed"}
"""Ends that have a reason to be read in full, and how they are called."""
_GAP = "   "
_ANY_RUN = "RUN"
"""Stands for a run's id where there is no room for it; the header has it."""
_AT_RISK = "at risk: "


class DangerStrip(Panel):
    """Two lines: the danger window and the task that lost most; the new task and what else fits."""

    def compose_lines(self, width: int, height: int) -> list[Line]:
        """Return why a run failed or is without a worker; else its losses and suggestions."""
        reason = failure_lines(self.view, width)
        worker = self._worker_line(width)
        if reason:
            lines = [*reason, self._after_the_end(width)]
        elif worker is not None:
            lines = list(worker)
        else:
            lines = self._losses(width)
        operation = operation_line(self.view, width)
        if operation and not reason:
            lines = [*lines[:1], operation]
        return lines[:height]

    def _worker_line(self, width: int) -> tuple[Line, Line] | None:
        view = self.view
        if view.place is not None:
            # The header still tells what became of the worker.
            return None
        state, beat = view.liveness.state, self._last_beat()
        if state is WorkerState.DEAD:
            status = [("The worker is dead", "danger"), (beat, "text")]
            resume: Line = [
                (way_to_resume(view.run), "strong"),
                (f" ({self._from_checkpoint()})", "text"),
            ]
        elif state is WorkerState.SILENT:
            status = [("The worker is silent", "danger"), (beat, "text")]
            resume = [
                ("it may come back; if it does not, ", "text"),
                (way_to_resume(view.run), "strong"),
            ]
        elif state is WorkerState.STARTING and view.newest.started is None:
            return [("starting the worker", "muted")], []
        else:
            return None
        one_line = join([status, resume], _GAP)
        if line_width(one_line) <= width:
            return one_line, self._after_the_end(width)
        return (as_many_as_fit([resume, status], width, _GAP) or resume), status

    def _last_beat(self) -> str:
        view = self.view
        if view.liveness.heartbeat_age_s is None:
            return ""
        last = format_clock(view.newest.last_time, view.zone).strip()
        return f" (last event {last})" if last else ""

    def _from_checkpoint(self) -> str:
        state = self.view.newest
        kept = "; the pause is not kept" if state.paused or state.ended_paused else ""
        for stage in reversed(state.stages):
            checkpoints = state.current_checkpoints(stage)
            if checkpoints:
                return f"from {stage}/step-{checkpoints[-1].step:06d}{kept}"
        return f"from the beginning{kept}"

    def _after_the_end(self, width: int) -> Line:
        """Return what the run came to, for the line below why it is not going on."""
        loss = worst(self.view)
        forms = loss_forms(self.view, loss) if loss is not None else []
        advice: Line = next(iter(self._suggestions()), [])
        # What to do next must be read; a shorter form of the loss leaves room for it, or none.
        room = width - line_width(advice) - len(_GAP) if advice else width
        line = first_that_fits(forms, room)
        if advice and line_width(line) > room:
            return advice
        return those_that_fit([line, advice, *self._new_task()], width, _GAP)

    def _where(self) -> list[Line]:
        """Return where the run is in its danger windows, the longest form first."""
        view = self.view
        stage = viewed_state(view)
        if stage is None:
            return [[("no stage has begun", "muted")]]
        if not view.known:
            return [[("first task: nothing to forget yet", "muted")]]
        window = viewed_window(view)
        if window is not None:
            count = (f" {view.step - window.start}/{window.length}", "strong")
            cause = [(f" after {window.cause}", "danger")] if window.cause else []
            return [
                [("DANGER WINDOW", "danger"), count, *cause],
                [("DANGER", "danger"), count, *cause],
            ]
        if view.live.finished is not None and view.place is None:
            return [[(f"run {view.live.status.replace('_', ' ')}", "muted")]]
        if stage.windows:
            return [[("danger window over", "muted")], [("window over", "muted")]]
        return [[("outside the danger window", "muted")], [("no danger window", "muted")]]

    def _losses(self, width: int) -> list[Line]:
        """Return the lines of a run that goes on or ended well.

        Later entries of the list only use the room that earlier ones left; a longer form of a part
        replaces its shorter one. An action that finds no room on the first line begins the second.
        """
        view = self.view
        where = self._where()
        loss = worst(view)
        forms = loss_forms(view, loss) if loss is not None else []
        suggestions = self._suggestions()
        advice = [suggestions[:count] for count in range(1, len(suggestions) + 1)]
        shown: dict[str, Line] = {}
        first_advice = [("advice", join(each)) for each in advice[:1]]
        # After the end there is no hurry: the whole score comes before the command.
        hurry = first_advice if view.live.finished is None else []
        # What a score rests on comes before the action, which has the second line, too.
        whole, needed = (forms[:2], forms[2:]) if len(forms) > _SHORT_FORMS else ([], forms)
        order = [
            ("where", where[-1]),
            *(("loss", form) for form in reversed(needed)),
            ("where", where[0]),
            *hurry,
            ("held", self._held(detail=False)),
            *(("advice", join(each)) for each in advice[1:]),
            *(("loss", form) for form in reversed(whole)),
            *first_advice[len(hurry) :],
            ("held", self._held(detail=True)),
            ("calm", self._calm()),
        ]
        for place, part in order:
            others = [line for name, line in shown.items() if name != place]
            room = width - sum(line_width(line) + len(_GAP) for line in others)
            if part and line_width(part) <= room:
                shown[place] = part
        first = [
            shown[name] for name in ("where", "loss", "held", "advice", "calm") if name in shown
        ]
        below: list[Line] = []
        if advice and "advice" not in shown:
            whole_advice = join(advice[-1])
            fits = line_width(whole_advice) <= width
            below.append(whole_advice if fits else join(self._suggestions(_ANY_RUN)))
        held = self._held(detail=False)
        if held and "held" not in shown:
            below.append(held)
        room = width - line_width(join(first, _GAP)) - len(_GAP)
        risk = [] if below else self._risk(room)
        return [join([*first, risk], _GAP), self._second_line(width, join(below, _GAP))]

    def _held(self, *, detail: bool) -> Line:
        """Return the active protections (frozen layers, anchor), on demand with their undo keys."""
        view = self.view
        if view.stage is None or not view.known:
            return []
        parts: list[Line] = []
        if view.frozen_layers:
            parts.append([(f"{counted(len(view.frozen_layers), 'layer')} frozen", "ok")])
            parts[-1] += self._undo(FROZEN) if detail else []
        if view.anchor is not None:
            parts.append([("anchored", "ok")])
            if detail and view.anchor_loss is not None:
                parts[-1].append((f", KL {format_value(view.anchor_loss)}", "text"))
            parts[-1] += self._undo(ANCHORED) if detail else []
        return join(parts)

    def _undo(self, state: str) -> Line:
        undo = self.view.offered.of_op(op_that_turns_off(state))
        over = self.view.newest.finished is not None
        if over or undo is None or not undo.key:
            return []
        return [(f", {shown_key(undo.key)} {undo.label}", "text")]

    def _suggestions(self, run: str = "") -> list[Line]:
        """Return the suggested actions with their keys; after the run's end, the command.

        Args:
            run: what stands for the run in a remark's command; its id if not given.
        """
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
        said = remark(view, run)
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
        return [(f"alert at {counted(f'{100 * bound:.0f}', 'point')}", "muted")]

    def _risk(self, room: int) -> Line:
        """Return a likely question of another task, until the run's end."""
        at_risk = self.view.at_risk if self.view.live.finished is None else None
        questions = questions_at_risk(at_risk) if at_risk else []
        line: Line = [(_AT_RISK, "muted"), (questions[0], "text")] if questions else []
        # A part of a question names no task.
        return line if line_width(line) <= room else []

    def _second_line(self, width: int, first: Line) -> Line:
        """Return what found no room on the first line, the new task, and the course."""
        view = self.view
        loss = worst(view)
        room = width - (line_width(first) + len(_GAP) if first else 0)
        parts: list[Line] = [first, *self._new_task(room)]
        if loss is not None:
            parts += [self._window_bar(width), *self._course(loss.task)]
        return those_that_fit(parts, width, _GAP)

    def _new_task(self, room: int = 200) -> list[Line]:
        """Return the task that this stage trains, and whether it does not rise."""
        view = self.view
        new = new_task(view)
        if new is None:
            return []
        forms = task_forms(view, new.task, new.now, None)
        if not new.not_learned:
            return [first_that_fits(forms, room)]
        steps = counted(view.step, "step")
        words: list[Line] = [
            [(f": not learned after {steps}", "danger")],
            [(": not learned", "danger")],
        ]
        return [first_that_fits([[*form, *word] for form in forms for word in words], room)]

    def _window_bar(self, width: int) -> Line:
        """Return the progress through the danger window."""
        view = self.view
        stage, window = viewed_state(view), viewed_window(view)
        if stage is None or not stage.windows or not view.known:
            return []
        cells = _BAR_CELLS if width >= 110 else _SHORT_BAR_CELLS
        glyphs = view.glyphs
        if window is None:
            return [(glyphs.filled * cells, "muted"), (" over", "muted")]
        done = view.step - window.start
        filled = round(cells * done / max(window.length, 1))
        return [
            (glyphs.filled * filled, "danger"),
            (glyphs.empty * (cells - filled), "rule"),
            (f" {counted(window.length - done, 'step')} left", "muted"),
        ]

    def _course(self, task: str) -> list[Line]:
        """Return how a task changed lately, and its worst score."""
        view = self.view
        stage, window = viewed_state(view), viewed_window(view)
        parts: list[Line] = []
        change = recent_change(view, task)
        if change is not None:
            points = f"{task} {drop_text(change.drop)}"
            parts.append([(points, "text"), (f" in {counted(change.steps, 'step')}", "muted")])
        if stage is not None:
            first, last = (window.start, window.end) if window else (0, view.step)
            lowest = lowest_in(view, task, first, last)
            if lowest is not None:
                where = " in the window" if window else " in this stage"
                word = lowest.metric.worst_word
                score = score_text(view, lowest)
                parts.append([(f"{word} ", "muted"), (score, "text"), (where, "muted")])
        return parts


def failure_lines(view: ViewState, width: int) -> list[Line]:
    """Return why a run failed and what to do, in full; empty for any other run."""
    finished = view.live.finished
    if finished is None or finished.status not in _FAILURES or view.place is not None:
        return []
    label = _FAILURES[finished.status]
    reason = printable(finished.reason or f"exit code {finished.exit_code}", multiline=False)
    first, *more = wrap_cells(f"{label}: {reason}", width)
    if not first.startswith(label):
        return [[(line, "strong")] for line in (first, *more)]
    lines: list[Line] = [[(label, "danger"), (first[len(label) :], "strong")]]
    return lines + [[(line, "strong")] for line in more]


def strip_height(view: ViewState, width: int) -> int:
    """Return the rows that the strip needs: two, or more for a long reason of a failure."""
    reason = failure_lines(view, width)
    return min(len(reason) + 1, _MOST_ROWS) if reason else 2
