"""The tasks at risk: those nearest to a new task according to the start model, before training.

Groups likely one-token substitutions in a few of the new task's prompts by template: the question,
regardless of its subject. Knows no run and no old task.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sf_tui.engine.batches import derive_seed
from sf_tui.engine.probing import spread_evenly
from sf_tui.neighbors.anatomy import AnatomizedPrompt, Anatomy, Tokens
from sf_tui.neighbors.start_model import StartModel
from sf_tui.neighbors.substitution import Substitution, substitute, substitution_cost

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


OTHER_TASK = "other_template"
"""Kind of a group whose template the new task does not have: another task."""
SAME_TASK = "slot"
"""Kind of a group with one of the new task's templates: the new task with another subject."""

# A single prompt may cost up to this many times the budget.
_DEAREST_IN_BUDGETS = 3

# More prompts rarely add a template, and a long stage's budget would pay for thousands.
_MOST_SOURCES = 256

# Independent of the run's seed: runs with the same data and model report the same tasks.
_SEED = derive_seed("tasks at risk")


@dataclass(frozen=True)
class RiskGroup:
    """Prompts that differ only in their slot."""

    template: str
    """The question with "…" for each run of slot tokens."""
    kind: str
    """`OTHER_TASK` or `SAME_TASK`."""
    likelihood: float
    """Mean log-likelihood per token of the likeliest prompt's text, in nats."""
    example: str
    """The likeliest prompt's text."""
    members: tuple[Tokens, ...]
    """Whole prompts, the likeliest first."""


def choose_sources(
    anatomy: Anatomy, tokens: float, *, shared: bool = False
) -> list[AnatomizedPrompt]:
    """Return the prompts whose substitutions fit a budget of forwarded tokens.

    The prompts are spread evenly over the task's templates and are the same for every run. The
    first one may cost up to three times the budget; if it costs more, none is returned.

    Args:
        anatomy: of the new task's prompts.
        tokens: the budget.
        shared: whether the model reads a shared prefix once (`shares_prefixes`).
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
    """Return groups of the prompts nearest to a task by the start model, the likeliest first.

    Args:
        anatomy: of the new task's prompts.
        sources: the prompts to substitute in.
        start: the start model.
    """
    opening, closing = len(anatomy.chat_format.opening), len(anatomy.chat_format.closing)

    def text_of(tokens: Sequence[int]) -> slice:
        return slice(opening, len(tokens) - closing)

    def mean(found: Substitution) -> float:
        # Without an opening, the first token of a text is not predicted.
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
    """Return a text with "…" for each run of slot tokens and its own spacing.

    Args:
        text: a prompt's tokens without the chat format.
        slot: for each token whether it belongs to the slot.
        tokenizer: the model's.
    """
    borders = [at for at in range(1, len(text)) if slot[at] != slot[at - 1]]
    shown, before = "", ""
    for start, end in zip([0, *borders], [*borders, len(text)], strict=True):
        # Decode together with the preceding tokens; alone, a token could lose its leading space.
        upto = _decode(text[:end], tokenizer)
        piece = upto[len(before) :]
        before = upto
        space = piece[: len(piece) - len(piece.lstrip())]
        shown += f"{space}…" if slot[start : start + 1] == (True,) else piece
    return shown


def _decode(tokens: Tokens, tokenizer: PreTrainedTokenizerBase) -> str:
    return str(tokenizer.decode(list(tokens), clean_up_tokenization_spaces=False))
