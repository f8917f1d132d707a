"""A run whose log was damaged is refused; repaired as the message says, it ends the same."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from sf_tui.cli.launching import finished_exit_code, repair_before_resume
from sf_tui.errors import RunError
from sf_tui.profile import dump_profile, load_profile
from sf_tui.run.directory import RunDirectory
from sf_tui.run.events import EventTail
from support.quick_run import Operator, equal, events_of, final_weights, work


@pytest.fixture(scope="module")
def stopped(profile_file: Path, tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
    """Return a run that an operator stopped; tests copy it."""
    run = RunDirectory.create(
        tmp_path_factory.mktemp("stopped") / "run",
        profile_text=dump_profile(load_profile(profile_file)),
        profile_name="quick",
        argv=["sf"],
    )
    assert work(run, Operator(run).at("old", 7, "stop")) == 5
    return run


@pytest.mark.parametrize(
    "damage",
    [
        "cut",
        "begin",
        *(pytest.param(kind, marks=pytest.mark.slow) for kind in ("emptied", "field")),
    ],
)
def test_repaired_run_ends_with_the_weights_of_one_never_damaged(
    stopped: RunDirectory, undisturbed: RunDirectory, tmp_path: Path, damage: str
) -> None:
    run = RunDirectory(tmp_path / stopped.id)
    shutil.copytree(stopped.path, run.path)
    lines = run.events.read_bytes().splitlines(keepends=True)
    if damage == "emptied":
        lines = []
    elif damage == "cut":
        lines = lines[: len(lines) // 3]
    elif damage == "field":
        lines[-2] = b'{"seq": "x"}\n'
    else:
        lines = [line for line in lines if b'"stage_started"' not in line]
    run.events.write_bytes(b"".join(lines))
    before = run.events.read_bytes()
    with pytest.raises(RunError, match=r"events\.jsonl") as caught:
        work(run)
    assert "--repair-log" in caught.value.hint
    assert run.events.read_bytes() == before
    repair_before_resume(run)
    assert finished_exit_code(run) is None
    assert work(run) == 0
    assert equal(final_weights(run), final_weights(undisturbed))
    tail = EventTail(run.events)
    tail.poll()
    assert not tail.is_damaged, tail.damage
    assert events_of(run, "run_finished")[-1]["status"] == "completed"
