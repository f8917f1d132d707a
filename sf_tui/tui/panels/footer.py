"""The footer: the keys, made from the key table and the profile's actions, or a notice."""

from __future__ import annotations

from sf_tui.tui.keys import CONSOLE_KEYS, keyed_actions, shown_key
from sf_tui.tui.lines import Line, as_many_as_fit, line_width, spread
from sf_tui.tui.panels.panel import Panel


class Footer(Panel):
    """One line at the foot."""

    def compose_lines(self, width: int, height: int) -> list[Line]:
        """Return actions on the left, the console's keys (or a notice) on the right."""
        del height
        scene = self.scene
        ellipsis = scene.glyphs.ellipsis
        if scene.notice:
            notice = self._notice()
            actions = as_many_as_fit(self._actions(), width - line_width(notice) - 2)
            return [spread(actions, notice, width, ellipsis) if actions else notice]
        console = [
            [(shown_key(entry.keys[0]), "key"), (f" {entry.label}", "muted")]
            for entry in CONSOLE_KEYS
            if entry.footer
        ]
        right = as_many_as_fit(console, width)
        actions = as_many_as_fit(self._actions(), width - line_width(right) - 2)
        return [spread(actions, right, width, ellipsis)]

    def _notice(self) -> Line:
        scene = self.scene
        row = scene.record.notables.commands.get(scene.notice_command)
        text = scene.glyphs.spell(row.text) if row is not None else scene.notice
        level = row.level if row is not None else scene.notice_level
        return [(text, {"warn": "warn", "error": "error"}.get(level, "strong"))]

    def _actions(self) -> list[Line]:
        scene = self.scene
        if scene.read_only:
            return [[("read-only: no actions", "muted")]]
        if scene.record.history.finished is not None:
            return [[("the run has ended", "muted")]]
        if scene.actions.problem:
            return [[(scene.actions.problem, "warn")]]
        parts: list[Line] = []
        for action in keyed_actions(scene.actions.actions):
            newest = scene.record.notables.newest_command(action.name)
            waiting = scene.glyphs.ellipsis if newest is not None and newest.is_under_way else ""
            label = action.label
            if action.op == "pause" and scene.record.history.paused:
                label = "resume"
            parts.append([(shown_key(action.key), "key"), (f" {label}{waiting}", "text")])
        return parts
