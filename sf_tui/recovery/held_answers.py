"""What a repair holds the new task with: the model's own answers from before the repair.

The new task's rows are known to the repair, but what the model made of them isn't: other phrasings
of a trained question, other subjects in a trained phrasing. The start model's answers to neighbor
prompts contradict it there. On such prompts the repair keeps the answers of the model that is being
repaired.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from sf_tui.neighbors.anatomy import Tokens, prompt_of
from sf_tui.neighbors.cache import TeacherCache, build_cache
from sf_tui.neighbors.crossed import crossed_prompts
from sf_tui.neighbors.propose import Neighbor
from sf_tui.recovery.case import RecoveryCase

_MOST_CROSSED = 1024
_LEAST_CROSSED = 0.1
"""Share of the new task's prompts under which crossed ones are not worth a loss of their own."""
_MOST_FRAMED = 512

OWN_FRAME = "same_template"
"""The neighbors that ask the new task's own questions, about other subjects."""


@dataclass(frozen=True)
class HeldPrompts:
    """Prompts to keep the answers of."""

    crossed: tuple[Tokens, ...] = ()
    """The new task's crossed prompts; also used to choose a step."""
    framed: tuple[Tokens, ...] = ()
    """Neighbors in the new task's own frames. No step is chosen by them: they ask about subjects of
    which the new task may say nothing."""

    @property
    def prompts(self) -> list[Tokens]:
        """All of them, the crossed ones first."""
        return list(dict.fromkeys([*self.crossed, *self.framed]))

    def without(self, neighbors: TeacherCache) -> TeacherCache:
        """Return neighbors without these prompts, and without others in the frames they hold."""
        held = set(self.prompts)
        return neighbors.part(
            [
                at
                for at, row in enumerate(neighbors.rows)
                if prompt_of(row) not in held
                and not (self.framed and neighbors.kinds[at] == OWN_FRAME)
            ]
        )


def held_prompts(case: RecoveryCase, neighbors: TeacherCache | None) -> Iterator[HeldPrompts]:
    """Yield what to hold, the mildest first: crossed prompts alone, then own frames, too.

    No prompt is a held-out one. If that leaves few crossed prompts, the first holds nothing but the
    rows.

    Args:
        case: the case.
        neighbors: the neighbors that the repair trains on.
    """
    anatomy = case.anatomy()
    crossed = crossed_prompts(anatomy, _MOST_CROSSED, case.seed) if anatomy else []
    crossed = case.held_out_prompts().without(crossed)
    limit = case.loaded.max_length
    if limit:
        crossed = [one for one in crossed if len(one) + case.answer_tokens() <= limit]
    if anatomy and len(crossed) < _LEAST_CROSSED * len(anatomy.prompts):
        crossed = []
    yield HeldPrompts(tuple(crossed))
    kinds = zip(neighbors.rows, neighbors.kinds, strict=True) if neighbors else ()
    framed = [prompt_of(row) for row, kind in kinds if kind == OWN_FRAME]
    if framed:
        yield HeldPrompts(tuple(crossed), tuple(framed[:_MOST_FRAMED]))


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
