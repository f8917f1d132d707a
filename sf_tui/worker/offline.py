"""Diagnosis and repair of a model that no worker has in hand.

Of a run, under its lock: the one thing that a diagnosis writes is its event, behind whatever the
log says already. A repair writes a model directory elsewhere, whole or not at all.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from sf_tui.diagnosis.cost import compare_costs
from sf_tui.diagnosis.event import diagnosis_fields
from sf_tui.engine.loading import LoadedModel, save_model
from sf_tui.errors import RunError, UsageError
from sf_tui.recovery.outcome import RecoveryOutcome, RepairOutcome
from sf_tui.recovery.recovery_test import RecoveryTest
from sf_tui.recovery.repair import Repair, edit_model
from sf_tui.run.directory import RunDirectory
from sf_tui.run.durable import aside_name, new_folder, remove_abandoned
from sf_tui.run.events import EventLog
from sf_tui.run.links import check_links
from sf_tui.run.liveness import RunLock
from sf_tui.worker.case_data import read_others
from sf_tui.worker.cases import AssembledCase
from sf_tui.worker.recipe_tokens import recipe_tokens

Told = Callable[[str], None]

EXAMPLES_WITHOUT_START = 10
"""Old examples that a repair takes where nothing but them speaks for the old task."""


@dataclass(frozen=True)
class Diagnosis:
    """A recovery test's outcome and the fields of its event."""

    outcome: RecoveryOutcome
    fields: dict[str, Any]


@contextmanager
def locked(run: RunDirectory) -> Iterator[None]:
    """Keep every worker from a run meanwhile.

    Raises:
        RunError: a worker has it, or a link leads out of its directory.
    """
    check_links(run)
    lock = RunLock(run)
    lock.acquire()
    try:
        yield
    finally:
        lock.release()


def diagnose(
    assembled: AssembledCase,
    *,
    examples: int,
    steps: int | None,
    learning_rate: float | None,
    thorough: bool,
    told: Told,
    on_step: Callable[[int], None] | None = None,
) -> Diagnosis:
    """Run the recovery test on a case; its model is then as it was.

    Args:
        assembled: the case.
        examples: safe examples that the arm `examples` trains on.
        steps: of the neighbors arm; None: by the stage's own work.
        learning_rate: the base of every arm's rates; None: the stage's.
        thorough: add the paper's own recovery.
        told: told what goes on, for people.
        on_step: called after every step; what it raises ends the test.

    Raises:
        DataError: there is nothing to score on, or [diagnose] names data that can't be used.
    """
    case, profile = assembled.case, assembled.profile
    case.control = read_others(profile, profile.diagnose.control, case.loaded)
    unrelated = read_others(profile, profile.diagnose.unrelated, case.loaded)
    case.unrelated = unrelated.rows if unrelated else ()
    outcome = RecoveryTest(
        case,
        examples=examples,
        steps=steps,
        learning_rate=learning_rate,
        thorough=thorough,
        told=told,
        on_step=on_step,
    ).run()
    assert assembled.old is not None  # a case without an old task has nothing to score on
    anew = recipe_tokens(
        profile,
        assembled.source,
        assembled.old,
        case.loaded,
        assembled.sizes,
        played=assembled.stage is not None,
    )
    cost = compare_costs(
        seconds=outcome.seconds,
        tokens=outcome.tokens,
        tokens_per_second=outcome.tokens_per_second,
        gpu_hour=profile.cost.gpu_hour,
        old_task_tokens=anew.old_task,
        recipe_tokens=anew.recipe,
    )
    reference = [outcome.reference] if outcome.reference else []
    fields = diagnosis_fields(
        outcome.verdict,
        [*outcome.arms, *reference],
        cost,
        task=assembled.old,
        stage=assembled.stage,
        step=assembled.step,
        examples=outcome.examples,
        skipped=outcome.skipped,
    )
    fields |= {"since": assembled.since, "forwarded_tokens": outcome.forwarded}
    return Diagnosis(outcome, fields)


def append_diagnosis(run: RunDirectory, fields: dict[str, Any]) -> dict[str, Any]:
    """Write a `diagnosis` event behind a run's log and return it; the caller has the lock.

    Raises:
        RunError: the log can't be read or written.
    """
    log = EventLog(run.events)
    try:
        event = log.append("diagnosis", **fields)
        log.sync()
    finally:
        log.close()
    return event


def repair_examples(assembled: AssembledCase, asked_for: int | None) -> int:
    """Return how many old examples a repair takes: as asked for, as [recover] says, or as it must.

    With the weights from before none is needed.
    """
    if asked_for is not None:
        return asked_for
    said = assembled.profile.recover.examples
    return said or (0 if assembled.case.start is not None else EXAMPLES_WITHOUT_START)


def repair(
    assembled: AssembledCase,
    *,
    examples: int,
    steps: int | None,
    strength: float | None,
    learning_rate: float | None,
    keep: float | None,
    told: Told,
    on_step: Callable[[int], None] | None = None,
    thaw: bool = True,
) -> RepairOutcome:
    """Repair a case's model in place; what isn't said is as its [recover] has it.

    Args:
        assembled: the case.
        examples: safe old examples to train on.
        steps: optimizer steps at most.
        strength: λ of the neighbors' loss.
        learning_rate: None here and there: half of the stage's.
        keep: share of the change since the start that is kept before the first step.
        told: told what goes on, for people.
        on_step: called after every step.
        thaw: tune frozen layers too.

    Raises:
        DataError: nothing speaks for the old task.
    """
    settings = assembled.profile.recover
    return Repair(
        assembled.case,
        examples=examples,
        steps=steps or settings.steps,
        strength=strength or settings.strength,
        old_share=settings.old_share,
        learning_rate=learning_rate or settings.learning_rate,
        keep=settings.interpolate if keep is None else keep,
        thaw=thaw,
        told=told,
        on_step=on_step,
    ).run()


def edit(assembled: AssembledCase, op: str, arguments: dict[str, float | None]) -> RepairOutcome:
    """Repair a case's model in place by an edit alone.

    Raises:
        DataError: the weights from before are not at hand.
    """
    return edit_model(assembled.case, op, arguments)


def check_out(out: Path, source: Path | None, run: RunDirectory | None) -> Path:
    """Return where a repaired model goes, as an absolute path, or say why it can't go there.

    Args:
        out: the directory to make.
        source: the model directory that is repaired, if it is one.
        run: the run that is repaired, if it is one.

    Raises:
        UsageError: something of that name exists, it lies within what is repaired, or the place
            can't be written.
    """
    out = out.expanduser().absolute()
    given = [source] if source is not None else []
    given += [run.checkpoints, run.model] if run is not None else []
    for place in given:
        if out.resolve().is_relative_to(place.resolve()):
            raise UsageError(
                f"--out {out}: lies within what is repaired, which is never written into",
                "choose a directory beside it",
            )
    if os.path.lexists(out):
        raise UsageError(
            f"--out {out}: something of that name exists; it is never written into",
            "choose another --out",
        )
    above = next(parent for parent in out.parents if parent.exists())
    if not above.is_dir() or not os.access(above, os.W_OK | os.X_OK):
        raise UsageError(f"--out {out}: {above} can't be written", "choose another --out")
    return out


def write_model(loaded: LoadedModel, out: Path) -> None:
    """Write a model directory aside and rename it; whatever interrupts it leaves nothing.

    Raises:
        RunError: no room on the disk, or it can't be written.
    """
    try:
        remove_abandoned(out.parent, out.name, "writing")
        with new_folder(out, out.with_name(aside_name(out.name, "writing"))) as folder:
            save_model(loaded, folder)
    except FileExistsError as error:
        raise RunError(f"{out}: it has come to exist meanwhile", "choose another --out") from error
    except (OSError, SafetensorError) as error:
        raise RunError(
            f"{out}: can't write the repaired model: {error}", "make room, or choose another --out"
        ) from error
