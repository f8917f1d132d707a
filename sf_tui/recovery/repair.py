"""Repair of a model: recovers the old task and keeps the new one, with few old examples or none.

New-task rows preserve the new task, the start model's answers to neighbor prompts recover the old
one, and safe examples of the old task help if there are any. First, the change since the start is
scaled back to the point where the loss of that mixture is lowest. Then the model is tuned on the
mixture, and the best step for both tasks together is kept: scores oscillate, and the last step is
rarely the best. The new task has a floor: only states that keep it are chosen, and the chosen one
is checked on held-out rows.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np

from sf_tui.engine.batches import derive_seed
from sf_tui.engine.step import Loss
from sf_tui.engine.weights import Snapshot, weights_restored
from sf_tui.errors import DataError
from sf_tui.neighbors.cache import TeacherCache
from sf_tui.recovery.case import CaseTask, RecoveryCase
from sf_tui.recovery.edits import Edit, Interpolate, edit_named
from sf_tui.recovery.held_attempts import HeldAttempts, RepairParts
from sf_tui.recovery.outcome import NEW_FLOOR, Accuracies, RepairOutcome
from sf_tui.recovery.progress import OnStep
from sf_tui.recovery.repair_attempts import RepairAttempts
from sf_tui.recovery.repair_check import (
    HeldOutCheck,
    old_accuracy,
    score_both,
    scores_on_trained,
)
from sf_tui.recovery.repair_search import JointScore, find_keep
from sf_tui.recovery.scoring import EvalSet, eval_set
from sf_tui.tasks.encoding import Encoded

STEPS = 150
OLD_SHARE = 0.25
RATE_SHARE = 0.5
"""The repair's learning rate, relative to the stage's."""

_FEWEST_SCALED = 32
"""Neighbors, and new rows, used to evaluate scaling back; at least two batches of each."""

_KEPT_BACK, _KEPT_BACK_SHARE = 256, 4
"""Neighbors reserved for scoring steps: at most 256, and at most one in four."""
_SCORED_NEW = 256
_FEWEST_SCORES, _MOST_SCORES = 4, 15
_SCORING_SHARE = 0.5
"""Largest cost of scoring, as a share of the training cost."""


class Repair:
    """Repairs the model of one case in place."""

    def __init__(
        self,
        case: RecoveryCase,
        *,
        examples: int = 0,
        steps: int = STEPS,
        strength: float = 1.0,
        old_share: float = OLD_SHARE,
        learning_rate: float | None = None,
        keep: float | None = None,
        use_neighbors: bool = True,
        thaw: bool = True,
        new_floor: float = NEW_FLOOR,
        force: bool = False,
        log: Callable[[str], None] = lambda _: None,
        on_step: OnStep | None = None,
    ) -> None:
        """Prepare a repair.

        Args:
            case: the degraded model and its data.
            examples: number of safe old examples to train on, limited to those available.
            steps: largest number of optimizer steps.
            strength: λ of the neighbors' loss.
            old_share: old rows per step, as a share of the new rows.
            learning_rate: None for half of the stage's, or a search if the stage's is unknown.
                Others are tried if it is of no use.
            keep: share of the change since the start to keep; None for a search.
            use_neighbors: False trains without neighbors, for comparisons.
            thaw: also tune frozen layers.
            new_floor: share of the new task's score before the repair that has to be kept.
            force: keep the weights of a repair whose new task falls under its floor; otherwise the
                model then has its weights from before, bit for bit.
            log: receives a human-readable line about each part of the repair.
            on_step: called after every step.

        Raises:
            DataError: there are neither start weights nor examples for the old task.
        """
        self._case = case
        available = len(case.old.train) if case.old else 0
        self._count = min(examples, available)
        self._steps = steps
        self._strength = strength
        self._old_share = old_share
        self._given_rate = learning_rate
        self._floor = new_floor
        self._force = force
        self._keep = keep
        self._use_neighbors = use_neighbors and case.start is not None
        self._thaw = thaw
        self._log = log
        self._on_step = on_step
        if not self._count and not self._use_neighbors:
            raise DataError(
                "no evidence of the old task: neither start weights nor old examples",
                "give the weights from before with --start-model, or old examples with --old",
            )
        self._new = case.new
        self._scorer = case.scorer()
        self._forwarded = 0

    def run(self) -> RepairOutcome:
        """Repair the model and leave the chosen weights in it; see `force` for a broken floor."""
        case, begun = self._case, time.perf_counter()
        with weights_restored(case.model, case.layout, thaw=self._thaw) as now:
            before_old, before_new = score_both(case, self._scorer)
            start_accuracy = case.known_start.accuracy
            bank: TeacherCache | None = None
            if case.start is not None:
                case.start.load_into(case.layout)
                start_accuracy = old_accuracy(case, self._scorer)
                if self._use_neighbors:
                    rows = case.batch_size * self._steps
                    rows = min(rows, case.anchor.cache_size or rows)
                    scoring = min(_KEPT_BACK, rows // _KEPT_BACK_SHARE)
                    bank = case.bank(rows + scoring, references=case.references, log=self._log)
                now.restore()
            self._forwarded += bank.built_tokens if bank else 0
            taken, kept_back = self._part_bank(bank)
            if taken is None and not self._count:
                raise DataError(
                    "no evidence of the old task: the new task's rows give no prompts to make "
                    "neighbors of, and no old examples are used",
                    "give the new task's rows with --new, or safe old examples with --old and "
                    "--examples",
                )
            agreement_before = self._agreement(kept_back)
            new_scored = _trained_rows(self._new, case.seed)
            _, old_scored = self._old_examples()
            parts = self._losses(taken)
            joint = JointScore(case, self._scorer, kept_back, old_scored, new_scored, self._floor)
            keep = self._scale_back(now, kept_back, new_scored)
            attempts = RepairAttempts(
                case,
                parts,
                joint,
                now,
                joint.before,
                steps=self._steps,
                score_every=max(self._steps // self._scores(joint.rows), 1),
                log=self._log,
                on_step=self._on_step,
            )
            best = attempts.run(
                *self._first_rate(),
                is_given=self._given_rate is not None,
                holds=new_scored is not None,
            )
            held = HeldAttempts(
                case,
                attempts,
                joint,
                RepairParts(self._losses, self._example_losses, taken, kept_back, old_scored),
                now,
                self._log,
            )
            check = HeldOutCheck(case, self._scorer, now, joint, before_new, self._floor, self._log)
            others = held if new_scored is not None else ()
            checked = check.run(best, others, attempts.search_later)
            best = checked.attempt
            fitted = scores_on_trained(
                self._new, new_scored, before_new, joint.before.new, self._scorer
            )
            agreement_after = self._agreement(kept_back)
            repaired = Snapshot(case.layout)
        outcome = RepairOutcome(
            _accuracies(case.old, before_old, checked.old),
            _accuracies(case.new, before_new, checked.new),
            start_accuracy,
            self._count,
            best.step,
            time.perf_counter() - begun,
            attempts.tokens + held.tokens,
            self._forwarded + held.forwarded + self._scorer.forwarded,
            keep,
            Accuracies(agreement_before, agreement_after, len(kept_back) if kept_back else 0),
            best.rate,
            best.course,
            "neighbors" if taken is not None else "examples",
            attempts.source(best.rate),
            self._floor,
            checked.share if checked.share < 1 else None,
            checked.held,
            (len(case.old.train) if case.old else 0) - self._count,
            fitted,
        )
        if self._force or outcome.floor_refusal is None:
            repaired.restore()
        return outcome

    def _first_rate(self) -> tuple[float | None, str]:
        """Return the rate to try first, and where it comes from."""
        if self._given_rate is not None:
            return self._given_rate, "as given"
        if self._case.knows_stage:
            share = f"{RATE_SHARE:g} of the stage's {self._case.learning_rate:.1e}"
            return RATE_SHARE * self._case.learning_rate, share
        return None, ""

    def _scores(self, rows: int) -> int:
        """Return how often to score the repair; few steps allow few scores."""
        # Training on a row costs as much as three forward passes.
        worth = _SCORING_SHARE * 3 * 2 * self._case.batch_size * self._steps
        return int(np.clip(worth / max(rows, 1), _FEWEST_SCORES, _MOST_SCORES))

    def _old_examples(self) -> tuple[list[Encoded], EvalSet | None]:
        """Return the old examples to train on, and those that score: untrained ones if any."""
        case = self._case
        if not self._count or case.old is None:
            return [], None
        drawn = case.safe_examples(len(case.old.train))
        trained, others = drawn[: self._count], drawn[self._count :][:_SCORED_NEW]
        return trained, eval_set(others or trained, grouped=False)

    def _losses(self, taken: TeacherCache | None, new_weight: float = 1.0) -> list[Loss]:
        """Return the losses on new rows, neighbors and old examples."""
        case = self._case
        parts = self._new_loss(new_weight)
        if taken is not None:
            parts.append(case.neighbors_loss("repair", taken, case.batch_size, self._strength))
        batch = max(round(self._old_share * case.batch_size), 1)
        return parts + self._old_loss(batch, 1.0 if taken is None else self._old_share)

    def _example_losses(self, new_weight: float) -> list[Loss]:
        """Return the losses on new rows and on as many old examples."""
        return self._new_loss(new_weight) + self._old_loss(self._case.batch_size, 1.0)

    def _new_loss(self, weight: float) -> list[Loss]:
        case, rows = self._case, self._new.train if self._new else ()
        return [case.examples_loss("repair/new", rows, case.batch_size, weight)] if rows else []

    def _old_loss(self, batch: int, weight: float) -> list[Loss]:
        trained, _ = self._old_examples()
        if not trained:
            return []
        return [self._case.examples_loss("repair/old", trained, batch, weight)]

    def _scale_back(
        self, now: Snapshot, kept_back: TeacherCache | None, new: EvalSet | None
    ) -> float | None:
        """Scale the change since the start back to the point with the mixture's lowest loss."""
        case = self._case
        if case.start is None or self._new is None or not self._use_neighbors:
            return None
        if self._keep is not None:
            self._apply(edit_named("interpolate", {"keep": self._keep}))
            return self._keep
        if new is None or kept_back is None:
            return None
        self._log("how far the change is scaled back")
        count = max(2 * case.batch_size, _FEWEST_SCALED)
        # Sample evenly: rows may be sorted by kind.
        some = min(count, len(new))
        rows = new.subset([at * len(new) // some for at in range(some)])
        places = range(min(count, len(kept_back)))
        meter = case.meter()

        def loss(keep: float) -> float:
            now.restore()
            self._apply(edit_named("interpolate", {"keep": keep}))
            return self._scorer.loss(rows) + self._strength * meter.measure(kept_back, places)[0]

        chosen = find_keep(loss)
        now.restore()
        self._apply(edit_named("interpolate", {"keep": chosen}))
        return chosen

    def _apply(self, edit: Edit) -> None:
        assert self._case.start is not None  # checked by the callers
        edit.apply(self._case.layout, self._case.start)

    def _part_bank(
        self, bank: TeacherCache | None
    ) -> tuple[TeacherCache | None, TeacherCache | None]:
        """Split the neighbors into those for training and those reserved for scoring."""
        if bank is None or len(bank) < 2:
            return None, None
        order = np.random.default_rng(derive_seed(self._case.seed, "kept-back"))
        places = order.permutation(len(bank)).tolist()
        count = min(_KEPT_BACK, len(bank) // _KEPT_BACK_SHARE or 1)
        return bank.part(places[count:]), bank.part(places[:count])

    def _agreement(self, kept_back: TeacherCache | None) -> float | None:
        if kept_back is None:
            return None
        meter = self._case.meter()
        return meter.measure(kept_back, range(len(kept_back)))[1]


def _trained_rows(task: CaseTask | None, seed: int) -> EvalSet | None:
    """Return training rows of a task to score, at most `_SCORED_NEW`; None without any."""
    if task is None or not task.train:
        return None
    rows = eval_set(task.train, grouped=False)
    random = np.random.default_rng(derive_seed(seed, "scored-new"))
    places = random.permutation(len(rows))[:_SCORED_NEW]
    return rows.subset(sorted(places.tolist()))


def _accuracies(task: CaseTask | None, before: float | None, after: float | None) -> Accuracies:
    if task is None or before is None:
        return Accuracies(None, None)
    return Accuracies(before, after, len(task.held_out), task.metric)


def edit_model(
    case: RecoveryCase,
    op: str,
    arguments: dict[str, float | None],
    *,
    new_floor: float = NEW_FLOOR,
    force: bool = False,
) -> RepairOutcome:
    """Repair a model in place by a weight edit, and score both tasks before and after.

    Args:
        case: the degraded model and its data.
        op: the edit.
        arguments: the edit's.
        new_floor: share of the new task's score before the edit that has to be kept.
        force: edit the model even if the new task falls under its floor; otherwise the model then
            keeps its weights, bit for bit.

    Raises:
        DataError: the weights from before the stage are not available.
    """
    if case.start is None:
        raise DataError(
            f"{op} needs the weights from before the stage", "name them with --start-model"
        )
    begun = time.perf_counter()
    scorer = case.scorer()
    edit = edit_named(op, arguments)
    before_old, before_new = score_both(case, scorer)
    trained = _trained_rows(case.new, case.seed)
    known = scorer.accuracy(trained, case.new.metric) if trained and case.new else 0.0
    now = Snapshot(case.layout)
    try:
        case.start.load_into(case.layout)
        start = old_accuracy(case, scorer)
        now.restore()
        edit.apply(case.layout, case.start)
        after_old, after_new = score_both(case, scorer)
        fitted = scores_on_trained(case.new, trained, before_new, known, scorer)
    except BaseException:
        # A live run must continue with the weights from before the edit.
        now.restore()
        raise
    outcome = RepairOutcome(
        _accuracies(case.old, before_old, after_old),
        _accuracies(case.new, before_new, after_new),
        start,
        0,
        0,
        time.perf_counter() - begun,
        0,
        scorer.forwarded,
        edit.keep if isinstance(edit, Interpolate) else None,
        Accuracies(None, None),
        None,
        (),
        op,
        new_floor=new_floor,
        fitted=fitted,
    )
    if not force and outcome.floor_refusal is not None:
        now.restore()
    return outcome
