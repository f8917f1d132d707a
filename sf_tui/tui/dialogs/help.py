"""The help: what the chosen panel shows, what the signs and words mean, and every key.

Made from the panels' own descriptions and the key table, so that it can't differ from them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from textwrap import wrap

from sf_tui.tui.actions import CONSOLE_KEYS, action_help, shown_key
from sf_tui.tui.dialogs.dialog import Dialog
from sf_tui.tui.lines import Line
from sf_tui.tui.panels.panel import Panel
from sf_tui.tui.view_state import ViewState
from sf_tui.vocabulary.sizes import counted
from sf_tui.vocabulary.verdicts import VERDICTS

_MEANING_AT = 24
"""Column of a meaning."""
GLOSSARY: Sequence[tuple[str, str]] = (
    ("0.26 ± 0.09", "share of held-out examples answered right, and its 95 % interval"),
    ("−74", "points (hundredths) lost since the run began, or since the task was learned"),
    ("probe", "a measurement of every task on held-out examples; its values have a *"),
    ("danger window", "first steps of a stage, or after a repair, where old tasks are lost"),
    ("anchor, KL", "training is held to the start model's answers; KL is how far it is from them"),
    ("recovery test", "short trainings (arms) on a copy: how much of the old task comes back"),
    ("arm, control", "one such training; the same one on facts that the model never saw"),
    ("alignment lost", "what a recovery test brings back: the model still knows it"),
    ("knowledge lost", "what it does not bring back"),
    (", open", "the time for the test ran out; more could still change the verdict"),
    ("drift", "how far a layer has moved from the stage's start, relative to its size"),
)


class HelpDialog(Dialog[None]):
    """A scrollable page: the chosen panel, the signs, the keys, the words.

    Args:
        view: the console's.
        steady_clock: monotonic seconds.
        panel: class of the chosen panel; None for the whole console.
    """

    WIDTH = 96

    def __init__(
        self,
        view: ViewState,
        steady_clock: Callable[[], float],
        panel: type[Panel] | None = None,
    ) -> None:
        super().__init__(view, steady_clock)
        self._panel = panel
        self._room = 1

    def wanted_height(self, width: int) -> int:
        """Return the length of the whole page."""
        return len(self._page(width))

    def compose_text(self, width: int, height: int) -> list[Line]:
        """Return the visible part of the page."""
        page = self._page(width)
        self._room = max(height - 1, 1)
        self._top = min(self._top, max(len(page) - self._room, 0))
        if len(page) <= height:
            return page
        shown = page[self._top : self._top + self._room]
        more = len(page) - self._top - len(shown)
        tail = f"{counted(more, 'more line')}: up, down   esc closes" if more else "esc closes"
        return [*shown, [(tail, "muted")]]

    def press(self, key: str) -> None:
        """Scroll, or close with the key that opened it."""
        if key in {"?", "q"}:
            self.dismiss(None)
            return
        steps = {"up": -1, "k": -1, "down": 1, "j": 1}
        steps |= {"pageup": -self._room, "pagedown": self._room}
        self._top = max(self._top + steps.get(key, 0), 0)
        self.refresh_text()

    def answer(self) -> None:
        """Close."""
        self.dismiss(None)

    def _page(self, width: int) -> list[Line]:
        parts = [
            self._about_panel(width),
            self._signs(width),
            self._actions(width),
            self._keys(width),
            self._words(width),
        ]
        lines: list[Line] = []
        for part in parts:
            lines += [*([[]] if lines and part else []), *part]
        return lines

    def _about_panel(self, width: int) -> list[Line]:
        panel = self._panel
        if panel is None or not panel.HELP:
            return []
        lines: list[Line] = [[(f"This panel: {panel.TITLE}", "strong")]]
        lines += [[(f"  {line}", "text")] for line in wrap(panel.HELP, max(width - 2, 20))]
        rows = [(self.view.glyphs.spell(sign), "text", "", says) for sign, says in panel.SIGNS]
        return [*lines, *_rows(rows, width)]

    def _words(self, width: int) -> list[Line]:
        words = [*GLOSSARY, *((verdict.name, verdict.meaning) for verdict in VERDICTS.values())]
        spell = self.view.glyphs.spell
        return _section("Words", [(spell(word), "text", "", says) for word, says in words], width)

    def _signs(self, width: int) -> list[Line]:
        view = self.view
        glyphs = view.glyphs
        rows = []
        for task in view.tasks:
            role, marker = view.task_paint(task)
            metric = view.live.metric_of(task).replace("_", " ")
            rows.append((marker, role, task, f"{metric} on held-out rows of this task"))
        rows += [
            (glyphs.filled, "danger", "danger window", "on the axis, and shaded in the chart"),
            (glyphs.ring, "muted", "checkpoint", "rollback can return to it while it is kept"),
            (glyphs.tasks[1], "ok", "action", "done at this step; named at the top of the chart"),
            ("?", "strong", "verdict", "what a diagnosis at this step found"),
            ("<", "warn", "rewound", "rolled back to this step"),
            (glyphs.below, "muted", "below", "a loss of zero, or below the axis"),
        ]
        return _section("Signs", rows, width)

    def _actions(self, width: int) -> list[Line]:
        view = self.view
        lines: list[Line] = [[("Actions of this run's profile", "strong")]]
        if view.read_only:
            lines.append([("  this console is read-only: it sends nothing", "warn")])
        rows = [
            (shown_key(action.key) if action.key else ":", "key", action.label, action_help(action))
            for action in view.offered.actions
        ]
        lines += _rows(rows, width)
        if view.actions.problem:
            lines.append([(f"  {view.actions.problem}", "warn")])
        return lines

    def _keys(self, width: int) -> list[Line]:
        taken = {action.key for action in self.view.actions.actions if action.key}
        rows = []
        for entry in CONSOLE_KEYS:
            keys = [key for key in entry.keys if not (entry.yields and key in taken)]
            if keys:
                rows.append((_spelled(keys), "key", entry.label, entry.help))
        return _section("The console", rows, width)


Row = tuple[str, str, str, str]
"""Sign or key, its role, its name, its meaning."""


def _spelled(keys: Sequence[str]) -> str:
    """Return keys as `up k`, digits in a row as `1-8`."""
    if len(keys) > 2 and all(key.isdigit() for key in keys):
        return f"{keys[0]}-{keys[-1]}"
    return " ".join(shown_key(key) for key in keys)


def _section(title: str, rows: Sequence[Row], width: int) -> list[Line]:
    return [[(title, "strong")], *_rows(rows, width)]


def _rows(rows: Sequence[Row], width: int) -> list[Line]:
    return [line for row in rows for line in _row(*row, width)]


def _row(sign: str, role: str, name: str, meaning: str, width: int) -> list[Line]:
    """Return a sign, its name and its meaning, which goes on in lines of its own."""
    first, *rest = wrap(meaning, max(width - _MEANING_AT, 20)) or [""]
    head: Line = (
        [(f"  {sign:<6} ", role), (f"{name:<14} ", "text")]
        if name
        else [(f"  {sign:<{_MEANING_AT - 3}} ", role)]
    )
    return [[*head, (first, "muted")], *([(" " * _MEANING_AT + more, "muted")] for more in rest)]
