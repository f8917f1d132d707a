"""What the model answers: a list of questions, and one of them in full with all its answers.

Covers the whole screen and has keys of its own. Asks through functions that it is given; reads the
sheet of answers through a reader; knows no model.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import ClassVar

from rich.cells import cell_len, chop_cells, set_cell_size

from sf_tui.errors import RunError
from sf_tui.run.answers import AnswerSheet, Question, is_outdated, shortened_questions
from sf_tui.tui.asking import AskProcess, OwnAnswers, SheetReader
from sf_tui.tui.dialogs.dialog import Dialog, keys_lines
from sf_tui.tui.lines import Line, Piece, as_many_as_fit, wrap_cells
from sf_tui.tui.view_state import ViewState

POLL_EVERY_S = 0.5
"""Interval at which an open dialog looks for new answers."""
_LEAST_COLUMN = 24
"""Narrowest useful column of answers."""
_LABEL_CELLS = 22
_WANTED = -1
"""Place of the wanted answer among the columns: before those of the states."""
_FEWEST_ROWS = 4
_MARK_CELLS = 3
_ALL, _LOST, _GAINED = "all", "lost", "gained"
_SHOWN = (_ALL, _LOST, _GAINED)

Ask = Callable[[str], str]
"""Sends a question (empty: the held-out ones) to the worker and returns the command's id."""


class TypedDialog(Dialog[str]):
    """Returns a typed text.

    Args:
        prompt: what is asked for.
        does: what enter does.
        typed: the text at first.
    """

    TAKES_TEXT = True
    LONGEST = 2000

    def __init__(
        self,
        view: ViewState,
        steady_clock: Callable[[], float],
        prompt: str,
        does: str,
        typed: str = "",
    ) -> None:
        super().__init__(view, steady_clock)
        self.typed = typed
        self._prompt = prompt
        self._does = does

    def compose_text(self, width: int, height: int) -> list[Line]:
        """Return the prompt and the typed text, whose end is always in sight."""
        parts = chop_cells(self.typed, max(width - 1, 2)) or [""]
        room = max(height - 3, 1)
        lines: list[Line] = [[(part, "strong")] for part in parts[-room:]]
        lines[-1] = [*lines[-1], (" ", "cursor")]
        foot = keys_lines([("enter", self._does), ("ctrl+u", "clear"), ("esc", "cancel")], width)
        return [[(self._prompt, "muted")], *lines, [], *foot]

    def answer(self) -> None:
        """Return the typed text."""
        self.dismiss(self.typed.strip())


class AnswersDialog(Dialog[None]):
    """The questions of the probes with the model's answers, those that were lost first.

    Args:
        ask: sends a question to the worker; None if the run has none.
        refusal: why nothing can be asked; empty if it can.
    """

    WIDTH: ClassVar[int] = 10_000

    def __init__(
        self,
        view: ViewState,
        steady_clock: Callable[[], float],
        ask: Ask | None,
        refusal: str = "",
    ) -> None:
        super().__init__(view, steady_clock)
        self._steady_clock = steady_clock
        self._ask = ask
        self._refusal = refusal
        self._reader = SheetReader(view.run)
        self._process: AskProcess | None = None
        self._command = ""
        self._own: OwnAnswers | None = None
        self._problem = ""
        self._find = ""
        self._shown = _ALL
        self._chosen = 0

    def on_mount(self) -> None:
        """Read the answers there are, and have a live worker answer now."""
        super().on_mount()
        self._reader.poll(self._stage)
        self.set_interval(POLL_EVERY_S, self._poll)
        if self._ask is not None and not self._is_current():
            self._send("")

    def on_unmount(self) -> None:
        """End a process that still answers."""
        if self._process is not None:
            self._process.end()

    def wanted_height(self, width: int) -> int:
        """Return more lines than any screen has."""
        del width
        return 10_000

    def compose_text(self, width: int, height: int) -> list[Line]:
        """Return the counts, the list, the chosen question in full, and the keys."""
        foot = [self._status(), *keys_lines(self._keys(), width)]
        sheet = self._reader.sheet
        if sheet is None:
            return self.with_foot([*self._empty(width), *self._own_lines(width)], foot, height)
        part = self._part(sheet)
        questions = list(part.questions)
        self._chosen = min(self._chosen, max(len(questions) - 1, 0))
        head = [*self._counts(sheet, width)]
        room = max(height - len(head) - len(foot) - 2, 1)
        detail = self._own_lines(width)
        if not detail and questions:
            detail = self._detail(part, questions[self._chosen], width)
        detail = detail[: max(room - _FEWEST_ROWS, room // 2)]
        rows = self._rows(part, questions, width, max(room - len(detail), 1))
        body = [*head, [], *rows]
        body += [[] for _ in range(max(height - len(foot) - len(detail) - 1 - len(body), 0))]
        return [*body, [], *detail, *foot][:height]

    def press(self, key: str) -> None:
        """Move, filter, or ask."""
        if key in {"q", "z"}:
            self.dismiss(None)
        elif key == "/":
            typed = TypedDialog(
                self.view, self._steady_clock, "show what contains", "show", self._find
            )
            self.app.push_screen(typed, self._filter)
        elif key == "f":
            self._shown = _SHOWN[(_SHOWN.index(self._shown) + 1) % len(_SHOWN)]
        elif key == "e":
            if self._may_ask():
                typed = TypedDialog(self.view, self._steady_clock, "ask the model", "ask")
                self.app.push_screen(typed, self._ask_own)
        elif key == "r":
            if self._may_ask():
                self._send("")
        else:
            page = max(self._box.size.height // 3, 1)
            steps = {"up": -1, "k": -1, "down": 1, "j": 1, "pageup": -page, "pagedown": page}
            self._chosen = max(self._chosen + steps.get(key, 0), 0)
            self._own = self._own if key not in steps else None
        self.refresh_text()

    def close_or_clear(self) -> bool:
        """Clear the filter, if there is one, instead of closing; return whether it was cleared."""
        if not self._find and self._shown == _ALL:
            return False
        self._find, self._shown = "", _ALL
        self.refresh_text()
        return True

    @property
    def _stage(self) -> str:
        stage = self.view.newest.stage
        return stage.name if stage is not None else ""

    def _is_current(self) -> bool:
        sheet, stage = self._reader.sheet, self.view.newest.stage
        if sheet is None or stage is None or is_outdated(sheet, self.view.newest):
            return False
        return sheet.step == stage.step

    def _may_ask(self) -> bool:
        self._problem = self._refusal
        return not self._refusal

    def _send(self, question: str) -> None:
        self._problem = ""
        try:
            if self._ask is not None:
                self._command = self._ask(question)
            elif self._process is None:
                self._process = AskProcess(self.view.run, question)
        except RunError as error:
            self._problem = f"{error.message}; {error.hint}"
        self.refresh_text()

    def _ask_own(self, question: str | None) -> None:
        if question:
            self._own = OwnAnswers(question, ())
            self._send(question)

    def _filter(self, text: str | None) -> None:
        if text is not None:
            self._find, self._chosen = text, 0
            self.refresh_text()

    def _poll(self) -> None:
        changed = self._reader.poll(self._stage) if self._stage else False
        process = self._process
        if process is not None and not process.is_running:
            answers, self._problem = process.result()
            self._own = answers or self._own
            self._process, changed = None, True
        event = self.view.newest.questions.get(self._command)
        if event is not None and self._own is not None and not self._own.answers:
            self._own, changed = OwnAnswers.from_event(event), True
        if changed:
            self.refresh_text()

    def _part(self, sheet: AnswerSheet) -> AnswerSheet:
        return sheet.part(find=self._find, lost=self._shown == _LOST, gained=self._shown == _GAINED)

    def _keys(self) -> Sequence[tuple[str, str]]:
        again = "answer again" if self._ask is not None else "ask the run's model"
        keys = [("up down", "choose"), ("f", "all, lost, gained"), ("/", "find")]
        return [*keys, ("e", "a question of your own"), ("r", again), ("esc", "close")]

    def _status(self) -> Line:
        """Return what is being asked, or what went wrong."""
        row = self.view.newest.activity.commands.get(self._command)
        if self._problem:
            return [(self._problem, "warn")]
        if self._process is not None:
            return [("the run's model is loaded and asked, in a process of its own", "strong")]
        if row is not None and row.command.is_pending:
            return [("the worker answers before its next step", "strong")]
        if row is not None and row.level in {"warn", "error"}:
            return [(row.text, "warn")]
        sheet = self._reader.sheet
        if sheet is not None and is_outdated(sheet, self.view.newest):
            return [("from before the run was taken back or repaired: r asks again", "warn")]
        parts = []
        if self._find:
            parts.append(f"contains '{self._find}'")
        if self._shown != _ALL:
            parts.append(f"{self._shown} only")
        return [(f"shown: {', '.join(parts)} (esc: all)", "strong")] if parts else []

    def _empty(self, width: int) -> list[Line]:
        if self._reader.problem:
            return [[(part, "warn")] for part in wrap_cells(self._reader.problem, width)]
        if self._stage == "":
            return [[("no stage has begun, so nothing was learned or lost", "muted")]]
        if self._ask is not None and not self._refusal:
            return [[("the worker answers the questions of its probes …", "muted")]]
        text = self._refusal or "no answers yet: r loads the run's model and asks it"
        return [[(part, "muted")] for part in wrap_cells(text, width)]

    def _counts(self, sheet: AnswerSheet, width: int) -> list[Line]:
        """Return a line for each task: how many answers are right in each state."""
        lines: list[Line] = []
        for task in sheet.tasks:
            role, marker = self.view.task_paint(task)
            part = sheet.part(tasks=[task])
            count = len(part.questions)
            # Both ends first: a narrow screen has no room for what is between them.
            order = dict.fromkeys([0, sheet.judged, *range(len(sheet.states))])
            states: list[Line] = [
                [(f"{sheet.right(task, at)}", "strong"), (f" {sheet.states[at].label}", "muted")]
                for at in order
            ]
            lines.append(
                as_many_as_fit(
                    [
                        [(f"{marker} {task}", role), (f" right of {count}:", "muted")],
                        *states[:2],
                        [(f"{part.lost} right -> wrong", "danger" if part.lost else "muted")],
                        [(f"{part.gained} wrong -> right", "ok" if part.gained else "muted")],
                        *states[2:],
                    ],
                    width,
                )
            )
        return lines

    def _rows(
        self, sheet: AnswerSheet, questions: Sequence[Question], width: int, room: int
    ) -> list[Line]:
        """Return the heading and the rows around the chosen question."""
        if not questions:
            return [[("no question matches", "muted")]]
        most = max((width - _MARK_CELLS) // _LEAST_COLUMN - 1, 1)
        # The rest is below the list, in full.
        order = list(dict.fromkeys([sheet.judged, 0, _WANTED, *range(len(sheet.states))]))[:most]
        places = sorted(order)
        cells = (width - _MARK_CELLS) // (len(places) + 1) - 1
        heads = ["wanted" if at == _WANTED else sheet.states[at].label for at in places]
        head = "".join(f"{_fitted(text, cells)} " for text in ("question", *heads))
        lines: list[Line] = [[(" " * _MARK_CELLS + head, "muted")]]
        asked = shortened_questions(questions, cells)
        first = max(min(self._chosen - room // 2, len(questions) - room + 1), 0)
        for place, one in enumerate(questions[first : first + room - 1], first):
            chosen = place == self._chosen and self._own is None
            pointer = self.view.glyphs.pointer if chosen else " "
            line: Line = [(pointer, "strong"), _mark(sheet, one), (" ", "text")]
            line.append((f"{_fitted(asked[place], cells)} ", "selected" if chosen else "text"))
            line += [_cell(one, at, cells) for at in places]
            lines.append(line)
        return lines

    def _detail(self, sheet: AnswerSheet, question: Question, width: int) -> list[Line]:
        """Return a question with everything that was answered to it."""
        answers = [
            (f"{'' if one.right else 'x '}{state.label}", one.text, one.right, one.ended)
            for state, one in zip(sheet.states, question.answers, strict=True)
        ]
        lines = [*_wrapped(question.task, question.question, "strong", width)]
        lines += _wrapped("wanted", question.wanted, "text", width)
        for label, text, right, ended in answers:
            text = _written(text) + ("" if ended else " …")
            lines += _wrapped(label, text, "ok" if right else "danger", width)
        return lines

    def _own_lines(self, width: int) -> list[Line]:
        """Return the operator's own question and its answers."""
        if self._own is None:
            return []
        lines = _wrapped("your question", self._own.question, "strong", width)
        if not self._own.answers:
            return [*lines, *_wrapped("", "…", "muted", width)]
        for label, text in self._own.answers:
            lines += _wrapped(label, _written(text), "text", width)
        return lines


def _mark(sheet: AnswerSheet, question: Question) -> Piece:
    change = sheet.change(question)
    return {"lost": ("-", "danger"), "gained": ("+", "ok")}.get(change, (" ", "text"))


def _cell(question: Question, at: int, cells: int) -> Piece:
    """Return the wanted answer, or that of a state; a wrong one is marked."""
    if at == _WANTED:
        return f"{_fitted(question.wanted, cells)} ", "text"
    answer = question.answers[at]
    sign, role = ("", "text") if answer.right else ("x ", "danger")
    return f"{_fitted(sign + _written(answer.text), cells)} ", role


def _wrapped(label: str, text: str, role: str, width: int) -> list[Line]:
    """Return a label and a text beside it, in as many lines as it needs."""
    first, *more = wrap_cells(text, max(width - _LABEL_CELLS, 10))
    head = f"{_fitted(label, _LABEL_CELLS - 2)}  "
    return [
        [(head, "muted"), (first, role)],
        *([(" " * _LABEL_CELLS, "muted"), (part, role)] for part in more),
    ]


def _written(text: str) -> str:
    return text.strip() or "(nothing)"


def _fitted(text: str, cells: int) -> str:
    """Return a text on one line, cut or padded to a number of cells."""
    text = " ".join(text[: 4 * cells].split())
    if cell_len(text) <= cells:
        return set_cell_size(text, cells)
    return set_cell_size(text, max(cells - 1, 0)) + "…"
