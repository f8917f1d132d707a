"""Defaults that depend on other keys, filled in so that a loaded profile says everything.

Sees only profiles that are free of mistakes.
"""

from __future__ import annotations

from typing import Any

from sf_tui.profile.check_tasks import uses_biography
from sf_tui.profile.names import BIOGRAPHY_TOKENIZER, RANDOM_MODEL
from sf_tui.profile.schema import BiographySettings, Profile
from sf_tui.profile.train_schema import DEFAULT_STEPS


def resolve_profile(profile: Profile) -> Profile:
    """Return the profile with every default filled in that follows from other keys."""
    changes: dict[str, Any] = {
        # Only the first task can be known beforehand; the others are learnt by standing there.
        "tasks": [
            task.model_copy(update={"learn": task.learn or place > 0})
            for place, task in enumerate(profile.tasks)
        ]
    }
    if profile.train.steps is None and profile.train.epochs is None:
        changes["train"] = profile.train.model_copy(update={"steps": DEFAULT_STEPS})
    watched = profile.watched_tasks()
    if profile.replay_stage.task is None and watched:
        changes["replay_stage"] = profile.replay_stage.model_copy(update={"task": watched[0]})
    if profile.model.source == RANDOM_MODEL and profile.model.tokenizer is None:
        # check_model has made sure that such a profile has biography tasks only.
        changes["model"] = profile.model.model_copy(update={"tokenizer": BIOGRAPHY_TOKENIZER})
    elif not uses_biography(profile):
        # What is ignored is not written down either, so that it isn't noted anew on every load.
        changes["biography"] = BiographySettings()
    return profile.model_copy(update=changes)
