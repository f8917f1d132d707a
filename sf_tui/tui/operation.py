"""The operation under way and the commands that wait, in words, and what a key does about them.

Training waits for an operation, or goes on beside it: the words say which before it begins, how far
it is, and how it is ended. Reads a view; sends nothing.
"""

from __future__ import annotations

from collections.abc import Sequence

from sf_tui.run.clock import seconds_since_epoch
from sf_tui.run.liveness import WorkerState
from sf_tui.tui.actions import Action
from sf_tui.tui.activity import CommandRow
from sf_tui.tui.lines import (
    Line,
    first_that_fits,
    join,
    line_width,
    those_that_fit,
    wrap_cells,
)
from sf_tui.tui.numbers import format_duration
from sf_tui.tui.operation_words import about, progress_parts, training_meanwhile
from sf_tui.tui.view_state import ViewState
from sf_tui.vocabulary.commands import REQUESTED, Command
from sf_tui.vocabulary.operation_events import OperationProgress
from sf_tui.vocabulary.ops import CANCEL, op_named

_GAP = "   "
_WAITING = "waiting: "
_SETTLED_S = 1.0
"""A command that was asked for just now is about to be read; it doesn't wait yet."""


def under_way(view: ViewState) -> CommandRow | None:
    """Return the command whose operation is under way; None without one."""
    return view.newest.activity.worked_on() if view.work is not None else None


def waiting(view: ViewState) -> list[CommandRow]:
    """Return the commands that the worker will decide on later, oldest first."""
    if view.progress is not None or view.newest.finished is not None:
        # Their answers may be in the part of the log that is not read yet.
        return []
    if view.liveness.state not in {WorkerState.STARTING, WorkerState.ALIVE, WorkerState.SILENT}:
        return []
    return [
        row
        for row in view.newest.activity.commands.values()
        if row.command.status == REQUESTED and row.command.action != CANCEL
    ]


def can_cancel(view: ViewState) -> bool:
    """Return whether there is something that esc ends."""
    if view.read_only or view.actions.of_op(CANCEL) is None:
        return False
    return under_way(view) is not None or bool(waiting(view))


def offers_cancel(view: ViewState) -> bool:
    """Return whether the footer names esc: not for what is about to be answered."""
    return can_cancel(view) and (under_way(view) is not None or bool(_settled(view)))


def _settled(view: ViewState) -> list[CommandRow]:
    return [row for row in waiting(view) if _waited_s(view, row) > _SETTLED_S]


def _queued(view: ViewState) -> list[CommandRow]:
    return waiting(view) if under_way(view) is not None else _settled(view)


def what_to_cancel(view: ViewState) -> dict[str, str]:
    """Return the arguments of the cancel that ends what is shown: it, or all that waits."""
    row = under_way(view)
    return {} if row is None else {"command": row.command.id}


def repeated(view: ViewState, action: Action) -> CommandRow | None:
    """Return the command under way or waiting that an action would repeat; None without one."""
    if not op_named(action.op).one_at_a_time:
        return None
    rows = [row for row in (under_way(view), *waiting(view)) if row is not None]
    return next((row for row in rows if _op_of(view, row) == action.op), None)


def already_asked(action: Action, earlier: Command) -> str:
    """Return why an action is not sent again, and how the earlier one is ended."""
    if earlier.status == REQUESTED:
        way = f"`sf act RUN cancel {earlier.action}` drops it"
        return f"{action.label}: waits already, asked for by {earlier.sender}; {way}"
    return f"{action.label}: already under way, asked for by {earlier.sender}; esc cancels it"


def _op_of(view: ViewState, row: CommandRow) -> str:
    action = view.actions.named(row.command.action)
    return row.command.op or (action.op if action is not None else "")


def how_long(view: ViewState, action: Action) -> str:
    """Return how long training would wait for an action, in words; empty if it doesn't wait."""
    if not op_named(action.op).doing:
        return ""
    expected_s = view.newest.expected_seconds(action.op)
    if expected_s is None:
        return "training waits until it is done"
    text = f"training waits, {about(expected_s)}"
    longest_s = view.actions.longest_s(action)
    if longest_s is not None and longest_s > expected_s:
        text += f" (up to {format_duration(round(longest_s))} if undecided)"
    return text


def announcement(view: ViewState, action: Action) -> str:
    """Return what to know before an action begins: what waits, and how long; empty for nothing."""
    row, op, now = under_way(view), op_named(action.op), view.newest.operation
    if row is not None and not _is_beside(view, row) and not op.interrupts:
        soon = ""
        if now is not None and now.left_s is not None:
            soon = f", in {about(max(now.left_s - _passed_s(view, now), 0.0))}"
        return f"{action.label}: waits until {row.command.action} is done{soon}; esc cancels that"
    if view.liveness.state is WorkerState.STARTING or view.newest.stage is None:
        return f"{action.label}: kept for the first step"
    if view.actions.runs_beside(action) and not view.newest.paused:
        return f"{action.label}: training goes on meanwhile; esc cancels"
    long = how_long(view, action)
    return f"{action.label}: {long}; esc cancels" if long else ""


def operation_line(view: ViewState, width: int) -> Line:
    """Return the operation under way and what waits, on one line; empty if there is neither."""
    if view.place is not None:
        return []
    row, queue = under_way(view), _queued(view)
    if row is None and not queue:
        return []
    esc: Line = [("esc", "key"), (" cancel", "text")] if can_cancel(view) else []
    told: list[Line] = []
    if row is not None:
        progress = _progress_of(view, row)
        does = "training waits"
        if progress is not None:
            does = training_meanwhile(progress, paused=view.newest.paused)
        parts = [[(row.doing, "strong"), (f": {does}", "text")], esc]
        if progress is not None:
            told = [
                [(part, "text")] for part in progress_parts(progress, _passed_s(view, progress))
            ]
            if progress.left_s is not None:
                parts.append(told.pop(0))
    else:
        which = "first" if view.newest.stage is None else "next"
        parts = [[(f"kept for the {which} step", "text")], esc]
    queued = _queue(view, queue)
    for form in queued[:2]:
        line = join([*parts, form, *told], _GAP)
        if line_width(line) <= width:
            return line
    # That a command is not lost matters more than how far the operation is.
    room = width - line_width(join(parts, _GAP)) - len(_GAP)
    return those_that_fit([*parts, first_that_fits(queued[1:], room), *told], width, _GAP)


def operation_lines(view: ViewState, width: int) -> list[Line]:
    """Return the operation and what waits, with names below it where one line has only a count."""
    line = operation_line(view, width)
    if not line or any(text == _WAITING for text, _ in line):
        return [line]
    names = _names(_queued(view))
    return [line, *([(part, "text")] for part in wrap_cells(_WAITING + names, width) if names)]


def _progress_of(view: ViewState, row: CommandRow) -> OperationProgress | None:
    """Return the progress of a command's operation; None before its first event."""
    known = (view.newest.operation, view.newest.beside)
    return next((now for now in known if now is not None and now.id == row.command.id), None)


def _is_beside(view: ViewState, row: CommandRow) -> bool:
    """Return whether training goes on beside a command's operation."""
    progress = _progress_of(view, row)
    return progress is not None and progress.beside


def _passed_s(view: ViewState, now: OperationProgress) -> float:
    """Return the seconds of work since an event."""
    if now.beside and view.newest.paused:
        return 0.0
    since = seconds_since_epoch(now.time)
    return 0.0 if since is None else max(view.now_s - since, 0.0)


def _queue(view: ViewState, rows: Sequence[CommandRow]) -> list[Line]:
    """Return what waits, since when and for whom; what waits; how much waits. Empty if nothing."""
    if not rows:
        return []
    full = ", ".join(
        f"{row.command.action} {format_duration(int(_waited_s(view, row)))} ({row.command.sender})"
        for row in rows
    )
    forms: list[Line] = [[(_WAITING, "muted"), (text, "text")] for text in (full, _names(rows))]
    return [*forms, [(f"{len(rows)} waiting", "text")]]


def _names(rows: Sequence[CommandRow]) -> str:
    return ", ".join(row.command.action for row in rows)


def _waited_s(view: ViewState, row: CommandRow) -> float:
    since = seconds_since_epoch(row.command.requested)
    return 0.0 if since is None else max(view.now_s - since, 0.0)
