"""What a model answers to a stage's held-out questions, at the stage's start and since.

`answers/STAGE.json` has the probe's own questions, the wanted answers, and those of several states
of the model; what was asked of a checkpoint or of another model has a file of its own. They can be
deleted: `ask` writes them again. Knows no model.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import orjson

from sf_tui.errors import RunError
from sf_tui.printable import cut
from sf_tui.run.directory import RunDirectory
from sf_tui.run.durable import read_regular, reason_of, replace_file
from sf_tui.run.state import RunState
from sf_tui.vocabulary.declared import (
    STEPS,
    AnswerRecord,
    Count,
    Doc,
    as_object,
    build,
    fields_of,
    fields_problem,
)

FOLDER = "answers"
SCHEMA_VERSION = 1

START, NOW, BEFORE_REPAIR, AFTER_REPAIR, CHECKPOINT, MODEL = (
    "start",
    "now",
    "before_repair",
    "after_repair",
    "checkpoint",
    "model",
)
"""States of a model: at the stage's start, now, around the last repair, a named one, another
model's directory."""

_CUT = 300
"""Characters of a text in an event; a file has all of it."""
_ELLIPSIS = "…"


@dataclass(frozen=True, slots=True)
class ModelState:
    """One state of the model whose answers a sheet has."""

    name: Annotated[
        str,
        Doc("`start`, `now`, `before_repair`, `after_repair`, `checkpoint` or `model`"),
    ]
    step: Annotated[Count | None, Doc("steps done in the stage; null for a model", STEPS)] = None
    weights: Annotated[str, Doc("where the weights are; empty: in the worker's memory")] = ""
    seq: Annotated[Count, Doc("last event that the weights include")] = 0

    @property
    def label(self) -> str:
        """A short heading."""
        at = "" if self.step is None else f"@{self.step}"
        heading = {
            START: "at start",
            NOW: f"now {at}",
            BEFORE_REPAIR: f"before repair {at}",
            AFTER_REPAIR: f"after repair {at}",
            CHECKPOINT: at,
            MODEL: Path(self.weights).name,
        }
        return heading.get(self.name, self.name).strip()


@dataclass(frozen=True, slots=True)
class Answer:
    """One greedy answer."""

    text: Annotated[str, Doc("the answer without its end token")]
    right: Annotated[bool, Doc("whether it is the wanted one, with its end token")] = False
    ended: Annotated[bool, Doc("false: it was cut before the model ended it")] = True
    tokens_right: Annotated[
        Count, Doc("tokens of the wanted answer that are the argmax after the right ones", "tokens")
    ] = 0


@dataclass(frozen=True, slots=True)
class Question:
    """One held-out question with its answers."""

    task: Annotated[str, Doc("task name")]
    place: Annotated[Count, Doc("its place in the task's held-out split, from 0")]
    question: Annotated[str, Doc("the question as it was read")]
    wanted: Annotated[str, Doc("the right answer")]
    tokens: Annotated[Count, Doc("its length, with its end token", "tokens")] = 0
    answers: Annotated[Sequence[Answer], Doc("one for each of `states`")] = ()

    def contains(self, text: str) -> bool:
        """Return whether the task, the question or any of its answers contains a text."""
        wanted = text.casefold()
        texts = (self.task, self.question, self.wanted, *(one.text for one in self.answers))
        return any(wanted in each.casefold() for each in texts)


@dataclass(frozen=True, slots=True)
class AnswerSheet:
    """The answers to the held-out questions of one stage.

    An answer is lost if it is right in the first state and wrong in the judged one.
    """

    stage: Annotated[str, Doc("stage name")]
    step: Annotated[Count, Doc("steps done in the stage", STEPS)]
    states: Annotated[Sequence[ModelState], Doc("states of the model, oldest first")]
    questions: Annotated[Sequence[Question], Doc("in the order of the tasks and their splits")]
    judged: Annotated[Count, Doc("place in `states` of the one compared with the first")] = 0
    notes: Annotated[Sequence[str], Doc("what is missing, and why")] = ()
    schema: Annotated[Count, Doc("version of this format")] = SCHEMA_VERSION

    @property
    def asked(self) -> str:
        """What was asked instead of, or beside, the stage's own course; empty for nothing else.

        `@24` is the checkpoint of step 24, `+` and a digest another model's directory.
        """
        judged = self.states[self.judged]
        others = "\0".join(one.weights for one in self.states if one.name == MODEL)
        digest = hashlib.sha256(others.encode()).hexdigest()[:12]
        at = f"@{judged.step}" if judged.name == CHECKPOINT else ""
        return f"{at}+{digest}" if others else at

    @property
    def tasks(self) -> list[str]:
        """Names of its tasks."""
        return list(dict.fromkeys(one.task for one in self.questions))

    @property
    def lost(self) -> int:
        """Number of answers that were lost."""
        return sum(map(self.is_lost, self.questions))

    @property
    def gained(self) -> int:
        """Number of answers that were wrong in the first state and are right in the judged one."""
        return sum(map(self.is_gained, self.questions))

    def is_lost(self, question: Question) -> bool:
        """Return whether an answer was lost."""
        return question.answers[0].right and not question.answers[self.judged].right

    def is_gained(self, question: Question) -> bool:
        """Return whether an answer was gained."""
        return not question.answers[0].right and question.answers[self.judged].right

    def change(self, question: Question) -> str:
        """Return `lost`, `gained`, or nothing."""
        return "lost" if self.is_lost(question) else "gained" if self.is_gained(question) else ""

    def right(self, task: str, state: int) -> int:
        """Return how many answers of a task are right in a state."""
        return sum(one.answers[state].right for one in self.questions if one.task == task)

    def part(
        self,
        *,
        tasks: Sequence[str] = (),
        find: str = "",
        lost: bool = False,
        gained: bool = False,
    ) -> AnswerSheet:
        """Return the sheet with some of its questions, those that were lost first.

        Args:
            tasks: only of these tasks; empty for all.
            find: only those that contain this text.
            lost: only those that became wrong; with `gained`, also those that became right.
            gained: only those that became right.
        """
        kept = [
            one
            for one in self.questions
            if (not tasks or one.task in tasks)
            and (not find or one.contains(find))
            and (
                not (lost or gained)
                or (lost and self.is_lost(one))
                or (gained and self.is_gained(one))
            )
        ]
        kept.sort(key=lambda one: (not self.is_lost(one), not self.is_gained(one)))
        return replace(self, questions=kept)


@dataclass(frozen=True)
class Wanted:
    """What an operator wants to see of a run on disk.

    Attributes:
        stage: the stage; None: the newest.
        tasks: the tasks; empty for all that the stage knows.
        step: the step of a checkpoint that is compared with the start; None: the newest weights.
        model: a model or adapter directory to ask as well, such as a repaired model.
    """

    stage: str | None = None
    tasks: Sequence[str] = ()
    step: int | None = None
    model: str | None = None


def sheet_path(run: RunDirectory, stage: str, asked: str = "") -> Path:
    """Return the file with a stage's answers.

    Args:
        run: the run.
        stage: the stage, whose name has neither `@` nor `+`.
        asked: from `AnswerSheet.asked`.
    """
    return run.path / FOLDER / f"{stage}{asked}.json"


def write_sheet(run: RunDirectory, sheet: AnswerSheet) -> Path:
    """Write answers aside and rename them, over those to the same questions; return the file.

    Raises:
        OSError: the disk is full or the run directory can't be written.
    """
    path = sheet_path(run, sheet.stage, sheet.asked)
    path.parent.mkdir(mode=0o700, exist_ok=True)
    replace_file(path, orjson.dumps(as_object(sheet)) + b"\n")
    return path


def read_sheet(run: RunDirectory, stage: str) -> AnswerSheet | None:
    """Return a stage's answers; None if there are none yet.

    Raises:
        RunError: the file can't be read or is damaged, or the stage's name can't be a file's.
    """
    if "\0" in stage or Path(stage).name != stage:
        # No profile allows it: the log is damaged, or was written by someone else.
        hint = f"the event log may be damaged: `sf show {run.id}` names what is unreadable"
        raise RunError(f"stage {stage!r} can't have a file of answers", hint)
    path = sheet_path(run, stage)
    hint = "delete it: `sf ask` writes it again"
    try:
        found = orjson.loads(read_regular(path))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, orjson.JSONDecodeError) as error:
        reason = reason_of(error) if isinstance(error, OSError) else f"not JSON: {error}"
        raise RunError(f"{path}: can't be read: {reason}", hint) from error
    wrong = "not a JSON object"
    if isinstance(found, dict):
        wrong = fields_problem(fields_of(AnswerSheet), found) or ""
        if not wrong:
            sheet = build(AnswerSheet, found)
            count = len(sheet.states)
            if sheet.judged < count and all(len(q.answers) == count for q in sheet.questions):
                return sheet
            wrong = "a question has not one answer for each state"
    raise RunError(f"{path}: {wrong}", hint)


def is_outdated(sheet: AnswerSheet, state: RunState) -> bool:
    """Return whether the run has abandoned or changed the weights that a sheet judges.

    Steps that only follow are no reason: the sheet names its own.
    """
    seq, stage = sheet.states[sheet.judged].seq, state.stages.get(sheet.stage)
    # A resume goes on with the weights of its step; a rollback may choose others of that step.
    abandoned = any(
        rewind.seq > seq
        and rewind.stage == sheet.stage
        and rewind.step < sheet.step + (rewind.reason != "resumed")
        for rewind in state.rewinds
    )
    changes = stage.weight_changes if stage is not None else ()
    return abandoned or any(change.seq > seq for change in changes)


def cut_text(text: str) -> str:
    """Return a text as an event has it: a long one is cut."""
    return cut(text, _CUT)


def record_of(question: str, wanted: str, answered: str) -> AnswerRecord:
    """Return a lost answer as an event has it."""
    return AnswerRecord(cut_text(question), cut_text(wanted), cut_text(answered))


def shortened_questions(questions: Sequence[Question], cells: int) -> list[str]:
    """Return questions for a narrow column.

    Where one of a task's questions is too long, words that all of them begin with are left out: as
    few as make them fit, or all of these.

    Args:
        questions: the questions that are shown together.
        cells: characters of the column.
    """
    shared: dict[str, str] = {}
    longest: dict[str, int] = {}
    for one in questions:
        shared[one.task] = _common_words(shared.get(one.task, one.question), one.question)
        longest[one.task] = max(longest.get(one.task, 0), len(one.question))
    left_out = {
        task: _words_to_leave_out(words, longest[task] + len(_ELLIPSIS) - cells)
        for task, words in shared.items()
        if longest[task] > cells
    }
    return [
        _ELLIPSIS + one.question[left_out[one.task] :]
        if 1 < left_out.get(one.task, 0) < len(one.question)
        else one.question
        for one in questions
    ]


def _words_to_leave_out(words: str, wanted: int) -> int:
    """Return the characters of the first words that have the wanted number, else of all."""
    ends = (at + 1 for at, sign in enumerate(words) if sign == " ")
    return next((end for end in ends if end >= wanted), len(words))


def _common_words(first: str, second: str) -> str:
    """Return the whole words that both texts begin with."""
    pairs = enumerate(zip(first, second, strict=False))
    length = next((at for at, (a, b) in pairs if a != b), min(len(first), len(second)))
    common = first[:length]
    return common if first == second else common[: common.rfind(" ") + 1]
