"""The verdict: how much of the loss is broken alignment, how much is knowledge that is gone.

Shows the newest `diagnosis` event as it stands, also one that was made after the run had ended.
Concludes nothing itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from textwrap import wrap
from typing import Any, ClassVar

from sf_tui.run.events import Event
from sf_tui.tui.lines import Line, Piece, as_many_as_fit
from sf_tui.tui.numbers import format_count, format_duration, format_share
from sf_tui.tui.panels.panel import Panel
from sf_tui.tui.scene import Scene
from sf_tui.vocabulary.verdicts import VERDICTS

_NAME_CELLS = 11
_ARM_HEADER = f"   {'arm':<{_NAME_CELLS}} recovered control steps  time"


def lines_wanted(diagnosis: Event, width: int) -> int:
    """Return how many lines the panel fills with all it has to say, its title among them."""
    arms = len(diagnosis.get("arms") or {})
    told = sum(len(sentence) for sentence in _sentences(diagnosis, width))
    return 1 + 5 + (1 + arms if arms else 0) + 1 + told


class Verdict(Panel):
    """The bar of alignment and knowledge, its numbers, a line for each arm, and the evidence."""

    TITLE: ClassVar[str] = "diagnosis"
    can_focus = True

    def title_right(self) -> Sequence[Piece]:
        """Return where it was made, and the verdict."""
        if self.scene.record.history.diagnosis is None:
            return ()
        return (*place_of(self.scene), ("  ", "text"), *verdict_words(self.scene))

    def compose_lines(self, width: int, height: int) -> list[Line]:
        """Return the bar and its numbers; where there is room, all arms and the evidence."""
        diagnosis = self.scene.record.history.diagnosis
        if diagnosis is None:
            return [[("  none was asked for", "muted")]]
        recovered, interval = diagnosis.get("recovered"), diagnosis.get("recovered_interval")
        lines: list[Line] = [
            self._bar(diagnosis, width),
            [
                (" now ", "muted"),
                (format_share(diagnosis.get("now")), "task-0"),
                (" of ", "muted"),
                (format_share(diagnosis.get("start")), "text"),
                (" at the stage's start", "muted"),
            ],
            [(" ", "text"), *_with_interval("recovered", recovered, interval, "task-1")],
            [
                (" alignment lost ", "muted"),
                (format_share(diagnosis.get("alignment_loss")), "task-1"),
                ("  knowledge lost ", "muted"),
                (format_share(diagnosis.get("knowledge_loss")), "danger"),
            ],
            [(" ", "text"), *share_with_interval(diagnosis)],
        ]
        arms, evidence = self._arms(diagnosis, width), _figures(diagnosis, width)
        if len(lines) + len(arms) + 1 > height:
            # Who wants all arms zooms the panel.
            arms = _decided(diagnosis, width)
        lines += [*arms, evidence]
        for sentence in _sentences(diagnosis, width):
            if len(lines) + len(sentence) > height:
                break
            lines += sentence
        return lines[:height]

    def _bar(self, diagnosis: Event, width: int) -> Line:
        glyphs = self.scene.glyphs
        start, now, recovered = (
            diagnosis.get(name) or 0.0 for name in ("start", "now", "recovered")
        )
        cells = max(width - 2, 1)
        kept = round(cells * min(now, 1.0))
        back = max(round(cells * min(recovered, 1.0)) - kept, 0)
        gone = max(round(cells * min(start, 1.0)) - kept - back, 0)
        return [
            (" ", "text"),
            (glyphs.filled * kept, "task-0"),
            ((glyphs.filled if glyphs.braille else "+") * back, "task-1"),
            (glyphs.dotted * gone, "danger"),
        ]

    def _arms(self, diagnosis: Event, width: int) -> list[Line]:
        """Return a header and a line for each arm, the one that decided first."""
        arms: dict[str, dict[str, Any]] = diagnosis.get("arms") or {}
        decided = diagnosis.get("arm")
        names = sorted(arms, key=lambda name: (name != decided, "skipped" in arms[name]))
        lines = [self._arm(name, arms[name], name == decided, width) for name in names]
        return [[(_ARM_HEADER, "muted")], *lines] if lines else []

    def _arm(self, name: str, arm: dict[str, Any], decided: bool, width: int) -> Line:
        glyphs = self.scene.glyphs
        line: Line = [
            (f" {glyphs.pointer if decided else ' '} ", "strong"),
            (f"{name[:_NAME_CELLS]:<{_NAME_CELLS}} ", "strong" if decided else "text"),
        ]
        if "skipped" in arm:
            return [*line, (f"skipped: {arm['skipped']}", "muted")]
        # A control above the floor: this arm teaches what it then measures.
        taught = arm.get("allowed") is False
        line += [
            (f"{format_share(arm.get('recovered')):>9} ", "muted" if taught else "text"),
            (f"{format_share(arm.get('control')):>7}", "danger" if taught else "text"),
            ("!" if taught else " ", "danger"),
            (f"{arm.get('steps') or 0:>5} ", "text"),
            (f"{format_duration(arm.get('seconds')):>5}", "text"),
        ]
        if taught and width >= 80:
            floor = format_share(arm.get("floor"))
            line.append((f"  its control rose above {floor}: does not count", "muted"))
        elif width >= 80 and arm.get("learning_rate"):
            tokens = format_count(arm.get("tokens"))
            line.append((f"  rate {arm['learning_rate']:.0e}, {tokens} tokens", "muted"))
        return line


def verdict_words(scene: Scene) -> Line:
    """Return the newest verdict; with `was` when the weights have been repaired or put back."""
    history = scene.record.history
    if history.diagnosis is None:
        return []
    verdict = str(history.diagnosis["verdict"])
    if not history.diagnosis_holds:
        return [("was ", "strong"), (verdict, "muted")]
    known = VERDICTS.get(verdict)
    word: Piece = (verdict, known.color_role if known else "strong")
    # An open one: its interval still allows for another.
    return [word, (", open", "muted")] if history.diagnosis.get("closed") is False else [word]


def place_of(scene: Scene) -> Line:
    """Return at which step the newest diagnosis was made."""
    diagnosis = scene.record.history.diagnosis or {}
    if diagnosis.get("stage") is None or diagnosis.get("step") is None:
        return []
    return [(f"{diagnosis['stage']}@{diagnosis['step']}", "muted")]


def share_with_interval(diagnosis: Event, said: str = "spurious share") -> Line:
    """Return the spurious share with its interval; of a verdict `none` the drop, which decided."""
    if diagnosis["verdict"] == "none" and diagnosis.get("drop_interval"):
        start, now = diagnosis.get("start"), diagnosis.get("now")
        drop = None if start is None or now is None else start - now
        return _with_interval("drop", drop, diagnosis["drop_interval"], "text")
    share = diagnosis.get("spurious_share")
    return _with_interval(said, share, diagnosis.get("interval"), "task-1")


def _with_interval(
    name: str, value: float | None, interval: Sequence[float] | None, role: str
) -> Line:
    line: Line = [(f"{name} ", "muted"), (format_share(value), role)]
    if interval and all(end is not None for end in interval):
        line.append((f" ({' to '.join(format_share(end) for end in interval)})", "muted"))
    return line


def _decided(diagnosis: Event, width: int) -> list[Line]:
    """Return the arm that decided, in words; nothing where none did."""
    name = diagnosis.get("arm")
    arm = (diagnosis.get("arms") or {}).get(name)
    if not arm or "skipped" in arm:
        return []
    parts: list[Line] = [
        [("by ", "muted"), (str(name), "strong")],
        [("control ", "muted"), (format_share(arm.get("control")), "text")],
        [(f"{arm.get('steps')} steps", "text")],
    ]
    return [[(" ", "text"), *as_many_as_fit(parts, width - 1, ", ")]]


def _sentences(diagnosis: Event, width: int) -> list[list[Line]]:
    """Return the evidence in sentences, each as the lines it takes."""
    told = [str(sentence) for sentence in diagnosis.get("evidence") or []]
    room = max(width - 2, 20)
    return [[[(f" {line}", "muted")] for line in wrap(sentence, room)] for sentence in told]


def _figures(diagnosis: Event, width: int) -> Line:
    """Return on what it was measured and what it cost."""
    parts: list[Line] = []
    if diagnosis.get("held_out") is not None:
        parts.append([(f"{diagnosis['held_out']} held-out", "text")])
    if diagnosis.get("examples") is not None:
        parts.append([(f"{diagnosis['examples']} safe examples", "text")])
    if diagnosis.get("seconds") is not None:
        parts.append([(format_duration(diagnosis["seconds"]), "text")])
    if diagnosis.get("tokens") is not None:
        parts.append([(f"{format_count(diagnosis['tokens'])} tokens", "text")])
    return [(" ", "text"), *as_many_as_fit(parts, width - 1, ", ")]
