"""Crossed prompts: the combinations of frames and subjects that a task's rows imply."""

from __future__ import annotations

from sf_tui.neighbors.anatomy import AnatomizedPrompt, Anatomy, ChatFormat, Tokens
from sf_tui.neighbors.crossed import crossed_prompts


def prompt(*parts: int | tuple[int, ...]) -> AnatomizedPrompt:
    """Return a prompt; numbers are its template, tuples its slots."""
    tokens: list[int] = []
    slot: list[bool] = []
    for part in parts:
        words = part if isinstance(part, tuple) else (part,)
        tokens += words
        slot += [isinstance(part, tuple)] * len(words)
    return AnatomizedPrompt(tuple(tokens), tuple(slot), 0, len(tokens))


def anatomy(*prompts: AnatomizedPrompt) -> Anatomy:
    return Anatomy(ChatFormat((), ()), prompts)


def test_every_question_is_asked_about_every_subject_but_no_row_again() -> None:
    task = anatomy(
        prompt(1, (20, 21), 2),
        prompt(1, (22,), 2),
        prompt(3, (20, 21)),
        prompt(3, (23,)),
    )
    assert set(crossed_prompts(task, 99, 0)) == {(1, 23, 2), (3, 22)}


def test_words_between_the_parts_of_a_slot_belong_to_the_subject() -> None:
    task = anatomy(prompt(1, (20,), 9, (21,)), prompt(1, (22,), 8, (23,)), prompt(2, (24,)))
    # (2, …) frames a single subject: it may be a slot that was cut wrongly.
    assert crossed_prompts(task, 99, 0) == [(1, 24)]


def test_of_many_a_sample_is_taken_that_depends_on_the_seed_alone() -> None:
    task = anatomy(
        *(prompt(1, (20 + at,)) for at in range(40)), *(prompt(2, (60 + at,)) for at in range(40))
    )
    assert len(crossed_prompts(task, 999, 0)) == 80
    some = crossed_prompts(task, 30, 7)
    assert len(some) == len(set(some)) == 30
    assert some == crossed_prompts(task, 30, 7) != crossed_prompts(task, 30, 8)


def test_a_task_with_one_question_or_no_slot_has_none() -> None:
    rows: list[Tokens] = [(1, 20), (1, 21), (1, 22)]
    assert not crossed_prompts(anatomy(*(prompt(one, (two,)) for one, two in rows)), 99, 0)
    assert not crossed_prompts(anatomy(prompt(1, 2), prompt(1, 3)), 99, 0)
