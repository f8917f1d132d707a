"""Warnings on a profile whose figures can't give what a run is for.

Sees figures only: rows, tokens, sizes and settings.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

from sf_tui.cases.data_facts import DataFacts
from sf_tui.cases.estimates import RunEstimate
from sf_tui.cases.model_size import ModelSize
from sf_tui.cases.suggestion import (
    MOST_EPOCHS_OF_FEW_ROWS,
    PROBED_EXAMPLES,
    learning_rate_for,
)
from sf_tui.diagnosis.sample_size import fewest_for_spurious
from sf_tui.engine.prepare import BIOGRAPHY
from sf_tui.profile import Profile, StageSpec
from sf_tui.profile.names import REPLAY_STAGE
from sf_tui.run.directory import runs_home
from sf_tui.vocabulary.intervals import wilson_estimate
from sf_tui.vocabulary.measured import half_width
from sf_tui.vocabulary.sizes import counted, format_bytes

RATE_BELOW = 0.1
RATE_ABOVE = 5.0
"""A learning rate outside these multiples of the rule's is pointed out."""

WIDE = 0.20
"""Half the width of an accuracy's interval above which held-out rows are called too few."""


def warn_of_plan(
    profile: Profile,
    tasks: Mapping[str, DataFacts],
    estimate: RunEstimate,
    size: ModelSize | None,
) -> list[str]:
    """Return warnings on held-out rows, epochs, rates, memory and disk.

    Args:
        profile: the profile.
        tasks: its data in figures, by task.
        estimate: the run's cost.
        size: the model's size, if known.
    """
    stages = {stage.name: stage for stage in profile.stages()}
    found = list(_held_out(profile, tasks))
    for stage in estimate.stages:
        facts = tasks[stage.task]
        found += stage_warnings(
            stages[stage.name],
            steps=stage.steps,
            rows=facts.train,
            hidden_size=size.hidden_size if size is not None else 0,
            repeats=learned_by_heart(stages[stage.name], profile),
            adapter=profile.adapter is not None,
        )
        if facts.too_long:
            found.append(
                f"'{facts.name}': about {facts.too_long} of {facts.rows} rows are longer than the "
                "limit and left out; raise max_length or shorten them"
            )
    return [*found, *_machine(estimate)]


def learned_by_heart(spec: StageSpec, profile: Profile) -> bool:
    """Return whether a stage repeats its rows on purpose: the built-in experiment, a replay."""
    return spec.name == REPLAY_STAGE or profile.task(spec.task).data.startswith(BIOGRAPHY)


def _held_out(profile: Profile, tasks: Mapping[str, DataFacts]) -> Iterator[str]:
    least, safe = fewest_for_spurious(), fewest_for_spurious(wrong=1)
    last = profile.stages()[-1] if profile.stages() else None
    for place, (name, facts) in enumerate(tasks.items()):
        settings = profile.task(name)
        rows = facts.held_out
        old = settings.watch and place < len(profile.tasks) - 1
        if old and rows < least:
            yield (
                f"'{name}' holds out {rows} of {facts.rows} rows: too few for a verdict; "
                f"`spurious` needs {least} even if every one of them comes back, and {safe} if "
                f"one stays wrong; {_more(facts, safe)}"
            )
        elif old and rows < PROBED_EXAMPLES:
            yield (
                f"'{name}' holds out {rows} of {facts.rows} rows: a probe should score "
                f"{PROBED_EXAMPLES}, and a verdict may stay inconclusive; {_more(facts, safe)}"
            )
        elif last is not None and last.task == name and not old:
            half = half_width(wilson_estimate(0.8 * rows, rows))
            if half > WIDE:
                yield (
                    f"'{name}' holds out {rows} of {facts.rows} rows: its accuracy is known to "
                    f"± {half:.2f} only; {_more(facts, 30)}"
                )


def _more(facts: DataFacts, wanted: int) -> str:
    if facts.rows >= 3 * wanted:
        return f"set held_out = {wanted} or more"
    return "add rows, or name a file of held-out rows"


def stage_warnings(
    spec: StageSpec,
    *,
    steps: int,
    rows: int,
    hidden_size: int,
    repeats: bool,
    adapter: bool = False,
) -> Iterator[str]:
    """Yield warnings on a stage's epochs, warmup and learning rate.

    Args:
        spec: the stage.
        steps: its length.
        rows: number of rows that it trains on.
        hidden_size: the model's width; 0 if unknown.
        repeats: whether the task is meant to be learned by heart, so that epochs don't matter.
        adapter: whether an adapter trains rather than the weights.
    """
    train, where = spec.train, f"stage '{spec.name}': "
    epochs = steps * train.batch_size / max(rows, 1)
    if epochs > MOST_EPOCHS_OF_FEW_ROWS + 1 and not repeats:
        yield (
            f"{where}{steps} steps pass over its {rows} rows {epochs:.0f} times: lower steps, or "
            "add rows"
        )
    if train.warmup_steps > 0 and steps < train.warmup_steps:
        yield (
            f"{where}warmup_steps = {train.warmup_steps} is more than its "
            f"{counted(steps, 'step')}, so the rate never reaches "
            f"{train.learning_rate:g}; lower warmup_steps"
        )
    if not hidden_size:
        return
    what = "an adapter of a model" if adapter else "a model"
    usual = learning_rate_for(hidden_size, adapter=adapter)
    share = train.learning_rate / usual
    if share < RATE_BELOW:
        yield (
            f"{where}learning_rate = {train.learning_rate:g} is {_times(1 / share)} times below "
            f"what suits {what} of hidden size {hidden_size} (about {usual:g}): it may learn "
            "nothing"
        )
    elif share > RATE_ABOVE:
        yield (
            f"{where}learning_rate = {train.learning_rate:g} is {_times(share)} times above "
            f"what suits {what} of hidden size {hidden_size} (about {usual:g}): it may destroy "
            "more than it teaches"
        )


def _times(ratio: float) -> str:
    return f"{round(ratio):,}" if ratio < 1e7 else f"{ratio:.1e}"


def _machine(estimate: RunEstimate) -> Iterator[str]:
    if (
        estimate.memory is not None
        and estimate.memory_available is not None
        and estimate.memory > estimate.memory_available
    ):
        yield (
            f"training may take {format_bytes(estimate.memory)} of memory, and "
            f"{format_bytes(estimate.memory_available)} are free; lower micro_batch_size, or set "
            "gradient_checkpointing = true"
        )
    free = free_disk(runs_home())
    if estimate.disk is not None and free is not None and estimate.disk > free:
        yield (
            f"the run may take {format_bytes(estimate.disk)} of disk, and {format_bytes(free)} are "
            "free; lower [checkpoint] keep_last, or set SF_HOME to another disk"
        )


def free_disk(folder: Path) -> int | None:
    """Return the free bytes on the disk of a folder that may not exist yet."""
    while not folder.exists():
        folder = folder.parent
    try:
        return shutil.disk_usage(folder).free
    except OSError:
        # Only the warning is lost.
        return None
