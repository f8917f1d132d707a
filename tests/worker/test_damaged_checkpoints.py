"""A checkpoint that was altered or damaged is noticed, and what the message advises works."""

from __future__ import annotations

import shlex
import shutil
import stat
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import pytest

from sf_tui.engine.checkpoint_state import dump_state
from sf_tui.errors import RunError
from sf_tui.run.directory import RunDirectory
from support.quick_run import (
    Begin,
    Operator,
    assert_well_told,
    commands_of,
    equal,
    events_of,
    final_weights,
    live_course,
    work,
)


@pytest.fixture(scope="module")
def stopped(
    undisturbed: RunDirectory, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[], RunDirectory]:
    """Return copies of a run that was killed behind its last checkpoint."""

    def copy() -> RunDirectory:
        path = tmp_path_factory.mktemp("stopped") / "run"
        shutil.copytree(undisturbed.path, path)
        run = RunDirectory(path)
        lines = run.events.read_bytes().splitlines(keepends=True)
        run.events.write_bytes(b"".join(lines[:-1]))
        shutil.rmtree(run.model)
        return run

    return copy


Stopped = Callable[[], RunDirectory]


def newest(run: RunDirectory) -> Path:
    return run.checkpoints / "new" / "step-000012"


def refused(run: RunDirectory) -> RunError:
    with pytest.raises(RunError) as caught:
        work(run)
    assert events_of(run)[-1]["status"] == "failed"
    return caught.value


def follow(hint: str) -> None:
    """Do what a hint says before `sf resume`."""
    subprocess.run(shlex.split(hint.partition("(")[2].partition(")")[0]), check=True)


def test_altered_state_is_refused_and_the_run_goes_on_without_it(
    stopped: Stopped, undisturbed: RunDirectory
) -> None:
    run = stopped()
    file = newest(run) / "state.json"
    whole = file.read_bytes()
    assert b'"step": 12' in whole
    for altered in (
        whole.replace(b'"step": 12', b'"step": 1000000000'),
        whole.replace(b'"step": 12', b'"step": -3'),
        whole.replace(b'"asked_for": false', b'"asked_for": true'),
        b"[]",
        b"null",
        b"{}",
        b"",
        whole[:-20],
    ):
        assert altered != whole
        file.write_bytes(altered)
        error = refused(run)
        assert str(file) in error.message
        assert "damaged" in error.message
        assert f"`sf resume {run.path}`" in error.hint
    follow(error.hint)
    assert work(run) == 0
    assert_well_told(run)
    assert live_course(run) == live_course(undisturbed)
    assert equal(final_weights(run), final_weights(undisturbed))


FORGED: list[dict[str, Any]] = [
    {"step": 1_000_000_000},
    {"step": -3},
    {"step": 8},
    {"step": "12"},
    {"stage": "old"},
    {"seq": None},
    {"optimizer": "x"},
    {"optimizer": ["block-9"]},
    {"files": {}},
    {"files": []},
    {"format": 2},
    {"frozen": ["block-9"]},
    {"frozen": "block-1"},
    {"frozen": ["embeddings", "block-0", "block-1", "block-2", "block-3", "head"]},
    {"sticky_frozen": 3},
    {"strategies": {"anchor": {"on": True, "facts": {"strength": "much", "sticky": None}}}},
    {"strategies": {"anchor": {"on": True, "facts": {"strength": 1.0}}}},
    {"strategies": {"anchor": {"on": True, "facts": {"strength": 1.0, "sticky": -1.0}}}},
    {"strategies": {"anchor": {"on": "yes", "facts": {}}}},
    {"strategies": {"anchor": {"facts": {"strength": 1.0, "sticky": None}}}},
    {"strategies": {"seq": {"on": True, "facts": {"more": 1}}}},
    {"strategies": {"no-such-strategy": {"on": True, "facts": {}}}},
    {"rules_crossed": ["no such rule"]},
    {"baseline": []},
    {"accuracy": {"new": 0.5}},
    {"score": "high"},
    {"asked_for": "yes"},
    {"threads": 0},
    {"threads": "many"},
    {"torch": 2},
]


def test_state_with_a_checksum_of_its_own_is_still_checked(stopped: Stopped) -> None:
    run = stopped()
    file = newest(run) / "state.json"
    state = orjson.loads(file.read_bytes())
    del state["checksum"]
    missing = [{key: ...} for key in state]
    for change in (*FORGED, *missing):
        forged = {k: v for k, v in (state | change).items() if v is not ...}
        file.write_bytes(dump_state(forged))
        error = refused(run)
        assert str(newest(run)) in error.message, change
        assert "mv " in error.hint or "the model named" in error.hint, change
    file.write_bytes(dump_state(state))
    assert work(run) == 0


def test_flipped_bit_is_noticed_wherever_it_is(stopped: Stopped, undisturbed: RunDirectory) -> None:
    run = stopped()
    for part in ("weights/block-1", "optimizer/head", "weights/embeddings"):
        file = newest(run) / f"{part}.safetensors"
        whole = bytearray(file.read_bytes())
        whole[-7] ^= 4
        file.write_bytes(whole)
        error = refused(run)
        assert f"{file}: damaged: its bytes do not match" in error.message
        whole[-7] ^= 4
        file.write_bytes(whole)
    # The weights that drift is measured from.
    first = run.checkpoints / "new" / "step-000000"
    shutil.rmtree(newest(run))
    file = first / "weights" / "block-2.safetensors"
    whole = bytearray(file.read_bytes())
    whole[-7] ^= 4
    file.write_bytes(whole)
    error = refused(run)
    assert f"{file}: damaged" in error.message
    follow(error.hint)
    assert not first.exists()
    assert work(run) == 0
    assert_well_told(run)
    assert equal(final_weights(run), final_weights(undisturbed))


def test_log_that_ends_before_its_checkpoints_is_refused(stopped: Stopped) -> None:
    run = stopped()
    lines = run.events.read_bytes().splitlines(keepends=True)
    for kept, end in ((0, "is empty"), (7, "ends with event 7")):
        run.events.write_bytes(b"".join(lines[:kept]))
        with pytest.raises(RunError) as caught:
            work(run)
        assert f"{run.events}: {end}, but the checkpoint" in caught.value.message
        # Nothing is written: the log can be put back.
        assert run.events.read_bytes() == b"".join(lines[:kept])
    run.events.write_bytes(b"".join(lines))
    assert work(run) == 0


def test_rollback_to_a_damaged_checkpoint_fails_and_the_run_goes_on(
    begin: Begin, undisturbed: RunDirectory
) -> None:
    run = begin()
    operator = Operator(run).at("new", 10, "rollback", to="step-000004")

    def damage(event: dict[str, Any]) -> None:
        if event["type"] == "step" and (event["stage"], event["step"]) == ("new", 9):
            file = run.checkpoints / "new" / "step-000004" / "weights" / "head.safetensors"
            file.write_bytes(file.read_bytes()[:-4])

    assert work(run, damage, operator) == 0
    assert commands_of(run) == [("rollback", "accepted"), ("rollback", "failed")]
    reason = events_of(run, "command")[-1]["reason"]
    assert "head.safetensors: damaged" in reason
    assert "roll back to another one" in reason
    assert live_course(run) == live_course(undisturbed)


def test_link_in_a_run_directory_leads_no_resume_out_of_it(
    stopped: Stopped, tmp_path: Path
) -> None:
    outside = tmp_path / "outside"
    (outside / "new").mkdir(parents=True)
    (outside / "new" / "thesis.txt").write_text("years of work")
    run = stopped()
    before = run.events.read_bytes()
    (run.path / "neighbors").symlink_to(outside)
    with pytest.raises(RunError, match="neighbors: a link to"):
        work(run)
    assert run.events.read_bytes() == before
    assert (outside / "new" / "thesis.txt").read_text() == "years of work"
    (run.path / "neighbors").unlink()
    assert work(run) == 0


@pytest.mark.parametrize("name", ["lock", "events.jsonl"])
def test_folder_in_the_place_of_a_file_is_told(stopped: Stopped, name: str) -> None:
    run = stopped()
    (run.path / name).unlink()
    (run.path / name).mkdir()
    with pytest.raises(RunError, match="not a file"):
        work(run)


def test_files_of_the_model_and_of_checkpoints_can_be_read_alike(undisturbed: RunDirectory) -> None:
    folders = (undisturbed.model, undisturbed.checkpoints)
    files = [file for folder in folders for file in folder.rglob("*") if file.is_file()]
    modes = {stat.S_IMODE(file.stat().st_mode) for file in files}
    assert modes == {stat.S_IMODE((undisturbed.model / "config.json").stat().st_mode)}
    assert stat.S_IMODE(undisturbed.path.stat().st_mode) == 0o700
