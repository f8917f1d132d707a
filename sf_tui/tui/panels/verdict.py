"""The verdict: how much of the loss is broken alignment and how much is lost knowledge.

Shows the newest `diagnosis` event, including one made after the run ended. Draws no conclusion of
its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from textwrap import wrap
from typing import ClassVar

from sf_tui.tui.lines import Line, Piece, as_many_as_fit
from sf_tui.tui.numbers import format_count, format_duration, format_share, scientific
from sf_tui.tui.panels.panel import Panel
from sf_tui.tui.panels.score_words import score_text
from sf_tui.tui.view_state import ViewState
from sf_tui.vocabulary.declared import ArmRecord, Interval
from sf_tui.vocabulary.events import DiagnosisMade
from sf_tui.vocabulary.measured import Score
from sf_tui.vocabulary.sizes import counted
from sf_tui.vocabulary.verdicts import VERDICTS

_NAME_CELLS = 11
_CHOSEN = "chosen on other held-out rows"
"""Why the deciding arm may not have the best score: those shown have no say in the choice."""
_ARM_HEADER = f"   {'arm':<{_NAME_CELLS}} recovered control steps  time"


def lines_wanted(diagnosis: DiagnosisMade, width: int) -> int:
    """Return the number of lines of the whole panel, including its title."""
    arms = len(diagnosis.arms or {})
    evidence = sum(len(sentence) for sentence in _sentences(diagnosis, width))
    answers = len(_answers(diagnosis))
    table = 1 + arms + _is_choice_unclear(diagnosis) if arms else 0
    return 1 + 5 + table + 1 + answers + evidence


class Verdict(Panel):
    """The bar of alignment and knowledge, its numbers, a line for each arm, and the evidence."""

    TITLE: ClassVar[str] = "diagnosis"
    HELP: ClassVar[str] = (
        "What a recovery test found: how much of the loss comes back (alignment), and how much "
        "does not (knowledge). The bar is the score at the stage's start."
    )
    SIGNS: ClassVar[Sequence[tuple[str, str]]] = (
        ("first part", "of the bar: what the task scores now"),
        ("second part", "of the bar: what the recovery test brought back"),
        ("last part", "of the bar: what did not come back"),
        ("▸", f"the arm that decides the verdict; it was {_CHOSEN}"),
        ("0.09!", "a control above its floor: the arm teaches what the model never knew"),
    )
    can_focus = True

    def title_right(self) -> Sequence[Piece]:
        """Return the diagnosis's stage and step, and the verdict."""
        if self.view.live.diagnosis is None:
            return ()
        return (*place_of(self.view), ("  ", "text"), *verdict_words(self.view))

    def compose_lines(self, width: int, height: int) -> list[Line]:
        """Return the bar and its numbers; if there is room, all arms and the evidence."""
        diagnosis = self.view.live.diagnosis
        if diagnosis is None:
            return [[("  none was asked for", "muted")]]
        recovered, interval = diagnosis.recovered, diagnosis.recovered_interval
        lines: list[Line] = [
            self._bar(diagnosis, width),
            [
                (" now ", "muted"),
                (self._now(diagnosis), "task-0"),
                (" of ", "muted"),
                (format_share(diagnosis.start), "text"),
                (" at stage start", "muted"),
            ],
            [(" ", "text"), *_with_interval("recovered", recovered, interval, "task-1")],
            [
                (" alignment lost ", "muted"),
                (format_share(diagnosis.alignment_loss), "task-1"),
                ("  knowledge lost ", "muted"),
                (format_share(diagnosis.knowledge_loss), "danger"),
            ],
            [(" ", "text"), *share_with_interval(diagnosis)],
        ]
        arms, evidence = self._arms(diagnosis, width), _figures(diagnosis, width)
        if len(lines) + len(arms) + 1 > height:
            # The zoomed panel shows all arms.
            arms = _decided(diagnosis, width)
        lines += [*arms, evidence]
        lines += _answers(diagnosis)
        for sentence in _sentences(diagnosis, width):
            if len(lines) + len(sentence) > height:
                break
            lines += sentence
        return lines[:height]

    def _now(self, diagnosis: DiagnosisMade) -> str:
        """Return the score before the test with its interval."""
        if diagnosis.now is None:
            return format_share(None)
        metric = self.view.live.metric(diagnosis.task)
        return score_text(self.view, Score(diagnosis.now, diagnosis.held_out or 0, metric))

    def _bar(self, diagnosis: DiagnosisMade, width: int) -> Line:
        glyphs = self.view.glyphs
        start, now, recovered = (
            value or 0.0 for value in (diagnosis.start, diagnosis.now, diagnosis.recovered)
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

    def _arms(self, diagnosis: DiagnosisMade, width: int) -> list[Line]:
        """Return a header and a line for each arm, the deciding arm first."""
        arms = diagnosis.arms or {}
        decided = diagnosis.arm
        names = sorted(arms, key=lambda name: (name != decided, bool(arms[name].skipped)))
        lines = [self._arm(name, arms[name], name == decided, width) for name in names]
        if not lines:
            return []
        if _is_choice_unclear(diagnosis):
            lines.append([(f" {self.view.glyphs.pointer} decides: {_CHOSEN}", "muted")])
        return [[(_ARM_HEADER, "muted")], *lines]

    def _arm(self, name: str, arm: ArmRecord, decided: bool, width: int) -> Line:
        glyphs = self.view.glyphs
        line: Line = [
            (f" {glyphs.pointer if decided else ' '} ", "strong"),
            (f"{name[:_NAME_CELLS]:<{_NAME_CELLS}} ", "strong" if decided else "text"),
        ]
        if arm.skipped:
            return [*line, (f"skipped: {arm.skipped}", "muted")]
        # Control above the floor: the arm taught the task that it measures.
        taught = arm.allowed is False
        line += [
            (f"{format_share(arm.recovered):>9} ", "muted" if taught else "text"),
            (f"{format_share(arm.control):>7}", "danger" if taught else "text"),
            ("!" if taught else " ", "danger"),
            (f"{arm.steps or 0:>5} ", "text"),
            (f"{format_duration(arm.seconds):>5}", "text"),
        ]
        if taught and width >= 80:
            floor = format_share(arm.floor)
            line.append((f"  its control rose above {floor}: does not count", "muted"))
        elif width >= 80 and arm.learning_rate:
            tokens = format_count(arm.tokens)
            line.append((f"  rate {scientific(arm.learning_rate)}, {tokens} tokens", "muted"))
        return line


class VerdictLine(Panel):
    """The newest diagnosis in one line, for small screens."""

    def compose_lines(self, width: int, height: int) -> list[Line]:
        """Return the line; empty before there is a diagnosis."""
        del height
        diagnosis = self.view.live.diagnosis
        if diagnosis is None:
            return []
        now, recovered, start = (
            format_share(value) for value in (diagnosis.now, diagnosis.recovered, diagnosis.start)
        )
        parts: list[Line] = [
            [("verdict ", "title"), *verdict_words(self.view)],
            [
                (now, "task-0"),
                (f" {self.view.glyphs.arrow} ", "muted"),
                (recovered, "task-1"),
                (f" of {start}", "muted"),
            ],
            share_with_interval(diagnosis, "share"),
            [(f"{diagnosis.held_out} held-out", "muted")] if diagnosis.held_out else [],
            place_of(self.view),
            [("by ", "muted"), (diagnosis.arm, "text")] if diagnosis.arm else [],
        ]
        return [as_many_as_fit(parts, width, "  ")]


def verdict_words(view: ViewState) -> Line:
    """Return the newest verdict, prefixed by `was` if the weights were replaced since."""
    history = view.live
    if history.diagnosis is None:
        return []
    verdict = history.diagnosis.verdict
    if not history.diagnosis_holds:
        return [("was ", "strong"), (verdict, "muted")]
    known = VERDICTS.get(verdict)
    word: Piece = (verdict, known.color_role if known else "strong")
    # Open: the interval still allows another verdict.
    return [word, (", open", "muted")] if history.diagnosis.closed is False else [word]


def place_of(view: ViewState) -> Line:
    """Return the stage and step of the newest diagnosis."""
    diagnosis = view.live.diagnosis
    if diagnosis is None or diagnosis.stage is None or diagnosis.step is None:
        return []
    return [(f"{diagnosis.stage}@{diagnosis.step}", "muted")]


def share_with_interval(diagnosis: DiagnosisMade, label: str = "spurious share") -> Line:
    """Return the spurious share with its interval; for the verdict `none`, the drop."""
    if diagnosis.verdict == "none" and diagnosis.drop_interval:
        start, now = diagnosis.start, diagnosis.now
        drop = None if start is None or now is None else start - now
        return _with_interval("drop", drop, diagnosis.drop_interval, "text")
    share, interval = diagnosis.spurious_share, diagnosis.interval
    if diagnosis.verdict == "inconclusive" and interval and interval[0] is not None:
        # A point would say more than the interval bears.
        bound = f"at least {format_share(interval[0])}"
        return [(f"{label} ", "muted"), (bound, "task-1")]
    return _with_interval(label, share, interval, "task-1")


def _with_interval(name: str, value: float | None, interval: Interval | None, role: str) -> Line:
    line: Line = [(f"{name} ", "muted"), (format_share(value), role)]
    if interval and all(end is not None for end in interval):
        line.append((f" ({' to '.join(format_share(end) for end in interval)})", "muted"))
    return line


def _is_choice_unclear(diagnosis: DiagnosisMade) -> bool:
    """Return whether an arm that counts has a better score than the one that decides."""
    arms = diagnosis.arms or {}
    decided = arms.get(diagnosis.arm or "")
    if decided is None or decided.recovered is None:
        return False
    others = [arm.recovered for arm in arms.values() if arm.allowed is not False]
    return any(score is not None and score > decided.recovered for score in others)


def _decided(diagnosis: DiagnosisMade, width: int) -> list[Line]:
    """Return the deciding arm in one line; nothing if no arm decided."""
    arm = (diagnosis.arms or {}).get(diagnosis.arm or "")
    if arm is None or arm.skipped:
        return []
    parts: list[Line] = [
        [("by ", "muted"), (str(diagnosis.arm), "strong")],
        [("control ", "muted"), (format_share(arm.control), "text")],
        [(counted(arm.steps or 0, "step"), "text")],
    ]
    return [[(" ", "text"), *as_many_as_fit(parts, width - 1, ", ")]]


def _sentences(diagnosis: DiagnosisMade, width: int) -> list[list[Line]]:
    """Return the sentences of the evidence, each wrapped into lines."""
    room = max(width - 2, 20)
    return [
        [[(f" {line}", "muted")] for line in wrap(sentence, room)]
        for sentence in diagnosis.evidence
    ]


def _answers(diagnosis: DiagnosisMade) -> list[Line]:
    """Return a line for each lost answer that the diagnosis has; `e` shows all in full."""
    return [
        [(f' "{" ".join(one.answered.split())}"', "danger"), (f" to {one.question}", "muted")]
        for one in diagnosis.answers
    ]


def _figures(diagnosis: DiagnosisMade, width: int) -> Line:
    """Return the sample sizes and the cost of the diagnosis."""
    parts: list[Line] = []
    if diagnosis.held_out is not None:
        parts.append([(f"{diagnosis.held_out} held-out", "text")])
    if diagnosis.examples is not None:
        parts.append([(counted(diagnosis.examples, "safe example"), "text")])
    if diagnosis.seconds is not None:
        parts.append([(format_duration(diagnosis.seconds), "text")])
    if diagnosis.tokens is not None:
        parts.append([(f"{format_count(diagnosis.tokens)} tokens", "text")])
    return [(" ", "text"), *as_many_as_fit(parts, width - 1, ", ")]
