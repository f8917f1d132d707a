"""The outcome of a repair: figures of both tasks with n and interval, and whether it may be kept.

Knows the two conditions of a repair: the new task stays above its floor on held-out rows, and the
old task is better than before. Runs nothing.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from sf_tui.vocabulary.intervals import TOLERANCE, rounded, rounded_interval, rounded_rate
from sf_tui.vocabulary.measured import KNOWN_FROM, Score, format_score
from sf_tui.vocabulary.metrics import metric_named
from sf_tui.vocabulary.sizes import counted

NEW_FLOOR = 0.98
"""Default share of the new task's score that a repair has to keep."""

_SUGGESTED_EXAMPLES = 100
"""Old examples to suggest where the floor can't be kept with fewer."""

_LITTLE = 0.5
"""Share of what was lost under which more is worth a try."""


@dataclass(frozen=True)
class Accuracies:
    """A task's accuracy before and after; None if there are no rows to score."""

    before: float | None
    after: float | None
    examples: int = 0
    """Number of rows scored."""
    metric: str = "exact_match"
    """What was measured, a name of `vocabulary.metrics`."""

    @property
    def before_score(self) -> Score | None:
        """The accuracy before, with n and interval."""
        return self._score(self.before)

    @property
    def after_score(self) -> Score | None:
        """The accuracy after, with n and interval."""
        return self._score(self.after)

    def as_json(self) -> dict[str, object]:
        """Return the values, n and the 95 % intervals in JSON types."""
        before, after = self.before_score, self.after_score
        return {
            "before": rounded(self.before),
            "after": rounded(self.after),
            "n": self.examples if self.before is not None else None,
            "before_interval": rounded_interval(before.estimate if before else None),
            "after_interval": rounded_interval(after.estimate if after else None),
        }

    def _score(self, value: float | None) -> Score | None:
        if value is None:
            return None
        metric = metric_named(self.metric)
        # A likelihood is scored as the share of right answer tokens.
        shown = metric if metric.is_share else metric_named("token_accuracy")
        return Score(value, self.examples, shown, full=True)


@dataclass(frozen=True)
class Refusal:
    """Why a repair may not be kept, and what to do."""

    reason: str
    hint: str


@dataclass(frozen=True)
class RepairOutcome:
    """The results and costs of a repair."""

    old: Accuracies
    new: Accuracies
    start: float | None
    """The old task's accuracy before the stage: measured if possible, else the known value."""
    examples: int
    """Number of old examples used for training."""
    steps: int
    """The step whose weights were kept; 0 for the weights after the edit or unchanged weights."""
    seconds: float
    tokens: int
    """Number of trained tokens."""
    forwarded: int
    """Tokens of forward passes only: neighbors' answers and scores."""
    keep: float | None
    """Share of the change since the start that was kept, before the first step or by the edit."""
    agreement: Accuracies
    """Share of the start model's answers to reserved neighbors that the model still gives."""
    learning_rate: float | None
    course: tuple[tuple[int, float], ...]
    """(step, joint score) at each scored step."""
    by: str
    rate_source: str = ""
    """How the learning rate was found."""
    new_floor: float = NEW_FLOOR
    """Share of the new task's score before the repair that has to be kept."""
    stepped_back: float | None = None
    """Share of the repair that was kept to stay above the floor; None for all of it."""
    held: int = 0
    """Number of prompts beyond the new task's rows on which the repair kept the model's answers."""
    spare_examples: int = 0
    """Number of old examples that were available and not used."""
    fitted: Accuracies = Accuracies(None, None)
    """The new task on rows that the repair trains on, where held-out rows can't show a loss."""

    @property
    def floor_refusal(self) -> Refusal | None:
        """Why the new task fell too far; None if it is above its floor."""
        told = self.new if self.fitted.before is None else self.fitted
        before, after = told.before, told.after
        if before is None or after is None or after >= self.new_floor * before - TOLERANCE:
            return None
        needed = f"{self.new_floor:g} of {format_score(told.before_score, interval=False)}"
        by_one = after + 1 / max(told.examples, 1) >= self.new_floor * before - TOLERANCE
        small = " (one row more would keep it)" if by_one else ""
        # Rounded down, so that the floor named here is not above what was reached.
        reached = math.floor(100 * after / before) / 100 if before > 0 else 0.0
        tuned = "a lower --learning-rate, fewer --steps, " if self.learning_rate else ""
        if self._more_examples:
            tuned = f"{self._more_examples}, {tuned}"
        # Whether a model without its run was trained on all of them is not known.
        on = "" if told is self.new else " on rows that the repair trained on"
        way = f"try {tuned}or accept" if tuned else "accept"
        return Refusal(
            f"the new task would fall{on} from {format_score(told.before_score, counts=True)} to "
            f"{format_score(told.after_score, counts=True)}, under its floor ({needed}){small}",
            f"{way} more loss with --new-floor ({reached:g} allows this "
            "one); --force writes it as it is",
        )

    @property
    def advice(self) -> str | None:
        """What may bring more back, if much of the loss is still there; None if it isn't."""
        start, before, after = self.start, self.old.before, self.old.after
        if start is None or before is None or after is None or self.refusal is not None:
            return None
        if after - before >= _LITTLE * (start - before) or not self._more_examples:
            return None
        why = ""
        if self.stepped_back is not None:
            why = ", because more would take the new task under its floor"
        return f"less than half of the loss came back{why}; try {self._more_examples}"

    @property
    def _more_examples(self) -> str:
        more = self.suggested_examples
        if more is not None:
            total = self.examples + self.spare_examples
            return f"old examples with --examples {more} ({total} are available)"
        unused = self.learning_rate and not self.examples and self.old.before is not None
        return "old examples with --examples" if unused else ""

    @property
    def suggested_examples(self) -> int | None:
        """Number of old examples worth a try if the floor is broken; None if no more are known."""
        if not self.learning_rate or not self.spare_examples:
            return None
        total = self.examples + self.spare_examples
        return min(total, max(_SUGGESTED_EXAMPLES, 2 * self.examples))

    @property
    def refusal(self) -> Refusal | None:
        """Why the repair may not be kept: the floor, or nothing that is better."""
        if self.floor_refusal is not None:
            return self.floor_refusal
        gained = self.gain
        if gained is None:
            return Refusal(
                "nothing shows whether the model is better: no row of the old task is available "
                "to score it",
                "name rows of the old task with --old; --force writes it unseen",
            )
        if gained > TOLERANCE:
            return None
        what, was = self._judged
        tuned = "try --by neighbors"
        if self.learning_rate:
            tuned = "try more --steps, another --learning-rate, or old examples with --examples"
        if was is self.old and self.start is None and self.by == "examples":
            tuned = f"name the weights from before the stage with --start-model, or {tuned}"
        start, before = self.start, was.before
        whole = start is not None and before is not None and before >= start - TOLERANCE
        if was is self.old and whole:
            # More training can't bring back what isn't lost.
            tuned = "nothing is to be repaired: the old task is where it was at the start"
        elif was is self.old and start is None and _is_known(was.before_score):
            tuned = "nothing seems to be lost; --start-model DIR names the weights to compare with"
        return Refusal(
            f"nothing is better: {what} {format_score(was.before_score, counts=True)} before, "
            f"{format_score(was.after_score, counts=True)} after",
            f"{tuned}; --force writes it as it is",
        )

    @property
    def gain(self) -> float | None:
        """Gain of the old task, else of the agreement; None if neither is known."""
        _, judged = self._judged
        if judged.before is None or judged.after is None:
            return None
        return judged.after - judged.before

    @property
    def _judged(self) -> tuple[str, Accuracies]:
        if self.old.before is None:
            return "the agreement with the start model is", self.agreement
        return "the old task is", self.old

    @property
    def summary(self) -> str:
        """One sentence: what it brought, and what it cost the new task."""
        refusal = self.refusal
        lost = (self.new.before or 0.0) - (self.new.after or 0.0)
        price = ""
        if round(lost, 3) > 0:
            digits = 0 if self.new.examples < 200 else 1
            price = f", for {counted(f'{100 * lost:.{digits}f}', 'point')} of the new one"
        if refusal is not None and self.floor_refusal is None:
            return f"{refusal.reason[0].upper()}{refusal.reason[1:]}{price}."
        what, judged = self._judged
        if self.gain is None or self.gain <= TOLERANCE:
            return f"Nothing is better{price}."
        name = what.removesuffix(" is")
        return (
            f"It brought {name} from {format_score(judged.before_score, interval=False)} to "
            f"{format_score(judged.after_score, counts=True)}{price}."
        )

    def as_json(self) -> dict[str, object]:
        """Return the outcome as printed by `sf recover --json`."""
        refusal = self.refusal
        return {
            "old": self.old.as_json(),
            "new": self.new.as_json(),
            "start": rounded(self.start),
            "examples": self.examples,
            "steps": self.steps,
            "seconds": round(self.seconds, 3),
            "tokens": self.tokens,
            "forwarded_tokens": self.forwarded,
            "by": self.by,
            "keep": self.keep,
            "stepped_back": self.stepped_back,
            "held": self.held,
            "learning_rate": None
            if self.learning_rate is None
            else rounded_rate(self.learning_rate),
            "learning_rate_source": self.rate_source or None,
            "new_floor": self.new_floor,
            "refused": None if refusal is None else refusal.reason,
            "agreement": self.agreement.as_json(),
            "fitted": self.fitted.as_json(),
            "course": [list(point) for point in self.course],
        }


def _is_known(score: Score | None) -> bool:
    return score is not None and score.metric.is_share and score.value >= KNOWN_FROM
