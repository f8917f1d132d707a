"""`sf recover`: write a repaired model that keeps the new task; the degraded one stays.

Nothing is written if the new task would fall under its floor or nothing is better (exit code 1).
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sf_tui.cli.complete import one_of
from sf_tui.cli.options import AsJsonObject
from sf_tui.cli.output import write_json
from sf_tui.cli.progress import progress_reporter
from sf_tui.cli.target import (
    Checkpoint,
    New,
    Old,
    Reference,
    Set,
    Stage,
    StartModel,
    Target,
    Task,
    check_out,
    check_rate,
    find_target,
    is_live,
    narrator,
    refuse_options,
    run_name,
    target_case,
    target_locked,
    target_profile,
)
from sf_tui.errors import RunError, UsageError
from sf_tui.home import user_path
from sf_tui.vocabulary.ops import edit_names, op_named
from sf_tui.vocabulary.sizes import counted

if TYPE_CHECKING:
    from collections.abc import Callable

    from sf_tui.cases.assemble import RunCase
    from sf_tui.recovery.outcome import RepairOutcome

NEIGHBORS = "neighbors"
EDITS = edit_names()


def recover(
    target: Reference,
    out: Annotated[
        Path,
        typer.Option(
            "--out",
            parser=user_path,
            metavar="DIR",
            help="Write the repaired model to this new directory.",
        ),
    ],
    by: Annotated[
        str,
        typer.Option(
            "--by",
            autocompletion=one_of(NEIGHBORS, *EDITS),
            help=f"Use neighbors, {' or '.join((', '.join(EDITS[:-1]), EDITS[-1]))}.",
        ),
    ] = NEIGHBORS,
    examples: Annotated[
        int | None,
        typer.Option(
            "--examples",
            min=0,
            help="Use this many old examples; default: \\[recover]'s, or 10 or 0.",
        ),
    ] = None,
    steps: Annotated[
        int | None, typer.Option("--steps", min=1, help="Limit the steps; default: \\[recover]'s.")
    ] = None,
    strength: Annotated[
        float | None,
        typer.Option(
            "--strength", help="Weight the KL to the start model; default: \\[recover]'s."
        ),
    ] = None,
    learning_rate: Annotated[
        float | None,
        typer.Option(
            "--learning-rate",
            help="Try this rate first; default: \\[recover]'s, else half of the stage's.",
        ),
    ] = None,
    keep: Annotated[
        float | None,
        typer.Option(
            "--keep",
            help="Keep this share of the change since the start; default: searched.",
        ),
    ] = None,
    alpha: Annotated[
        float | None,
        typer.Option(
            "--alpha", help="shift-edit: remove this share of the top direction; default: 1."
        ),
    ] = None,
    new_floor: Annotated[
        float | None,
        typer.Option(
            "--new-floor",
            help="Keep this share of the new task's score; default: \\[recover]'s 0.98.",
        ),
    ] = None,
    force: Annotated[
        bool,
        typer.Option("--force", help="Write it even under the floor, or if nothing is better."),
    ] = False,
    task: Task = None,
    stage: Stage = None,
    old: Old = None,
    new: New = None,
    start_model: StartModel = None,
    checkpoint: Checkpoint = None,
    json: AsJsonObject = False,
    set_: Set = None,
) -> None:
    """Write a repaired model: old task restored, new one kept; needs few old rows or none.

    Exit code 1: nothing was written, because the new task would fall under its floor or nothing
    is better.
    """
    check_rate(learning_rate)
    if new_floor is not None and not 0 <= new_floor <= 1:
        raise UsageError(f"--new-floor {new_floor}: not a share", "it is a number from 0 to 1")
    edit = _edit_arguments(by, keep, alpha)
    if edit is not None:
        refuse_options(
            {
                "--examples": examples,
                "--steps": steps,
                "--strength": strength,
                "--learning-rate": learning_rate,
            },
            f"{by} takes no step and no example",
            "leave them out, or repair by neighbors",
        )
    elif strength is not None and not 0 < strength < float("inf"):
        raise UsageError(f"--strength {strength}: not a strength", "it is a number above 0")
    found = find_target(target)
    _refuse_live(found)
    out = check_out(out, found)
    # Deferred: torch and transformers take seconds to import.
    from sf_tui.cases.assemble import CaseOverrides
    from sf_tui.cases.operations import EXAMPLES_WITHOUT_START, write_model
    from sf_tui.cases.rows import CaseNeeds

    overrides = CaseOverrides(task, stage, old, new, start_model, checkpoint=checkpoint)
    options: dict[str, Any] = {
        "examples": examples,
        "steps": steps,
        "strength": strength,
        "learning_rate": learning_rate,
        "keep": keep,
        "new_floor": new_floor,
        "force": force,
    }
    profile = target_profile(found, set_ or [], overrides)
    log = narrator()
    with target_locked(found):
        wanted = examples
        if wanted is None:
            wanted = profile.recover.examples
            has_start = start_model is not None or profile.adapter is not None
            if found.run is None and not wanted and not has_start:
                wanted = EXAMPLES_WITHOUT_START
        case = target_case(found, profile, CaseNeeds(wanted, scores_needed=False), overrides, log)
        if edit is None:
            outcome = _repair(case, options, log)
        else:
            outcome = _edit(case, by, edit, options, log)
        refusal = outcome.refusal
        is_written = refusal is None or force
        if is_written:
            log(f"writing {out}")
            write_model(case.case.loaded, out)
    _print(outcome, found, out if is_written else None, json=json)
    if refusal is None:
        if outcome.advice is not None:
            log(outcome.advice)
        return
    if not is_written:
        raise RunError(f"nothing was written: {refusal.reason}", refusal.hint)
    log(f"warning: written with --force although {refusal.reason}")


def _edit_arguments(
    by: str, keep: float | None, alpha: float | None
) -> dict[str, float | None] | None:
    """Return the arguments of an edit; None for a repair by tuning.

    Raises:
        UsageError: the method does not exist, or an argument belongs to another one.
    """
    if by not in (NEIGHBORS, *EDITS):
        raise UsageError(
            f"--by {by}: unknown method", f"choose from {NEIGHBORS}, {', '.join(EDITS)}"
        )
    takes = op_named(by).argument_names
    if alpha is not None and "alpha" not in takes:
        raise UsageError("--alpha belongs to shift-edit", f"omit it with --by {by}")
    if keep is not None and by != NEIGHBORS and "keep" not in takes:
        raise UsageError(
            f"--keep: {by} does not scale the change", "it belongs to neighbors and interpolate"
        )
    for name, value in (("--keep", keep), ("--alpha", alpha)):
        if value is not None and not 0 <= value <= 1:
            raise UsageError(f"{name} {value}: not a share", "it is a number from 0 to 1")
    if by == NEIGHBORS:
        return None
    given = {"alpha": alpha, "keep": keep}
    return {name: given[name] for name in takes if name in given}


def _refuse_live(target: Target) -> None:
    run = target.run
    if run is not None and is_live(run):
        raise RunError(
            f"{run.id}: its worker is running and uses the weights",
            f"`sf act {run_name(run)} recover` repairs them in place; or "
            f"`sf stop {run_name(run)}` first",
        )


def _repair(case: RunCase, options: dict[str, Any], log: Callable[[str], None]) -> RepairOutcome:
    # Deferred: torch and transformers take seconds to import.
    from sf_tui.cases.operations import repair, repair_examples

    examples = repair_examples(case, options["examples"])
    outcome = repair(
        case,
        **{**options, "examples": examples},
        log=log,
        report=progress_reporter(log),
    )
    if outcome.examples < examples:
        log(f"note: only {counted(outcome.examples, 'old example')} available")
    return outcome


def _edit(
    case: RunCase,
    by: str,
    arguments: dict[str, float | None],
    options: dict[str, Any],
    log: Callable[[str], None],
) -> RepairOutcome:
    # Deferred: torch and transformers take seconds to import.
    from sf_tui.recovery.repair import edit_model

    log(f"{by}: no step, no data")
    floor = options["new_floor"]
    if floor is None:
        floor = case.profile.recover.new_floor
    return edit_model(case.case, by, arguments, new_floor=floor, force=options["force"])


def _print(outcome: RepairOutcome, target: Target, out: Path | None, *, json: bool) -> None:
    if json:
        more = {
            "run" if target.run is not None else "model": target.name,
            "out": None if out is None else str(out),
            "written": out is not None,
        }
        write_json(outcome.as_json() | more)
        return
    # Deferred: rich takes a tenth of a second.
    from sf_tui.cli.cards import print_repair

    print_repair(outcome, target.name, out)
