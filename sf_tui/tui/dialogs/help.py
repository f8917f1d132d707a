"""The help: every key, made from the table that dispatches them, and what the signs mean."""

from __future__ import annotations

from sf_tui.tui.dialogs.dialog import Dialog
from sf_tui.tui.keys import CONSOLE_KEYS, action_help, shown_key
from sf_tui.tui.lines import Line


class HelpDialog(Dialog[None]):
    """A page of keys and signs that scrolls with the arrows."""

    WIDTH = 96
    _top = 0
    _room = 1

    def wanted_height(self, width: int) -> int:
        """Return the page's length, whatever part of it is scrolled to."""
        del width
        return len(self._page())

    def compose_text(self, width: int, height: int) -> list[Line]:
        """Return the part of the page that fits."""
        del width
        page = self._page()
        self._room = max(height - 1, 1)
        self._top = min(self._top, max(len(page) - self._room, 0))
        if len(page) <= height:
            return page
        shown = page[self._top : self._top + self._room]
        more = len(page) - self._top - len(shown)
        tail = f"{more} more lines: up, down   esc closes" if more else "esc closes"
        return [*shown, [(tail, "muted")]]

    def press(self, key: str) -> None:
        """Scroll, or close with the key that opened it."""
        if key in {"?", "q"}:
            self.dismiss(None)
            return
        step = {"up": -1, "down": 1, "pageup": -self._room, "pagedown": self._room}.get(key, 0)
        self._top = max(self._top + step, 0)
        self.refresh_text()

    def answer(self) -> None:
        """Close."""
        self.dismiss(None)

    def _page(self) -> list[Line]:
        view = self.view
        glyphs = view.glyphs
        lines: list[Line] = [[("Actions of this run's profile", "strong")]]
        if view.read_only:
            lines.append([("  this console is read-only: it sends nothing", "warn")])
        for action in view.actions.actions:
            key = shown_key(action.key) if action.key else ":"
            lines.append(_row(key, "key", action.label, action_help(action)))
        if view.actions.problem:
            lines.append([(f"  {view.actions.problem}", "warn")])
        lines += [[], [("The console", "strong")]]
        lines += [
            _row(" ".join(shown_key(key) for key in entry.keys), "key", entry.label, entry.help)
            for entry in CONSOLE_KEYS
        ]
        lines += [[], [("Signs", "strong")]]
        for task in view.tasks:
            role, marker = view.task_paint(task)
            metric = view.live.metric_of(task).replace("_", " ")
            lines.append(_row(marker, role, task, f"held-out {metric} of this task"))
        for sign, role, name, meaning in (
            ("?", "strong", "verdict", "what a diagnosis at this step found"),
            (glyphs.ring, "muted", "checkpoint", "can be rolled back to while it is kept"),
            (glyphs.tasks[1], "ok", "action", "done at this step; named at the top of the chart"),
            ("<", "warn", "rewound", "the run went back to this step"),
            (glyphs.filled, "ok", "frozen", "this layer does not move"),
        ):
            lines.append(_row(sign, role, name, meaning))
        lines.append(
            _row(
                "shaded",
                "muted",
                "danger window",
                "first steps of a stage: old tasks are lost here",
            )
        )
        return lines


def _row(sign: str, role: str, name: str, meaning: str) -> Line:
    return [(f"  {sign:<6} ", role), (f"{name:<14} ", "text"), (meaning, "muted")]
