"""The footer: the keys, made from the key table and the profile's actions, or a notice."""

from __future__ import annotations

from sf_tui.tui.actions import Action
from sf_tui.tui.keys import CONSOLE_KEYS, keyed_actions, shown_key
from sf_tui.tui.lines import Line, as_many_as_fit, line_width, spread
from sf_tui.tui.panels.panel import Panel

_ALWAYS = 2
"""Of the console's own keys in the footer, those that no action pushes out: leave and help."""
_IMPORTANCE = (
    *("freeze", "unfreeze", "anchor", "unanchor", "recover", "diagnose"),
    *("pause", "rollback", "checkpoint"),
)
"""Ops by how much hangs on knowing their key in time; others come behind them."""


class Footer(Panel):
    """One line at the foot."""

    def compose_lines(self, width: int, height: int) -> list[Line]:
        """Return actions on the left, the console's keys (or a notice) on the right."""
        del height
        view = self.view
        ellipsis = view.glyphs.ellipsis
        if view.notice:
            notice = self._notice()
            actions = as_many_as_fit(self._actions(), width - line_width(notice) - 2)
            return [spread(actions, notice, width, ellipsis) if actions else notice]
        console = [
            [(shown_key(entry.keys[0]), "key"), (f" {entry.label}", "muted")]
            for entry in CONSOLE_KEYS
            if entry.footer
        ]
        # How to leave and where all keys are told come first, then the actions, then the rest.
        always = as_many_as_fit(console[:_ALWAYS], width)
        actions = as_many_as_fit(self._actions(), width - line_width(always) - 2)
        right = as_many_as_fit(console, width - line_width(actions) - 2)
        return [spread(actions, right or always, width, ellipsis)]

    def _notice(self) -> Line:
        view = self.view
        row = view.live.activity.commands.get(view.notice_command)
        text = view.glyphs.spell(row.text) if row is not None else view.notice
        level = row.level if row is not None else view.notice_level
        return [(text, {"warn": "warn", "error": "error"}.get(level, "strong"))]

    def _actions(self) -> list[Line]:
        view = self.view
        if view.read_only:
            return [[("read-only: no actions", "muted")]]
        if view.live.finished is not None:
            return [[("the run has ended", "muted")]]
        if view.actions.problem:
            return [[(view.actions.problem, "warn")]]
        parts: list[Line] = []
        for action in self._most_important_first():
            newest = view.live.activity.newest_command(action.name)
            waiting = view.glyphs.ellipsis if newest is not None and newest.is_under_way else ""
            label = action.label
            if action.op == "pause" and view.live.paused:
                label = "resume"
            parts.append([(shown_key(action.key), "key"), (f" {label}{waiting}", "text")])
        return parts

    def _most_important_first(self) -> list[Action]:
        """Return the keyed actions; what would change nothing now is left out."""
        view = self.view
        idle = set() if view.frozen_layers else {"unfreeze"}
        idle.add("anchor" if view.anchor else "unanchor")
        rank = {op: index for index, op in enumerate(_IMPORTANCE)}
        if view.frozen_layers:
            # It has been done; what undoes it counts for more now.
            rank["freeze"] = rank["rollback"]
        return sorted(
            (action for action in keyed_actions(view.actions.actions) if action.op not in idle),
            key=lambda action: rank.get(action.op, len(rank)),
        )
