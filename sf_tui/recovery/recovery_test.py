"""The quick recovery test: is the lost task still in the weights?

On a copy of the weights, several recoveries (arms) run for a few steps each and are scored on
held-out old examples that no arm has seen. An arm chooses its best step on a separate slice, so the
reported score is unbiased. Scoring the same recovery on facts that the model never saw shows how
much of the gain is guessing.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from sf_tui.diagnosis.rules import ArmResult
from sf_tui.diagnosis.verdict import Finding, decide_verdict
from sf_tui.engine.weights import weights_restored
from sf_tui.errors import DataError
from sf_tui.recovery.arms import ARMS, EXAMPLES, Arm, ArmContext, ReferenceArm, bank_size
from sf_tui.recovery.case import CaseTask, RecoveryCase
from sf_tui.recovery.scoring import EvalSet, exchange_answers, majority_baseline, split_selection
from sf_tui.recovery.short_tuning import Tuned


@dataclass
class RecoveryOutcome:
    """The findings and costs of a recovery test."""

    finding: Finding
    arms: list[ArmResult]
    reference: ArmResult | None
    skipped: dict[str, str]
    """Reasons for skipped arms, by arm name."""
    start: np.ndarray | None
    """(held_out,) scores under the start weights; None if they are not available."""
    now: np.ndarray
    """(held_out,) scores under the current weights."""
    examples: int
    """Number of safe examples available to the arms."""
    tokens: int
    """Trained tokens over all arms except the reference."""
    forwarded: int
    """Tokens of forward passes only: neighbors' answers and scores."""
    seconds: float
    """Wall time without the reference arm."""
    tokens_per_second: float | None
    """Throughput of training alone."""
    diverged: list[str] = field(default_factory=list)
    """Names of arms that ended early because their loss was not finite."""


class RecoveryTest:
    """Runs the arms of one case, then restores the model."""

    def __init__(
        self,
        case: RecoveryCase,
        *,
        examples: int = EXAMPLES,
        steps: int | None = None,
        learning_rate: float | None = None,
        thorough: bool = False,
        log: Callable[[str], None] = lambda _: None,
        on_step: Callable[[int], None] | None = None,
    ) -> None:
        """Prepare a test.

        Args:
            case: the degraded model and its data.
            examples: number of safe examples of the old task for the arm `examples`.
            steps: steps of the neighbors arm; None derives them from the stage's length.
            learning_rate: base of every arm's rates; None for the stage's.
            thorough: add the paper's recovery on all rows of the old task's training split.
            log: receives a human-readable line about each part of the test.
            on_step: called after every step of every arm; an exception ends the test.

        Raises:
            DataError: there are no rows to score.
        """
        if case.old is None or len(case.old.held_out) < 2:
            raise DataError(
                "a recovery test needs held-out examples of the old task to score on",
                "name them with --old, at least two beside the safe ones",
            )
        self._case = case
        self._old: CaseTask = case.old
        self._count = min(examples, len(case.old.train))
        self._steps = steps
        self._rate = learning_rate or case.learning_rate
        self._knows_rate = learning_rate is not None or case.knows_stage
        self._thorough = thorough
        self._log = log
        self._on_step = on_step
        self._scorer = case.scorer()
        self._selection, self._held_out = split_selection(case.old.held_out, case.seed)
        self._exchanged = not case.control
        control = case.control or exchange_answers(
            self._held_out, case.seed, case.loaded.max_length
        )
        self._control = control if len(control) else None
        self._floor = majority_baseline(control)
        self._results: list[ArmResult] = []
        self._skipped: dict[str, str] = {}
        self._diverged: list[str] = []
        self._forwarded = 0

    def run(self) -> RecoveryOutcome:
        """Run every arm for which this case has the data."""
        case = self._case
        begun = time.perf_counter()
        reference: ArmResult | None = None
        spent_on_reference = 0.0
        with weights_restored(case.model, case.layout) as now_weights:
            self._log("scoring the model as it is")
            now = self._scores(self._held_out)
            self._raise_floor()
            context = ArmContext(
                case,
                self._old,
                self._selection,
                self._scorer,
                now_weights,
                self._rate,
                self._knows_rate,
                self._count,
                self._steps,
                self._log,
                self._on_step,
            )
            start = self._ask_start_model(context)
            now_weights.restore()
            for arm in ARMS:
                result = self._run_arm(arm, context)
                if result is not None:
                    self._results.append(result)
            if self._thorough:
                reference_begun = time.perf_counter()
                reference = self._run_arm(ReferenceArm(), context)
                spent_on_reference = time.perf_counter() - reference_begun
        finding = decide_verdict(
            now,
            self._results,
            start if start is not None else case.known_start.accuracy,
            start_examples=case.known_start.examples,
            seed=case.seed,
        )
        tokens = sum(result.tokens for result in self._results)
        trained_seconds = sum(result.seconds for result in self._results)
        return RecoveryOutcome(
            finding,
            self._results,
            reference,
            self._skipped,
            start,
            now,
            self._count,
            tokens,
            self._forwarded + self._scorer.forwarded,
            time.perf_counter() - begun - spent_on_reference,
            tokens / trained_seconds if trained_seconds else None,
            self._diverged,
        )

    def _ask_start_model(self, context: ArmContext) -> np.ndarray | None:
        """Compute everything that the arms need from the start model, and return its scores."""
        case = self._case
        if case.start is None:
            return None
        self._log("scoring the start weights")
        case.start.load_into(case.layout)
        start = self._scores(self._held_out)
        self._raise_floor()
        context.start_selection = context.select()
        leaks = case.leaks()
        bank = case.bank(
            bank_size(context),
            left_out=leaks.subjects,
            # The old task's questions may resemble none of the new task's. The test has old
            # examples anyway; this uses their prompts, never their answers.
            beside=case.old_anatomy(self._count),
            log=self._log,
        )
        if bank is not None:
            self._forwarded += bank.built_tokens
            context.bank = leaks.without(bank)
        return start

    def _run_arm(self, arm: Arm, context: ArmContext) -> ArmResult | None:
        reason = arm.why_not(context)
        if reason is not None:
            self._skipped[arm.name] = reason
            return None
        found = arm.run(context)
        if found.diverged:
            self._diverged.append(arm.name)
        return self._result(arm.name, found)

    def _result(self, name: str, found: Tuned) -> ArmResult:
        """Score the weights that an arm left in the model."""
        return ArmResult(
            name=name,
            recovered=self._scores(self._held_out),
            selection_accuracy=max(found.best_score, 0.0),
            control=(
                self._scorer.accuracy(self._control, self._old.metric) if self._control else None
            ),
            control_examples=len(self._control or ()),
            floor=self._floor,
            steps=found.best_step,
            seconds=found.seconds,
            tokens=found.tokens,
            learning_rate=found.learning_rate,
            exchanged=self._exchanged,
        )

    def _raise_floor(self) -> None:
        """For metrics with partial credit, raise the guessing floor to the score without recovery.

        A false answer shares its form with the true one, and a token is easier to guess when the
        tokens before it are given.
        """
        if self._control is not None and self._old.metric != "exact_match":
            reached = self._scorer.accuracy(self._control, self._old.metric)
            self._floor = max(self._floor, reached)

    def _scores(self, rows: EvalSet) -> np.ndarray:
        return self._scorer.scores(rows, self._old.metric)
