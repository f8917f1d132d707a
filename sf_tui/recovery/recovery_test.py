"""The quick recovery test: is the lost task still in the weights?

On a copy of the weights, several recoveries (arms) run for a few steps each and are scored on
held-out old examples that no arm has seen. An arm chooses its best step on a separate slice, so the
reported score is unbiased. Scoring the same recovery on facts that the model never saw shows how
much of the gain is guessing. While the result is undecided and time is left, more held-out examples
are scored, if there are any, and then the strongest arm goes on in further rounds.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from sf_tui.diagnosis.new_task import NewTask, new_task_of
from sf_tui.diagnosis.rules import ArmResult, strongest_arm
from sf_tui.diagnosis.verdict import decide_verdict, is_settled
from sf_tui.engine.batches import derive_seed
from sf_tui.engine.probing import spread_evenly
from sf_tui.engine.weights import Snapshot, weights_restored
from sf_tui.errors import DataError
from sf_tui.recovery.arm_steps import planned_steps
from sf_tui.recovery.arms import (
    ARMS,
    EXAMPLES,
    REFERENCE_STEPS,
    Arm,
    ArmContext,
    ReferenceArm,
    bank_size,
)
from sf_tui.recovery.case import CaseTask, RecoveryCase
from sf_tui.recovery.progress import PartProgress, Report
from sf_tui.recovery.recovery_outcome import RecoveryOutcome
from sf_tui.recovery.rounds import MARGIN, TIME_S, Contender, ExtraRounds, Rounds
from sf_tui.recovery.scoring import EvalSet, exchange_answers, majority_baseline, split_selection
from sf_tui.recovery.short_tuning import Tuned
from sf_tui.tasks.encoding import Encoded
from sf_tui.vocabulary.sizes import counted

_MOST_NEW = 256
"""Most rows of the new task that are scored to see whether it was learned."""


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
        time_s: float = TIME_S,
        begun: float | None = None,
        log: Callable[[str], None] = lambda _: None,
        report: Report | None = None,
    ) -> None:
        """Prepare a test.

        Args:
            case: the degraded model and its data.
            examples: number of safe examples of the old task for the arm `examples`.
            steps: steps of the neighbors arm; None derives them from the stage's length.
            learning_rate: base of every arm's rates; None for the stage's.
            thorough: add the paper's recovery on all rows of the old task's training split.
            time_s: seconds within which further rounds must end, if the result is undecided.
            begun: the reading of the case's clock that they count from; None: the call of `run`.
            log: receives a human-readable line about each part of the test.
            report: receives the progress after every step of every arm; an exception ends the
                test.

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
        self._time_s = time_s
        self._begun = begun
        self._log = log
        self._progress = PartProgress(report or (lambda _: None), case.clock)
        self._scorer = case.scorer()
        self._selection, self._held_out = split_selection(case.old.held_out, case.seed)
        order = spread_evenly(case.old.spare.groups, derive_seed(case.seed, "spare"))
        self._spare = case.old.spare.subset(order)
        self._exchanged = not case.control
        control = case.control or exchange_answers(
            self._held_out, case.seed, case.loaded.max_length
        )
        self._control = control if len(control) else None
        self._floor = majority_baseline(control)
        self._new = self._rows_of_new_task()
        self._results: list[ArmResult] = []
        self._contender: Contender | None = None
        self._now = np.zeros(0)
        self._start: np.ndarray | None = None
        self._new_start: np.ndarray | None = None
        self._skipped: dict[str, str] = {}
        self._diverged: list[str] = []
        self._forwarded = 0
        self._scoring_s = 0.0
        """Seconds that scoring the last arm took."""

    def run(self) -> RecoveryOutcome:
        """Run every arm for which this case has the data."""
        case = self._case
        begun = case.clock()
        reference: ArmResult | None = None
        spent_on_reference = 0.0
        with weights_restored(case.model, case.layout) as now_weights:
            self._say("scoring the model as it is")
            self._now = self._scores(self._held_out)
            self._raise_floor()
            new_now = self._new_scores()
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
                self._progress.step,
            )
            self._start = self._ask_start_model(context)
            now_weights.restore()
            runnable = [arm for arm in ARMS if arm.why_not(context) is None]
            planned = [planned_steps(arm, context) for arm in runnable]
            for arm in ARMS:
                if arm in runnable:
                    at = runnable.index(arm)
                    self._progress.begin(
                        arm.name,
                        planned[at],
                        number=at + 1,
                        parts=len(runnable),
                        later=sum(planned[at + 1 :]),
                    )
                result = self._run_arm(arm, context)
                if result is not None:
                    self._results.append(result)
                    self._contend(arm, result)
            self._progress.begin("deciding")
            rounds = self._go_on(context, self._begun or begun)
            if self._thorough:
                self._progress.begin("reference", REFERENCE_STEPS)
                reference_begun = case.clock()
                reference = self._run_arm(ReferenceArm(), context)
                spent_on_reference = case.clock() - reference_begun
        finding = decide_verdict(
            self._now,
            self._results,
            self._known_start,
            start_examples=case.known_start.examples,
            reference=reference,
            new=self._new_task(new_now),
            seed=case.seed,
        )
        finding = replace(
            finding,
            evidence=(
                *finding.evidence,
                *rounds.sentences(finding.name, finding.arm, self._time_s),
            ),
        )
        tokens = sum(result.tokens for result in self._results)
        trained_seconds = sum(result.seconds for result in self._results)
        return RecoveryOutcome(
            finding,
            self._results,
            reference,
            self._skipped,
            self._start,
            self._now,
            self._count,
            tokens,
            self._forwarded + self._scorer.forwarded,
            case.clock() - begun - spent_on_reference,
            tokens / trained_seconds if trained_seconds else None,
            self._diverged,
            rounds,
            self._lost_rows(),
        )

    @property
    def _known_start(self) -> np.ndarray | float | None:
        return self._start if self._start is not None else self._case.known_start.accuracy

    def _say(self, text: str) -> None:
        self._log(text)
        self._progress.begin(text)

    def _lost_rows(self) -> tuple[Encoded, ...]:
        right = np.ones(len(self._now)) if self._start is None else self._start
        gone = np.flatnonzero((right == 1) & (self._now < 1))
        return tuple(self._held_out.rows[at] for at in gone)

    def _contend(self, arm: Arm, result: ArmResult) -> None:
        """Keep the weights of an arm, which are in the model, if it is the strongest so far."""
        if self._time_s <= 0 or not result.allowed or not result.steps_taken:
            return
        before = self._contender
        if before is None or strongest_arm([before.result, result]) is result:
            self._contender = Contender(arm, result, Snapshot(self._case.layout))

    def _go_on(self, context: ArmContext, begun: float) -> Rounds:
        """Score more examples and continue the strongest arm while the verdict is undecided."""
        contender = self._contender
        if contender is None:
            return Rounds(ended="no_arm" if self._time_s > 0 else "time")
        place = self._results.index(contender.result)

        def settled(result: ArmResult) -> bool:
            results = [*self._results[:place], result, *self._results[place + 1 :]]
            return is_settled(
                self._now,
                results,
                self._known_start,
                start_examples=self._case.known_start.examples,
                seed=self._case.seed,
            )

        added = 0
        while not settled(contender.result):
            count = self._widen(context, contender, begun)
            if not count:
                break
            added += count
        extra = ExtraRounds(
            context,
            contender,
            lambda found: self._result(contender.result.name, found),
            settled,
            begun=begun,
            time_s=self._time_s,
            scoring_s=self._scoring_s,
        )
        self._results[place], rounds = extra.run()
        self._contender = None
        return replace(rounds, examples=added)

    def _widen(self, context: ArmContext, contender: Contender, begun: float) -> int:
        """Score as many held-out examples again, and add them to every score that decides.

        The other arms keep their scores on the first examples: they have no say any more.

        Returns:
            Their number; 0 if none is left, or not the time that it would take.
        """
        rows = self._spare.subset(range(min(len(self._held_out), len(self._spare))))
        if not len(rows) or strongest_arm(self._results) is not contender.result:
            return 0
        start = self._case.start
        scored = len(self._held_out) + len(self._control or ())
        passes = 2 if start is None else 3
        expected_s = MARGIN * passes * self._scoring_s * len(rows) / scored
        if self._case.agree(self._case.clock() + expected_s > begun + self._time_s):
            return 0
        self._say(f"undecided, {counted(len(rows), 'more held-out example')}")
        place = self._results.index(contender.result)
        contender.weights.restore()
        recovered = np.concatenate([np.asarray(contender.result.recovered), self._scores(rows)])
        contender.result = replace(contender.result, recovered=recovered)
        self._results[place] = contender.result
        context.now.restore()
        self._now = np.concatenate([self._now, self._scores(rows)])
        if start is not None and self._start is not None:
            start.load_into(self._case.layout)
            self._start = np.concatenate([self._start, self._scores(rows)])
        self._held_out = EvalSet(self._held_out.rows + rows.rows)
        self._spare = EvalSet(self._spare.rows[len(rows) :])
        return len(rows)

    def _rows_of_new_task(self) -> EvalSet | None:
        new = self._case.new
        if new is None or not len(new.held_out):
            return None
        rows = new.held_out
        order = spread_evenly(rows.groups, derive_seed(self._case.seed, "new task"))
        return rows.subset(sorted(order[:_MOST_NEW]))

    def _new_scores(self) -> np.ndarray | None:
        new = self._case.new
        if new is None or self._new is None:
            return None
        return self._scorer.scores(self._new, new.metric)

    def _new_task(self, now: np.ndarray | None) -> NewTask | None:
        new = self._case.new
        if new is None or self._new is None or now is None:
            return None
        floor = majority_baseline(self._new)
        return new_task_of(new.name, now, self._new_start, floor, self._case.seed)

    def _ask_start_model(self, context: ArmContext) -> np.ndarray | None:
        """Compute everything that the arms need from the start model, and return its scores."""
        case = self._case
        if case.start is None:
            return None
        self._say("scoring the start weights")
        case.start.load_into(case.layout)
        start = self._scores(self._held_out)
        self._raise_floor()
        self._new_start = self._new_scores()
        context.start_selection = context.select()
        leaks = case.leaks()
        bank = case.bank(
            bank_size(context),
            left_out=leaks.subjects,
            # The old task's questions may resemble none of the new task's. The test has old
            # examples anyway; this uses their prompts, never their answers.
            beside=case.old_anatomy(self._count),
            log=self._say,
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
        begun = self._case.clock()
        result = ArmResult(
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
            steps_taken=found.steps,
            exchanged=self._exchanged,
        )
        self._scoring_s = self._case.clock() - begun
        return result

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
