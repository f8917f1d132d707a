"""Which ranks are behind or gone, from what each of them reports."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from sf_tui.run.directory import RunDirectory
from sf_tui.run.liveness import Heartbeat, Liveness, WorkerState, probe_liveness
from sf_tui.run.rank_readings import RankReading, find_troubles


def ranks(*waits_and_silence: tuple[float, float]) -> list[RankReading]:
    return [
        RankReading(rank, waits_s=waits_s, silent_s=silent_s)
        for rank, (waits_s, silent_s) in enumerate(waits_and_silence)
    ]


@pytest.mark.parametrize(
    ("readings", "behind"),
    [
        (ranks((0, 0), (0, 1.9)), []),
        # Stopped or cut off: the others wait, too.
        (ranks((14, 0), (0, 14), (14, 1)), [1]),
        # Its beats go on, but its step does not.
        (ranks((14, 0), (0, 1), (13, 1)), [1]),
        # It waits itself, for the last one.
        (ranks((14, 0), (13, 1), (0.1, 1)), [2]),
        # They wait for rank 0, which decides, recovers or writes.
        (ranks((0, 0), (600, 1), (600, 1)), []),
        # A short wait is part of each step.
        (ranks((9, 0), (0, 1)), []),
        # Neither answers; what a silent one waited for once says nothing of the others.
        (ranks((0, 0), (500, 20), (0, 1)), [1]),
    ],
)
def test_the_rank_behind_is_the_one_that_is_missed(
    readings: Sequence[RankReading], behind: list[int]
) -> None:
    troubles = find_troubles(readings)
    assert list(troubles) == behind
    assert all(trouble.state == "behind" for trouble in troubles.values())


def test_only_the_lost_ranks_of_an_ended_run_are_left() -> None:
    readings = (RankReading(0), RankReading(1, gone=True), RankReading(2))

    def shown(state: WorkerState) -> list[int]:
        return [one.rank for one in Liveness(state, ranks=readings).ranks_now]

    assert shown(WorkerState.ALIVE) == [0, 1, 2]
    assert shown(WorkerState.FINISHED) == [1]
    # Whoever killed the worker has killed rank 0.
    assert shown(WorkerState.DEAD) == [0, 1]


def test_with_a_silent_worker_it_is_rank_0_that_is_behind() -> None:
    live = Liveness(WorkerState.SILENT, heartbeat_age_s=31, ranks=(RankReading(0), RankReading(1)))
    assert {rank: one.why for rank, one in find_troubles(live.ranks_now).items()} == {
        0: "no sign for 31 s"
    }


def test_a_heartbeat_that_stops_leaves_the_ranks_that_are_gone(run: RunDirectory) -> None:
    readings = [RankReading(0), RankReading(1)]
    heartbeat = Heartbeat(run, lambda: ((), readings))
    heartbeat.start()
    assert list(probe_liveness(run).ranks) == readings
    readings[1] = RankReading(1, gone=True)
    heartbeat.stop()
    assert [one.gone for one in probe_liveness(run).ranks] == [False, True]
