"""What a repair holds the new task with: the model's own answers from before the repair.

The new task's rows are known to the repair, but what the model made of them isn't: other phrasings
of a trained question, other subjects in a trained phrasing. The start model's answers to neighbor
prompts contradict it there. On such prompts the repair keeps the answers of the model that is being
repaired.
"""

from __future__ import annotations

from collections.abc import Iterator

from sf_tui.neighbors.anatomy import Tokens, prompt_of
from sf_tui.neighbors.cache import TeacherCache, build_cache
from sf_tui.neighbors.crossed import crossed_prompts
from sf_tui.neighbors.propose import Neighbor
from sf_tui.recovery.case import RecoveryCase

_MOST_CROSSED = 1024
_MOST_FRAMED = 512

OWN_FRAME = "same_template"
"""The neighbors that ask the new task's own questions, about other subjects."""


def held_prompts(
    case: RecoveryCase, neighbors: TeacherCache | None
) -> Iterator[tuple[list[Tokens], list[Tokens]]]:
    """Yield what to hold, the mildest first: the prompts, and those to choose a step by.

    First the new task's crossed prompts alone, then also neighbors in its own frames; those ask
    about subjects of which the new task may say nothing, so no step is chosen by them.

    Args:
        case: the case.
        neighbors: the neighbors that the repair trains on.
    """
    anatomy = case.anatomy()
    crossed = crossed_prompts(anatomy, _MOST_CROSSED, case.seed) if anatomy else []
    limit = case.loaded.max_length
    if limit:
        crossed = [one for one in crossed if len(one) + case.answer_tokens() <= limit]
    if crossed:
        yield crossed, crossed
    if neighbors is None:
        return
    framed = [
        prompt_of(row)
        for row, kind in zip(neighbors.rows, neighbors.kinds, strict=True)
        if kind == OWN_FRAME
    ][:_MOST_FRAMED]
    if framed:
        yield list(dict.fromkeys([*crossed, *framed])), crossed


def answered(case: RecoveryCase, prompts: list[Tokens]) -> TeacherCache:
    """Return prompts with the answers of the model's current weights."""
    return build_cache(
        None,
        {},
        lambda: [Neighbor(prompt, OWN_FRAME) for prompt in prompts],
        case.start_model(),
        longest=case.answer_tokens(),
        top_k=case.anchor.top_k,
    )


def without(neighbors: TeacherCache, prompts: list[Tokens], *, framed: bool) -> TeacherCache:
    """Return neighbors without some prompts.

    Args:
        neighbors: the neighbors.
        prompts: the prompts to leave out.
        framed: leave out every neighbor in the new task's own frames, too.
    """
    held = set(prompts)
    return neighbors.part(
        [
            at
            for at, row in enumerate(neighbors.rows)
            if prompt_of(row) not in held and not (framed and neighbors.kinds[at] == OWN_FRAME)
        ]
    )
