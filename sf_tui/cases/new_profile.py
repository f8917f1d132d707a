"""Writes the text of a profile for a model and two data sets that it has looked at.

Writes no file. The suggested values are `suggestion`'s, the text is `sf_tui.profile`'s.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sf_tui.cases.data_facts import DataFacts
from sf_tui.cases.model_size import ModelSize
from sf_tui.cases.profile_review import (
    MOST_MEASURED_PARAMETERS,
    look_at_data,
    look_at_model,
    measure_known,
)
from sf_tui.cases.suggestion import suggest, suggest_held_out
from sf_tui.profile import Profile, new_profile, parse_profile, short_profile
from sf_tui.vocabulary.metrics import metric_named


def suggested_profile(
    *,
    name: str,
    model: str,
    old: str,
    new: str,
    out: Path,
    full: bool = False,
    train: Mapping[str, Any] | None = None,
) -> tuple[str, list[str]]:
    """Return the text of a profile with settings that suit the model and the data.

    Args:
        name: the profile's name.
        model: `[model] source`, as the profile has to contain it.
        old: the data of the task that the model already does.
        new: the data of the task to learn.
        out: the profile's future file; relative paths start at its folder.
        full: write every key.
        train: keys of `[train]` that are fixed.

    Returns:
        The text, and notes on what could not be looked at.

    Raises:
        ProfileError: a file doesn't exist.
        DataError: local data can't be used.
        ModelError: a local model can't be used.
    """
    sources: dict[str, Any] = {"name": name, "model": model, "old": old, "new": new}

    def parsed(held_out: Mapping[str, int]) -> Profile:
        text = short_profile(**sources, held_out=held_out, train={})
        return parse_profile(text, name=str(out), base_dir=out.absolute().parent, files=True)

    notes: list[str] = []
    draft = parsed({})
    size, tokenizer = look_at_model(draft, notes)
    facts = look_at_data(draft, tokenizer, size, notes)
    # Biography data have their own split.
    own = {task.name for task in draft.tasks if not task.data.startswith("biography:")}
    split = suggest_held_out(*(facts.get(task) if task in own else None for task in ("old", "new")))
    if split:
        draft = parsed(split)
        facts = look_at_data(draft, tokenizer, size, [])
    suggestion = suggest(
        size,
        facts.get("old"),
        facts.get("new"),
        start=_measured_start(draft, size, facts, notes),
        given=train,
    )
    tables: dict[str, Any] = {
        "held_out": split,
        "train": suggestion.train,
        "probe": suggestion.probe,
        "guard": suggestion.guard,
    }
    if full:
        return new_profile(**sources, **tables), notes
    about = str(size) if size is not None else ""
    text = short_profile(**sources, **tables, about_model=about, reasons=suggestion.reasons)
    return text, notes


def _measured_start(
    draft: Profile, size: ModelSize | None, facts: Mapping[str, DataFacts], notes: list[str]
) -> float | None:
    """Return the old task's score if the model is small and knows it; None otherwise.

    If a small model does not know it, the notes say so.
    """
    if size is None or size.parameters > MOST_MEASURED_PARAMETERS or len(facts) < 2:
        return None
    if not metric_named(facts["old"].metric).is_share:
        return None
    starts, unknown = measure_known(draft)
    notes += unknown
    return starts[0].score.value if starts and starts[0].is_known else None
