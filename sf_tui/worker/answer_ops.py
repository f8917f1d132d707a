"""The op `ask`: what the model answers to held-out questions, or to a question of one's own.

Changes nothing that a later step depends on: no weight stays changed, no random number is drawn.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sf_tui.cases.answers import MOST_RECORDS, Answerer, fill_sheet, lost_records
from sf_tui.cases.run_answers import (
    example_like,
    held_out_of,
    opener,
    stage_questions,
    start_state,
    states_since_repair,
    tasks_of,
)
from sf_tui.cases.run_weights import LoadedRun, own_start
from sf_tui.engine.weights import StartWeights, with_weights
from sf_tui.errors import RunError
from sf_tui.run.answers import (
    NOW,
    AnswerSheet,
    ModelState,
    cut_text,
    read_sheet,
    sheet_path,
    write_sheet,
)
from sf_tui.run.stage_state import StageState
from sf_tui.tasks.encoding import Encoded
from sf_tui.vocabulary.commands import Command
from sf_tui.vocabulary.declared import AnswerRecord
from sf_tui.vocabulary.events import AnswersWritten, QuestionAnswered
from sf_tui.vocabulary.sizes import counted
from sf_tui.worker.context import RunContext
from sf_tui.worker.lockstep import ending_alike
from sf_tui.worker.ops import OpImplementation, OpTarget, register_implementation
from sf_tui.worker.stop import CommandFailedError, failing_alone


class _Ask(OpImplementation):
    def check(self, target: OpTarget, arguments: dict[str, Any]) -> dict[str, Any]:
        stage = _stage_state(target)
        names = tasks_of(stage, [arguments["task"]] if arguments["task"] else [])
        if not names:
            raise RunError(f"stage '{stage.name}' has no held-out questions")
        return arguments

    def apply(self, target: OpTarget, command: Command) -> str:
        """Write the answers to the held-out questions, or log the answer to the command's own."""
        question = command.arguments["question"]
        if question is not None:
            return self._answer(target, command, question)
        # All tasks, whichever is named: the file is the console's, too.
        return self._write(target)

    def _write(self, target: OpTarget) -> str:
        context, stage = target.context, _stage_state(target)
        answerer = _answerer(context)
        names = tasks_of(stage)
        start = _start(target)
        notes = [] if start else [f"the start weights of stage '{stage.name}' are gone"]
        states = [start_state(context.run, start)] if start else []
        now = ModelState(NOW, target.stage.step, seq=context.log.seq)
        states += states_since_repair(context.run, stage, now, opener(_model(context)))
        known = _known_sheet(context, stage.name)
        sheet = fill_sheet(
            answerer,
            context.prepared.layout,
            stage_questions(stage, held_out_of(context.prepared.tasks, names), answerer),
            states,
            stage=stage.name,
            step=target.stage.step,
            judged=len(states) - 1,
            known=known,
            notes=notes,
        )
        if context.ranks.is_main:
            write_sheet(context.run, sheet)
        path = sheet_path(context.run, stage.name)
        context.log_event(
            AnswersWritten(
                stage=stage.name,
                step=target.stage.step,
                path=path.relative_to(context.run.path).as_posix(),
                examples=len(sheet.questions),
                lost=sheet.lost,
                gained=sheet.gained,
            )
        )
        return (
            f"{counted(len(sheet.questions), 'question')}: {sheet.lost} right at the stage's "
            f"start and wrong now, {sheet.gained} wrong then and right now"
        )

    def _answer(self, target: OpTarget, command: Command, question: str) -> str:
        context = target.context
        answerer = _answerer(context)
        (name, *_) = tasks_of(
            _stage_state(target), [command.arguments["task"]] if command.arguments["task"] else []
        )
        examples = context.prepared.tasks[name].task.held_out
        prompt = answerer.prompt(question, example_like(examples))
        now = answerer.answer_prompt(prompt)
        before = None
        start = _start(target)
        if start is not None:
            with with_weights(start, context.prepared.layout):
                before = answerer.answer_prompt(prompt)
        context.log_event(
            QuestionAnswered(
                stage=target.stage.name,
                step=target.stage.step,
                question=question,
                answered=now.text,
                ended=now.ended,
                start=before.text if before else None,
                command=command.id,
            )
        )
        return f"answered: {cut_text(now.text)}"


def lost_answers(context: RunContext, rows: Sequence[Encoded]) -> tuple[AnswerRecord, ...]:
    """Return what the model answers now to some questions that it lost; empty if it can't say.

    Args:
        context: the run.
        rows: the questions that were right at the stage's start and are wrong now.
    """
    if not rows:
        return ()
    try:
        with ending_alike(context.ranks), failing_alone(context.run.path):
            prepared = context.prepared
            # Not to be stopped: the work after a probe is done whole, or a resume repeats it.
            answerer = Answerer(prepared.loaded, prepared.compute)
            return lost_records(answerer, rows[:MOST_RECORDS])
    except CommandFailedError as error:
        reason = error.reason
    except (AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
        # Models with code of their own fail in many ways where they were never meant to generate.
        reason = f"{type(error).__name__}: {error}"
    # They are an addition: a training must not end for want of them.
    context.alert("info", "answers", f"lost answers can't be shown: {reason}")
    return ()


def register_answer_ops() -> None:
    """Register the implementation of `ask`."""
    register_implementation("ask", _Ask())


def _known_sheet(context: RunContext, stage: str) -> AnswerSheet | None:
    """Return the answers that were written before, of which some may be used again."""
    if context.ranks.lockstep:
        # Ranks that read it at different times would run different passes.
        return None
    try:
        return read_sheet(context.run, stage)
    except RunError:
        # A damaged file is written again, as its error says.
        return None


def _answerer(context: RunContext) -> Answerer:
    prepared = context.prepared
    return Answerer(prepared.loaded, prepared.compute, between=context.stop_if_asked)


def _stage_state(target: OpTarget) -> StageState:
    return target.context.resume_log.state.stages[target.stage.name]


def _model(context: RunContext) -> LoadedRun:
    prepared = context.prepared
    return LoadedRun(prepared.loaded, prepared.layout, prepared.compute)


def _start(target: OpTarget) -> StartWeights | None:
    context = target.context
    profile, start_of = context.profile, context.shelf.start
    return own_start(profile, target.stage.name, _model(context), start_of)
