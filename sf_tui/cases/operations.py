"""Diagnosis and repair of a case, and their output: one event, or one model directory.

Settings that the caller omits come from the case's profile. A repair changes the case's
model in place; a model directory is written complete or not at all.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from safetensors import SafetensorError

from sf_tui.cases.answers import MOST_RECORDS, Answerer, lost_records
from sf_tui.cases.assemble import RunCase
from sf_tui.cases.retrain_cost import retrain_tokens
from sf_tui.cases.rows import read_others
from sf_tui.diagnosis.event import compare_costs, diagnosis_event
from sf_tui.engine.loading import LoadedModel, save_model
from sf_tui.errors import RunError
from sf_tui.recovery.outcome import RepairOutcome
from sf_tui.recovery.progress import PartProgress, Report
from sf_tui.recovery.recovery_outcome import RecoveryOutcome
from sf_tui.recovery.recovery_test import RecoveryTest
from sf_tui.recovery.repair import Repair
from sf_tui.run.directory import RunDirectory
from sf_tui.run.durable import aside_name, new_folder, remove_abandoned
from sf_tui.run.events import EventLog
from sf_tui.vocabulary.events import DiagnosisMade

EXAMPLES_WITHOUT_START = 10
"""Old examples that a repair trains on without start weights."""


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
    time_s: float | None = None,
    begun: float | None = None,
    log: Callable[[str], None] = lambda _: None,
    report: Report | None = None,
) -> Diagnosis:
    """Run the recovery test on a case and restore its model.

    Args:
        run_case: the case.
        examples: safe examples that the arm `examples` trains on.
        steps: of the neighbors arm; None: from [diagnose], or else from the stage's own work.
        learning_rate: base of every arm's rates; None: from [diagnose], or else the stage's.
        thorough: add the paper's own recovery.
        time_s: seconds within which an undecided test may go on in rounds; None: from
            [diagnose].
        begun: the reading of the case's clock that they count from; None: now.
        log: receives a line for the user about each part of the test.
        report: receives the progress; an exception from it ends the test.

    Raises:
        DataError: there is nothing to score, or data named in [diagnose] can't be used.
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
        time_s=settings.time if time_s is None else time_s,
        begun=begun,
        log=log,
        report=report,
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
        rounds=outcome.rounds,
    )
    answerer = Answerer(case.loaded, case.compute, between=case.check_stop)
    answers = lost_records(answerer, outcome.lost[:MOST_RECORDS])
    return Diagnosis(outcome, replace(event, answers=answers))


def repair_examples(run_case: RunCase, requested: int | None) -> int:
    """Return the number of old examples that a repair trains on: as requested, or from [recover].

    If neither is set: 0 with start weights, and `EXAMPLES_WITHOUT_START` without them.
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
    new_floor: float | None = None,
    force: bool = False,
    log: Callable[[str], None] = lambda _: None,
    report: Report | None = None,
    thaw: bool = True,
) -> RepairOutcome:
    """Repair a case's model in place; settings not given come from its [recover].

    Args:
        run_case: the case.
        examples: safe old examples to train on.
        steps: optimizer steps at most.
        strength: λ of the neighbors' loss.
        learning_rate: if None here and in [recover], half of the stage's, or others if that is of
            no use.
        keep: share of the change since the start to keep before the first step.
        new_floor: share of the new task's score before the repair that has to be kept. If it can't
            be, the model keeps its weights and the outcome says why.
        force: keep the repaired weights all the same.
        log: receives a line for the user about each part of the repair.
        report: receives the progress; an exception from it ends the repair.
        thaw: tune frozen layers too.

    Raises:
        DataError: neither start weights nor examples represent the old task.
    """
    settings = run_case.profile.recover
    configured = settings.learning_rate
    if configured is None and settings.rate_share is not None and run_case.case.knows_stage:
        configured = settings.rate_share * run_case.case.learning_rate
    progress = PartProgress(report or (lambda _: None))

    def say(text: str) -> None:
        log(text)
        progress.begin(text)

    return Repair(
        run_case.case,
        examples=examples,
        steps=steps or settings.steps,
        strength=strength or settings.strength,
        old_share=settings.old_share,
        learning_rate=learning_rate or configured,
        keep=settings.interpolate if keep is None else keep,
        thaw=thaw,
        new_floor=settings.new_floor if new_floor is None else new_floor,
        force=force,
        log=say,
        on_step=progress.step,
    ).run()


def append_diagnosis(run: RunDirectory, event: DiagnosisMade) -> DiagnosisMade:
    """Append a `diagnosis` event to a run's log and return it; the caller holds the lock.

    Raises:
        RunError: the log can't be read or written.
    """
    log = EventLog(run.events)
    try:
        event = log.append(event)
        log.sync()
    finally:
        log.close()
    return event


def write_model(loaded: LoadedModel, out: Path) -> None:
    """Write a model directory aside, then rename it; an interruption leaves nothing behind.

    Raises:
        RunError: the disk is full, or it can't be written.
    """
    try:
        remove_abandoned(out.parent, out.name, "writing")
        with new_folder(out, out.with_name(aside_name(out.name, "writing"))) as folder:
            save_model(loaded, folder)
    except FileExistsError as error:
        raise RunError(f"{out}: it was created meanwhile", "choose another --out") from error
    except (OSError, SafetensorError) as error:
        raise RunError(
            f"{out}: can't write the repaired model: {error}", "make room, or choose another --out"
        ) from error
