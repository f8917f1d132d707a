"""The arms of a recovery test: different ways to recover an old task in a few steps.

An arm starts from the current weights and leaves the best weights it found in the model; the test
scores them. An arm never sees the held-out examples used for reporting.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from sf_tui.engine.batches import derive_seed
from sf_tui.engine.step import Loss
from sf_tui.engine.weights import Snapshot
from sf_tui.neighbors.cache import TeacherCache
from sf_tui.recovery.case import UNKNOWN_RATES, CaseTask, RecoveryCase
from sf_tui.recovery.edits import edit_named
from sf_tui.recovery.progress import OnStep
from sf_tui.recovery.scoring import EvalSet, Scorer
from sf_tui.recovery.short_tuning import Tuned, tune_briefly
from sf_tui.vocabulary.sizes import counted

EXAMPLES = 10
EXAMPLES_STEPS = 20
EXAMPLES_ROWS = 16
EXAMPLES_RATES = (0.25, 1.0)
"""Learning rates of the examples arm, relative to the stage's; the selection slice decides."""

NEIGHBOR_ROWS = 8
"""Neighbors per step. At equal tokens, more steps with fewer rows recover more of what is still in
the weights, and no more of what is gone. On the starter: 0.94, versus 0.92 with 16 rows."""
NEIGHBOR_BUDGET = 0.29
"""Tokens of the neighbors arm, as a share of the stage's tokens."""
UNKNOWN_STEPS = 400
"""Steps of the neighbors arm if the stage's length is unknown."""
FEWEST_NEIGHBOR_STEPS, MOST_NEIGHBOR_STEPS = 40, 800
NEIGHBOR_RATES = (1.0, 2.0, 4.0)
"""Learning rates that the neighbors arm tries for a few steps each, relative to the stage's;
reserved neighbors decide."""
NEIGHBOR_RATE_OF_BEST = 0.5
"""Factor applied to the best of these rates, because short trials favor rates that are too high
for long runs. On the starter after 25 new people at 1e-4, 3e-4 and 6e-4: 10 steps work best at
6e-4 to 1.2e-3, a few hundred at 2e-4 to 4e-4."""
NEIGHBOR_SEARCH_STEPS = 10
NEIGHBOR_ROUND = 1 / 3
"""Steps of a further round of the neighbors arm, as a share of the arm's own."""
BANK_PROMPTS = 4096
"""Largest number of neighbors that the start model answers; fewer if the arm needs fewer."""
KEPT_BACK = 64

UNRELATED_STEPS = 20
UNRELATED_RATE = 0.25

REFERENCE_STEPS = 800
REFERENCE_BATCH = 64
REFERENCE_RATE = 0.25
REFERENCE_EVERY = 100
REFERENCE_PATIENCE = 1
"""Scores without a new best after which the reference arm stops."""

_SCORES_AN_ARM = 6


@dataclass
class ArmContext:
    """Data shared by the arms of one test."""

    case: RecoveryCase
    old: CaseTask
    selection: EvalSet
    """The slice of held-out examples for choosing rates and steps."""
    scorer: Scorer
    now: Snapshot
    """The weights that every arm starts from."""
    rate: float
    """The base learning rate; every arm's rates are relative to it."""
    knows_rate: bool
    """Whether `rate` is the stage's own or was given; otherwise several magnitudes are tried."""
    examples: int
    """Number of safe examples of the old task."""
    steps: int | None
    """Steps of the neighbors arm; None derives them from the stage's length."""
    log: Callable[[str], None]
    on_step: OnStep | None = None
    bank: TeacherCache | None = None
    """Neighbors with the start model's answers, or None."""
    start_selection: float | None = None
    """The start model's accuracy on the selection slice."""
    now_selection: float | None = None
    """The accuracy of `now` on the selection slice; None: not scored yet."""

    def select(self) -> float:
        """Return the accuracy on the selection slice."""
        return self.scorer.accuracy(self.selection, self.old.metric)

    def tune(
        self,
        losses: Sequence[Loss],
        steps: int,
        rate: float,
        *,
        every: int | None = None,
        patience: int | None = None,
        enough: float | None = None,
        schedule: str = "cosine",
    ) -> Tuned:
        """Run a short tuning of the weights `now`; the selection slice chooses the step.

        The caller has restored them.
        """
        if self.now_selection is None:
            self.now_selection = self.select()
        return tune_briefly(
            self.case.model,
            self.case.layout,
            losses,
            steps=steps,
            learning_rate=rate,
            schedule=schedule,
            score=self.select,
            start_score=self.now_selection,
            # Scores on a hundred examples vary by this much from step to step.
            tolerance=self.selection_error if patience is None else lambda _: 0.0,
            score_every=every or max(steps // _SCORES_AN_ARM, 1),
            patience=patience,
            enough=enough,
            on_step=self.on_step,
            clock=self.case.clock,
        )

    def selection_error(self, score: float) -> float:
        """Return the standard error of an accuracy on the selection slice."""
        return math.sqrt(max(score * (1 - score), 0.0) / len(self.selection))


@dataclass(frozen=True)
class Round:
    """More training for an arm whose result leaves the verdict open."""

    loss: Loss
    steps: int


class Arm(ABC):
    """One way to recover the old task."""

    name: ClassVar[str]
    """Its name in events and in the console."""
    decides: ClassVar[bool] = True
    """Whether its result counts for the verdict; if False, it is only reported."""

    def why_not(self, context: ArmContext) -> str | None:  # noqa: ARG002
        """Return why the arm can't run; None if it can."""
        return None

    @abstractmethod
    def run(self, context: ArmContext) -> Tuned:
        """Recover from the current weights and leave the best weights in the model.

        The returned tokens and seconds include the search for a rate.
        """

    def round(self, context: ArmContext, number: int) -> Round | None:  # noqa: ARG002
        """Return a further round of training; None if the arm can't go on.

        Args:
            context: the context that the arm ran in.
            number: 1 for the first round; it determines the order of the rows.
        """
        return None


class ExamplesArm(Arm):
    """Train on a few safe examples of the old task."""

    name = "examples"

    def why_not(self, context: ArmContext) -> str | None:
        """Return why the arm can't run; None if it can."""
        return None if context.examples else "no safe example of the old task is available"

    def run(self, context: ArmContext) -> Tuned:
        """Train at each rate, and keep the weights with the best score on the selection slice."""
        context.log(f"examples: {context.examples} of the old task")
        case = context.case
        rows = case.safe_examples(context.examples)
        best: tuple[Tuned, Snapshot] | None = None
        tokens, seconds = 0, 0.0
        for share in EXAMPLES_RATES if context.knows_rate else UNKNOWN_RATES:
            context.now.restore()
            loss = case.examples_loss("examples", rows, min(len(rows), EXAMPLES_ROWS))
            found = context.tune([loss], EXAMPLES_STEPS, share * context.rate)
            tokens, seconds = tokens + found.tokens, seconds + found.seconds
            if best is None or found.best_score > best[0].best_score:
                best = found, Snapshot(case.layout)
        assert best is not None  # EXAMPLES_RATES is not empty
        best[1].restore()
        return replace(best[0], tokens=tokens, seconds=seconds)

    def round(self, context: ArmContext, number: int) -> Round:
        """Return more steps on the same examples, in another order."""
        rows = context.case.safe_examples(context.examples)
        loss = context.case.examples_loss(f"examples/{number}", rows, min(len(rows), EXAMPLES_ROWS))
        return Round(loss, EXAMPLES_STEPS)


class NeighborsArm(Arm):
    """Train on the start model's answers to neighbor prompts, without any old example."""

    name = "neighbors"

    def why_not(self, context: ArmContext) -> str | None:
        """Return why the arm can't run; None if it can."""
        if context.case.start is None:
            return "the weights from before the stage are not available"
        if context.bank is None:
            return "the new task has no prompts to find neighbors of"
        if len(context.bank) < 2 * KEPT_BACK:
            found = counted(len(context.bank), "different neighbor")
            return f"found only {found}; {2 * KEPT_BACK} are needed"
        return None

    def run(self, context: ArmContext) -> Tuned:
        """Choose a rate on reserved neighbors, then train on the others."""
        case = context.case
        kept_back, taken = self._split(context)
        rows, steps = neighbor_rows(case), self._steps(context, taken)
        meter = case.meter()

        def agreement() -> float:
            return -meter.measure(kept_back, range(len(kept_back)))[0]

        def pull() -> Loss:
            # As in the benchmark of the verdict. Batches of mixed lengths recover more, but also
            # of what is gone, and a test must distinguish the two.
            return case.neighbors_loss("diagnosis", taken, rows, length_grouped=True)

        context.log("neighbors: which learning rate")
        tokens, seconds = 0, 0.0
        rates: dict[float, float] = {}
        for share in NEIGHBOR_RATES if context.knows_rate else UNKNOWN_RATES:
            context.now.restore()
            tried = tune_briefly(
                case.model,
                case.layout,
                [pull()],
                steps=NEIGHBOR_SEARCH_STEPS,
                learning_rate=share * context.rate,
                on_step=context.on_step,
                clock=case.clock,
            )
            tokens, seconds = tokens + tried.tokens, seconds + tried.seconds
            if not tried.diverged:
                rates[share * context.rate] = agreement()
        context.now.restore()
        best = max(rates, key=lambda one: rates[one]) if rates else context.rate
        rate = NEIGHBOR_RATE_OF_BEST * best
        context.log(f"neighbors: {counted(steps, 'step')} of {rows}, no old example")
        found = context.tune([pull()], steps, rate)
        return replace(found, tokens=tokens + found.tokens, seconds=seconds + found.seconds)

    def round(self, context: ArmContext, number: int) -> Round:
        """Return more steps on the same neighbors, in another order."""
        case = context.case
        _, taken = self._split(context)
        loss = case.neighbors_loss(
            f"diagnosis/{number}", taken, neighbor_rows(case), length_grouped=True
        )
        return Round(loss, max(round(NEIGHBOR_ROUND * self._steps(context, taken)), 1))

    def _split(self, context: ArmContext) -> tuple[TeacherCache, TeacherCache]:
        """Return the neighbors that choose the rate, and those that are trained on."""
        bank = context.bank
        assert bank is not None  # checked by `why_not`
        seed = derive_seed(context.case.seed, "kept-back")
        order = np.random.default_rng(seed).permutation(len(bank))
        return bank.part(order[:KEPT_BACK].tolist()), bank.part(order[KEPT_BACK:].tolist())

    def _steps(self, context: ArmContext, taken: TeacherCache) -> int:
        return context.steps or neighbor_steps(context.case, float(np.mean(taken.lengths)))


class UnrelatedArm(Arm):
    """Train on an unrelated task: a broken output format may recover on its own."""

    name = "unrelated"

    def why_not(self, context: ArmContext) -> str | None:
        """Return why the arm can't run; None if it can."""
        if context.case.unrelated:
            return None
        return "no other task is named ([diagnose] unrelated)"

    def run(self, context: ArmContext) -> Tuned:
        """Train on the other task's rows."""
        context.log("unrelated: another task")
        rows = context.case.unrelated
        context.now.restore()
        loss = context.case.examples_loss("unrelated", rows, min(len(rows), EXAMPLES))
        return context.tune([loss], UNRELATED_STEPS, UNRELATED_RATE * context.rate)

    def round(self, context: ArmContext, number: int) -> Round:
        """Return more steps on the other task's rows, in another order."""
        rows = context.case.unrelated
        loss = context.case.examples_loss(f"unrelated/{number}", rows, min(len(rows), EXAMPLES))
        return Round(loss, UNRELATED_STEPS)


class EditArm(Arm):
    """Remove the top singular direction of each matrix's change, without data."""

    name = "edit"

    def why_not(self, context: ArmContext) -> str | None:
        """Return why the arm can't run; None if it can."""
        if context.case.start is None:
            return "the weights from before the stage are not available"
        return None

    def run(self, context: ArmContext) -> Tuned:
        """Edit the weights and score them once."""
        case = context.case
        assert case.start is not None  # checked by `why_not`
        context.log("edit: the top direction of each matrix's change removed")
        context.now.restore()
        begun = case.clock()
        edit_named("shift-edit", {"alpha": 1.0}).apply(case.layout, case.start)
        selection = context.select()
        return Tuned(0, selection, 0, 0, case.clock() - begun, (), 0.0)


class ReferenceArm(Arm):
    """The paper's recovery: train on the old task's training split until accuracy stops rising.

    It needs all of the old data, which a recovery test normally does without.
    """

    name = "reference"
    decides = False

    def why_not(self, context: ArmContext) -> str | None:
        """Return why the arm can't run; None if it can."""
        if len(context.old.train) > context.examples:
            return None
        return "no more old data than the safe examples is available"

    def run(self, context: ArmContext) -> Tuned:
        """Train on all old rows."""
        context.log("reference: the old task's training data")
        rows = context.old.train
        loss = context.case.examples_loss("reference", rows, min(REFERENCE_BATCH, len(rows)))
        rate = context.case.reference_rate or REFERENCE_RATE * context.rate
        context.now.restore()
        return context.tune(
            [loss],
            REFERENCE_STEPS,
            rate,
            every=REFERENCE_EVERY,
            patience=REFERENCE_PATIENCE,
            # Accuracy can't rise above its value before the stage.
            enough=context.start_selection,
            schedule="constant",
        )


ARMS: tuple[Arm, ...] = (ExamplesArm(), NeighborsArm(), UnrelatedArm(), EditArm())
"""The arms that can support a verdict, in the order in which they run."""


def neighbor_rows(case: RecoveryCase) -> int:
    """Return the number of neighbor prompts per step."""
    return min(NEIGHBOR_ROWS, max(case.batch_size, 1))


def neighbor_steps(case: RecoveryCase, row_tokens: float | None = None) -> int:
    """Return the steps of the neighbors arm: a share of the stage's tokens, within bounds.

    Args:
        case: the case to test.
        row_tokens: mean tokens of a neighbor with its answer; None uses the mean of the new
            task's rows, or of the old task's if there are none.
    """
    if case.stage_tokens is None:
        return UNKNOWN_STEPS
    if row_tokens is None:
        row_tokens = float(np.mean([len(row.input_ids) for row in case.typical_rows]))
    steps = NEIGHBOR_BUDGET * case.stage_tokens / (neighbor_rows(case) * row_tokens)
    return int(np.clip(steps, FEWEST_NEIGHBOR_STEPS, MOST_NEIGHBOR_STEPS))


def bank_size(context: ArmContext) -> int:
    """Return the number of neighbor prompts that a test has the start model answer."""
    rows = neighbor_rows(context.case) * (context.steps or neighbor_steps(context.case))
    # Some prompts are dropped because they would leak answers; enough must remain.
    return int(np.clip(rows, 3 * KEPT_BACK, BANK_PROMPTS)) + KEPT_BACK
