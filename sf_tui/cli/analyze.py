"""`sf analyze neighbors`: the tasks that a new task puts at risk, as the model ranks them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from sf_tui.cli.complete import complete_profile_or_run, complete_task
from sf_tui.cli.options import AsJsonObject
from sf_tui.cli.output import drawing_console, write_json
from sf_tui.cli.target import narrator, run_name, run_profile
from sf_tui.errors import ProfileError, RunNotFoundError
from sf_tui.home import user_path
from sf_tui.printable import printable
from sf_tui.vocabulary.sizes import counted

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sf_tui.cases.risk_survey import Survey, SurveyedGroup
    from sf_tui.run.directory import RunDirectory

app = typer.Typer(help="Find the tasks that a new one puts at risk.", no_args_is_help=True)


@app.callback()
def options() -> None:
    """Look into a model: which tasks a new one puts at risk."""


@app.command()
def neighbors(
    reference: Annotated[
        str,
        typer.Argument(
            metavar="PROFILE|RUN",
            autocompletion=complete_profile_or_run,
            help="Survey a profile before training, or how far a run moved tasks.",
        ),
    ],
    task: Annotated[
        str | None,
        typer.Option(
            "--task",
            autocompletion=complete_task,
            help="Examine this new task; default: the last one.",
        ),
    ] = None,
    prompts: Annotated[
        int | None,
        typer.Option("--prompts", min=1, help="Examine this many of its prompts; default: 12."),
    ] = None,
    json: AsJsonObject = False,
    set_: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="TABLE.KEY=VALUE", help="Override a key of the profile; repeatable."
        ),
    ] = None,
) -> None:
    """List the tasks nearest to a new task: those at risk. No old data are read."""
    log = narrator()
    run = _find_run(reference)
    # Deferred: pydantic and the profile package take a tenth of a second.
    from sf_tui.profile import load_profile

    profile = load_profile(reference, set_ or ()) if run is None else run_profile(run, set_ or ())
    # Deferred: torch and transformers take seconds to import.
    from sf_tui.cases.risk_survey import survey_profile, survey_run
    from sf_tui.worker.checkpoints import read_record

    if run is None:
        survey = survey_profile(profile, task, prompts, log)
    else:
        survey = survey_run(read_record(run, profile), task, prompts, log)
    named = {"profile": reference} if run is None else {"run": run.id}
    if json:
        write_json(named | _as_json(survey))
        return
    _print(survey, run_name(run) if run is not None else reference)


def _find_run(reference: str) -> RunDirectory | None:
    """Return the run that a reference names; None if it names a profile.

    Raises:
        RunNotFoundError: it names neither.
    """
    # Deferred: pydantic and the profile package take a tenth of a second.
    from sf_tui.profile import builtin_profiles, find_profile
    from sf_tui.run.directory import find_run

    path = user_path(reference)
    if reference in builtin_profiles() or path.suffix == ".toml" or path.is_file():
        return None
    try:
        return find_run(reference)
    except RunNotFoundError as error:
        try:
            find_profile(reference)
        except ProfileError as no_profile:
            raise RunNotFoundError(
                f"'{reference}' is neither a run nor a profile", no_profile.hint or error.hint
            ) from error
        return None


def _as_json(survey: Survey) -> dict[str, Any]:
    return {
        "task": survey.task,
        "stage": survey.stage,
        "step": survey.step,
        "prompts": survey.prompts,
        "seconds": round(survey.seconds, 3),
        "tokens": survey.tokens,
        "groups_in_all": survey.named,
        "groups": [_group_json(rank, one) for rank, one in enumerate(survey.groups, start=1)],
    }


def _group_json(rank: int, one: SurveyedGroup) -> dict[str, Any]:
    group, moved = one.group, one.moved
    fields: dict[str, Any] = {
        "rank": rank,
        "frame": group.template,
        "kind": group.kind,
        "likelihood": group.likelihood,
        "prompts": len(group.members),
        "example": group.example,
    }
    if moved is not None:
        fields |= {"kl": moved.divergence, "kept": moved.kept, "asked": moved.asked}
    return fields


def _print(survey: Survey, name: str) -> None:
    # Deferred: rich takes a tenth of a second.
    from rich.table import Table
    from rich.text import Text

    console = drawing_console()
    when = "before any training" if survey.step is None else f"now at step {survey.step}"
    console.print(
        Text.assemble((f"tasks at risk beside '{survey.task}'", "bold"), f"  {name}, {when}")
    )
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("", justify="right")
    table.add_column("asks", overflow="fold")
    columns = ["nats a token", "prompts", "kind"]
    columns += ["KL", "kept"] if survey.step is not None else []
    for column in columns:
        table.add_column(column, justify="right", no_wrap=True)
    for rank, one in enumerate(survey.groups, start=1):
        asks = Text(printable(one.group.template))
        asks.append(f"\n  {printable(one.group.example)}", style="dim")
        table.add_row(str(rank), asks, *_cells(one, survey.step))
    console.print(table)
    left = survey.named - len(survey.groups)
    console.print(
        Text(
            f"{counted(survey.prompts, 'prompt')} of '{survey.task}', one token of each exchanged; "
            f"{survey.tokens:,} tokens read in {survey.seconds:.1f} s"
            + (f"; {left} less likely groups are not shown" if left else ""),
            style="dim",
        )
    )
    legend = "other_template: another question, so another task; slot: the new task itself"
    if survey.step is not None:
        legend += "; kept: share of the start model's answers that the model still gives"
    console.print(Text(legend, style="dim"))


def _cells(one: SurveyedGroup, step: int | None) -> Sequence[str]:
    group, moved = one.group, one.moved
    cells = [f"{group.likelihood:.2f}", str(len(group.members)), group.kind]
    if step is not None:
        cells += [f"{moved.divergence:.3f}", f"{moved.kept:.2f}"] if moved else ["–", "–"]
    return cells
