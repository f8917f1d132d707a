"""The tasks of the synthetic Biography experiment.

Knows which people train and score which task. Knows nothing of tokens or files.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from sf_tui.errors import UsageError
from sf_tui.tasks.biography.source import EntrySource, ask
from sf_tui.tasks.biography.world import NEW_TASKS, BiographySettings, build_world
from sf_tui.tasks.task import Example, FixedExamples, Task

TASKS: tuple[str, ...] = (
    "pretrain",
    "old",
    "new",
    *(f"new-{number}" for number in range(1, NEW_TASKS + 1)),
    "unseen",
)

# Entries are long (about 56 tokens) beside questions; a hundred tell the loss well enough.
HELD_OUT_ENTRIES = 100


def biography_task(which: str, settings: BiographySettings) -> Task:
    """Build one task of the experiment.

    Args:
        which: `pretrain` (entries about everybody but the new people), `old` (questions about the
            tuned part, scored on the held-out part), `new-1` … `new-5` (questions about people
            whom pretraining never mentions, scored on the same questions: memorization, as in the
            paper), `new`, which is `new-1`, or `unseen` (the old task's questions about people whom
            no other task mentions: what is answered there is guessed).
        settings: people, shares, form and seeds.

    Raises:
        UsageError: if there is no such task or the settings make no experiment.
    """
    if which not in TASKS:
        raise UsageError(
            f"the biography experiment has no task '{which}'", f"it has {', '.join(TASKS)}"
        )
    world = build_world(settings)
    if which == "pretrain":
        everybody = world.pretrained
        scored = EntrySource(everybody[:HELD_OUT_ENTRIES], settings.seed, stream="held-out")
        return Task(
            name=which,
            train=EntrySource(everybody, settings.seed),
            held_out=tuple(scored.example(index, 0) for index in range(len(scored))),
        )
    if which == "old":
        held_out = ask(world.held_out, "same", which)
        return Task(
            name=which,
            train=FixedExamples(ask(world.tuned, "same", which)),
            held_out=held_out,
            guess_floor=guess_floor(held_out),
        )
    if which == "unseen":
        return _same_questions(which, ask(world.unseen, "same", which))
    number = 1 if which == "new" else int(which.removeprefix("new-"))
    return _same_questions(which, ask(world.new[number - 1], settings.question_form, which))


def _same_questions(which: str, questions: tuple[Example, ...]) -> Task:
    """Return a task that is scored on what it trains."""
    return Task(
        name=which,
        train=FixedExamples(questions),
        held_out=questions,
        guess_floor=guess_floor(questions),
    )


def guess_floor(examples: Sequence[Example]) -> dict[str, float]:
    """Return for each group the share of its most frequent answer: what guessing it would score."""
    answers: dict[str, Counter[str]] = {}
    for example in examples:
        answers.setdefault(example.group, Counter())[example.completion] += 1
    return {group: max(counts.values()) / sum(counts.values()) for group, counts in answers.items()}
