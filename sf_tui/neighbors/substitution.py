"""One-token substitutions: what the start model itself holds for the nearest prompts.

Each new prompt with one token exchanged for another that the start model finds likely there; whole
prompts ranked by its likelihood. An exchange in the slot gives the new task again, one in the frame
another task: the one at risk. Nothing but the new prompts and the start model is looked at.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

from sf_tui.neighbors.anatomy import AnatomizedPrompt, Anatomy, Tokens, frame_of
from sf_tui.neighbors.exchanges import Exchange, likely_exchanges
from sf_tui.neighbors.start_model import StartModel

CANDIDATES = 16
"""Likely tokens that are tried at each position."""

MOST_POSITIONS = 32
"""Positions of one prompt that are exchanged at, spread evenly over a longer one."""

KEPT = 6
"""Of those, the ones whose whole prompts are likeliest."""


@dataclass(frozen=True)
class Substitution:
    """A prompt with one token exchanged."""

    tokens: Tokens
    frame: Tokens
    """The text's tokens with -1 for each run of slot tokens, after the exchange."""
    slot: tuple[bool, ...]
    """(length,) whether a position belongs to the slot."""
    likelihood: float
    """Log-likelihood of the text under the start model, summed over its tokens, in nats."""
    in_frame: bool
    """Whether it is another task's: its frame is none of the new task's own."""


def substitution_cost(prompt: AnatomizedPrompt, *, shared: bool) -> int:
    """Return the tokens that the model is given for one prompt's substitutions, at most.

    Args:
        prompt: the prompt.
        shared: whether what they begin with is given once (`shares_beginnings`).
    """
    each = [
        prompt.end - 1 - at if shared else prompt.end for at in exchanged_at(prompt, in_slots=True)
    ]
    return prompt.end - 1 + CANDIDATES * sum(each)


def exchanged_at(prompt: AnatomizedPrompt, *, in_slots: bool) -> list[int]:
    """Return the positions of a prompt that are exchanged at: all of its text's, or its frame's.

    The text's first token is left out where nothing stands before it to predict it from.
    """
    found = [
        at for at in range(max(prompt.first, 1), prompt.end) if in_slots or not prompt.slot[at]
    ]
    count = min(len(found), MOST_POSITIONS)
    return [found[place * len(found) // count] for place in range(count)]


def substitute(
    anatomy: Anatomy,
    prompts: Sequence[AnatomizedPrompt],
    start: StartModel,
    *,
    in_slots: bool = True,
) -> list[Substitution]:
    """Return likely one-token substitutions of some prompts, the likeliest first, each once.

    Args:
        anatomy: of the new task.
        prompts: those of its prompts that are exchanged in.
        start: the start model.
        in_slots: False leaves out whatever asks the new task's own questions: an exchange in the
            slot, and one in the frame that gives another of its frames.
    """
    own = {prompt.tokens for prompt in anatomy.prompts}
    best: dict[Tokens, Substitution] = {}
    places = [exchanged_at(prompt, in_slots=in_slots) for prompt in prompts]
    exchanges = likely_exchanges(start, prompts, places, CANDIDATES)
    for prompt, exchanged in zip(prompts, exchanges, strict=True):
        for found in _likeliest(prompt, anatomy, exchanged):
            if not (in_slots or found.in_frame):
                continue
            known = best.get(found.tokens)
            if found.tokens not in own and (known is None or found.in_frame > known.in_frame):
                best[found.tokens] = found
    return sorted(best.values(), key=lambda found: (-found.likelihood, found.tokens))


def _likeliest(
    prompt: AnatomizedPrompt, anatomy: Anatomy, exchanged: Sequence[Exchange]
) -> Iterator[Substitution]:
    """Yield the likeliest few of a prompt's exchanges at each position."""
    frames = anatomy.frames
    for at, here in groupby(exchanged, key=lambda one: one.at):
        for one in sorted(here, key=lambda one: -one.likelihood)[:KEPT]:
            tokens = (*prompt.tokens[:at], one.token, *prompt.tokens[at + 1 :])
            frame = frame_of(tokens, prompt.slot, prompt.first, prompt.end)
            in_frame = not prompt.slot[at] and frame not in frames
            yield Substitution(tokens, frame, prompt.slot, one.likelihood, in_frame)
