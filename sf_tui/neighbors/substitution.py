"""One-token substitutions: what the start model itself holds for the nearest prompts.

Each new prompt with one token exchanged for another that the start model finds likely there; whole
prompts ranked by its likelihood. An exchange in the slot gives the new task again, one in the frame
another task: the one at risk. Nothing but the new prompts and the start model is looked at.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import numpy as np
import torch
from torch.nn.functional import cross_entropy

from sf_tui.engine.batches import collate, passes_within
from sf_tui.engine.kept_prefix import (
    SHORTEST,
    KeptBeginnings,
    can_go_on_anywhere,
    keep_beginnings,
    keep_prefix,
)
from sf_tui.neighbors.anatomy import AnatomizedPrompt, Anatomy, Tokens, template_of
from sf_tui.neighbors.start_model import StartModel
from sf_tui.tasks.encoding import NO_LOSS, Encoded

# Rows of a pass hold a copy of their beginnings' keys and values each.
_KEPT_TOKENS_A_PASS_TOKEN = 8


@dataclass(frozen=True)
class Exchange:
    """One token of a prompt exchanged for another."""

    at: int
    """Position in the prompt."""
    token: int
    """What stands there instead."""
    likelihood: float
    """Log-likelihood of the text with it, summed over its tokens, in nats. A text that opens the
    row has no token before it to predict its first; that one is left out."""


@dataclass(frozen=True)
class _Reading:
    """What a model says of some texts."""

    texts: list[Tokens]
    offset: int
    """Tokens that were given before the texts' own."""
    logits: torch.Tensor
    """(texts, width, vocabulary) float32; column i predicts the token at offset + i + 1."""
    begun: KeptBeginnings | None

    def column(self, at: int) -> int:
        """Return where the token at a position is predicted."""
        return at - 1 - self.offset


def shares_beginnings(start: StartModel) -> bool:
    """Tell whether a model is given what exchanged prompts begin with once, not every time."""
    if not can_go_on_anywhere(start.model):
        return False
    with start.inference(1):
        return keep_prefix(start.model, torch.tensor([start.end], device=start.device)) is not None


def likely_exchanges(
    start: StartModel,
    prompts: Sequence[AnatomizedPrompt],
    places: Sequence[Sequence[int]],
    count: int,
) -> list[list[Exchange]]:
    """Return the start model's likeliest other tokens at some positions of prompts.

    Args:
        start: the start model.
        prompts: the prompts.
        places: for each prompt the positions, all in its text and none the row's first.
        count: tokens at each position at most.

    Returns:
        For each prompt its exchanges, position by position, the likeliest token first.
    """
    found: list[list[Exchange]] = [[] for _ in prompts]
    shares = shares_beginnings(start)
    wanted = [at for at, here in enumerate(places) if here]
    for within in passes_within([prompts[at].end for at in wanted], start.pass_tokens):
        group = [wanted[at] for at in within]
        reading = _read(start, [prompts[at] for at in group], shares)
        exchanged = [
            (row, at, token, chance)
            for row, prompt in enumerate(group)
            for at, token, chance in _others(
                start, reading, row, prompts[prompt].first, places[prompt], count
            )
        ]
        rows = [(row, at, token) for row, at, token, _ in exchanged]
        behind = (
            _behind(start, reading, reading.begun, rows)
            if reading.begun is not None
            else _behind_whole(start, reading, rows)
        )
        for (row, at, token, chance), after in zip(exchanged, behind.tolist(), strict=True):
            found[group[row]].append(Exchange(at, token, chance + after))
    return found


def _read(start: StartModel, prompts: Sequence[AnatomizedPrompt], shares: bool) -> _Reading:
    """Give a model some texts, what all of them open with once."""
    texts = [prompt.tokens[: prompt.end] for prompt in prompts]
    # The opening's last token stays with the text, whose first one it predicts.
    offset = max(min(prompt.first for prompt in prompts) - 1, 0)
    opening = texts[0][:offset]
    kept = None
    if shares and offset >= SHORTEST and all(text[:offset] == opening for text in texts):
        with start.inference(offset):
            kept = keep_prefix(start.model, torch.tensor(opening, device=start.device))
    offset = offset if kept else 0
    # Nothing is predicted behind a text's last token.
    rows = [text[offset:-1] for text in texts]
    ids = _padded(rows, start.pad_id)
    model: Any = start.model
    with start.inference(sum(len(row) for row in rows)):
        # Right padding needs no mask: what comes later has no say.
        out = model(
            input_ids=ids.to(start.device),
            use_cache=shares,
            **(kept.for_rows(len(rows)) if kept else {}),
        )
    begun = keep_beginnings(out, offset + ids.shape[1]) if shares else None
    return _Reading(texts, offset, out.logits.float(), begun)


def _others(
    start: StartModel, reading: _Reading, row: int, first: int, places: Sequence[int], count: int
) -> list[tuple[int, int, float]]:
    """Return likely other tokens at a text's places.

    Returns:
        Place, token, and the log-likelihood of the text up to it, with it.
    """
    text = reading.texts[row]
    columns = [reading.column(at) for at in range(max(first, 1), len(text))]
    logits = reading.logits[row, columns]
    chances = torch.log_softmax(logits, -1)
    own = torch.tensor(text[-len(columns) :], device=chances.device)[:, None]
    # What comes before a place is the text's own.
    before = np.cumsum([0.0, *chances.gather(1, own).squeeze(1).double().cpu().tolist()])
    words = logits[:, : start.vocabulary].masked_fill(start.unwanted, -torch.inf)
    likely = words.topk(min(count + 1, len(start.words))).indices
    likely_chances = chances.gather(1, likely).double().cpu().tolist()
    found = []
    for at in places:
        column = at - max(first, 1)
        pairs = zip(likely[column].tolist(), likely_chances[column], strict=True)
        others = [pair for pair in pairs if pair[0] != text[at]][:count]
        found += [(at, token, float(before[column]) + chance) for token, chance in others]
    return found


def _behind(
    start: StartModel,
    reading: _Reading,
    begun: KeptBeginnings,
    rows: Sequence[tuple[int, int, int]],
) -> np.ndarray:
    """Return the log-likelihoods of what stands behind exchanged tokens.

    Args:
        start: the start model.
        reading: of the texts.
        begun: their keys and values.
        rows: for each, its text, the exchanged position and the token there.
    """
    model: Any = start.model
    found = np.zeros(len(rows))
    by_width: dict[int, list[int]] = {}
    for at, (text, place, _) in enumerate(rows):
        by_width.setdefault(len(reading.texts[text]) - 1 - place, []).append(at)
    for width, members in sorted(by_width.items()):
        if not width:
            continue
        kept_tokens = _KEPT_TOKENS_A_PASS_TOKEN * start.pass_tokens
        size = max(min(start.pass_tokens // width, kept_tokens // (begun.width + width)), 1)
        for at in range(0, len(members), size):
            part = members[at : at + size]
            given = torch.tensor(
                [[rows[i][2], *reading.texts[rows[i][0]][rows[i][1] + 1 :]] for i in part],
                device=start.device,
            )
            left = begun.for_rows([rows[i][0] for i in part], [rows[i][1] for i in part], width)
            with start.inference(len(part) * width):
                out = model(input_ids=given[:, :-1], use_cache=True, **left)
                losses = cross_entropy(
                    out.logits.float().transpose(1, 2), given[:, 1:], reduction="none"
                )
            found[part] = -losses.double().sum(1).cpu().numpy()
    return found


def _behind_whole(
    start: StartModel, reading: _Reading, rows: Sequence[tuple[int, int, int]]
) -> np.ndarray:
    """Return the same, every text given from its first token."""
    encoded = []
    for text, at, token in rows:
        whole = reading.texts[text]
        labels = [*[NO_LOSS] * (at + 1), *whole[at + 1 :]]
        encoded.append(Encoded([*whole[:at], token, *whole[at + 1 :]], labels))
    found = np.zeros(len(rows))
    for places in passes_within([len(row.input_ids) for row in encoded], start.pass_tokens):
        counts = [encoded[at].answer_tokens for at in places]
        if not sum(counts):
            continue
        batch = collate([encoded[at] for at in places], start.pad_id)
        with start.inference(batch.tokens):
            logits, targets = start.answer_logits(batch.to(start.device))
            losses = cross_entropy(logits, targets, reduction="none").double().cpu().numpy()
        owner = np.repeat(np.arange(len(places)), counts)
        found[places] = -np.bincount(owner, weights=losses, minlength=len(places))
    return found


def _padded(rows: Sequence[Tokens], pad_id: int) -> torch.Tensor:
    ids = torch.full((len(rows), max(len(row) for row in rows)), pad_id)
    for at, row in enumerate(rows):
        ids[at, : len(row)] = torch.tensor(row)
    return ids


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
    template: Tokens
    """The text's tokens with -1 for each run of slot tokens, after the exchange."""
    slot: tuple[bool, ...]
    """(length,) whether a position belongs to the slot."""
    likelihood: float
    """Log-likelihood of the text under the start model, summed over its tokens, in nats."""
    is_other_task: bool
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
            if not (in_slots or found.is_other_task):
                continue
            known = best.get(found.tokens)
            if found.tokens not in own and (
                known is None or found.is_other_task > known.is_other_task
            ):
                best[found.tokens] = found
    return sorted(best.values(), key=lambda found: (-found.likelihood, found.tokens))


def _likeliest(
    prompt: AnatomizedPrompt, anatomy: Anatomy, exchanged: Sequence[Exchange]
) -> Iterator[Substitution]:
    """Yield the likeliest few of a prompt's exchanges at each position."""
    templates = anatomy.templates
    for at, here in groupby(exchanged, key=lambda one: one.at):
        for one in sorted(here, key=lambda one: -one.likelihood)[:KEPT]:
            tokens = (*prompt.tokens[:at], one.token, *prompt.tokens[at + 1 :])
            template = template_of(tokens, prompt.slot, prompt.first, prompt.end)
            is_other_task = not prompt.slot[at] and template not in templates
            yield Substitution(tokens, template, prompt.slot, one.likelihood, is_other_task)
