"""`sf ask`: what a model answers to held-out questions, or to questions of one's own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from sf_tui.cli.complete import complete_run, complete_stage, complete_task
from sf_tui.cli.options import AsJsonObject
from sf_tui.cli.output import check_interrupt, write_json, write_line
from sf_tui.cli.target import find_target, is_live, narrator, refuse_options, run_name
from sf_tui.errors import RunError, UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sf_tui.profile import Profile
    from sf_tui.run.answers import AnswerSheet, Wanted
    from sf_tui.run.directory import RunDirectory

_ACCEPT_WAIT_S = 3600.0
"""Time limit for a worker: it answers between two steps, and a step of a large model takes long."""


def ask(
    target: Annotated[
        str,
        typer.Argument(
            metavar="RUN_OR_MODEL",
            help="Ask this run, or a model: directory, hub id, .gguf or starter:NAME.",
            autocompletion=complete_run,
        ),
    ],
    question: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[QUESTION…]",
            help="Ask this, one in quotes each; default: the held-out questions of the probes.",
        ),
    ] = None,
    step: Annotated[
        int | None,
        typer.Option("--step", min=0, help="Ask the checkpoint of this step; default: now."),
    ] = None,
    stage: Annotated[
        str | None,
        typer.Option(
            "--stage",
            autocompletion=complete_stage,
            help="Ask about this stage; default: the newest.",
        ),
    ] = None,
    task: Annotated[
        str | None,
        typer.Option(
            "--task",
            autocompletion=complete_task,
            help="Show this task only; a question of your own is written like its prompts.",
        ),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            "--model", metavar="DIR", help="Ask this model too, such as one from `sf recover`."
        ),
    ] = None,
    find: Annotated[
        str, typer.Option("--find", metavar="TEXT", help="Show only what contains this text.")
    ] = "",
    lost: Annotated[
        bool, typer.Option("--lost", help="Show only what was right and became wrong.")
    ] = False,
    gained: Annotated[
        bool, typer.Option("--gained", help="Show only what was wrong and became right.")
    ] = False,
    limit: Annotated[
        int,
        typer.Option("--limit", "-n", min=0, help="Print this many of each task; 0: all."),
    ] = 10,
    json: AsJsonObject = False,
) -> None:
    """Show what a model answers: wanted, at the stage's start, now, and after a repair.

    A running worker answers between two steps, and its training is not affected; an ended run is
    asked in this process. Answers that were right and became wrong come first.
    """
    questions = [text.strip() for text in question or ()]
    if "" in questions:
        raise UsageError("an empty question", "leave it out, or write one")
    found = find_target(target)
    if found.run is None:
        refuse_options(
            {
                "--step": step,
                "--stage": stage,
                "--task": task,
                "--model": model,
                "--lost": lost,
                "--gained": gained,
                "--find": find or None,
            },
            "a model outside a run has no stages and no held-out questions",
            "leave them out",
        )
        if not questions:
            raise UsageError(
                f"{found.model}: a model outside a run has no held-out questions",
                f"write one: sf ask {found.model} 'What is …?'",
            )
        _print_own(found.model, _ask_model(found.model, questions), json=json)
        return
    # Deferred: not needed for `sf --help`.
    from sf_tui.run.answers import Wanted

    wanted = Wanted(stage, [task] if task else [], step, model)
    live = is_live(found.run) and step is None and stage is None and model is None
    if questions:
        answers = (
            _ask_worker_own(found.run, questions, task)
            if live
            else _ask_disk_own(found.run, questions, wanted)
        )
        _print_own(run_name(found.run), answers, json=json)
        return
    sheet = _ask_worker(found.run, task) if live else _ask_disk(found.run, wanted)
    shown = sheet.part(tasks=[task] if task else [], find=find, lost=lost, gained=gained)
    if json:
        write_json(_as_json(run_name(found.run), sheet, shown))
        return
    _print_sheet(run_name(found.run), sheet, shown, limit)


def _ask_worker(run: RunDirectory, task: str | None) -> AnswerSheet:
    """Have a live worker write the answers, and return them."""
    # Deferred: not needed for `sf --help`.
    from sf_tui.run.answers import read_sheet
    from sf_tui.run.events import EventTail
    from sf_tui.vocabulary.events import AnswersWritten

    tail = EventTail(run.events, offset=run.events.stat().st_size)
    # It answers for every task; the name is checked, and filters what is shown.
    _send(run, {"task": task} if task else {})
    written = [event for event in tail.poll() if isinstance(event, AnswersWritten)]
    sheet = read_sheet(run, written[-1].stage) if written else None
    if sheet is None:
        raise RunError(f"{run.id}: the worker wrote no answers", "see `sf show`")
    return sheet


def _ask_worker_own(
    run: RunDirectory, questions: Sequence[str], task: str | None
) -> list[dict[str, Any]]:
    """Have a live worker answer questions, and return them with the answers."""
    # Deferred: not needed for `sf --help`.
    from sf_tui.run.answers import NOW, START, ModelState
    from sf_tui.run.events import EventTail
    from sf_tui.vocabulary.events import QuestionAnswered

    found = []
    for question in questions:
        tail = EventTail(run.events, offset=run.events.stat().st_size)
        identity = _send(run, {"question": question} | ({"task": task} if task else {}))
        for event in tail.poll():
            if not isinstance(event, QuestionAnswered) or event.command != identity:
                continue
            start, now = ModelState(START, 0), ModelState(NOW, event.step)
            answers = [] if event.start is None else [_own(start.label, event.start, True)]
            answers.append(_own(now.label, event.answered, event.ended))
            found.append({"question": question, "answers": answers})
    return found


def _send(run: RunDirectory, arguments: dict[str, Any]) -> str:
    """Send `ask` to a live worker, wait until it is done, and return the command's id."""
    # Deferred: not needed for `sf --help`.
    from sf_tui.cli.waiting import Patience, send_and_wait
    from sf_tui.profile import load_profile

    actions = load_profile(run.profile).actions
    name = next(name for name, action in actions.items() if action.op == "ask")
    log = narrator()
    log(f"the worker of {run.id} answers between two steps")
    answer = send_and_wait(run, name, arguments, Patience(_ACCEPT_WAIT_S, log))
    if answer is None or answer.status != "done":
        reason = answer.reason if answer else "no answer"
        raise RunError(f"{run.id}: not answered: {reason}", "see `sf show`")
    return answer.id


def _ask_disk(run: RunDirectory, wanted: Wanted) -> AnswerSheet:
    """Ask the model of a run in this process; keep the answers for the console if it can."""
    profile = _profile(run)
    # Deferred: torch and transformers take seconds to import.
    from sf_tui.cases.run_answers import ask_run
    from sf_tui.run.answers import write_sheet
    from sf_tui.worker.checkpoints import read_record

    log = narrator()
    log(f"loading {run_name(run)}")
    asked = ask_run(read_record(run, profile), wanted, check_interrupt)
    log("asking " + ", ".join(one.state.label for one in asked.states))
    sheet = asked.sheet()
    for note in sheet.notes:
        log(f"note: {note}")
    if not wanted.tasks and (sheet.asked or not is_live(run)):
        try:
            write_sheet(run, sheet)
        except OSError as error:
            log(f"note: the console can't show them: {error}")
    return sheet


def _ask_disk_own(
    run: RunDirectory, questions: Sequence[str], wanted: Wanted
) -> list[dict[str, Any]]:
    profile = _profile(run)
    # Deferred: torch and transformers take seconds to import.
    from sf_tui.cases.run_answers import ask_run
    from sf_tui.worker.checkpoints import read_record

    log = narrator()
    log(f"loading {run_name(run)}")
    asked = ask_run(read_record(run, profile), wanted, check_interrupt)
    return [
        {
            "question": question,
            "answers": [
                _own(state.label, answer.text, answer.ended)
                for state, answer in asked.own_answers(question)
            ],
        }
        for question in questions
    ]


def _ask_model(source: str, questions: Sequence[str]) -> list[dict[str, Any]]:
    # Deferred: torch and transformers take seconds to import.
    from sf_tui.cases.answers import Answerer
    from sf_tui.cases.named_model import load_named

    narrator()(f"loading {source}")
    loaded, compute = load_named(source)
    answerer = Answerer(loaded, compute, between=check_interrupt)
    found = []
    for question in questions:
        answer = answerer.answer_prompt(answerer.prompt(question, None))
        found.append({"question": question, "answers": [_own("now", answer.text, answer.ended)]})
    return found


def _profile(run: RunDirectory) -> Profile:
    # Deferred: pydantic and the profile package take a tenth of a second.
    from sf_tui.profile import load_profile

    return load_profile(run.profile)


def _own(state: str, text: str, ended: bool) -> dict[str, Any]:
    return {"state": state, "text": text, "ended": ended}


def _as_json(name: str, sheet: AnswerSheet, shown: AnswerSheet) -> dict[str, Any]:
    """Return the shown questions, and the counts over all of them."""
    # Deferred: not needed for `sf --help`.
    from sf_tui.vocabulary.declared import as_object

    found = as_object(shown)
    for question, line in zip(shown.questions, found["questions"], strict=True):
        line["change"] = shown.change(question)
    counts = {
        task: {
            "examples": sum(one.task == task for one in sheet.questions),
            "right": [sheet.right(task, at) for at in range(len(sheet.states))],
            "lost": sheet.part(tasks=[task], lost=True).lost,
            "gained": sheet.part(tasks=[task], gained=True).gained,
        }
        for task in sheet.tasks
    }
    return {"run": name, "counts": counts, **found}


def _print_sheet(name: str, sheet: AnswerSheet, shown: AnswerSheet, limit: int) -> None:
    # Deferred: not needed for `sf --help`.
    from sf_tui.cli.answer_table import print_questions, summary_of

    write_line(f"{name}, stage {sheet.stage}, step {sheet.step}")
    for task in sheet.tasks:
        write_line(summary_of(sheet, task))
    write_line()
    left = print_questions(shown, limit)
    if left:
        write_line(f"{left} more: -n 0 prints all, --lost and --find fewer", err=True)


def _print_own(name: str, answers: list[dict[str, Any]], *, json: bool) -> None:
    if json:
        write_json({"target": name, "questions": answers})
        return
    for at, one in enumerate(answers):
        if at:
            write_line()
        write_line(one["question"])
        width = max((len(given["state"]) for given in one["answers"]), default=0)
        for given in one["answers"]:
            cut = "" if given["ended"] else " …"
            text = given["text"].strip().replace("\n", "\n" + " " * (width + 4))
            write_line(f"  {given['state']:<{width}}  {text or '(nothing)'}{cut}")
