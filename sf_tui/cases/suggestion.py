"""Settings that suit a model and its data: learning rate, steps, batch size, split, probes.

Rules by size, not a search: the learning rate follows the model's width, all other values follow
row and token counts. Each value comes with its reason, for the comment beside it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from sf_tui.cases.data_facts import DataFacts
from sf_tui.cases.estimates import memory_available
from sf_tui.cases.memory_plan import plan_memory
from sf_tui.cases.model_size import ModelSize
from sf_tui.diagnosis.sample_size import fewest_for_spurious
from sf_tui.engine.probe_plan import OLD_TASK_FLOOR
from sf_tui.engine.probing import PROBED_TOKENS_A_TRAINED_ONE
from sf_tui.profile import TrainSettings
from sf_tui.profile.train_schema import DEFAULT_STEPS
from sf_tui.vocabulary.sizes import counted, format_bytes

RATE_TIMES_WIDTH = 0.08
"""Learning rate times hidden size.

Under AdamW the best rate of a transformer's matrices falls as 1 / width (Yang et al. 2022, "Tensor
Programs V", arXiv 2203.03466, table 3). The constant is the common rate of full fine-tuning, 2e-5
at width 4096 (Taori et al. 2023, Alpaca; Touvron et al. 2023, Llama 2, section 3.1). It gives 6e-4
at the starter's width of 128, the rate of `biography-mini`, and 1.4e-4 at the 576 of SmolLM2-135M.
Llamas of width 32 to 128, tuned from random weights on facts in four phrasings, knew 48 to 400 new
rows after 100 to 200 steps at it, and after 150 to 300 at half of it."""
_HIGHEST_RATE = 3e-3
_LOWEST_RATE = 1e-6

MOST_EPOCHS = 25
"""Passes over a small file: the Llamas above knew their new rows after 16."""
FEWEST_STEPS = 150
MOST_EPOCHS_OF_FEW_ROWS = 40
"""With so few rows that `MOST_EPOCHS` are less than `FEWEST_STEPS`, up to this many passes."""
FEWEST_EPOCHS = 3
"""Passes over a large file, as in Alpaca."""
_LARGE = 20_000
"""Rows above which one pass is suggested."""

_WARMUP_SHARE = 0.1
_MOST_WARMUP = 20

OLD_HELD_OUT = 100
"""Held-out rows of an old task, which is not trained: an accuracy to ± 0.1."""
NEW_HELD_OUT_SHARE = 0.3
NEW_HELD_OUT = 50
_MOST_HELD_OUT = 512

PROBED_EXAMPLES = OLD_TASK_FLOOR
"""Examples of an old task that a probe should score."""

_PROBE_SHARE = 0.10
"""Share of the work that probes may take in the danger window, as `[probe] budget_in_window`."""

_GUARD_OLD = 0.9
"""Share of the old task's start that its guard asks for."""
_GUARD_UNMEASURED = 0.5
_GUARD_NEW = 0.8


_ADAPTER_FACTOR = 10
_HIGHEST_ADAPTER_RATE = 5e-4


@dataclass(frozen=True)
class Suggestion:
    """Values for a new profile by table and key, each with the reason in a few words."""

    held_out: Mapping[str, int]
    """By task; a task without an entry keeps the default split."""
    train: Mapping[str, Any]
    probe: Mapping[str, Any]
    guard: Mapping[str, float]
    reasons: Mapping[str, str] = field(default_factory=dict)
    """By `table.key`; held-out rows by `held_out.TASK`."""


def learning_rate_for(hidden_size: int, *, adapter: bool = False) -> float:
    """Return the usual learning rate for a model of this width, in two digits.

    Args:
        hidden_size: the model's width.
        adapter: whether an adapter trains rather than the weights: at about ten times the rate.
            SmolLM2-135M learned at 2e-4 to 1e-3.
    """
    rate = min(max(RATE_TIMES_WIDTH / hidden_size, _LOWEST_RATE), _HIGHEST_RATE)
    if adapter:
        rate = min(_ADAPTER_FACTOR * rate, _HIGHEST_ADAPTER_RATE)
    return float(f"{rate:.1e}")


def suggest_held_out(old: DataFacts | None, new: DataFacts | None) -> dict[str, int]:
    """Return how many rows of each task to hold out.

    An old task is measured, not trained: it can spare up to half its rows. A new task needs its
    rows, so it holds out at most three tenths of a small file.

    Args:
        old: the task that the model already does; None if its data are unknown.
        new: the task to learn.
    """
    found = {}
    if old is not None:
        tenth = round(0.1 * old.rows)
        found[old.name] = min(max(tenth, min(OLD_HELD_OUT, old.rows // 2)), _MOST_HELD_OUT)
    if new is not None:
        tenth = round(0.1 * new.rows)
        share = round(NEW_HELD_OUT_SHARE * new.rows)
        found[new.name] = min(max(tenth, min(NEW_HELD_OUT, share), 1), _MOST_HELD_OUT)
    return {name: count for name, count in found.items() if count >= 1}


def suggest(
    size: ModelSize | None,
    old: DataFacts | None,
    new: DataFacts | None,
    *,
    start: float | None = None,
    given: Mapping[str, Any] | None = None,
) -> Suggestion:
    """Return settings for a model and its data.

    Args:
        size: the model's size; None if unknown.
        old: the task that the model already does, split as `suggest_held_out` says.
        new: the task to learn, split likewise.
        start: the old task's measured score, if it is a share.
        given: keys of `[train]` that are fixed.
    """
    reasons: dict[str, str] = {}
    train: dict[str, Any] = {}
    if size is not None and size.hidden_size:
        train["learning_rate"] = learning_rate_for(size.hidden_size)
        reasons["train.learning_rate"] = f"{RATE_TIMES_WIDTH} / hidden size {size.hidden_size}"
    elif size is None:
        train["learning_rate"] = TrainSettings().learning_rate
        reasons["train.learning_rate"] = (
            f"the model was not looked at: set {RATE_TIMES_WIDTH} / its hidden size"
        )
    train |= _length(new, dict(given or {}), reasons)
    for key in given or {}:
        reasons.pop(f"train.{key}", None)
    train |= dict(given or {})
    if size is not None and new is not None:
        train |= _memory(size, new, train, reasons)
    probe = _probe(old, new, train, reasons)
    guard = {"old_accuracy": _GUARD_UNMEASURED, "new_accuracy": _GUARD_NEW}
    reasons["guard.old_accuracy"] = "the least that you accept; not measured here"
    if start is not None:
        guard["old_accuracy"] = math.floor(100 * _GUARD_OLD * start) / 100
        reasons["guard.old_accuracy"] = f"{_GUARD_OLD:g} of its {start:.2f} now"
    held_out = {facts.name: facts.held_out for facts in (old, new) if facts is not None}
    if old is not None:
        reasons[f"held_out.{old.name}"] = (
            f"of {counted(old.rows, 'row')}; a verdict wants {fewest_for_spurious(wrong=1)} or more"
        )
    if new is not None:
        reasons[f"held_out.{new.name}"] = f"of {counted(new.rows, 'row')}; never trained on"
    return Suggestion(held_out, train, probe, guard, reasons)


def _length(
    new: DataFacts | None, given: Mapping[str, Any], reasons: dict[str, str]
) -> dict[str, Any]:
    if new is None:
        return {"batch_size": 16, "steps": DEFAULT_STEPS}
    rows = new.train
    batch = 32 if rows > _LARGE else 16 if rows >= 64 else 8 if rows >= 32 else 4
    batch = int(given.get("batch_size", batch))
    an_epoch = rows / batch
    if rows > _LARGE:
        steps = math.ceil(an_epoch)
    else:
        few = max(MOST_EPOCHS * an_epoch, min(FEWEST_STEPS, MOST_EPOCHS_OF_FEW_ROWS * an_epoch))
        steps = max(int(max(FEWEST_EPOCHS * an_epoch, min(DEFAULT_STEPS, few)) / 10), 1) * 10
    steps = int(given.get("steps", steps))
    reasons["train.steps"] = (
        f"{counted(f'{steps * batch / rows:.3g}', 'epoch')} of {counted(rows, 'row')}"
    )
    warmup = max(1, min(_MOST_WARMUP, round(_WARMUP_SHARE * steps)))
    return {"batch_size": batch, "steps": steps, "warmup_steps": warmup}


def _memory(
    size: ModelSize, new: DataFacts, train: Mapping[str, Any], reasons: dict[str, str]
) -> dict[str, Any]:
    """Return a micro-batch size for half of the free memory, if the whole batch takes more."""
    available = memory_available()
    batch = int(train["batch_size"])
    if available is None:
        return {}

    def needs(micro: int) -> float:
        settings = TrainSettings(batch_size=batch, micro_batch_size=micro)
        return plan_memory(size, new, settings).total

    micro = batch
    while micro > 1 and needs(micro) > available / 2:
        micro //= 2
    if micro == batch:
        return {}
    reasons["train.micro_batch_size"] = f"of {format_bytes(available)} that are free"
    return {"micro_batch_size": micro}


def _probe(
    old: DataFacts | None,
    new: DataFacts | None,
    train: Mapping[str, Any],
    reasons: dict[str, str],
) -> dict[str, Any]:
    """Return the examples of a probe and intervals at which they cost about a tenth of the work."""
    if old is None or new is None:
        return {}
    probed = min(old.held_out, PROBED_EXAMPLES) * old.held_out_tokens
    probed += min(new.held_out, PROBED_EXAMPLES) * new.held_out_tokens
    cost = probed / PROBED_TOKENS_A_TRAINED_ONE
    a_step = int(train["batch_size"]) * max(new.mean_tokens, 1)

    def every(least: int, most: int) -> int:
        return min(max(math.ceil(cost / (_PROBE_SHARE * a_step)), least), most)

    in_window, later = every(5, 25), every(25, 100)
    reasons["probe.examples"] = "of each task; fewer show no drop of 20 points for sure"
    reasons["probe.every"] = "steps between probes"
    reasons["probe.every_in_window"] = (
        f"in the first 150 steps; a probe costs {cost / a_step:.1f} steps"
    )
    return {"examples": PROBED_EXAMPLES, "every": later, "every_in_window": in_window}
