"""The attempts of a repair that hold the new task harder than by its rows alone.

They follow one after another while the new task is under its floor, and also keep the model's own
answers from before the repair, on prompts beyond the rows. The last one keeps them in the new
task's own frames, where the start model's answers cost the new task most. Without those answers
only old examples can bring back an old task that is asked about the same subjects.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from sf_tui.engine.step import Loss
from sf_tui.engine.weights import Snapshot
from sf_tui.neighbors.cache import TeacherCache
from sf_tui.recovery.case import RecoveryCase
from sf_tui.recovery.held_answers import HeldPrompts, answered, held_prompts
from sf_tui.recovery.repair_attempts import Attempt, RepairAttempts
from sf_tui.recovery.repair_check import HeldAttempt
from sf_tui.recovery.repair_search import JointScore
from sf_tui.recovery.scoring import EvalSet
from sf_tui.vocabulary.sizes import counted

_NEW_WEIGHT, _LONGER = 3.0, 2
"""Weight of the new task, and factor of the steps."""


@dataclass(frozen=True)
class RepairParts:
    """What the losses and the scores of a repair are made of."""

    losses: Callable[[TeacherCache | None, float], list[Loss]]
    """Returns the losses on neighbors, on new rows with a weight, and on old examples."""
    example_losses: Callable[[float], list[Loss]]
    """Returns the losses on new rows with a weight, and on as many old examples."""
    taken: TeacherCache | None
    """The neighbors to train on."""
    kept_back: TeacherCache | None
    """The neighbors that score steps."""
    old: EvalSet | None
    """Old examples that score steps; None if no old examples are used."""


class HeldAttempts:
    """Makes the attempts; each begins when it is iterated to.

    Attributes:
        tokens: number of trained tokens.
        forwarded: number of tokens passed through the model for answers.
    """

    def __init__(
        self,
        case: RecoveryCase,
        attempts: RepairAttempts,
        joint: JointScore,
        parts: RepairParts,
        now: Snapshot,
        log: Callable[[str], None],
    ) -> None:
        """Prepare.

        Args:
            case: the case whose model is repaired.
            attempts: the attempts before.
            joint: the score that they used.
            parts: what losses and scores are made of.
            now: the weights before the repair.
            log: receives a line for each attempt.
        """
        self._case = case
        self._attempts = attempts
        self._joint = joint
        self._parts = parts
        self._now = now
        self._log = log
        self.tokens = 0
        self.forwarded = 0

    def __iter__(self) -> Iterator[HeldAttempt]:
        """Yield the attempts, the mildest first."""
        return map(self._attempt, held_prompts(self._case, self._parts.taken))

    def _attempt(self, wanted: HeldPrompts) -> HeldAttempt:
        case, parts = self._case, self._parts
        self._now.restore()
        held = answered(case, wanted.prompts)
        self.forwarded += held.built_tokens
        crossed = held.part(range(len(wanted.crossed))) if wanted.crossed else None
        weight = _NEW_WEIGHT / 2 if len(held) else _NEW_WEIGHT
        alone = bool(wanted.framed) and parts.old is not None
        if alone:
            joint = self._joint.like(None, parts.old, crossed)
            losses = parts.example_losses(weight)
        else:
            joint = self._joint.like(parts.kept_back, parts.old, crossed)
            others = wanted.without(parts.taken) if parts.taken is not None else None
            losses = parts.losses(others or None, weight)
        if len(held):
            losses.append(case.neighbors_loss("repair/held", held, case.batch_size, weight))
        # Scaling back costs the new task more than examples can make good.
        begin = self._now if alone else None
        again = self._attempts.again(losses, joint, longer=_LONGER, begin=begin)
        beyond = (
            f", and its answers to {counted(len(held), 'prompt')} beyond its rows" if held else ""
        )
        by = ", with old examples in place of neighbors" if alone else ""
        self._log(f"holding the new task harder{beyond}{by}")

        def run(rate: float) -> Attempt:
            found = again.one(rate)
            self.tokens += again.tokens
            return found

        return HeldAttempt(run, len(held), joint)
