"""What the ranks know of each other: load and step by beats, and who is lost."""

from __future__ import annotations

import json
import os
import signal
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sf_tui.engine import process_ranks
from sf_tui.engine.ranks import RankLostError, Ranks
from sf_tui.worker.rank_watch import RankWatch
from support.several_ranks import fork_ranks

EVERY_S = 0.05


def wait_for(found: Callable[[], Any], patience_s: float = 30.0) -> Any:
    deadline = time.monotonic() + patience_s
    while not (what := found()):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return what


def test_rank_0_knows_what_the_others_do_and_for_whom_it_waits(tmp_path: Path) -> None:
    def work(ranks: Ranks, report: Path) -> int:
        ranks.note_step(3 + ranks.rank)
        with RankWatch(ranks, None, every_s=EVERY_S) as watch:
            if ranks.rank:
                (tmp_path / "pid").write_text(str(os.getpid()))
                wait_for((tmp_path / "go").exists)
                ranks.decide(lambda: None)
                ranks.sums([1.0])
                return 0
            readings = wait_for(lambda: (r := watch.read()[1])[1].rss_bytes and r)
            said: dict[str, Any] = {"readings": [vars(one) for one in readings]}
            (tmp_path / "go").touch()
            ranks.decide(lambda: None)
            wait_for(lambda: watch.read()[1][1].waits_s > 0.1)
            assert watch.read()[1][0].waits_s == 0
            ranks.sums([1.0])
            report.write_text(json.dumps(said))
        return 0

    for process in fork_ranks(work, tmp_path):
        assert process.wait(60) == 0, _traces(tmp_path)
    own, other = json.loads((tmp_path / "0.json").read_text())["readings"]
    assert (own["rank"], own["step"], other["rank"], other["step"]) == (0, 3, 1, 4)
    assert other["pid"] == int((tmp_path / "pid").read_text())
    assert own["host"] == other["host"] != ""
    assert own["device"] == other["device"] == "cpu"
    assert own["free_bytes"] > 0
    assert other["silent_s"] < 30


def test_a_stopped_rank_falls_behind_and_one_that_goes_on_recovers(tmp_path: Path) -> None:
    def work(ranks: Ranks, report: Path) -> int:
        with RankWatch(ranks, None, every_s=EVERY_S) as watch:
            if ranks.rank:
                (tmp_path / "pid").write_text(str(os.getpid()))
                wait_for((tmp_path / "over").exists)
                return 0
            pid = int(wait_for(lambda: (tmp_path / "pid").exists() and _text(tmp_path / "pid")))
            wait_for(lambda: watch.read()[1][1].pid == pid)
            os.kill(pid, signal.SIGSTOP)
            wait_for(lambda: watch.read()[1][1].silent_s > 1)
            os.kill(pid, signal.SIGCONT)
            wait_for(lambda: watch.read()[1][1].silent_s < 0.5)
            (tmp_path / "over").touch()
            report.write_text("ok")
        return 0

    for process in fork_ranks(work, tmp_path):
        assert process.wait(60) == 0, _traces(tmp_path)


def test_a_rank_that_waits_for_another_ones_outcome_still_shows_signs(tmp_path: Path) -> None:
    # `compare` waits in the same store, for as long as the slowest rank takes.
    def work(ranks: Ranks, report: Path) -> int:
        lost: list[RankLostError] = []
        with RankWatch(ranks, lost.append, every_s=EVERY_S, lost_after_s=1.0):
            if ranks.is_main:
                time.sleep(3)
            ranks.compare("")
        report.write_text(str(len(lost)))
        return 0

    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    processes = fork_ranks(work, tmp_path, port=port)
    assert [process.wait(60) for process in processes] == [0, 0], _traces(tmp_path)


def test_of_three_ranks_the_killed_one_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Beats come sooner here.
    monkeypatch.setattr(process_ranks, "_LOST_WITHIN_S", 1.0)

    def work(ranks: Ranks, report: Path) -> int:
        with RankWatch(ranks, None, every_s=EVERY_S) as watch:
            ranks.sums([1.0])
            if ranks.is_main:
                wait_for(lambda: all(one.host for one in watch.read()[1]))
            ranks.decide(lambda: None)
            if ranks.rank == 1:
                os.kill(os.getpid(), signal.SIGKILL)
            try:
                ranks.sums([1.0])
            except RankLostError as error:
                report.write_text(json.dumps([error.message, error.ranks]))
        return 0

    processes = fork_ranks(work, tmp_path, 3)
    assert [process.wait(60) for process in processes] == [0, -signal.SIGKILL, 0]
    message, lost = json.loads((tmp_path / "0.json").read_text())
    assert message.startswith("rank 1 is gone (killed, or its machine)")
    assert lost == [1]


def _text(path: Path) -> str:
    return path.read_text()


def _traces(folder: Path) -> str:
    return "\n".join(path.read_text() for path in folder.glob("*.trace"))
