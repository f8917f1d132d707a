"""Diagnosis and repair of a case: the recovery test with its cost and event, and the repair.

Takes settings from the case's profile where the caller gives none. Writes nothing; a repair changes
the case's model in place.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from sf_tui.cases.assemble import RunCase
from sf_tui.cases.retrain_cost import retrain_tokens
from sf_tui.cases.rows import read_others
from sf_tui.diagnosis.event import compare_costs, diagnosis_event
from sf_tui.recovery.recovery_test import RecoveryOutcome, RecoveryTest
from sf_tui.recovery.repair import Repair, RepairOutcome
from sf_tui.vocabulary.events import DiagnosisMade

EXAMPLES_WITHOUT_START = 10
"""Old examples that a repair trains on where there are no start weights."""


@dataclass(frozen=True)
class Diagnosis:
    """A recovery test's outcome and its event."""

    outcome: RecoveryOutcome
    event: DiagnosisMade


def diagnose(
    run_case: RunCase,
    *,
    examples: int,
    steps: int | None = None,
    learning_rate: float | None = None,
    thorough: bool = False,
    log: Callable[[str], None] = lambda _: None,
    on_step: Callable[[int], None] | None = None,
) -> Diagnosis:
    """Run the recovery test on a case; afterwards its model is as it was.

    Args:
        run_case: the case.
        examples: safe examples that the arm `examples` trains on.
        steps: of the neighbors arm; None: as [diagnose] has it, else by the stage's own work.
        learning_rate: the base of every arm's rates; None: as [diagnose] has it, else the stage's.
        thorough: add the paper's own recovery.
        log: gets a line about each part of the test, for people.
        on_step: called after every step; what it raises ends the test.

    Raises:
        DataError: there is nothing to score on, or [diagnose] names data that can't be used.
    """
    case, profile = run_case.case, run_case.profile
    settings = profile.diagnose
    case.control = read_others(profile, settings.control, case.loaded)
    unrelated = read_others(profile, settings.unrelated, case.loaded)
    case.unrelated = unrelated.rows if unrelated else ()
    outcome = RecoveryTest(
        case,
        examples=examples,
        steps=steps or settings.steps,
        learning_rate=learning_rate or settings.learning_rate,
        thorough=thorough,
        log=log,
        on_step=on_step,
    ).run()
    assert case.old is not None  # the test has scored it
    old_task_tokens, recipe_tokens = retrain_tokens(
        profile,
        case.old.name,
        case.loaded,
        run_case.stage_tokens,
        played=run_case.stage is not None,
    )
    cost = compare_costs(
        seconds=outcome.seconds,
        tokens=outcome.tokens,
        tokens_per_second=outcome.tokens_per_second,
        gpu_hour=profile.cost.gpu_hour,
        old_task_tokens=old_task_tokens,
        recipe_tokens=recipe_tokens,
    )
    reference = [outcome.reference] if outcome.reference else []
    event = diagnosis_event(
        outcome.finding,
        [*outcome.arms, *reference],
        cost,
        task=case.old.name,
        stage=run_case.stage,
        step=run_case.step,
        examples=outcome.examples,
        skipped=outcome.skipped,
        since=run_case.since,
        forwarded_tokens=outcome.forwarded,
    )
    return Diagnosis(outcome, event)


def repair_examples(run_case: RunCase, requested: int | None) -> int:
    """Return the old examples that a repair trains on: as requested, else as [recover] has it.

    Else none with the weights from before, and `EXAMPLES_WITHOUT_START` without them.
    """
    if requested is not None:
        return requested
    configured = run_case.profile.recover.examples
    return configured or (0 if run_case.case.start is not None else EXAMPLES_WITHOUT_START)


def repair(
    run_case: RunCase,
    *,
    examples: int,
    steps: int | None = None,
    strength: float | None = None,
    learning_rate: float | None = None,
    keep: float | None = None,
    log: Callable[[str], None] = lambda _: None,
    on_step: Callable[[int], None] | None = None,
    thaw: bool = True,
) -> RepairOutcome:
    """Repair a case's model in place; what isn't given is as its [recover] has it.

    Args:
        run_case: the case.
        examples: safe old examples to train on.
        steps: optimizer steps at most.
        strength: λ of the neighbors' loss.
        learning_rate: None here and in [recover]: half of the stage's.
        keep: share of the change since the start that is kept before the first step.
        log: gets a line about each part of the repair, for people.
        on_step: called after every step.
        thaw: tune frozen layers too.

    Raises:
        DataError: neither start weights nor examples represent the old task.
    """
    settings = run_case.profile.recover
    return Repair(
        run_case.case,
        examples=examples,
        steps=steps or settings.steps,
        strength=strength or settings.strength,
        old_share=settings.old_share,
        learning_rate=learning_rate or settings.learning_rate,
        keep=settings.interpolate if keep is None else keep,
        thaw=thaw,
        log=log,
        on_step=on_step,
    ).run()
