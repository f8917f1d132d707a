"""The quick recovery test: is what was lost still there, and how do we know.

On a copy of the weights, several recoveries (arms) are tried for a few steps each and scored on
held-out old examples that no arm has seen. Each chooses its best step on a slice of its own, so
that what is reported is unbiased; the same recovery scored on facts that the model never saw says
what mere guessing gains.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence

import numpy as np

from sf_tui.diagnosis.arms import Arm
from sf_tui.diagnosis.verdict import decide_verdict
from sf_tui.engine.batches import derive_seed
from sf_tui.engine.step import Loss
from sf_tui.engine.weights import Snapshot, weights_restored
from sf_tui.errors import DataError
from sf_tui.neighbors.cache import TeacherCache
from sf_tui.recovery.arm_size import neighbor_rows, neighbor_steps
from sf_tui.recovery.case import UNKNOWN_RATES, OldTask, RecoveryCase
from sf_tui.recovery.edits import edit_named
from sf_tui.recovery.outcome import RecoveryOutcome
from sf_tui.recovery.scoring import (
    ScoredRows,
    exchange_answers,
    guess_floor,
    split_selection,
)
from sf_tui.recovery.short_tuning import Tuned, tune_briefly

EXAMPLES = 10
EXAMPLES_STEPS = 20
EXAMPLES_ROWS = 16
EXAMPLES_RATES = (0.25, 1.0)
"""Rates that the examples arm tries, as shares of the stage's; the selection slice decides."""

NEIGHBOR_RATES = (1.0, 2.0, 4.0)
"""Rates that the neighbors arm tries for a few steps each, as shares of the stage's; neighbors
kept back decide."""
NEIGHBOR_RATE_OF_BEST = 0.5
"""What it then takes of the best of them: a few steps favour a rate that is too high for many.
Measured on the starter after 25 new people at 1e-4, 3e-4 and 6e-4: 10 steps are best at 6e-4 to
1.2e-3, some hundred at 2e-4 to 4e-4."""
NEIGHBOR_SEARCH_STEPS = 10
BANK_PROMPTS = 4096
"""The most neighbors that are asked about; fewer where the arm takes fewer."""
KEPT_BACK = 64

UNRELATED_STEPS = 20
UNRELATED_RATE = 0.25

REFERENCE_STEPS = 800
REFERENCE_BATCH = 64
REFERENCE_RATE = 0.25
REFERENCE_EVERY = 100
REFERENCE_PATIENCE = 1
"""Scores without a new best after which the reference passes for risen as far as it will."""

_SCORES_AN_ARM = 6


class RecoveryTest:
    """Runs the arms of one case; the model is as it was when it is done."""

    def __init__(
        self,
        case: RecoveryCase,
        *,
        examples: int = EXAMPLES,
        steps: int | None = None,
        learning_rate: float | None = None,
        thorough: bool = False,
        told: Callable[[str], None] = lambda _: None,
        on_step: Callable[[int], None] | None = None,
    ) -> None:
        """Prepare a test.

        Args:
            case: the model and what is known of it.
            examples: safe examples of the old task that the arm `examples` trains on.
            steps: of the neighbors arm; None: by the stage's own work.
            learning_rate: the base that every arm's rates are shares of; None: the stage's.
            thorough: add the paper's own recovery on all rows of the old task's train split.
            told: told what goes on, for people.
            on_step: called after every step of every arm; what it raises ends the test.

        Raises:
            DataError: there is nothing to score on.
        """
        if case.old is None or len(case.old.held_out) < 2:
            raise DataError(
                "a recovery test needs held-out examples of the old task to score on",
                "name them with --old, at least two beside the safe ones",
            )
        self._case = case
        self._old: OldTask = case.old
        self._count = min(examples, len(case.old.examples))
        self._steps = steps
        self._rate = learning_rate or case.learning_rate
        self._knows_rate = learning_rate is not None or case.knows_stage
        self._thorough = thorough
        self._told = told
        self._on_step = on_step
        self._scorer = case.scorer()
        self._selection, self._held_out = split_selection(case.old.held_out, case.seed)
        self._exchanged = not case.control
        control = case.control or exchange_answers(
            self._held_out, case.seed, case.loaded.max_length
        )
        self._control = control if len(control) else None
        self._floor = guess_floor(control)
        self._arms: list[Arm] = []
        self._skipped: dict[str, str] = {}
        self._diverged: list[str] = []
        self._trained_seconds = 0.0
        self._forwarded = 0
        self._start_selection: float | None = None

    def run(self) -> RecoveryOutcome:
        """Run every arm that this case has the means for."""
        case = self._case
        begun = time.perf_counter()
        reference: Arm | None = None
        spent_on_reference = 0.0
        with weights_restored(case.model, case.layout) as now_weights:
            self._told("scoring the model as it is")
            now = self._scores(self._held_out)
            self._raise_floor()
            start, bank = self._start_scores()
            now_weights.restore()
            self._run_examples(now_weights)
            self._run_neighbors(now_weights, bank)
            self._run_unrelated(now_weights)
            self._run_edit(now_weights)
            if self._thorough:
                told = time.perf_counter()
                reference = self.run_reference(now_weights)
                spent_on_reference = time.perf_counter() - told
        known_start = start if start is not None else case.start_accuracy
        verdict = decide_verdict(
            now, self._arms, known_start, start_examples=case.start_examples, seed=case.seed
        )
        tokens = sum(arm.tokens for arm in self._arms)
        return RecoveryOutcome(
            verdict,
            self._arms,
            reference,
            self._skipped,
            start,
            now,
            self._count,
            tokens,
            self._forwarded + self._scorer.forwarded,
            time.perf_counter() - begun - spent_on_reference,
            tokens / self._trained_seconds if self._trained_seconds else None,
            self._diverged,
        )

    def run_reference(self, now: Snapshot) -> Arm | None:
        """Run the paper's own recovery: the old task's train split until it stops rising."""
        rows = self._old.examples
        if len(rows) <= self._count:
            self._skipped["reference"] = "no more old data than the safe examples is at hand"
            return None
        self._told("reference: the old task's training data")
        part = self._case.examples_part("reference", rows, min(REFERENCE_BATCH, len(rows)))
        rate = self._case.reference_rate or REFERENCE_RATE * self._rate
        now.restore()
        return self._finish_arm(
            "reference",
            self._tune(
                [part],
                REFERENCE_STEPS,
                rate,
                every=REFERENCE_EVERY,
                patience=REFERENCE_PATIENCE,
                # It can't rise beyond where the task was before.
                enough=self._start_selection,
                schedule="constant",
            ),
            rate,
            speaks=False,
        )

    def _start_scores(self) -> tuple[np.ndarray | None, TeacherCache | None]:
        """Ask the start model everything that it is needed for, once."""
        case = self._case
        if case.start is None:
            return None, None
        self._told("scoring the start weights")
        case.start.load_into(case.layout)
        start = self._scores(self._held_out)
        self._raise_floor()
        self._start_selection = self._select()
        wanted = neighbor_rows(case) * (self._steps or neighbor_steps(case))
        leaks = case.leaks()
        bank = case.bank(
            # Some are left out for what they would teach; that must not leave too few.
            int(np.clip(wanted, 3 * KEPT_BACK, BANK_PROMPTS)) + KEPT_BACK,
            left_out=leaks.subjects,
            # What the old task asks may look like nothing that the new one asks; the test has old
            # examples anyway, and takes their prompts, never their answers.
            beside=case.old_anatomy(self._count),
            told=self._told,
        )
        if bank is None:
            return start, None
        self._forwarded += bank.built_tokens
        return start, leaks.without(bank)

    def _raise_floor(self) -> None:
        """Take what the model reaches without any recovery for guessing, where parts count.

        An answer that isn't so shares its form with the one that is, and a token of it is the
        easier guessed with those before it given.
        """
        if self._control is not None and self._old.metric != "exact_match":
            reached = self._scorer.accuracy(self._control, self._old.metric)
            self._floor = max(self._floor, reached)

    def _run_examples(self, now: Snapshot) -> None:
        if not self._count:
            self._skipped["examples"] = "no safe example of the old task is at hand"
            return
        self._told(f"examples: {self._count} of the old task")
        rows = self._case.safe_examples(self._count)
        best: tuple[Tuned, float, Snapshot] | None = None
        tokens, seconds = 0, 0.0
        for share in EXAMPLES_RATES if self._knows_rate else UNKNOWN_RATES:
            now.restore()
            part = self._case.examples_part("examples", rows, min(len(rows), EXAMPLES_ROWS))
            found = self._tune([part], EXAMPLES_STEPS, share * self._rate)
            tokens, seconds = tokens + found.tokens, seconds + found.seconds
            if best is None or found.best_score > best[0].best_score:
                best = found, share * self._rate, Snapshot(self._case.layout)
        assert best is not None  # there are rates to try
        best[2].restore()
        self._finish_arm("examples", best[0], best[1], tokens=tokens, seconds=seconds)

    def _run_neighbors(self, now: Snapshot, bank: TeacherCache | None) -> None:
        case = self._case
        if case.start is None:
            self._skipped["neighbors"] = "the weights from before the stage are not at hand"
            return
        if bank is None:
            self._skipped["neighbors"] = "the new task has no prompts to find neighbors of"
            return
        if len(bank) < 2 * KEPT_BACK:
            self._skipped["neighbors"] = (
                f"only {len(bank)} different neighbors were found; {2 * KEPT_BACK} are needed"
            )
            return
        order = np.random.default_rng(derive_seed(case.seed, "kept-back")).permutation(len(bank))
        kept_back = bank.part(order[:KEPT_BACK].tolist())
        taken = bank.part(order[KEPT_BACK:].tolist())
        rows = neighbor_rows(case)
        steps = self._steps or neighbor_steps(case, float(np.mean(taken.lengths)))
        meter = case.meter()

        def agreement() -> float:
            return -meter.measure(kept_back, range(len(kept_back)))[0]

        def pull() -> Loss:
            # As the trial of the verdict was played: mixed lengths bring back more, also of what
            # is gone, and a test is to tell the two apart.
            return case.neighbors_part("diagnosis", taken, rows, length_grouped=True)

        self._told("neighbors: which learning rate")
        tokens, seconds = 0, 0.0
        rates: dict[float, float] = {}
        for share in NEIGHBOR_RATES if self._knows_rate else UNKNOWN_RATES:
            now.restore()
            tried = tune_briefly(
                case.model,
                case.layout,
                [pull()],
                steps=NEIGHBOR_SEARCH_STEPS,
                learning_rate=share * self._rate,
            )
            tokens, seconds = tokens + tried.tokens, seconds + tried.seconds
            if not tried.diverged:
                rates[share * self._rate] = agreement()
        now.restore()
        best = max(rates, key=lambda one: rates[one]) if rates else self._rate
        rate = NEIGHBOR_RATE_OF_BEST * best
        self._told(f"neighbors: {steps} steps of {rows}, no old example")
        found = self._tune([pull()], steps, rate)
        self._finish_arm(
            "neighbors",
            found,
            rate,
            tokens=tokens + found.tokens,
            seconds=seconds + found.seconds,
        )

    def _run_unrelated(self, now: Snapshot) -> None:
        rows = self._case.unrelated
        if not rows:
            self._skipped["unrelated"] = "no other task is named ([diagnose] unrelated)"
            return
        self._told("unrelated: another task")
        now.restore()
        part = self._case.examples_part("unrelated", rows, min(len(rows), EXAMPLES))
        found = self._tune([part], UNRELATED_STEPS, UNRELATED_RATE * self._rate)
        self._finish_arm("unrelated", found, UNRELATED_RATE * self._rate)

    def _run_edit(self, now: Snapshot) -> None:
        case = self._case
        if case.start is None:
            self._skipped["edit"] = "the weights from before the stage are not at hand"
            return
        self._told("edit: the top direction of each matrix's change removed")
        now.restore()
        begun = time.perf_counter()
        edit_named("shift-edit", {"alpha": 1.0}).apply(case.layout, case.start)
        selection = self._select()
        found = Tuned(0, selection, 0, 0, time.perf_counter() - begun, ())
        self._finish_arm("edit", found, 0.0)

    def _tune(
        self,
        parts: Sequence[Loss],
        steps: int,
        rate: float,
        *,
        every: int | None = None,
        patience: int | None = None,
        enough: float | None = None,
        schedule: str = "cosine",
    ) -> Tuned:
        return tune_briefly(
            self._case.model,
            self._case.layout,
            parts,
            steps=steps,
            learning_rate=rate,
            schedule=schedule,
            score=self._select,
            # The step by step scores of a hundred examples are noise to so much.
            tolerance=self._selection_error if patience is None else lambda _: 0.0,
            score_every=every or max(steps // _SCORES_AN_ARM, 1),
            patience=patience,
            enough=enough,
            on_step=self._on_step,
        )

    def _finish_arm(
        self,
        name: str,
        found: Tuned,
        rate: float,
        *,
        tokens: int | None = None,
        seconds: float | None = None,
        speaks: bool = True,
    ) -> Arm:
        """Score the weights that an arm left, and note it."""
        if found.diverged:
            self._diverged.append(name)
        arm = Arm(
            name=name,
            recovered=self._scores(self._held_out),
            selection_accuracy=max(found.best_score, 0.0),
            control=(
                self._scorer.accuracy(self._control, self._old.metric) if self._control else None
            ),
            control_examples=len(self._control or ()),
            floor=self._floor,
            steps=found.best_step,
            seconds=found.seconds if seconds is None else seconds,
            tokens=found.tokens if tokens is None else tokens,
            learning_rate=rate,
            exchanged=self._exchanged,
        )
        if speaks:
            self._arms.append(arm)
            self._trained_seconds += arm.seconds
        return arm

    def _scores(self, rows: ScoredRows) -> np.ndarray:
        return self._scorer.scores(rows, self._old.metric)

    def _selection_error(self, score: float) -> float:
        """Return the standard error of a share measured on the selection slice."""
        return math.sqrt(max(score * (1 - score), 0.0) / len(self._selection))

    def _select(self) -> float:
        return self._scorer.accuracy(self._selection, self._old.metric)
