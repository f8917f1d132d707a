"""A sweep's trials, read from their run directories: old task against new.

A trial is an ordinary run; its directory is the only record of it. Reads no weights, starts
nothing, and does not know how the values of a trial were chosen.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from sf_tui.profile import Profile
from sf_tui.run.course import courses
from sf_tui.run.directory import RunDirectory
from sf_tui.run.next_steps import is_complete
from sf_tui.run.reading import read_state
from sf_tui.vocabulary.measured import Score


@dataclass(frozen=True)
class SweepTasks:
    """The tasks that a sweep compares: those at risk in the last stage, and the one it trains."""

    old: tuple[str, ...]
    new: str

    @property
    def names(self) -> tuple[str, ...]:
        """All of them, the new one last."""
        return (*self.old, self.new)


def tasks_of(profile: Profile) -> SweepTasks:
    """Return the tasks that the trials of a profile are compared by."""
    _, known = list(profile.stages_with_known())[-1]
    watched = profile.watched_tasks()
    # The stages are named after their tasks, but for a last one that trains an old task again.
    new = [stage.task for stage in profile.stages() if stage.name == stage.task][-1]
    return SweepTasks(tuple(name for name in known if name in watched and name != new), new)


@dataclass(frozen=True)
class TrialResult:
    """What one trial has come to.

    Attributes:
        number: from 1, in the order of the grid.
        values: the swept keys with this trial's values, as in `--set`.
        run: its run directory, which may not exist yet.
        state: of the run; empty if it does not exist.
        exit_code: of the ended run; None before.
        reason: why it ended; empty if it completed.
        scores: by task, of the whole held-out split at the end of a run that is done.
    """

    number: int
    values: Mapping[str, str]
    run: RunDirectory
    state: str = ""
    exit_code: int | None = None
    reason: str = ""
    scores: Mapping[str, Score] | None = None

    @property
    def done(self) -> bool:
        """Whether the run is complete and every task was scored."""
        return self.scores is not None

    def objectives(self, tasks: SweepTasks) -> list[float]:
        """Return a number for each task, the greater the better."""
        assert self.scores is not None, "only a trial that is done has scores"
        found = [self.scores[name] for name in tasks.names]
        return [one.value if one.metric.higher_is_better else -one.value for one in found]


def read_trial(
    number: int, values: Mapping[str, str], run: RunDirectory, tasks: SweepTasks
) -> TrialResult:
    """Read a trial's run directory."""
    if not run.run_json.exists():
        return TrialResult(number, values, run)
    state, damage = read_state(run)
    ended = state.finished
    if damage:
        return TrialResult(number, values, run, "damaged", reason=damage[0])
    if ended is None or not is_complete(ended.status):
        reason = (ended.reason or "") if ended else ""
        code = ended.exit_code if ended else None
        return TrialResult(number, values, run, state.status, code, reason)
    last = list(state.stages)[-1] if state.stages else None
    ends = {row.task: row.end for row in courses(state) if row.stage == last}
    scores = {name: end for name in tasks.names if (end := ends.get(name)) is not None}
    missing = [name for name in tasks.names if name not in scores]
    if missing:
        return TrialResult(
            number, values, run, ended.status, ended.exit_code, f"no score of {', '.join(missing)}"
        )
    return TrialResult(
        number, values, run, ended.status, ended.exit_code, ended.reason or "", scores
    )
