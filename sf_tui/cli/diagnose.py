"""`sf diagnose`: is what was lost still there? The quick recovery test and its card."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from sf_tui.cli.interrupt import check_interrupt
from sf_tui.cli.output import write_json
from sf_tui.cli.run_or_model import (
    New,
    Old,
    Reference,
    Set,
    Stage,
    StartModel,
    Task,
    check_rate,
    find_target,
    is_live,
    narrator,
    refuse_names_in_a_run,
    refuse_options,
    run_name,
    run_profile,
)
from sf_tui.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sf_tui.profile import Profile
    from sf_tui.run.directory import RunDirectory
    from sf_tui.worker.cases import AssembledCase, Replaced
    from sf_tui.worker.offline import Diagnosis

# A worker on a slow machine may take minutes for a test of a large model.
_LIVE_WAIT_S = 3600.0


def diagnose(
    target: Reference,
    task: Task = None,
    stage: Stage = None,
    examples: Annotated[
        int | None,
        typer.Option(
            "--examples",
            min=1,
            help="Set the safe old examples; default: \\[diagnose]'s, which is 10.",
        ),
    ] = None,
    steps: Annotated[
        int | None, typer.Option("--steps", min=1, help="Steps of the neighbors arm.")
    ] = None,
    learning_rate: Annotated[
        float | None,
        typer.Option("--learning-rate", help="What arms try shares of; default: the stage's."),
    ] = None,
    thorough: Annotated[
        bool,
        typer.Option("--thorough", help="Add the reference: recovery on all old training rows."),
    ] = False,
    old: Old = None,
    new: New = None,
    start_model: StartModel = None,
    start_accuracy: Annotated[
        float | None,
        typer.Option("--start-accuracy", help="The old task's accuracy before, if it is known."),
    ] = None,
    control: Annotated[
        str | None,
        typer.Option(
            "--control", metavar="DATA", help="Old questions about facts that it never saw."
        ),
    ] = None,
    unrelated: Annotated[
        str | None, typer.Option("--unrelated", metavar="DATA", help="Rows of another task.")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    set_: Set = None,
) -> None:
    """Tell whether a lost task is still known: a quick recovery test on a copy of the weights."""
    check_rate(learning_rate)
    if start_accuracy is not None and not 0 <= start_accuracy <= 1:
        raise UsageError(
            f"--start-accuracy {start_accuracy}: no accuracy", "it is a share from 0 to 1"
        )
    found = find_target(target)
    # Deferred: not needed for `sf --help`.
    import orjson

    overrides = [*(set_ or [])]
    for key, data in (("control", control), ("unrelated", unrelated)):
        if data is not None:
            overrides.append(f"diagnose.{key}={orjson.dumps(data).decode()}")
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
                "--start-accuracy": start_accuracy,
                "--control": control,
                "--unrelated": unrelated,
                "--set": set_ or None,
            },
            "the run's own worker makes this diagnosis, by the run's profile",
            f"leave them away, or `sf stop {run_name(found.run)}` first",
        )
        event = _ask_worker(found.run, examples, thorough)
        _print(event, {"run": run_name(found.run)}, json=json)
        return
    # Deferred: torch and transformers take seconds to import.
    from sf_tui.worker.cases import Replaced

    replaced = Replaced(task, stage, old, new, start_model, start_accuracy)
    test: dict[str, Any] = {
        "examples": examples,
        "steps": steps,
        "learning_rate": learning_rate,
        "thorough": thorough,
    }
    if found.run is not None:
        event, more = _diagnose_run(found.run, overrides, replaced, test)
    else:
        event, more = _diagnose_model(found.model, overrides, replaced, test)
    _print(event, more, json=json)


def _ask_worker(run: RunDirectory, examples: int | None, thorough: bool) -> dict[str, Any]:
    """Have a living worker make the diagnosis and return its event."""
    # Deferred: not needed for `sf --help`.
    from sf_tui.cli.act import send_and_wait
    from sf_tui.errors import RunError
    from sf_tui.profile import load_profile
    from sf_tui.run.events import EventTail

    actions = load_profile(run.profile).actions
    name = next(name for name, action in actions.items() if action.op == "diagnose")
    arguments: dict[str, Any] = {"thorough": True} if thorough else {}
    if examples is not None:
        arguments["examples"] = examples
    tail = EventTail(run.events, offset=run.events.stat().st_size)
    narrator()(f"the worker of {run.id} makes the diagnosis between two steps")
    answer = send_and_wait(run, name, arguments, wait_s=_LIVE_WAIT_S)
    if answer is None or answer["status"] != "done":
        reason = answer["reason"] if answer else "no answer"
        raise RunError(f"{run.id}: no diagnosis: {reason}", "see `sf show`")
    said = [event for event in tail.poll() if event["type"] == "diagnosis"]
    if not said:
        raise RunError(f"{run.id}: the worker told no diagnosis", "see `sf show`")
    event: dict[str, Any] = said[-1]
    return event


def _diagnose_run(
    run: RunDirectory, overrides: Sequence[str], replaced: Replaced, test: dict[str, Any]
) -> tuple[dict[str, Any], dict[str, Any]]:
    # Deferred: torch and transformers take seconds to import.
    from sf_tui.worker.cases import run_case
    from sf_tui.worker.offline import append_diagnosis, locked

    if replaced.new is not None:
        raise UsageError("--new: a run has its new task", "it is for a model outside any run")
    profile = run_profile(run, overrides)
    _check_others(profile)
    tell = narrator()
    with locked(run):
        tell(f"loading {run_name(run)}")
        assembled = run_case(run, profile, _wanted(test, profile.diagnose.examples), replaced)
        found = _test(assembled, test, tell)
        event = append_diagnosis(run, found.fields)
    return event, {"run": run_name(run), **_more(assembled, found)}


def _diagnose_model(
    model: str, overrides: Sequence[str], replaced: Replaced, test: dict[str, Any]
) -> tuple[dict[str, Any], dict[str, Any]]:
    # Deferred: torch and transformers take seconds to import.
    from sf_tui.worker.model_case import model_case, model_profile

    refuse_names_in_a_run(replaced.task, replaced.stage)
    if replaced.old is None:
        raise UsageError(
            f"{model}: a model doesn't tell what its old task was",
            "name rows of it: --old DATA",
        )
    profile = model_profile(model, replaced, overrides)
    _check_others(profile)
    tell = narrator()
    tell(f"loading {model}")
    assembled = model_case(
        profile,
        _wanted(test, profile.diagnose.examples),
        start_model=replaced.start_model,
        start_accuracy=replaced.start_accuracy,
    )
    found = _test(assembled, test, tell)
    named = {
        "--old": replaced.old,
        "--new": replaced.new,
        "--start-model": replaced.start_model,
    }
    given = {option: value for option, value in named.items() if value is not None}
    return found.fields, {"model": model, "given": given, **_more(assembled, found)}


def _check_others(profile: Profile) -> None:
    """Find files that [diagnose] names and that aren't there, before anything is loaded.

    Raises:
        DataError: there is one.
    """
    # Deferred: pydantic and the profile package take a tenth of a second.
    from sf_tui.errors import DataError
    from sf_tui.profile.check_data import diagnosis_files

    for problem in diagnosis_files(profile):
        raise DataError(f"[diagnose] {problem.text}", problem.hint)


def _wanted(test: dict[str, Any], default: int) -> Any:
    # Deferred: torch and transformers take seconds to import.
    from sf_tui.worker.case_data import Wanted

    test["examples"] = test["examples"] or default
    return Wanted(test["examples"], every_example=test["thorough"])


def _test(assembled: AssembledCase, test: dict[str, Any], tell: Any) -> Diagnosis:
    # Deferred: torch and transformers take seconds to import.
    from sf_tui.worker.offline import diagnose as run_test

    for note in assembled.notes:
        tell(f"note: {note}")
    settings = assembled.profile.diagnose
    assembled.case.between = check_interrupt
    return run_test(
        assembled,
        examples=test["examples"],
        steps=test["steps"] or settings.steps,
        learning_rate=test["learning_rate"] or settings.learning_rate,
        thorough=test["thorough"],
        told=tell,
        on_step=lambda _: check_interrupt(),
    )


def _more(assembled: AssembledCase, found: Diagnosis) -> dict[str, Any]:
    """Return what `--json` and the card say beside the event."""
    case = assembled.case
    return {
        "start_weights": str(case.start.folder) if case.start else None,
        "new_task": case.new.name if case.new else None,
        "diverged": found.outcome.diverged,
        "notes": list(assembled.notes),
        "gpu_hour": assembled.profile.cost.gpu_hour,
    }


def _print(event: dict[str, Any], more: dict[str, Any], *, json: bool) -> None:
    if json:
        write_json(event | more)
        return
    # Deferred: rich takes a tenth of a second.
    from sf_tui.cli.diagnosis_card import print_card

    print_card(event, more)
