"""Whether a model knows an old task as it is asked: its score against guessing, and its answers.

A drop, a rule and a verdict measure what is lost of a task. If the model starts near the guess
floor, there is nothing to lose, and none of them means anything. Queries only: weights, modes and
random states stay as they are.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from sf_tui.diagnosis.rules import CONTROL_MARGIN
from sf_tui.engine.batches import IGNORED
from sf_tui.engine.forward import LastForward
from sf_tui.engine.prepare import PreparedRun, PreparedTask
from sf_tui.engine.probing import Prober, spread_evenly
from sf_tui.neighbors.start_model import answer_ends
from sf_tui.printable import cut, printable
from sf_tui.tasks.encoding import Encoded
from sf_tui.vocabulary.intervals import Estimate
from sf_tui.vocabulary.measured import Score, format_score, score_in
from sf_tui.vocabulary.metrics import metric_named

SHOWN_ANSWERS = 3
_ASKED = 6
"""Questions asked in order to show the first wrong answers among them."""
_LONGEST_ANSWER = 32
"""Tokens after which the model's own answer is cut."""

_SHOWN_QUESTION = 70
_SHOWN_ANSWER = 40

MOST_MEASURED = 200
"""Held-out examples of a task that `measure_starts` scores; they give the score to ± 0.07."""


@dataclass(frozen=True)
class TaskStart:
    """What a model scores in an old task before anything is trained."""

    name: str
    score: Score
    """A share, of at least one example."""
    floor: float
    """Score of always giving the most frequent answer."""

    @property
    def estimate(self) -> Estimate:
        """The score with its 95 % interval."""
        found = self.score.estimate
        assert found is not None
        return found

    @property
    def is_known(self) -> bool:
        """Whether the score is above guessing by more than chance and a margin.

        The margin is the one that a control of the recovery test may end above its floor.
        """
        return self.score.value >= 1 or self.estimate.low > self.floor + CONTROL_MARGIN


@dataclass(frozen=True)
class SampleAnswer:
    """A held-out question, the answer wanted and the model's own, each on one short line."""

    asked: str
    wanted: str
    answered: str


def task_start(task: PreparedTask, measures: Mapping[str, float]) -> TaskStart | None:
    """Return a task's score with its interval and guess floor; None if its metric is no share.

    Args:
        task: the task.
        measures: a probe's measures of some of its held-out examples, with their number `n`.
    """
    score = score_in(measures, metric_named(task.metric), full=False)
    if score is None or score.estimate is None:
        return None
    return TaskStart(task.name, score, _guess_floor(task))


def _guess_floor(task: PreparedTask) -> float:
    """Return the score of the best constant answer on the held-out split, by the task's metric.

    If all answers differ, guessing scores nothing: one of three right is no constant answer's hit.
    """
    rows = task.held_out
    if task.metric == "exact_match":
        floors = task.task.guess_floor
        whole = floors.get("", 0.0)
        floor = sum(floors.get(row.group, whole) for row in rows) / len(rows)
        return floor if floor * len(rows) >= 2 else 0.0
    first_only = task.metric == "first_token_accuracy"
    tokens: Counter[int] = Counter()
    for row in rows:
        answer = _answer_of(row)
        tokens.update(answer[:1] if first_only else answer)
    most = max(tokens.values(), default=0)
    return most / tokens.total() if most >= 2 else 0.0


def measure_starts(prepared: PreparedRun, names: Sequence[str]) -> list[TaskStart]:
    """Score some tasks' held-out examples, at most `MOST_MEASURED` each, with the model as it is.

    Args:
        prepared: the run; its model is on its device.
        names: the tasks.
    """
    prober = Prober(
        prepared.loaded.model,
        prepared.compute,
        pad_id=prepared.loaded.pad_id,
        batch_tokens=_pass_tokens(prepared, names),
    )
    found = []
    for name in names:
        task = prepared.tasks[name]
        order = spread_evenly([row.group for row in task.held_out], 0)[:MOST_MEASURED]
        start = task_start(task, prober.probe([task.held_out[at] for at in order]).measures())
        if start is not None:
            found.append(start)
    return found


def _pass_tokens(prepared: PreparedRun, names: Sequence[str]) -> int:
    rows = [len(row.input_ids) for name in names for row in prepared.tasks[name].held_out]
    return max(2048, *rows)


def sample_answers(prepared: PreparedRun, task: PreparedTask) -> list[SampleAnswer]:
    """Return up to `SHOWN_ANSWERS` held-out questions with the model's greedy answers.

    Questions that the model answers wrongly come first. Tasks without questions (plain text) have
    none.

    Args:
        prepared: the run; its model is queried as it is now.
        task: the task.
    """
    order = spread_evenly([row.group for row in task.held_out], 0)
    rows = [task.held_out[at] for at in order if _prompt_of(task.held_out[at])][:_ASKED]
    if not rows:
        return []
    loaded = prepared.loaded
    answers = _greedy_answers(prepared, rows)

    def text(ids: Sequence[int]) -> str:
        return str(loaded.tokenizer.decode(list(ids), skip_special_tokens=True))

    found = []
    for row, answer in zip(rows, answers, strict=True):
        wanted = _answer_of(row)
        shown = SampleAnswer(
            _one_line(text(_prompt_of(row)), _SHOWN_QUESTION, keep_end=True),
            _one_line(text(wanted), _SHOWN_ANSWER),
            _one_line(text(answer), _SHOWN_ANSWER),
        )
        found.append((answer == tuple(wanted), shown))
    found.sort(key=lambda pair: pair[0])
    return [shown for _, shown in found[:SHOWN_ANSWERS]]


def _greedy_answers(prepared: PreparedRun, rows: Sequence[Encoded]) -> list[tuple[int, ...]]:
    """Return the model's greedy answer to each row's question, with its end token.

    By plain forward passes, as in a probe: a family whose `generate` fails can still be trained. An
    answer is cut a few tokens behind the wanted one's length.
    """
    loaded, model = prepared.loaded, prepared.loaded.model
    last, ends = LastForward(model), set(answer_ends(model, loaded.tokenizer))
    was_training = model.training
    model.eval()
    found = []
    try:
        with torch.no_grad(), prepared.compute.autocast():
            for row in rows:
                prompt = _prompt_of(row)
                longest = min(len(_answer_of(row)) + 4, _LONGEST_ANSWER)
                if loaded.max_length is not None:
                    longest = min(longest, loaded.max_length - len(prompt))
                answer: list[int] = []
                while len(answer) < longest and not ends & set(answer[-1:]):
                    ids = torch.tensor([[*prompt, *answer]], device=prepared.compute.device)
                    answer.append(int(last(ids)[0].argmax()))
                found.append(tuple(answer))
    finally:
        model.train(was_training)
    return found


def _prompt_of(row: Encoded) -> tuple[int, ...]:
    """Return the tokens before a row's first answer."""
    first = next((at for at, label in enumerate(row.labels) if label != IGNORED), 0)
    return tuple(row.input_ids[:first])


def _answer_of(row: Encoded) -> list[int]:
    """Return the tokens of a row's first answer, its end token included."""
    answer: list[int] = []
    for label in row.labels:
        if label != IGNORED:
            answer.append(label)
        elif answer:
            break
    return answer


def _one_line(text: str, most: int, *, keep_end: bool = False) -> str:
    """Return a text in one line of at most `most` characters, control characters escaped.

    Runs of white space become one space; those at the ends stay, since a missing one alone makes an
    answer wrong.
    """
    line = printable(re.sub(r"\s+", " ", text), multiline=False)
    if keep_end and len(line) > most:
        return f"…{line[1 - most :]}"
    return cut(line, most)


def describe_unknown(start: TaskStart, answers: Sequence[SampleAnswer]) -> str:
    """Return the warning that a task is not known as it is asked, with answers, in one line.

    Args:
        start: the task's score, with `is_known` False.
        answers: some of the model's own answers.
    """
    floor = f", guessing gives {start.floor:.2f}" if start.floor else ""
    shown = "; ".join(
        f'asked: "{one.asked}", wanted: "{one.wanted}", the model answers: "{one.answered}"'
        for one in answers
    )
    return (
        f"'{start.name}' starts at {format_score(start.score, counts=True)} "
        f"({start.score.metric.name}{floor}): the model does not know it as it "
        "is asked here, so no drop, rule or verdict on it means anything; ask it in the form in "
        "which it was taught (chat rows for a chat model), or watch another task"
        + (f". {shown}" if shown else "")
    )
