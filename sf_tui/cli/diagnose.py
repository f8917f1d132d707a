"""`sf diagnose`: test whether lost knowledge is still there, and show the result."""

from __future__ import annotations

import math
from time import perf_counter
from typing import TYPE_CHECKING, Annotated, Any

import typer

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
from sf_tui.errors import UsageError

if TYPE_CHECKING:
    from sf_tui.cases.assemble import CaseOverrides, RunCase
    from sf_tui.cases.operations import Diagnosis
    from sf_tui.profile import Profile
    from sf_tui.run.directory import RunDirectory
    from sf_tui.vocabulary.events import DiagnosisMade

_ACCEPT_WAIT_S = 3600.0
"""Time limit for a worker: on a slow machine a test of a large model takes minutes."""


def diagnose(
    target: Reference,
    task: Task = None,
    stage: Stage = None,
    examples: Annotated[
        int | None,
        typer.Option(
            "--examples",
            min=1,
            help="Use this many safe old examples; default: \\[diagnose]'s, or 10.",
        ),
    ] = None,
    steps: Annotated[
        int | None,
        typer.Option(
            "--steps", min=1, help="Take this many steps in the neighbors arm; default: chosen."
        ),
    ] = None,
    learning_rate: Annotated[
        float | None,
        typer.Option(
            "--learning-rate",
            help="Set the learning rate the arms scale from; default: the stage's.",
        ),
    ] = None,
    thorough: Annotated[
        bool,
        typer.Option("--thorough", help="Add the reference: recovery on all old training rows."),
    ] = False,
    time: Annotated[
        float | None,
        typer.Option(
            "--time",
            metavar="SECONDS",
            help="Let an undecided test go on until then; default: \\[diagnose]'s, or 60.",
        ),
    ] = None,
    old: Old = None,
    new: New = None,
    start_model: StartModel = None,
    checkpoint: Checkpoint = None,
    start_accuracy: Annotated[
        float | None,
        typer.Option(
            "--start-accuracy", help="Set the old task's accuracy before; default: not known."
        ),
    ] = None,
    control: Annotated[
        str | None,
        typer.Option(
            "--control",
            metavar="DATA",
            help="Ask about facts the model never saw; default: other rows' answers.",
        ),
    ] = None,
    unrelated: Annotated[
        str | None,
        typer.Option(
            "--unrelated",
            metavar="DATA",
            help="Add an arm that trains on these rows of another task.",
        ),
    ] = None,
    json: AsJsonObject = False,
    set_: Set = None,
) -> None:
    """Test whether a lost task is still known: a quick recovery on a copy of the weights."""
    begun = perf_counter()
    check_rate(learning_rate)
    if time is not None and not (math.isfinite(time) and time >= 0):
        raise UsageError(f"--time {time}: must be a number of seconds ≥ 0", "0 makes no round")
    if start_accuracy is not None and not 0 <= start_accuracy <= 1:
        raise UsageError(
            f"--start-accuracy {start_accuracy}: not an accuracy", "it is a share from 0 to 1"
        )
    found = find_target(target)
    # Deferred: not needed for `sf --help`.
    import orjson

    settings = [*(set_ or [])]
    for key, data in (("control", control), ("unrelated", unrelated)):
        if data is not None:
            settings.append(f"diagnose.{key}={orjson.dumps(data).decode()}")
    if found.run is not None and is_live(found.run):
        refuse_options(
            {
                "--task": task,
                "--stage": stage,
                "--steps": steps,
                "--learning-rate": learning_rate,
                "--old": old,
                "--new": new,
                "--start-model": start_model,
                "--checkpoint": checkpoint,
                "--start-accuracy": start_accuracy,
                "--control": control,
                "--unrelated": unrelated,
                "--set": set_ or None,
            },
            "the run's own worker makes this diagnosis, by the run's profile",
            f"leave them out, or `sf stop {run_name(found.run)}` first",
        )
        event = _ask_worker(found.run, examples, thorough, time)
        _print(event, {"run": run_name(found.run)}, json=json)
        return
    if found.run is not None and new is not None:
        raise UsageError("--new: a run has its new task", "it is for a model outside any run")
    if found.run is None and old is None:
        raise UsageError(
            f"{found.model}: a model doesn't show what its old task was",
            "name rows of it: --old DATA",
        )
    # Deferred: torch and transformers take seconds to import.
    from sf_tui.cases.assemble import CaseOverrides

    overrides = CaseOverrides(task, stage, old, new, start_model, start_accuracy, checkpoint)
    profile = target_profile(found, settings, overrides)
    _check_others(profile)
    options: dict[str, Any] = {
        "examples": examples or profile.diagnose.examples,
        "steps": steps,
        "learning_rate": learning_rate,
        "thorough": thorough,
        "time_s": time,
        "begun": begun,
    }
    event, more = _test(found, profile, overrides, options)
    _print(event, more, json=json)


def _ask_worker(
    run: RunDirectory, examples: int | None, thorough: bool, time_s: float | None
) -> DiagnosisMade:
    """Have a live worker make the diagnosis and return its event."""
    # Deferred: not needed for `sf --help`.
    from sf_tui.cli.waiting import Patience, send_and_wait
    from sf_tui.errors import RunError
    from sf_tui.profile import load_profile
    from sf_tui.run.events import EventTail
    from sf_tui.vocabulary.events import DiagnosisMade

    actions = load_profile(run.profile).actions
    name = next(name for name, action in actions.items() if action.op == "diagnose")
    arguments: dict[str, Any] = {"thorough": True} if thorough else {}
    if examples is not None:
        arguments["examples"] = examples
    if time_s is not None:
        arguments["time"] = time_s
    tail = EventTail(run.events, offset=run.events.stat().st_size)
    log = narrator()
    log(f"the worker of {run.id} makes the diagnosis")
    patience = Patience(_ACCEPT_WAIT_S, log, cancels=True)
    answer = send_and_wait(run, name, arguments, patience)
    if answer is None or answer.status != "done":
        reason = answer.reason if answer else "no answer"
        raise RunError(f"{run.id}: no diagnosis: {reason}", "see `sf show`")
    found = [event for event in tail.poll() if isinstance(event, DiagnosisMade)]
    if not found:
        raise RunError(f"{run.id}: the worker logged no diagnosis", "see `sf show`")
    return found[-1]


def _test(
    target: Target, profile: Profile, overrides: CaseOverrides, options: dict[str, Any]
) -> tuple[DiagnosisMade, dict[str, Any]]:
    """Test a run or a model; return the event and what `--json` adds to it."""
    # Deferred: torch and transformers take seconds to import.
    from sf_tui.cases.operations import append_diagnosis
    from sf_tui.cases.operations import diagnose as run_test
    from sf_tui.cases.rows import CaseNeeds

    log = narrator()
    needs = CaseNeeds(options["examples"], every_example=options["thorough"], spare=True)
    with target_locked(target):
        case = target_case(target, profile, needs, overrides, log)
        found = run_test(case, **options, log=log, report=progress_reporter(log))
        # The verdict on an earlier checkpoint is none on the run's weights.
        if target.run is not None and overrides.checkpoint is None:
            event = append_diagnosis(target.run, found.event)
            return event, {"run": target.name, **_more(case, found)}
    if target.run is not None:
        return found.event, {"run": target.name, **_more(case, found)}
    named = {
        "--old": overrides.old,
        "--new": overrides.new,
        "--start-model": overrides.start_model,
    }
    given = {option: value for option, value in named.items() if value is not None}
    return found.event, {"model": target.model, "given": given, **_more(case, found)}


def _check_others(profile: Profile) -> None:
    """Refuse missing files named in [diagnose], before anything is loaded.

    Raises:
        DataError: a file is missing.
    """
    # Deferred: pydantic and the profile package take a tenth of a second.
    from sf_tui.errors import DataError
    from sf_tui.profile.check_data import diagnosis_files

    for problem in diagnosis_files(profile):
        raise DataError(f"[diagnose] {problem.text}", problem.hint)


def _more(run_case: RunCase, found: Diagnosis) -> dict[str, Any]:
    """Return the facts that `--json` and the card show beside the event."""
    case = run_case.case
    return {
        "start_weights": str(case.start.folder) if case.start else None,
        "new_task": case.new.name if case.new else None,
        "diverged": found.outcome.diverged,
        "notes": list(run_case.notes),
        "gpu_hour": run_case.profile.cost.gpu_hour,
        "learning_rate": case.learning_rate if case.knows_stage else None,
    }


def _print(event: DiagnosisMade, more: dict[str, Any], *, json: bool) -> None:
    if json:
        # Deferred: not needed for `sf --help`.
        from sf_tui.vocabulary.events import event_object, own_fields

        line = event_object(event) if event.seq else own_fields(event)
        write_json(line | more)
        return
    # Deferred: rich takes a tenth of a second.
    from sf_tui.cli.cards import print_diagnosis

    print_diagnosis(event, more)
