"""The console: a run view that dispatches keys and exports what it shows.

The console's own keys change the view or save a screenshot or values; the profile's keys append
commands to the command log. The run neither knows nor needs the console.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from textual import events
from textual.screen import ModalScreen

from sf_tui.errors import RunError
from sf_tui.run.bell import Bell, wants_bell
from sf_tui.run.directory import RunDirectory
from sf_tui.run.liveness import WorkerState
from sf_tui.run.sender import sender_name
from sf_tui.tui.actions import Action, ActionSender, console_key, named_key
from sf_tui.tui.clipboard import offer_to_clipboard
from sf_tui.tui.dialogs.answers import AnswersDialog
from sf_tui.tui.dialogs.confirm import ConfirmDialog, Rollback, RollbackDialog, StopDialog
from sf_tui.tui.dialogs.help import HelpDialog
from sf_tui.tui.dialogs.lookup import Choice, FilterDialog, PaletteDialog
from sf_tui.tui.dialogs.replay import LeaveReplayDialog
from sf_tui.tui.exports import save_file, timed_name, values_as_markdown
from sf_tui.tui.key_bursts import BURST_S, KeyBursts
from sf_tui.tui.navigation import NavigableView
from sf_tui.tui.operation import (
    already_asked,
    announcement,
    can_cancel,
    repeated,
    what_to_cancel,
)
from sf_tui.tui.panels.lists import RunList
from sf_tui.tui.panels.panel import Panel
from sf_tui.tui.picker import PickerScreen
from sf_tui.tui.resuming import ResumeDialog, can_resume, resume_run
from sf_tui.tui.rollback import rollback_targets
from sf_tui.tui.terminal import INTERRUPTED_EXIT_CODE, ConsoleOptions
from sf_tui.tui.theme import other_paint
from sf_tui.vocabulary.commands import Command
from sf_tui.vocabulary.ops import CANCEL, PAUSED, op_named

NOT_KEYS = "that was text, not a key: nothing was done"


class ConsoleApp(NavigableView, inherit_bindings=False):
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
        self._bursts = KeyBursts()
        self._held_key = ""
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
        """Dispatch a pressed key, and ignore letters that are a text.

        A letter that does something is held back for a moment: another one right behind it makes
        both a text.
        """
        if isinstance(self.screen, ModalScreen):
            return
        letter = event.is_printable
        key = str(event.character) if letter and event.character not in (None, " ") else event.key
        if key == "ctrl+c":
            self.exit(INTERRUPTED_EXIT_CODE)
            return
        if self.is_headless or not letter:
            # Keys that a program sends are not typed or pasted.
            if not (key == "enter" and self._bursts.goes_on(event.time)):
                self.press_key(key)
            return
        if self._bursts.is_text(key, event.time):
            self._held_key = ""
            self._ignore_text()
            return
        own = console_key(key)
        if own is not None and own.moves:
            self.press_key(key)
        elif key != self._held_key:
            self._held_key = key
            self.set_timer(BURST_S, partial(self._release_key, key))

    def _release_key(self, key: str) -> None:
        if key == self._held_key:
            self._held_key = ""
            if not isinstance(self.screen, ModalScreen):
                self.press_key(key)

    def on_paste(self, event: events.Paste) -> None:
        """Ignore a pasted text; dialogs take it themselves."""
        event.stop()
        self._ignore_text()

    def _ignore_text(self) -> None:
        if self.view.notice != NOT_KEYS and not isinstance(self.screen, ModalScreen):
            self.show_notice(NOT_KEYS, "warn")

    def press_key(self, key: str) -> None:
        """Do what a key is for: the console's own keys first, then the profile's actions."""
        self.view.notice = ""
        action = self.sender.actions.of_key(key)
        own = console_key(key)
        if own is not None and not (own.yields and action is not None):
            self.run_command(own.command, key)
        elif action is not None and not self.sender.is_repeat(key):
            self.press_action(action)

    def on_panel_key_clicked(self, message: Panel.KeyClicked) -> None:
        """Press the key that was clicked, in a dialog or in the console."""
        key = named_key(message.key.split()[0])
        if isinstance(self.screen, ModalScreen):
            self.screen.post_message(events.Key(key, key if len(key) == 1 else None))
        else:
            self.press_key(key)

    def run_command(self, command: str, key: str = "") -> None:
        """Run one of the console's own commands.

        Args:
            command: its name in the key table.
            key: the key that was pressed for it; empty from the palette.
        """
        method = getattr(self, f"_command_{command.replace('-', '_')}")
        if command == "panel":
            method(key)
        else:
            method()
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
        if view.cursor is not None:
            # It acts on the run as it is now, so that is what must be in sight.
            self.push_screen(LeaveReplayDialog(view, clock, action), self._act_now)
            return
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

    def _act_now(self, action: Action | None) -> None:
        if action is not None:
            self.view.cursor = None
            self.update_panels()
            self.press_action(action)

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
        panel = self.chosen_panel()
        clock = self.options.steady_clock
        self.push_screen(HelpDialog(self.view, clock, type(panel) if panel else None))

    def _command_palette(self) -> None:
        self.push_screen(PaletteDialog(self.view, self.options.steady_clock), self._choose)

    def _command_answers(self) -> None:
        # A worker has this action, whatever can be read of the profile's file.
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

    def _command_suspend(self) -> None:
        # The driver has stopped the job by itself where a shell can continue it.
        self.show_notice("no shell to come back to: q leaves, the run goes on", "warn")

    def leave_present(self) -> None:
        """End the operation under way; without one go to the run that was shown before."""
        if can_cancel(self.view):
            self._cancel()
        else:
            self.go_back()

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
