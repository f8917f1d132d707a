"""One-token substitutions: what the start model itself holds for the nearest prompts.

Each new prompt with one token exchanged for another that the start model finds likely there; whole
prompts ranked by its likelihood. An exchange in the slot gives the new task again, one in the frame
another task: the one at risk. Nothing but the new prompts and the start model is looked at.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from sf_tui.neighbours.anatomy import AnatomizedPrompt, Anatomy, Tokens, frame_of
from sf_tui.neighbours.start_model import StartModel

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


def substitution_cost(prompt: AnatomizedPrompt, *, keeps_opening: bool) -> int:
    """Return the tokens that the model is given for one prompt's substitutions, at most.

    Args:
        prompt: the prompt.
        keeps_opening: whether the model is given the opening of all its substitutions once.
    """
    positions = min(prompt.end - prompt.first, MOST_POSITIONS)
    opening = max(prompt.first - 1, 0) if keeps_opening else 0
    each = prompt.end - opening
    return len(prompt.tokens) + opening + each * positions * CANDIDATES


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
    for prompt in prompts:
        for found in _substitutions_of(prompt, anatomy, start, in_slots=in_slots):
            if not (in_slots or found.in_frame):
                continue
            known = best.get(found.tokens)
            if found.tokens not in own and (known is None or found.in_frame > known.in_frame):
                best[found.tokens] = found
    return sorted(best.values(), key=lambda found: (-found.likelihood, found.tokens))


def _substitutions_of(
    prompt: AnatomizedPrompt, anatomy: Anatomy, start: StartModel, *, in_slots: bool
) -> Iterator[Substitution]:
    places = exchanged_at(prompt, in_slots=in_slots)
    if not places:
        return
    frames = anatomy.frames
    chances = start.next_word_log_probabilities(prompt.tokens)
    candidates: list[tuple[int, Tokens]] = []
    for at in places:
        likely = chances[at - 1].topk(min(CANDIDATES + 1, chances.shape[-1])).indices.tolist()
        others = [token for token in likely if token != prompt.tokens[at]][:CANDIDATES]
        candidates += [
            (at, (*prompt.tokens[:at], token, *prompt.tokens[at + 1 :])) for token in others
        ]
    likelihoods = start.likelihoods(
        [tokens for _, tokens in candidates], prompt.first, len(anatomy.format.closing)
    )
    positions = np.array([at for at, _ in candidates])
    for at in np.unique(positions):
        here = np.flatnonzero(positions == at)
        for place in here[np.argsort(-likelihoods[here], kind="stable")][:KEPT]:
            tokens = candidates[place][1]
            frame = frame_of(tokens, prompt.slot, prompt.first, prompt.end)
            in_frame = not prompt.slot[at] and frame not in frames
            yield Substitution(tokens, frame, prompt.slot, float(likelihoods[place]), in_frame)
