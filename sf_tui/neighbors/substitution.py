"""One-token substitutions in prompts, ranked by the start model's likelihood of the whole prompt.

Replacing a slot token gives the new task again; replacing a template token gives another task, one
at risk. Uses only the new prompts and the start model.

A prompt with the token at p replaced shares its prefix with the original. The keys and values of
that prefix are cached, and only the tokens after p are run again: about half of a text. A model
whose cache cannot be continued from any position reads the whole texts.
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
from sf_tui.engine.forward import (
    SHORTEST,
    PromptCache,
    cache_prefix,
    cache_prompts,
    takes_position_ids,
)
from sf_tui.neighbors.anatomy import AnatomizedPrompt, Anatomy, Tokens, template_of
from sf_tui.neighbors.start_model import StartModel
from sf_tui.tasks.encoding import NO_LOSS, Encoded

CANDIDATES = 16
"""Number of likely tokens tried at each position."""

MOST_POSITIONS = 32
"""Most positions per prompt; in a longer prompt they are spread evenly."""

KEPT = 6
"""Number of candidates kept at each position: those whose whole prompts are likeliest."""

# Each row of a pass holds a copy of its prefix's keys and values.
_CACHED_TOKENS_PER_PASS_TOKEN = 8


@dataclass(frozen=True)
class Replacement:
    """One token of a prompt replaced by another."""

    at: int
    """Position in the prompt."""
    token: int
    """The token put there."""
    likelihood: float
    """Log-likelihood of the text with it, summed over its tokens, in nats. Without an opening, the
    first token of a text is not predicted and is left out of the sum."""


@dataclass(frozen=True)
class _TextPass:
    """A forward pass over some texts."""

    texts: list[Tokens]
    offset: int
    """Number of shared tokens that were run before the texts."""
    logits: torch.Tensor
    """(texts, width, vocabulary) float32; column i predicts the token at offset + i + 1."""
    prefixes: PromptCache | None

    def column(self, at: int) -> int:
        """Return the column that predicts the token at a position."""
        return at - 1 - self.offset


def shares_prefixes(start: StartModel) -> bool:
    """Return whether a model reads a prefix shared by several prompts only once."""
    if not takes_position_ids(start.model):
        return False
    with start.inference(1):
        return cache_prefix(start.model, torch.tensor([start.end], device=start.device)) is not None


def likely_replacements(
    start: StartModel,
    prompts: Sequence[AnatomizedPrompt],
    places: Sequence[Sequence[int]],
    count: int,
) -> list[list[Replacement]]:
    """Return the start model's likeliest replacements at some positions of prompts.

    Args:
        start: the start model.
        prompts: the prompts.
        places: for each prompt the positions, all within its text; never position 0.
        count: largest number of tokens at each position.

    Returns:
        For each prompt its replacements, by position, the likeliest token first.
    """
    found: list[list[Replacement]] = [[] for _ in prompts]
    shares = shares_prefixes(start)
    wanted = [at for at, here in enumerate(places) if here]
    for within in passes_within([prompts[at].end for at in wanted], start.pass_tokens):
        group = [wanted[at] for at in within]
        text_pass = _read(start, [prompts[at] for at in group], shares)
        replaced = [
            (row, at, token, chance)
            for row, prompt in enumerate(group)
            for at, token, chance in _alternatives(
                start, text_pass, row, prompts[prompt].first, places[prompt], count
            )
        ]
        rows = [(row, at, token) for row, at, token, _ in replaced]
        behind = (
            _suffix_likelihoods(start, text_pass, text_pass.prefixes, rows)
            if text_pass.prefixes is not None
            else _suffix_likelihoods_whole(start, text_pass, rows)
        )
        for (row, at, token, chance), after in zip(replaced, behind.tolist(), strict=True):
            found[group[row]].append(Replacement(at, token, chance + after))
    return found


def _read(start: StartModel, prompts: Sequence[AnatomizedPrompt], shares: bool) -> _TextPass:
    """Run a model on some texts, with their shared opening read only once."""
    texts = [prompt.tokens[: prompt.end] for prompt in prompts]
    # The last token of the opening predicts the first token of the text, so it stays with the text.
    offset = max(min(prompt.first for prompt in prompts) - 1, 0)
    opening = texts[0][:offset]
    kept = None
    if shares and offset >= SHORTEST and all(text[:offset] == opening for text in texts):
        with start.inference(offset):
            kept = cache_prefix(start.model, torch.tensor(opening, device=start.device))
    offset = offset if kept else 0
    # The prediction after the last token of a text is not used.
    rows = [text[offset:-1] for text in texts]
    ids = _padded(rows, start.pad_id)
    model: Any = start.model
    with start.inference(sum(len(row) for row in rows)):
        # Right padding needs no mask: attention is causal.
        out = model(
            input_ids=ids.to(start.device),
            use_cache=shares,
            **(kept.for_rows(len(rows)) if kept else {}),
        )
    prefixes = cache_prompts(out, offset + ids.shape[1]) if shares else None
    return _TextPass(texts, offset, out.logits.float(), prefixes)


def _alternatives(
    start: StartModel, text_pass: _TextPass, row: int, first: int, places: Sequence[int], count: int
) -> list[tuple[int, int, float]]:
    """Return likely replacements at some positions of a text.

    Returns:
        Position, token, and the log-likelihood of the text up to and with it.
    """
    text = text_pass.texts[row]
    columns = [text_pass.column(at) for at in range(max(first, 1), len(text))]
    logits = text_pass.logits[row, columns]
    chances = torch.log_softmax(logits, -1)
    own = torch.tensor(text[-len(columns) :], device=chances.device)[:, None]
    # The tokens before a position are unchanged.
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


def _suffix_likelihoods(
    start: StartModel,
    text_pass: _TextPass,
    prefixes: PromptCache,
    rows: Sequence[tuple[int, int, int]],
) -> np.ndarray:
    """Return the log-likelihoods of the tokens after each replaced one.

    Args:
        start: the start model.
        text_pass: the forward pass over the texts.
        prefixes: its keys and values.
        rows: for each, its text, the position and the token put there.
    """
    model: Any = start.model
    found = np.zeros(len(rows))
    by_width: dict[int, list[int]] = {}
    for at, (text, place, _) in enumerate(rows):
        by_width.setdefault(len(text_pass.texts[text]) - 1 - place, []).append(at)
    for width, members in sorted(by_width.items()):
        if not width:
            continue
        kept_tokens = _CACHED_TOKENS_PER_PASS_TOKEN * start.pass_tokens
        size = max(min(start.pass_tokens // width, kept_tokens // (prefixes.width + width)), 1)
        for at in range(0, len(members), size):
            part = members[at : at + size]
            given = torch.tensor(
                [[rows[i][2], *text_pass.texts[rows[i][0]][rows[i][1] + 1 :]] for i in part],
                device=start.device,
            )
            left = prefixes.for_rows([rows[i][0] for i in part], [rows[i][1] for i in part], width)
            with start.inference(len(part) * width):
                out = model(input_ids=given[:, :-1], use_cache=True, **left)
                losses = cross_entropy(
                    out.logits.float().transpose(1, 2), given[:, 1:], reduction="none"
                )
            found[part] = -losses.double().sum(1).cpu().numpy()
    return found


def _suffix_likelihoods_whole(
    start: StartModel, text_pass: _TextPass, rows: Sequence[tuple[int, int, int]]
) -> np.ndarray:
    """Return the same as `_suffix_likelihoods`, from passes over whole texts."""
    encoded = []
    for text, at, token in rows:
        whole = text_pass.texts[text]
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


@dataclass(frozen=True)
class Substitution:
    """A prompt with one token replaced."""

    tokens: Tokens
    template: Tokens
    """The text's tokens with -1 for each run of slot tokens, after the replacement."""
    slot: tuple[bool, ...]
    """(length,) whether a position belongs to the slot."""
    likelihood: float
    """Log-likelihood of the text under the start model, summed over its tokens, in nats."""
    is_other_task: bool
    """Whether its template is not one of the new task's."""


def substitution_cost(prompt: AnatomizedPrompt, *, shared: bool) -> int:
    """Return an upper bound of the tokens that one prompt's substitutions cost.

    Args:
        prompt: the prompt.
        shared: whether the model reads a shared prefix once (`shares_prefixes`).
    """
    each = [
        prompt.end - 1 - at if shared else prompt.end
        for at in substitution_positions(prompt, in_slots=True)
    ]
    return prompt.end - 1 + CANDIDATES * sum(each)


def substitution_positions(prompt: AnatomizedPrompt, *, in_slots: bool) -> list[int]:
    """Return the positions to substitute: those of the whole text, or of the template only.

    Position 0 is left out, because nothing predicts it.
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
        anatomy: the new task's prompts.
        prompts: those of them to substitute in.
        start: the start model.
        in_slots: False leaves out the new task's own questions: substitutions in the slot, and
            those in the template that produce another of its templates.
    """
    own = {prompt.tokens for prompt in anatomy.prompts}
    best: dict[Tokens, Substitution] = {}
    places = [substitution_positions(prompt, in_slots=in_slots) for prompt in prompts]
    replacements = likely_replacements(start, prompts, places, CANDIDATES)
    for prompt, replaced in zip(prompts, replacements, strict=True):
        for found in _likeliest(prompt, anatomy, replaced):
            if not (in_slots or found.is_other_task):
                continue
            known = best.get(found.tokens)
            if found.tokens not in own and (
                known is None or found.is_other_task > known.is_other_task
            ):
                best[found.tokens] = found
    return sorted(best.values(), key=lambda found: (-found.likelihood, found.tokens))


def _likeliest(
    prompt: AnatomizedPrompt, anatomy: Anatomy, replaced: Sequence[Replacement]
) -> Iterator[Substitution]:
    """Yield the likeliest few substitutions at each position of a prompt."""
    templates = anatomy.templates
    for at, here in groupby(replaced, key=lambda one: one.at):
        for one in sorted(here, key=lambda one: -one.likelihood)[:KEPT]:
            tokens = (*prompt.tokens[:at], one.token, *prompt.tokens[at + 1 :])
            template = template_of(tokens, prompt.slot, prompt.first, prompt.end)
            is_other_task = not prompt.slot[at] and template not in templates
            yield Substitution(tokens, template, prompt.slot, one.likelihood, is_other_task)
