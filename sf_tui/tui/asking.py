"""Where the console has the model's answers from: the run directory, its worker, or `sf ask`.

A live run's worker answers between two steps. A run that has ended is asked by `sf ask` in a
process of its own, because this one never loads a model. Draws nothing.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass

import orjson

from sf_tui.errors import RunError
from sf_tui.run.answers import NOW, START, AnswerSheet, ModelState, read_sheet, sheet_path
from sf_tui.run.directory import RunDirectory
from sf_tui.vocabulary.events import QuestionAnswered


@dataclass(frozen=True)
class OwnAnswers:
    """A question of the operator's own with its answers.

    Attributes:
        question: the question.
        answers: for each state of the model, its label and the answer.
    """

    question: str
    answers: Sequence[tuple[str, str]]

    @classmethod
    def from_event(cls, event: QuestionAnswered) -> OwnAnswers:
        """Return what a worker answered."""
        before = [] if event.start is None else [(ModelState(START, 0).label, event.start)]
        now = (ModelState(NOW, event.step).label, event.answered)
        return cls(event.question, [*before, now])


class SheetReader:
    """Reads a stage's answers again whenever their file was written."""

    def __init__(self, run: RunDirectory) -> None:
        self._run = run
        self._seen: tuple[str, int, int] | None = None
        self.sheet: AnswerSheet | None = None
        self.problem = ""

    def poll(self, stage: str) -> bool:
        """Read the answers if they changed; return whether they did."""
        try:
            status = sheet_path(self._run, stage).stat()
            seen = (stage, status.st_mtime_ns, status.st_ino)
        except (OSError, ValueError):
            # There is none yet, or a damaged log names a stage that can't be a file's name.
            seen = (stage, 0, 0)
        if seen == self._seen:
            return False
        self._seen = seen
        try:
            self.sheet, self.problem = read_sheet(self._run, stage), ""
        except RunError as error:
            self.sheet, self.problem = None, f"{error.message}; {error.hint}"
        return True


class AskProcess:
    """`sf ask` on a run without a worker, as a process of its own.

    Attributes:
        question: the question; empty for the held-out ones.
    """

    def __init__(self, run: RunDirectory, question: str = "") -> None:
        """Start it.

        Raises:
            RunError: no process can be started.
        """
        self.question = question
        command = [sys.executable, "-m", "sf_tui.cli", "ask", str(run.path), "--json"]
        try:
            # A file: libraries may print more than a pipe holds before anything reads it.
            self._errors = tempfile.TemporaryFile()  # noqa: SIM115  open while the process runs
            self._process = subprocess.Popen(
                [*command, *(["--", question] if question else [])],
                stdin=subprocess.DEVNULL,
                # The answers to the held-out questions are in the run directory, too; an answer to
                # one question is no more than a pipe holds.
                stdout=subprocess.PIPE if question else subprocess.DEVNULL,
                stderr=self._errors,
                # Ctrl-C in the console's terminal is not meant for it; `end` ends it.
                start_new_session=True,
            )
        except OSError as error:
            raise RunError(f"can't start `sf ask`: {error.strerror}", "ask in a shell") from error

    @property
    def is_running(self) -> bool:
        """Whether it is not done yet."""
        return self._process.poll() is None

    def result(self) -> tuple[OwnAnswers | None, str]:
        """Return, once it has ended, the answers to its question, and what went wrong.

        Returns:
            None for the held-out questions or after an error; the error's first line or "".
        """
        out, _ = self._process.communicate()
        self._errors.seek(0)
        err = self._errors.read().decode(errors="replace")
        self._errors.close()
        code = self._process.returncode
        if code != 0:
            lines = err.splitlines()
            told = next((line for line in lines if line.startswith("sf: ")), "")
            return None, told or f"`sf ask` ended with exit code {code}"
        if not self.question:
            return None, ""
        (found,) = orjson.loads(out)["questions"]
        answers = [(one["state"], one["text"]) for one in found["answers"]]
        return OwnAnswers(found["question"], answers), ""

    def end(self) -> None:
        """End it if it still runs."""
        if self.is_running:
            self._process.kill()
            self._process.communicate()
            self._errors.close()
