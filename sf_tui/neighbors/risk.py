"""The tasks at risk: what a start model takes for the nearest to a new task, before any training.

The likely one-token substitutions of a few of the new task's prompts, put together by their frame:
the question that is asked, whatever it is asked about. Knows of no run and of no old task.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sf_tui.engine.batches import derive_seed
from sf_tui.engine.probe_plan import spread_evenly
from sf_tui.neighbors.anatomy import AnatomizedPrompt, Anatomy, Tokens
from sf_tui.neighbors.start_model import StartModel
from sf_tui.neighbors.substitution import Substitution, substitute, substitution_cost

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


OTHER_TASK = "frame"
"""Kind of a group that asks something else: another task."""
SAME_TASK = "slot"
"""Kind of a group that asks the same of something else: the new task itself."""

# One prompt is worth having even where it costs more than the budget; beyond this it isn't.
_DEAREST_IN_BUDGETS = 3

# Beyond so many prompts of a task hardly a frame is new, and a long stage could pay for thousands.
_MOST_SOURCES = 256

# Not the run's seed: runs on the same data from the same model name the same tasks.
_SEED = derive_seed("tasks at risk")


@dataclass(frozen=True)
class RiskGroup:
    """Prompts that differ only in their slot."""

    template: str
    """The question with "…" for each run of slot tokens."""
    kind: str
    """`frame` or `slot`."""
    likelihood: float
    """Mean log-likelihood of a token of the likeliest prompt's text, in nats."""
    example: str
    """The likeliest prompt's text."""
    members: tuple[Tokens, ...]
    """Whole prompts, the likeliest first."""


def choose_sources(
    anatomy: Anatomy, tokens: float, *, shared: bool = False
) -> list[AnatomizedPrompt]:
    """Return the prompts whose substitutions so many forwarded tokens pay for.

    They are spread evenly over the task's own frames and the same for every run. One comes back
    even where it costs up to three times as much, none where it costs more.

    Args:
        anatomy: of the new task's prompts.
        tokens: what the model may be given.
        shared: whether what substitutions begin with is given to it once (`shares_beginnings`).
    """
    order = spread_evenly([str(prompt.template) for prompt in anatomy.prompts], _SEED)
    chosen: list[AnatomizedPrompt] = []
    spent = 0
    for prompt in (anatomy.prompts[at] for at in order[:_MOST_SOURCES]):
        spent += substitution_cost(prompt, shared=shared)
        if spent > (tokens if chosen else _DEAREST_IN_BUDGETS * tokens):
            break
        chosen.append(prompt)
    return chosen


def name_tasks_at_risk(
    anatomy: Anatomy, sources: Sequence[AnatomizedPrompt], start: StartModel
) -> list[RiskGroup]:
    """Return what the start model takes for the nearest to a task, the likeliest first.

    Args:
        anatomy: of the new task's prompts.
        sources: those of its prompts that are exchanged in.
        start: the start model.
    """
    opening, closing = len(anatomy.chat_format.opening), len(anatomy.chat_format.closing)

    def text_of(tokens: Sequence[int]) -> slice:
        return slice(opening, len(tokens) - closing)

    def mean(found: Substitution) -> float:
        # A text that opens the row has no prediction of its first token.
        return found.likelihood / max(len(found.tokens) - closing - max(opening, 1), 1)

    groups: dict[Tokens, list[Substitution]] = {}
    for found in sorted(substitute(anatomy, sources, start), key=mean, reverse=True):
        groups.setdefault(found.template, []).append(found)
    tokenizer = start.tokenizer
    return [
        RiskGroup(
            template_text(
                members[0].tokens[text_of(members[0].tokens)],
                members[0].slot[text_of(members[0].tokens)],
                tokenizer,
            ),
            OTHER_TASK if members[0].is_other_task else SAME_TASK,
            mean(members[0]),
            _decode(members[0].tokens[text_of(members[0].tokens)], tokenizer),
            tuple(member.tokens for member in members),
        )
        for members in groups.values()
    ]


def template_text(text: Tokens, slot: Sequence[bool], tokenizer: PreTrainedTokenizerBase) -> str:
    """Return a text with "…" for each run of slot tokens, spaced as the text itself is.

    Args:
        text: a prompt's tokens without its format.
        slot: for each token whether it belongs to the slot.
        tokenizer: the model's.
    """
    borders = [at for at in range(1, len(text)) if slot[at] != slot[at - 1]]
    shown, before = "", ""
    for start, end in zip([0, *borders], [*borders, len(text)], strict=True):
        # What a run of tokens reads as behind those before it: alone it may lose its space.
        upto = _decode(text[:end], tokenizer)
        piece = upto[len(before) :]
        before = upto
        space = piece[: len(piece) - len(piece.lstrip())]
        shown += f"{space}…" if slot[start : start + 1] == (True,) else piece
    return shown


def _decode(tokens: Tokens, tokenizer: PreTrainedTokenizerBase) -> str:
    return str(tokenizer.decode(list(tokens), clean_up_tokenization_spaces=False))
