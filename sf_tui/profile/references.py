"""Which start models are the references for what a model knows when a stage begins.

A task's reference is the model in which it first was an earlier task: the run's start for a task
that the model knew, the start of the next stage for one that the run taught. `run.losses` measures
what a task lost since the run began from the same places. Held to anything later, a model keeps
only what the stages before have left of it, and small losses add up.
"""

from __future__ import annotations

from dataclasses import dataclass

from sf_tui.profile.schema import Profile


@dataclass(frozen=True)
class References:
    """The references of one stage, each the stage whose start weights they are.

    Attributes:
        origin: for what the model knew before the run taught it anything: the first stage that
            began with a known task; the stage itself if it is the first.
        taught: for each task that an earlier stage of the run taught, in that order; none where
            the origin is the stage itself, which knows them.
    """

    origin: str
    taught: tuple[tuple[str, str], ...] = ()


def references_of(profile: Profile, stage: str) -> References:
    """Return the references of a stage; its own start for one that the profile doesn't have."""
    first: dict[str, str] = {}
    trained: list[str] = []
    for spec, known in profile.stages_with_known():
        earlier = [task for task in known if task != spec.task]
        for task in earlier:
            first.setdefault(task, spec.name)
        if spec.name == stage:
            origin = next(iter(first.values()), stage)
            if origin == stage:
                return References(stage)
            return References(origin, tuple((t, first[t]) for t in earlier if t in trained))
        if spec.task not in known:
            trained.append(spec.task)
    return References(stage)
