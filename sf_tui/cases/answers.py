"""What a model answers to held-out questions, in several states of its weights.

An answer that is right needs no generation: teacher forcing shows it. Of a wrong one, teacher
forcing shows everything up to the first wrong token, and greedy decoding continues from there. No
random number is drawn and no weight stays changed, so asking does not change a training.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from sf_tui.engine.batches import collate, passes_within
from sf_tui.engine.loading import LoadedModel
from sf_tui.engine.probe_plan import probed_places
from sf_tui.engine.weights import WeightStore, with_weights
from sf_tui.neighbors.start_model import StartModel, answer_ends
from sf_tui.run.answers import Answer, AnswerSheet, ModelState, Question, record_of
from sf_tui.tasks.encoding import NO_LOSS, Encoded, Encoder
from sf_tui.tasks.task import Example, Message
from sf_tui.vocabulary.declared import AnswerRecord

if TYPE_CHECKING:
    from sf_tui.engine.compute import ComputeSetting
    from sf_tui.engine.layout import ModelLayout

MOST_QUESTIONS = 100
"""Most questions of a task; a probe may take more, for its score."""
MOST_NEW_TOKENS = 256
"""Tokens after which an answer is cut."""
MOST_RECORDS = 3
"""Lost answers that an alert or a verdict shows."""
_OWN_NEW_TOKENS = 128
"""The same for a question of one's own, whose answer has no known length."""
_LONGER = 2
_BEYOND = 8
"""A wrong answer is cut at twice the length of the right one and some tokens more."""

Tokens = Sequence[int]


@dataclass(frozen=True)
class AskedTask:
    """The questions of one task.

    Attributes:
        name: the task.
        rows: its questions with the right answers.
        places: their places in the held-out split.
        questions: their texts, as a reader knows them.
    """

    name: str
    rows: Sequence[Encoded]
    places: Sequence[int]
    questions: Sequence[str]


@dataclass(frozen=True)
class AskedState:
    """A state of the model to ask.

    Attributes:
        state: what it is.
        weights: its weights; None for those that are in the model.
    """

    state: ModelState
    weights: WeightStore | None = None


class Answerer:
    """Asks a model; call it with the weights that are meant to answer."""

    def __init__(
        self,
        loaded: LoadedModel,
        compute: ComputeSetting,
        *,
        between: Callable[[], None] | None = None,
    ) -> None:
        """Wrap a model.

        Args:
            loaded: the model and its tokenizer.
            compute: device and precision.
            between: called before each pass; an exception from it ends the work.
        """
        self._loaded = loaded
        self._device = compute.device
        # A wrapper of any model, although its name says what it is mostly used for.
        self._model = StartModel(
            loaded.model,
            loaded.tokenizer,
            compute,
            pad_id=loaded.pad_id,
            between=between,
        )
        self._ends = answer_ends(loaded.model, loaded.tokenizer)
        self.end = self._ends[0]
        """Token id that ends an answer."""

    def answer(self, rows: Sequence[Encoded]) -> list[Answer]:
        """Return the model's greedy answer to each row's question.

        A row with several answers, each with the right ones before it, gives them one a line.
        """
        predicted = self._predict(rows)
        written: list[list[list[int]]] = []
        open_ones: list[tuple[int, int, Tokens, int]] = []
        for at, (row, tokens) in enumerate(zip(rows, predicted, strict=True)):
            written.append([])
            start = 0
            for first, last in _spans(row):
                wanted = row.labels[first:last]
                given = tokens[start : start + len(wanted)]
                start += len(wanted)
                wrong = _first_difference(wanted, given)
                known = given[: wrong + 1]
                written[at].append(known)
                if wrong < len(wanted) and known[-1] not in self._ends:
                    room = min(_LONGER * len(wanted) + _BEYOND, MOST_NEW_TOKENS)
                    prompt = [*row.input_ids[:first], *known]
                    open_ones.append((at, len(written[at]) - 1, prompt, room))
        for (at, part, _, _), more in zip(
            open_ones, self._continue([(p, room) for _, _, p, room in open_ones]), strict=True
        ):
            written[at][part] = [*written[at][part], *more]
        return [
            self._answer_of(row, tokens, parts)
            for row, tokens, parts in zip(rows, predicted, written, strict=True)
        ]

    def answer_prompt(self, prompt: Tokens) -> Answer:
        """Return the model's greedy answer to a prompt."""
        (tokens,) = self._continue([(prompt, _OWN_NEW_TOKENS)])
        return Answer(self.text(tokens), ended=self._is_ended(tokens))

    def text(self, tokens: Tokens) -> str:
        """Return tokens as text, without an end token after them."""
        kept = list(tokens)
        while kept and kept[-1] in self._ends:
            kept.pop()
        return str(self._loaded.tokenizer.decode(kept, clean_up_tokenization_spaces=False))

    def question(self, row: Encoded) -> str:
        """Return a row's question as text; if it has none, its prompt without control tokens."""
        if row.question.strip():
            return row.question
        tokens = row.input_ids[: _spans(row)[0][0]]
        tokenizer = self._loaded.tokenizer
        text = tokenizer.decode(
            tokens, skip_special_tokens=True, clean_up_tokenization_spaces=False
        )
        return str(text).strip()

    def wanted(self, row: Encoded) -> str:
        """Return a row's right answer as text."""
        return "\n".join(self.text(row.labels[first:last]) for first, last in _spans(row))

    def prompt(self, question: str, like: Example | None) -> list[int]:
        """Return the tokens of a question of one's own.

        Args:
            question: its text.
            like: an example of the task that it is written like: a conversation goes through the
                model's chat template, with the system turn of the example; a text is taken as it
                is. None: a conversation if the model has a chat template.

        Raises:
            DataError: the chat template refuses it.
        """
        encoder = Encoder(self._loaded.tokenizer)
        chat = encoder.has_chat_template if like is None else bool(like.messages)
        if chat:
            system = [m for m in (like.messages if like else ())[:1] if m.role == "system"]
            turns = (*system, Message("user", question), Message("assistant", "."))
            row = encoder.encode_row(Example(messages=turns, place="the question")).examples[-1]
        else:
            row = encoder.encode(Example(prompt=question, completion=".", place="the question"))
        return row.input_ids[: _spans(row)[0][0]]

    def _answer_of(self, row: Encoded, tokens: Tokens, parts: Sequence[Tokens]) -> Answer:
        wanted = [label for first, last in _spans(row) for label in row.labels[first:last]]
        return Answer(
            "\n".join(map(self.text, parts)),
            right=list(tokens) == wanted and bool(wanted),
            # A right answer ends where the row does; some rows end without an end token.
            ended=all(
                self._is_ended(part) or list(part) == row.labels[first:last]
                for part, (first, last) in zip(parts, _spans(row), strict=True)
            ),
            tokens_right=sum(a == b for a, b in zip(tokens, wanted, strict=True)),
        )

    def _is_ended(self, tokens: Tokens) -> bool:
        return bool(tokens) and tokens[-1] in self._ends

    def _predict(self, rows: Sequence[Encoded]) -> list[list[int]]:
        """Return the argmax at each answer token of each row, given the right ones before it."""
        found: list[list[int]] = [[] for _ in rows]
        lengths = [len(row.input_ids) for row in rows]
        for places in passes_within(lengths, self._model.pass_tokens):
            batch = collate([rows[at] for at in places], self._loaded.pad_id)
            with self._model.inference(batch.tokens):
                logits, _ = self._model.answer_logits(batch.to(self._device))
                tokens = logits.argmax(-1).tolist()
            start = 0
            for at in places:
                end = start + _length(rows[at])
                found[at] = tokens[start:end]
                start = end
        return found

    def _continue(self, prompts: Sequence[tuple[Tokens, int]]) -> list[Tokens]:
        """Return how the model continues each prompt, up to the given number of tokens."""
        found: list[Tokens] = [()] * len(prompts)
        limit = self._loaded.max_length
        by_room: dict[int, list[int]] = {}
        for at, (prompt, room) in enumerate(prompts):
            if limit is not None:
                room = min(room, limit - len(prompt))
            if room > 0:
                by_room.setdefault(_rounded(room), []).append(at)
        for room, places in sorted(by_room.items()):
            several = self._model.answer([tuple(prompts[at][0]) for at in places], room)
            for at, tokens in zip(places, several, strict=True):
                found[at] = tokens[: prompts[at][1]]
        return found


def lent(asked: AskedState, layout: ModelLayout) -> AbstractContextManager[None]:
    """Return a context in which the model has the weights of a state."""
    return nullcontext() if asked.weights is None else with_weights(asked.weights, layout)


def asked_task(
    name: str, rows: Sequence[Encoded], count: int | None, answerer: Answerer
) -> AskedTask:
    """Return the questions of a task that the probes of a stage take.

    Args:
        name: the task.
        rows: its held-out examples.
        count: number of examples in a probe; None if unknown.
        answerer: writes a question that has no text of its own.
    """
    places = probed_places(name, rows, min(len(rows) if count is None else count, MOST_QUESTIONS))
    asked = [rows[at] for at in places]
    return AskedTask(name, asked, places, [answerer.question(row) for row in asked])


def lost_records(answerer: Answerer, rows: Sequence[Encoded]) -> tuple[AnswerRecord, ...]:
    """Return what a model answers to questions that it lost, as an event has it."""
    answers = answerer.answer(rows)
    return tuple(
        record_of(answerer.question(row), answerer.wanted(row), answer.text)
        for row, answer in zip(rows, answers, strict=True)
    )


def fill_sheet(
    answerer: Answerer,
    layout: ModelLayout,
    tasks: Sequence[AskedTask],
    states: Sequence[AskedState],
    *,
    stage: str,
    step: int,
    judged: int,
    known: AnswerSheet | None = None,
    notes: Sequence[str] = (),
) -> AnswerSheet:
    """Ask every question in every state, and restore the model's weights.

    Args:
        answerer: of the model.
        layout: the model's layers.
        tasks: the questions.
        states: the states, the reference first.
        stage: the stage.
        step: its current step.
        judged: place of the state that is compared with the first.
        known: an earlier sheet of the stage, whose answers are used again for a state that it has;
            the weights in memory are always asked.
        notes: what is missing.

    Raises:
        SfError: the weights of a state can't be read or don't fit.
    """
    questions = [
        Question(task.name, place, text, answerer.wanted(row), _length(row))
        for task in tasks
        for place, text, row in zip(task.places, task.questions, task.rows, strict=True)
    ]
    rows = [row for task in tasks for row in task.rows]
    columns: list[Sequence[Answer]] = []
    for one in states:
        column = _known_answers(known, one, questions)
        if column is None:
            with lent(one, layout):
                column = answerer.answer(rows)
        columns.append(column)
    return AnswerSheet(
        stage,
        step,
        tuple(one.state for one in states),
        tuple(
            replace(question, answers=tuple(column[at] for column in columns))
            for at, question in enumerate(questions)
        ),
        judged,
        tuple(notes),
    )


def _known_answers(
    known: AnswerSheet | None, asked: AskedState, questions: Sequence[Question]
) -> list[Answer] | None:
    """Return the answers of a state from an earlier sheet; None if they are not in it."""
    if known is None or asked.weights is None or asked.state not in known.states:
        return None
    at = list(known.states).index(asked.state)
    before = [replace(one, answers=()) for one in known.questions]
    if before != list(questions):
        return None
    return [one.answers[at] for one in known.questions]


def _spans(row: Encoded) -> list[tuple[int, int]]:
    """Return the runs of answer tokens of a row: first position, and the one after the last."""
    # Nothing precedes position 0, so no model predicts it.
    return list(_runs([NO_LOSS, *row.labels[1:]]))


def _length(row: Encoded) -> int:
    """Return the number of answer tokens that a model predicts."""
    return sum(last - first for first, last in _spans(row))


def _runs(labels: Tokens) -> Iterator[tuple[int, int]]:
    start: int | None = None
    for at, label in enumerate(labels):
        if label != NO_LOSS and start is None:
            start = at
        elif label == NO_LOSS and start is not None:
            yield start, at
            start = None
    if start is not None:
        yield start, len(labels)


def _first_difference(wanted: Tokens, given: Tokens) -> int:
    """Return the place of the first token that differs; the length if none does."""
    pairs = enumerate(zip(wanted, given, strict=True))
    return next((at for at, (a, b) in pairs if a != b), len(wanted))


def _rounded(room: int) -> int:
    """Return the next power of two, so that answers of similar length are written together."""
    return 1 << (room - 1).bit_length()
