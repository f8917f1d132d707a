"""The base of all dialogs: a modal box of painted lines that receives every key.

Text is typed into the dialog itself, without a blinking cursor. Keys still in transit when it opens
do not count as an answer.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar, Generic, TypeVar

from textual import events
from textual.app import ComposeResult
from textual.screen import ModalScreen

from sf_tui.tui.lines import Line
from sf_tui.tui.panels.panel import Panel
from sf_tui.tui.view_state import ViewState

DEAF_FOR_S = 0.3
"""Nobody reads a dialog faster than this."""
MOST_TYPED = 80

ResultT = TypeVar("ResultT")


class DialogBox(Panel):
    """The box in the middle of the screen."""

    def __init__(self, view: ViewState, compose_text: Callable[[int, int], list[Line]]) -> None:
        super().__init__(view, id="dialog-box")
        self._compose_text = compose_text

    def compose_lines(self, width: int, height: int) -> list[Line]:
        """Return what the dialog says."""
        return self._compose_text(width, height)


class Dialog(ModalScreen[ResultT], Generic[ResultT]):
    """A box that takes all keys until it is answered or left with escape.

    Attributes:
        typed: what was typed so far, for dialogs that take text.
    """

    TAKES_TEXT: ClassVar[bool] = False
    WIDTH: ClassVar[int] = 74

    def __init__(self, view: ViewState, steady_clock: Callable[[], float]) -> None:
        super().__init__()
        self.view = view
        self.typed = ""
        self._clock = steady_clock
        self._opened = steady_clock()
        self._box = DialogBox(view, self.compose_text)

    def compose_text(self, width: int, height: int) -> list[Line]:
        """Return what the box says."""
        raise NotImplementedError

    def wanted_height(self, width: int) -> int:
        """Return how many lines the box would like."""
        return len(self.compose_text(width, 1000))

    def answer(self) -> None:
        """Take enter for an answer."""

    def press(self, key: str) -> None:
        """Take a key that is neither text nor enter nor escape."""

    def compose(self) -> ComposeResult:
        """Put the box on the screen."""
        self._box.set_class(not self.view.glyphs.braille, "-ascii")
        yield self._box

    def on_mount(self) -> None:
        """Size the box for its text."""
        self._fit_box()

    def on_resize(self) -> None:
        """Size the box for the new screen."""
        self._fit_box()

    def refresh_text(self) -> None:
        """Show what changed in the dialog."""
        self._fit_box()
        self._box.update()

    def on_key(self, event: events.Key) -> None:
        """Hear every key; none reaches the console below."""
        event.stop()
        event.prevent_default()
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
        """Take a pasted text, without its line ends."""
        event.stop()
        if self.TAKES_TEXT:
            self._type(self.typed + "".join(event.text.split("\n")))

    def typing_line(self, prompt: str) -> Line:
        """Return the line that shows what is being typed."""
        return [(prompt, "muted"), (self.typed, "strong"), (" ", "cursor")]

    def typed_changed(self) -> None:
        """Tell a subclass that the typed text is another."""

    def _type(self, text: str) -> None:
        self.typed = text[:MOST_TYPED]
        self.typed_changed()
        self.refresh_text()

    def _fit_box(self) -> None:
        width = min(self.WIDTH, max(self.app.size.width - 2, 4))
        height = min(self.wanted_height(max(width - 4, 1)) + 2, max(self.app.size.height, 3))
        self._box.styles.width = width
        self._box.styles.height = height


def keys_line(*keys: tuple[str, str]) -> Line:
    """Return a line of keys and what they do."""
    line: Line = []
    for key, does in keys:
        line += [("   " if line else "", "text"), (key, "key"), (f" {does}", "muted")]
    return line
