"""The console: a run view that dispatches keys and exports what it shows.

The console's own keys change the view or save a screenshot or values; the profile's keys append
commands to the command log. The run neither knows nor needs the console.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from textual import events
from textual.app import ComposeResult
from textual.screen import ModalScreen, Screen

from sf_tui.errors import RunError
from sf_tui.printable import printable
from sf_tui.run.bell import Bell, wants_bell
from sf_tui.run.directory import RunDirectory
from sf_tui.run.liveness import WorkerState
from sf_tui.run.sender import sender_name
from sf_tui.tui.actions import Action, ActionSender, console_command
from sf_tui.tui.activity import Kind
from sf_tui.tui.clipboard import offer_to_clipboard
from sf_tui.tui.dialogs.answers import AnswersDialog
from sf_tui.tui.dialogs.confirm import ConfirmDialog, Rollback, RollbackDialog, StopDialog
from sf_tui.tui.dialogs.lookup import Choice, FilterDialog, HelpDialog, PaletteDialog
from sf_tui.tui.operation import (
    already_asked,
    announcement,
    can_cancel,
    repeated,
    what_to_cancel,
)
from sf_tui.tui.panels.charts import AccuracyChart
from sf_tui.tui.panels.danger_strip import DangerStrip
from sf_tui.tui.panels.header_footer import Footer, Header
from sf_tui.tui.panels.lists import RunList
from sf_tui.tui.panels.panel import Panel
from sf_tui.tui.panels.score_words import drop_text
from sf_tui.tui.picker import PickerScreen
from sf_tui.tui.resuming import ResumeDialog, can_resume, resume_run
from sf_tui.tui.rollback import rollback_targets
from sf_tui.tui.scores import losses, lowest_in, run_start, score_now
from sf_tui.tui.terminal import INTERRUPTED_EXIT_CODE, ConsoleOptions
from sf_tui.tui.theme import other_paint
from sf_tui.tui.view_state import ViewState, change_range, jump_to_mark, move_by_probe
from sf_tui.tui.visiting import VisitingView
from sf_tui.vocabulary.commands import Command
from sf_tui.vocabulary.measured import format_score
from sf_tui.vocabulary.ops import CANCEL, PAUSED, op_named


def save_file(view: ViewState, name: str, content: str) -> Path:
    """Write a file into the run directory, else the working directory, else the temporary one.

    Raises:
        RunError: none of them is writable.
    """
    problems = []
    for folder in (view.run.path / "console", Path.cwd(), Path(tempfile.gettempdir())):
        path = folder / name
        try:
            folder.mkdir(exist_ok=True)
            path.write_text(content, encoding="utf-8")
        except OSError as error:
            problems.append(f"{folder}: {error.strerror}")
            continue
        return path
    raise RunError(f"can't save {name}: {'; '.join(problems)}", "make room on the disk")


def timed_name(stem: str, suffix: str, now_s: float) -> str:
    """Return a file name that sorts by time."""
    return f"{stem}-{datetime.fromtimestamp(now_s, UTC):%Y%m%d-%H%M%S}{suffix}"


def values_as_markdown(view: ViewState) -> str:
    """Return the console's values as Markdown, to paste into a ticket or a chat."""
    history, stage = view.live, view.stage
    lines = [f"**{view.run.id}**: {history.status.replace('_', ' ')}"]
    if stage is not None:
        lines[0] += f", stage {stage.name}, step {view.step} of {stage.steps}"
    lines += [
        "",
        "| task | run start | worst in this stage | now | since the run began | in this stage |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    lost = {loss.task: loss for loss in losses(view)}
    for task in view.tasks:
        loss = lost.get(task)
        scores = (run_start(view, task), lowest_in(view, task, 0, view.step), score_now(view, task))
        cells = [
            f"{task} ({history.metric(task).name})",
            *(format_score(score, counts=True) for score in scores),
            drop_text(loss.since_run if loss else None),
            drop_text(loss.in_stage if loss else None),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    frozen = view.frozen_layers
    lines += ["", f"Frozen: {', '.join(frozen) if frozen else 'nothing'}."]
    if view.anchor is not None:
        lines.append(f"Anchored to the start model, strength {view.anchor_strength:g}.")
    lines += [row.text for row in view.live.activity.rows if row.kind is Kind.VERDICT][-1:]
    lines.append(f"`{view.run.path}`")
    # The clipboard may be pasted into a terminal.
    return printable("\n".join(lines) + "\n")


class ZoomScreen(Screen[None]):
    """Header, danger strip, one panel, footer.

    Args:
        view: the console's.
        panel: class of the zoomed panel.
    """

    def __init__(self, view: ViewState, panel: type[Panel]) -> None:
        super().__init__(classes="-zoomed")
        self._view = view
        self._panel = panel

    def compose(self) -> ComposeResult:
        """Create new panels on the same view."""
        yield Header(self._view, id="header")
        yield DangerStrip(self._view, id="danger")
        yield self._panel(self._view, id="zoom-room")
        yield Footer(self._view, id="footer")


class ConsoleApp(VisitingView, inherit_bindings=False):
    """The Textual application of the console.

    Attributes:
        sender: sends actions to the worker.
    """

    def __init__(
        self,
        run: RunDirectory,
        options: ConsoleOptions | None = None,
        *,
        terminal_is_ready: Callable[[], bool] | None = None,
        worker_ended: Callable[[], bool] | None = None,
    ) -> None:
        super().__init__(
            run, options, terminal_is_ready=terminal_is_ready, worker_ended=worker_ended
        )
        self.entered_run()

    def entered_run(self) -> None:
        """Send actions to the run that is shown now."""
        self.sender = ActionSender(
            self.view.run,
            self.view.actions,
            read_only=self.options.read_only,
            steady_clock=self.options.steady_clock,
        )
        rings = self.options.bell or wants_bell(self.view.run)
        self._bell = Bell(self.view.run) if rings else None

    def poll(self) -> None:
        """Follow the run, and ring at warnings and at its end."""
        before = self.view.liveness.state
        super().poll()
        died = self.view.liveness.state is WorkerState.DEAD and before is not WorkerState.DEAD
        if self._bell is not None and (self._bell.poll() or died):
            self.bell()

    def on_run_list_opened(self, message: RunList.Opened) -> None:
        """Show the run that was chosen in the list at the side."""
        self.show_run(message.run)

    def _command_runs(self) -> None:
        view, clock = self.view, self.options.wall_clock
        picker = PickerScreen(view, clock, pins=view.pins, chosen=view.run)
        self.push_screen(picker, self._leave_picker)

    def _leave_picker(self, run: RunDirectory | None) -> None:
        if run is not None:
            self.show_run(run)
        self.update_panels()

    def on_key(self, event: events.Key) -> None:
        """Dispatch a key: the console's own keys first, then the profile's actions."""
        if isinstance(self.screen, ModalScreen):
            return
        printable = event.is_printable and event.character not in (None, " ")
        key = str(event.character) if printable else event.key
        if key == "ctrl+c":
            self.exit(INTERRUPTED_EXIT_CODE)
            return
        self.view.notice = ""
        command = console_command(key)
        if command is not None:
            self.run_command(command)
            return
        action = self.sender.actions.of_key(key)
        if action is not None and not self.sender.is_repeat(key):
            self.press_action(action)

    def run_command(self, command: str) -> None:
        """Run one of the console's own commands by its name in the key table."""
        getattr(self, f"_command_{command.replace('-', '_')}")()
        self.update_panels()

    def press_action(self, action: Action) -> None:
        """Send an action of the profile, open its dialog, or show why it can't be sent."""
        view, clock = self.view, self.options.steady_clock
        self.check_worker()
        if op_named(action.op).turns_on == PAUSED and can_resume(view):
            self.push_screen(ResumeDialog(view, clock), self._resume)
            return
        ended = view.live.finished
        refusal = self.sender.why_not(view.liveness.state, action, ended.status if ended else "")
        refusal = refusal or view.refused.get(action.op, "")
        if refusal:
            self.show_notice(refusal, "warn")
            return
        # It acts on the run as it is now, so that is what must be in sight.
        view.cursor = None
        action = self.sender.resolve_toggle(action, view.newest)
        again = repeated(view, action)
        if again is not None:
            self._press_again(action, again.command)
            return
        if action.op == "rollback":
            targets = rollback_targets(view.run, view.newest)
            if not targets:
                self.show_notice(
                    "no checkpoint of this stage is older than the current step", "warn"
                )
                return
            self.push_screen(RollbackDialog(view, clock, action, targets), self._roll_back)
        elif action.op == "stop":
            self.push_screen(StopDialog(view, clock, action), self._send)
        elif action.confirm:
            self.push_screen(ConfirmDialog(view, clock, action), self._send)
        else:
            self._send(action)

    def _send(self, action: Action | None, arguments: dict[str, Any] | None = None) -> None:
        if action is None:
            return
        try:
            identity = self.sender.send(action, arguments)
        except RunError as error:
            self.show_notice(str(error).replace("\n ", ":"), "error")
            return
        ahead = announcement(self.view, action)
        self.show_notice(ahead or f"{action.label}: requested", command="" if ahead else identity)

    def _resume(self, confirmed: bool | None) -> None:
        if confirmed:
            self.show_notice("starting a worker for the run")
            self.run_worker(self._start_worker())

    async def _start_worker(self) -> None:
        problem = await resume_run(self.view.run)
        if problem:
            self.show_notice(f"not resumed: {problem}", "error")

    def _press_again(self, action: Action, earlier: Command) -> None:
        """End an operation at the second press of its key by the one who asked for it."""
        cancel = self.view.actions.of_op(CANCEL)
        if earlier.by == sender_name() and cancel is not None:
            # This one, whatever else is under way.
            self._send(cancel, {"command": earlier.id})
            return
        self.show_notice(already_asked(action, earlier), "warn")

    def _cancel(self) -> None:
        cancel = self.view.actions.of_op(CANCEL)
        if cancel is not None and can_cancel(self.view):
            self._send(cancel, what_to_cancel(self.view))

    def _roll_back(self, rollback: Rollback | None) -> None:
        if rollback is not None:
            self._send(rollback.action, {"to": rollback.to})

    def _choose(self, choice: Choice | None) -> None:
        if choice is None:
            return
        if choice.action is not None:
            self.press_action(choice.action)
        else:
            self.run_command(choice.command)

    def _filter(self, text: str | None) -> None:
        if text is not None:
            self.view.event_filter = text
            self.update_panels()

    def _command_leave(self) -> None:
        self.exit(0)

    def _command_help(self) -> None:
        self.push_screen(HelpDialog(self.view, self.options.steady_clock))

    def _command_palette(self) -> None:
        self.push_screen(PaletteDialog(self.view, self.options.steady_clock), self._choose)

    def _command_answers(self) -> None:
        # Every profile has this action, also where an older file doesn't list it.
        action = self.sender.actions.of_op("ask") or Action("ask", "ask", "", "ask", False, {})
        refusal = "read-only: nothing is asked" if self.options.read_only else ""
        ask = None
        if self.view.liveness.has_worker and self.view.newest.finished is None:
            refusal = refusal or self.view.refused.get("ask", "")
            ask = None if refusal else partial(self._ask, action)
        self.push_screen(AnswersDialog(self.view, self.options.steady_clock, ask, refusal))

    def _ask(self, action: Action, question: str) -> str:
        refusal = self.sender.why_not(self.view.liveness.state, action)
        if refusal:
            raise RunError(refusal, f"`sf ask {self.view.run.id}` asks its checkpoints")
        return self.sender.send(action, {"question": question} if question else None)

    def _command_filter(self) -> None:
        self.push_screen(FilterDialog(self.view, self.options.steady_clock), self._filter)

    def _command_zoom(self) -> None:
        if isinstance(self.screen, ZoomScreen):
            self.pop_screen()
            return
        focused = self.focused if isinstance(self.focused, Panel) else None
        panel = type(focused) if focused is not None else AccuracyChart
        self.push_screen(ZoomScreen(self.view, panel))

    def _command_next_panel(self) -> None:
        """Do nothing: Textual moves the focus with tab."""

    def _command_back(self) -> None:
        move_by_probe(self.view, -1)

    def _command_forward(self) -> None:
        move_by_probe(self.view, 1)

    def _command_previous_mark(self) -> None:
        jump_to_mark(self.view, -1)

    def _command_next_mark(self) -> None:
        jump_to_mark(self.view, 1)

    def _command_live(self) -> None:
        if self.view.cursor is not None:
            self.view.cursor = None
        elif isinstance(self.screen, ZoomScreen):
            self.pop_screen()
        elif can_cancel(self.view):
            self._cancel()
        else:
            self.go_back()

    def _command_narrow(self) -> None:
        change_range(self.view, 1)

    def _command_widen(self) -> None:
        change_range(self.view, -1)

    def _command_log_scale(self) -> None:
        self.view.log_loss = not self.view.log_loss

    def _command_theme(self) -> None:
        if self.options.no_color:
            self.show_notice("NO_COLOR is set: there is only one theme", "warn")
            return
        self.view.paint = other_paint(self.view.paint)
        self.theme = self.view.paint.name
        for screen in self.screen_stack:
            for panel in screen.query(Panel):
                panel.repaint()

    def _command_redraw(self) -> None:
        self.redraw()
        self.show_notice("the whole screen was sent again")

    def _command_screenshot(self) -> None:
        name = timed_name("console", ".svg", self.options.wall_clock())
        path = self._keep(name, self.export_screenshot(title=f"sf {self.view.run.id}"))
        if path is not None:
            self.show_notice(f"saved {path}")

    def _command_copy(self) -> None:
        text = values_as_markdown(self.view)
        offered = offer_to_clipboard(text, os.environ, self.copy_to_clipboard)
        path = self._keep(timed_name("values", ".md", self.options.wall_clock()), text)
        if path is not None:
            self.show_notice(f"written to {path}, {offered}")

    def _keep(self, name: str, content: str) -> Path | None:
        """Write a file and return its path; show a notice and return None if that fails."""
        try:
            return save_file(self.view, name, content)
        except RunError as error:
            self.show_notice(f"{error.message}: {error.hint}", "error")
            return None
