"""Chooses the stage and the old task of a case if the user names none.

Knows a run's history and profile; reads no file.
"""

from __future__ import annotations

from collections.abc import Mapping

from sf_tui.errors import UsageError
from sf_tui.profile import Profile, StageSpec, TaskSettings, did_you_mean
from sf_tui.profile.names import REPLAY_STAGE
from sf_tui.run.state import RunState
from sf_tui.vocabulary.declared import Measures


def choose_stage(
    profile: Profile, history: RunState, name: str | None, task: str | None
) -> StageSpec:
    """Return the stage whose start weights are the reference for a model.

    Args:
        profile: the run's profile.
        history: the run so far.
        name: the stage; None: the last one that has begun and trains a new task.
        task: an old task that must be known before the stage, if one is named.

    Raises:
        UsageError: there is no such stage, or it has not begun.
    """
    stages = {stage.name: stage for stage in profile.stages() if stage.name in history.stages}
    if name is not None:
        if name not in stages:
            raise UsageError(
                f"no stage '{name}' has begun in this run", did_you_mean(name, stages, "stages")
            )
        return stages[name]
    if task is not None:
        profile.task(task)
    new = [stage for stage in stages.values() if stage.name != REPLAY_STAGE]
    knowing = [stage for stage in new if task is None or task in history.stages[stage.name].known]
    if not knowing:
        what = "no stage has begun" if task is None else f"no stage began that knew task '{task}'"
        raise UsageError(f"{what} in this run", "`sf show` shows how far it has come")
    return knowing[-1]


def choose_old_task(
    profile: Profile,
    history: RunState,
    stage: StageSpec,
    name: str | None,
    now: Mapping[str, Measures] | None = None,
) -> TaskSettings:
    """Return the lost task: the named one, or the watched one that lost most.

    Args:
        profile: the run's profile.
        history: the run so far.
        stage: the stage whose start weights are the reference.
        name: the task, if one is named.
        now: each task's current measures; None: those of the newest probe.

    Raises:
        UsageError: there is no such task, or it was unknown when the stage began.
    """
    known = history.stages[stage.name].known
    earlier = [task for task in known if task != stage.task]
    if name is not None:
        settings = profile.task(name)
        if name not in earlier:
            raise UsageError(
                f"task '{name}' was not known when stage '{stage.name}' began",
                did_you_mean(name, earlier, "earlier tasks"),
            )
        return settings
    watched = watched_before(profile, history, stage)
    if not watched:
        raise UsageError(
            f"stage '{stage.name}' began with no watched task to be lost",
            f"name another --stage, or a --task that is not watched: {', '.join(earlier)}"
            if earlier
            else "name another --stage",
        )
    probes = _probes_since(history, stage.name)
    first = probes[0] if probes else {}
    last = now or (probes[-1] if probes else {})

    def drop(task: str) -> float:
        metric = history.metric(task)
        before, after = (found.get(task, {}).get(metric.name) for found in (first, last))
        return 0.0 if before is None or after is None else metric.drop(before, after)

    return profile.task(max(watched, key=drop))


def watched_before(profile: Profile, history: RunState, stage: StageSpec) -> list[str]:
    """Return the watched tasks that were already known when a stage began."""
    known = history.stages[stage.name].known
    return [task for task in profile.watched_tasks() if task in known and task != stage.task]


def _probes_since(history: RunState, stage: str) -> list[Mapping[str, Measures]]:
    names = list(history.stages)
    later = [history.stages[name] for name in names[names.index(stage) :]]
    return [probe.metrics for one in later for probe in one.probes]
