"""Crossed prompts: each of a task's questions asked about each of its subjects.

A task with several phrasings, or several questions about a subject, gives them without any model.
Those that are rows already are left out; what remains are prompts that its rows imply.
"""

from __future__ import annotations

from collections import Counter

import numpy as np

from sf_tui.engine.batches import derive_seed
from sf_tui.neighbors.anatomy import AnatomizedPrompt, Anatomy, Tokens

# A frame around a single subject may be a slot that was cut wrongly.
_FEWEST_SUBJECTS = 2


def crossed_prompts(anatomy: Anatomy, most: int, seed: int) -> list[Tokens]:
    """Return the combinations of a task's frames and subjects that are not among its prompts.

    A frame is what stands before and after a subject; it counts if at least two subjects share it.

    Args:
        anatomy: of the task's prompts.
        most: largest number of prompts; of more, a sample is returned.
        seed: determines the sample.
    """
    prompts = [prompt for prompt in anatomy.prompts if prompt.subject]
    frames = Counter(_frame(prompt) for prompt in prompts)
    shared = [frame for frame, count in frames.items() if count >= _FEWEST_SUBJECTS]
    subjects = list(dict.fromkeys(prompt.subject for prompt in prompts))
    own = {prompt.tokens for prompt in anatomy.prompts}
    places = np.arange(len(shared) * len(subjects))
    if len(places) > most + len(own):
        # At most `own` of the sampled ones are left out below.
        random = np.random.default_rng(derive_seed(seed, "crossed"))
        places = np.sort(random.choice(len(places), most + len(own), replace=False))
    found: dict[Tokens, None] = {}
    for place in places.tolist():
        before, after = shared[place // len(subjects)]
        tokens = (*before, *subjects[place % len(subjects)], *after)
        if tokens not in own:
            found[tokens] = None
    return _some(list(found), most, seed)


def _frame(prompt: AnatomizedPrompt) -> tuple[Tokens, Tokens]:
    spans = prompt.spans
    return prompt.tokens[: spans[0][0]], prompt.tokens[spans[-1][1] :]


def _some(prompts: list[Tokens], most: int, seed: int) -> list[Tokens]:
    if len(prompts) <= most:
        return prompts
    random = np.random.default_rng(derive_seed(seed, "crossed", "taken"))
    return [prompts[at] for at in sorted(random.choice(len(prompts), most, replace=False).tolist())]
