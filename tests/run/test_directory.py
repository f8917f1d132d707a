"""A run directory is complete or not there, is never written into twice, and is found by name."""

from __future__ import annotations

import os
from pathlib import Path

import orjson
import pytest

from sf_tui.errors import RunError, RunNotFoundError, UsageError
from sf_tui.run.directory import RunDirectory, find_run, list_runs, new_run_id, runs_home


def make(path: Path) -> RunDirectory:
    return RunDirectory.create(path, profile_text="name = 'p'\n", profile_name="p", argv=["sf"])


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SF_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    return runs_home()


@pytest.fixture
def three_runs(home: Path) -> list[RunDirectory]:
    """Return runs of rising age."""
    runs = [make(home / name) for name in ("20260102-mini-bb", "20260101-mini-aa", "20250101-tiny")]
    for age, run in enumerate(runs):
        os.utime(run.profile, (1_700_000_000 - age, 1_700_000_000 - age))
    return runs


def test_new_directory_holds_everything_a_reader_opens(tmp_path: Path) -> None:
    run = make(tmp_path / "deep" / "er" / "run")
    assert run.id == "run"
    assert {entry.name for entry in run.path.iterdir()} == {
        "run.json",
        "profile.toml",
        "events.jsonl",
        "commands.jsonl",
        "lock",
    }
    facts = run.read_run_json()
    assert (facts["id"], facts["profile"], facts["argv"]) == ("run", "p", ["sf"])
    assert [entry.name for entry in run.path.parent.iterdir()] == ["run"]


def test_relative_directory_stays_the_same_after_a_change_of_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    run = make(Path("run"))
    monkeypatch.chdir("/")
    assert run.read_run_json()["id"] == "run"


def test_run_that_exists_is_not_written_into(tmp_path: Path) -> None:
    run = make(tmp_path / "run")
    before = {file.name: file.read_bytes() for file in run.path.iterdir()}
    with pytest.raises(UsageError, match="a run of that name") as caught:
        make(run.path)
    assert f"sf resume {run.path}" in caught.value.hint
    assert {file.name: file.read_bytes() for file in run.path.iterdir()} == before


@pytest.mark.parametrize("kind", ["file", "empty folder", "dangling link"])
def test_something_else_of_that_name_is_not_touched(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "run"
    if kind == "file":
        path.write_text("mine")
    elif kind == "empty folder":
        path.mkdir()
    else:
        path.symlink_to(tmp_path / "nowhere")
    before = path.lstat()
    with pytest.raises(UsageError, match="something of that name"):
        make(path)
    assert path.lstat() == before
    assert [entry.name for entry in tmp_path.iterdir()] == ["run"]


@pytest.mark.parametrize("name", ["blocked/run", "x" * 300], ids=["in a file", "too long"])
def test_place_that_cannot_be_written_leaves_nothing_behind(tmp_path: Path, name: str) -> None:
    (tmp_path / "blocked").write_text("a file where a folder should be")
    with pytest.raises(RunError, match="can't make a run directory"):
        make(tmp_path / name)
    assert [entry.name for entry in tmp_path.iterdir()] == ["blocked"]


def test_claim_keeps_what_was_known(tmp_path: Path) -> None:
    run = make(tmp_path / "run")
    before = run.read_run_json()
    run.claim({"pid": 12, "host": "box"})
    assert run.read_run_json() == before | {"pid": 12, "host": "box"}


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"{", "can't be read"),
        (b"[]", "not a JSON object"),
        (orjson.dumps({"schema": 99}), "newer"),
        (None, "can't be read"),
    ],
)
def test_damaged_run_json_is_an_error_with_its_name(
    tmp_path: Path, content: bytes | None, says: str
) -> None:
    run = make(tmp_path / "run")
    run.run_json.unlink() if content is None else run.run_json.write_bytes(content)
    with pytest.raises(RunError, match=says) as caught:
        run.read_run_json()
    assert str(run.run_json) in caught.value.message


def test_runs_are_listed_newest_first(three_runs: list[RunDirectory]) -> None:
    assert list_runs() == three_runs
    assert find_run("last") == three_runs[0]


def test_half_made_and_foreign_folders_are_no_runs(
    three_runs: list[RunDirectory], home: Path
) -> None:
    (home / ".20260103.ab12.making").mkdir()
    (home / ".20260103.ab12.making" / "run.json").write_text("{}")
    (home / "notes").mkdir()
    (home / "file").write_text("")
    assert list_runs() == three_runs


def test_one_damaged_run_does_not_hide_the_others(
    three_runs: list[RunDirectory], home: Path
) -> None:
    (home / "damaged").mkdir()
    (home / "damaged" / "run.json").write_text("{}")
    assert set(three_runs) <= set(list_runs())
    assert find_run("20250101-tiny") == three_runs[2]


def test_run_goes_by_id_unique_prefix_or_directory(
    three_runs: list[RunDirectory], home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = three_runs[2]
    for reference in ("20250101-tiny", "2025", str(wanted.path), f"{wanted.path}/"):
        assert find_run(reference) == wanted
    monkeypatch.chdir(home)
    assert find_run("./20250101-tiny") == wanted
    monkeypatch.chdir(wanted.path)
    assert find_run(".") == wanted


def test_id_that_begins_like_a_longer_one_is_itself(home: Path) -> None:
    short, _ = make(home / "abc"), make(home / "abcd")
    assert find_run("abc") == short


@pytest.mark.usefixtures("three_runs")
def test_prefix_of_several_runs_names_them() -> None:
    with pytest.raises(RunNotFoundError, match="fits 2 runs") as caught:
        find_run("2026010")
    assert "20260102-mini-bb" in caught.value.message
    assert "20260101-mini-aa" in caught.value.message


@pytest.mark.usefixtures("three_runs")
def test_unknown_run_names_the_nearest() -> None:
    with pytest.raises(RunNotFoundError) as caught:
        find_run("20250101-tinny")
    assert "20250101-tiny" in caught.value.hint
    assert caught.value.exit_code == 3


@pytest.mark.parametrize("reference", ["", "last", "nothing", "~nobody-of-that-name/run", "a\0b"])
@pytest.mark.usefixtures("home")
def test_any_text_that_names_no_run_is_told_so(reference: str) -> None:
    with pytest.raises(RunNotFoundError):
        find_run(reference)


def test_directory_that_is_no_run_is_told_so(home: Path, tmp_path: Path) -> None:
    with pytest.raises(RunNotFoundError, match=r"no run\.json"):
        find_run(f"{tmp_path}/")
    assert not home.exists()


def test_new_ids_differ_and_sort_by_time() -> None:
    first, second = new_run_id("mini"), new_run_id("mini")
    assert first != second
    assert first[:15] <= second[:15]
    assert "-mini-" in first
