"""The base of all dialogs: a modal box of painted lines that receives every key.

Text is typed into the dialog itself, without a blinking cursor. Keys still in transit when it opens
do not count as an answer.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import ClassVar, Generic, TypeVar

from textual import events
from textual.app import ComposeResult
from textual.screen import ModalScreen

from sf_tui.tui.lines import Line, line_width
from sf_tui.tui.panels.panel import Panel
from sf_tui.tui.view_state import ViewState

DEAF_FOR_S = 0.3
"""Keys within this time after opening are ignored: too early to be an answer."""
MOST_TYPED = 80
_LARGE = 34
_ROWS_AROUND = 6

ResultT = TypeVar("ResultT")


class DialogBox(Panel):
    """The box in the middle of the screen."""

    def __init__(self, view: ViewState, compose_text: Callable[[int, int], list[Line]]) -> None:
        super().__init__(view, id="dialog-box")
        self._compose_text = compose_text

    def compose_lines(self, width: int, height: int) -> list[Line]:
        """Return the dialog's text."""
        return self._compose_text(width, height)


class Dialog(ModalScreen[ResultT], Generic[ResultT]):
    """A box that receives all keys until it is answered or closed with escape.

    Attributes:
        typed: the text typed so far, in dialogs that take text.
    """

    TAKES_TEXT: ClassVar[bool] = False
    WIDTH: ClassVar[int] = 74
    LONGEST: ClassVar[int] = MOST_TYPED

    def __init__(self, view: ViewState, steady_clock: Callable[[], float]) -> None:
        super().__init__()
        self.view = view
        self.typed = ""
        self._top = 0
        self._remark = ""
        self._clock = steady_clock
        self._opened = steady_clock()
        self._box = DialogBox(view, self.compose_text)

    def compose_text(self, width: int, height: int) -> list[Line]:
        """Return the box's text."""
        raise NotImplementedError

    def wanted_height(self, width: int) -> int:
        """Return the number of lines that the text needs."""
        return len(self.compose_text(width, 1000))

    def answer(self) -> None:
        """Handle enter."""

    def close_or_clear(self) -> bool:
        """Clear a filter instead of closing; return whether there was one."""
        return False

    def press(self, key: str) -> None:
        """Handle a key other than text, enter and escape."""

    def compose(self) -> ComposeResult:
        """Compose the box."""
        self._box.set_class(self.view.glyphs.rule == "-", "-ascii")
        yield self._box

    def on_mount(self) -> None:
        """Fit the box to its text."""
        self._fit_box()

    def on_resize(self) -> None:
        """Fit the box to the new screen size."""
        self._fit_box()

    def refresh_text(self) -> None:
        """Redraw the dialog after a change."""
        self._fit_box()
        self._box.update()

    def on_key(self, event: events.Key) -> None:
        """Handle every key; none reaches the console below."""
        event.stop()
        event.prevent_default()
        if self.app.screen is not self:
            # Pressed right behind the key that closed it, before the screen below had the keys.
            return
        if event.key == "escape" and self.close_or_clear():
            return
        if event.key in {"escape", "ctrl+c"}:
            self.dismiss(None)
            return
        if self.TAKES_TEXT and event.key in {"backspace", "ctrl+h"}:
            self._type(self.typed[:-1])
        elif self.TAKES_TEXT and event.key == "ctrl+u":
            self._type("")
        elif self.TAKES_TEXT and event.character and event.character.isprintable():
            self._type(self.typed + event.character)
        elif self._clock() - self._opened < DEAF_FOR_S:
            return
        elif event.key == "enter":
            self.answer()
        else:
            self.press(event.character if event.is_printable and event.character else event.key)

    def on_paste(self, event: events.Paste) -> None:
        """Add pasted text without its line ends."""
        event.stop()
        if self.TAKES_TEXT:
            self._type(self.typed + "".join(event.text.split("\n")))

    def typing_line(self, prompt: str) -> Line:
        """Return the line that shows the typed text."""
        return [(prompt, "muted"), (self.typed, "strong"), (" ", "cursor")]

    def typed_changed(self) -> None:
        """React to a change of the typed text; for subclasses."""

    def said_yes(self) -> bool:
        """Return whether `yes` was typed in full; if not, say so in the dialog."""
        if self.typed.strip() == "yes":
            return True
        self._remark = "type yes, or press esc"
        self.refresh_text()
        return False

    def answer_lines(self, width: int) -> list[Line]:
        """Return the line that a `yes` is typed into, and the remark about what was typed."""
        prompt = "type yes and press enter: "
        # The typed text must be in sight at any width.
        line = self.typing_line(prompt if width >= len(prompt) + 8 else "yes? ")
        return [line, [(self._remark, "danger")]] if self._remark else [line]

    def with_foot(self, text: list[Line], foot: list[Line], height: int) -> list[Line]:
        """Return the part of a text that fits, with lines below it that always stay in sight."""
        room = max(height - len(foot), 0)
        if len(text) <= room:
            return [*text, *foot]
        while text and not text[-1]:
            text = text[:-1]
        if len(text) <= room:
            return [*text, *foot]
        self._top = min(self._top, len(text) - room)
        shown = text[self._top : self._top + room]
        below = len(text) - self._top - len(shown)
        if room > 1 and below:
            shown[-1] = [(f"{below + 1} more lines: up, down", "muted")]
        return [*shown, *foot]

    def scroll(self, key: str) -> None:
        """Move a text that does not fit."""
        step = {"up": -1, "down": 1, "pageup": -5, "pagedown": 5}.get(key, 0)
        if step:
            self._top = max(self._top + step, 0)
            self.refresh_text()

    def _type(self, text: str) -> None:
        self._remark = ""
        self.typed = text[: self.LONGEST]
        self.typed_changed()
        self.refresh_text()

    def _fit_box(self) -> None:
        width = min(self.WIDTH, max(self.app.size.width - 2, 4))
        # On a large screen part of it stays in sight; a box that covers all is slow over SSH.
        around = _ROWS_AROUND if self.app.size.height >= _LARGE else 0
        most = max(self.app.size.height - around, 3)
        height = min(self.wanted_height(max(width - 4, 1)) + 2, most)
        self._box.styles.width = width
        self._box.styles.height = height


def keys_line(*keys: tuple[str, str]) -> Line:
    """Return a line of keys and their effects."""
    line: Line = []
    for key, does in keys:
        line += [("   " if line else "", "text"), (key, "key"), (f" {does}", "muted")]
    return line


def keys_lines(keys: Sequence[tuple[str, str]], width: int) -> list[Line]:
    """Return keys and their effects, in as many lines as they need."""
    lines: list[Line] = []
    row: list[tuple[str, str]] = []
    for key in keys:
        if row and line_width(keys_line(*row, key)) > width:
            lines.append(keys_line(*row))
            row = []
        row.append(key)
    return [*lines, keys_line(*row)]
