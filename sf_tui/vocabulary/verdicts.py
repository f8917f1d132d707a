"""The possible conclusions of a recovery test about a lost task, one row per verdict.

Everything that names a verdict reads this module: the rule that chooses one, the card, the console,
its suggestions, and the benchmark. The rule itself is in `diagnosis/rules.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

VerdictName = Literal["none", "spurious", "partial", "real", "inconclusive"]


@dataclass(frozen=True)
class Verdict:
    """One possible conclusion."""

    name: VerdictName
    """The word in events, in profile documentation and on screen."""
    meaning: str
    """One sentence for the user."""
    color_role: str
    """Its color role, a key of the console's palettes."""
    next_step: str
    """What to do, as a sentence without its period; `{recover}` is the command that repairs the
    model, `{how}` what that command needs of the old task's data."""
    next_step_without_start: str = ""
    """The same if the start weights are unavailable; empty: no difference."""
    next_step_without_accuracy: str = ""
    """The same if the accuracy at the start is unknown too; empty: no difference."""
    next_step_without_learning: str = ""
    """The same if the new task was not learned; empty: no difference."""
    next_step_without_rounds: str = ""
    """The same if more time would show no more; empty: no difference."""
    is_recoverable: bool = False
    """Whether a recovery brings back (part of) what was lost."""
    is_clear: bool = False
    """Whether the benchmark counts it: the borders of *partial* are conventions, and *inconclusive*
    is not a label."""

    def advice(
        self,
        *,
        has_start: bool,
        knows_accuracy: bool,
        recover: str,
        learned: bool = True,
        rounds_ended: str | None = None,
    ) -> str:
        """Return what to do next, one sentence.

        Args:
            has_start: whether the stage's start weights are available.
            knows_accuracy: whether the old task's accuracy at the start is known.
            recover: the command that repairs the model.
            learned: whether the new task was learned, as far as is known.
            rounds_ended: why the test made no further round; None if that is unknown.
        """
        text = self.next_step
        if not learned and self.next_step_without_learning:
            return f"{self.next_step_without_learning}."
        if rounds_ended in MORE_TIME_IS_VAIN and self.next_step_without_rounds:
            text = self.next_step_without_rounds
        if not has_start and self.next_step_without_start:
            text = self.next_step_without_start
        if not knows_accuracy and self.next_step_without_accuracy:
            text = self.next_step_without_accuracy
        how = "without any old example" if has_start else "with a few old examples"
        return f"{text}.".replace("{how}", how).replace("{recover}", recover)


MORE_TIME_IS_VAIN = frozenset({"rounds", "teaches"})
"""Ends of a test's rounds after which more time shows no more: all were made, or the arm began to
teach its control."""
_GO_BACK = "go back to the weights from before, or train the old task again"

VERDICTS: Mapping[str, Verdict] = {
    verdict.name: verdict
    for verdict in (
        Verdict(
            "none",
            "No loss is seen: the old task is as good as it was.",
            "ok",
            "nothing; continue with the model as it is",
            next_step_without_learning="train again with a higher [train] learning_rate or more "
            "[train] steps, until the new task is learned, and diagnose that",
            is_clear=True,
        ),
        Verdict(
            "spurious",
            "The old task is still known; what broke is how the model answers when asked.",
            "task-1",
            "`{recover}` brings it back, {how}",
            is_recoverable=True,
            is_clear=True,
        ),
        Verdict(
            "partial",
            "Part of the old task is still known; another part did not come back in the test.",
            "warn",
            "`{recover}` brings back what is still known, {how}",
            is_recoverable=True,
        ),
        Verdict(
            "real",
            "What was lost of the old task is gone from these weights.",
            "danger",
            f"{_GO_BACK}; `{{recover}}` may teach it again from the start model, which does not "
            "show that these weights still know it",
            next_step_without_start=_GO_BACK,
            is_clear=True,
        ),
        Verdict(
            "inconclusive",
            "The figures don't show whether the loss is one of knowledge.",
            "strong",
            "give the test more time (--time SECONDS) or score more held-out examples of the old "
            "task; `{recover}` brings back what is still known, {how}",
            next_step_without_rounds="score more held-out examples of the old task (more rows, or "
            "a larger [[tasks]] held_out); `{recover}` brings back what is still known, {how}",
            next_step_without_accuracy="name the weights from before (--start-model DIR) or the "
            "accuracy then (--start-accuracy); without either no loss can be measured",
        ),
    )
}
"""Every verdict by name, in display order."""

CLEAR_VERDICTS = tuple(verdict.name for verdict in VERDICTS.values() if verdict.is_clear)
"""The labels that the benchmark's score counts."""


def is_recoverable(name: str) -> bool:
    """Return whether a recovery brings something back under this verdict."""
    verdict = VERDICTS.get(name)
    return verdict is not None and verdict.is_recoverable
