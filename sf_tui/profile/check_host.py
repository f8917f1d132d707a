"""Checks of `[host]`, and of the tasks of a run that another program trains."""

from __future__ import annotations

from collections.abc import Iterator

from sf_tui.profile.names import HOST_DATA
from sf_tui.profile.problems import Origin, Problem
from sf_tui.profile.schema import Profile


def check_host(profile: Profile, origin: Origin) -> Iterator[Problem]:
    """Find host data without a host, and settings that a run of a host can't have."""
    if profile.host is None:
        for place, task in enumerate(profile.tasks):
            if task.data.startswith(HOST_DATA):
                yield Problem(
                    ("tasks", place, "data"),
                    f'data = "{task.data}": the rows of a run that another program trains',
                    "name a file, or add [host]",
                )
        return
    for place in range(len(profile.tasks) - 1):
        if origin.raw["tasks"][place].get("learn"):
            yield Problem(
                ("tasks", place, "learn"),
                "learn = true: the host trains the last task only",
                "remove learn",
            )
    if profile.replay_stage.steps:
        yield Problem(
            ("replay_stage", "steps"),
            "steps: a run that another program trains has no second stage",
            "remove [replay_stage]",
        )
