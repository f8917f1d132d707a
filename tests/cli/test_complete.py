"""Shell completion, as a shell asks for it: with words and a position in the environment."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from sf_tui.profile import dump_profile, load_profile
from sf_tui.run.directory import RunDirectory

ASK = """\
import sys
from sf_tui.cli.app import main
try:
    main()
finally:
    heavy = [name for name in ("torch", "transformers", "textual") if name in sys.modules]
    print("HEAVY", heavy, file=sys.stderr)
"""

Complete = Callable[..., list[str]]


def new_run(home: Path, name: str, made_at: int) -> RunDirectory:
    text = dump_profile(load_profile("biography-mini"))
    run = RunDirectory.create(
        home / "runs" / name, profile_text=text, profile_name="biography-mini", argv=[]
    )
    os.utime(run.profile, (made_at, made_at))
    return run


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("home")
    new_run(home, "20260301-a", 1000)
    new_run(home, "20260302-b", 3000)
    new_run(home, "20260303-c", 2000)
    # Can't be completed as one word, or would move the cursor.
    new_run(home, "a blank", 4000)
    (home / "prod.toml").write_text('name = "prod"\n')
    (home / "notes.txt").write_text("")
    (home / "profiles").mkdir()
    return home


@pytest.fixture
def complete(home: Path) -> Complete:
    def ask(*words: str) -> list[str]:
        """Return what bash would offer for the last word."""
        environ = os.environ | {
            "SF_HOME": str(home),
            "_SF_COMPLETE": "complete_bash",
            "COMP_WORDS": " ".join(["sf", *words]),
            "COMP_CWORD": str(len(words)),
        }
        process = subprocess.run(
            [sys.executable, "-c", ASK], env=environ, cwd=home, capture_output=True, text=True
        )
        assert process.stderr == "HEAVY []\n"
        return process.stdout.split("\n")[:-1] if process.stdout.strip() else []

    return ask


def test_runs_are_offered_newest_first_after_last(complete: Complete) -> None:
    assert complete("show", "") == ["last", "20260302-b", "20260303-c", "20260301-a"]
    assert complete("attach", "202603") == ["20260302-b", "20260303-c", "20260301-a"]
    assert complete("resume", "la") == ["last"]
    assert complete("diagnose", "20260303") == ["20260303-c"]


def test_names_of_runs_are_offered_where_ids_are(complete: Complete, home: Path) -> None:
    labels = home / "runs" / "20260301-a" / "labels.json"
    labels.write_text('{"name": "baseline"}')
    for command in ("wait", "rm", "compare"):
        assert complete(command, "base") == ["baseline"]
    labels.unlink()
    assert complete("rm", "202603") == ["20260302-b", "20260303-c", "20260301-a"]
    assert complete("log", "last", "--kind", "al") == ["alert", "all"]


def test_actions_are_those_of_the_run(complete: Complete, home: Path) -> None:
    run = new_run(home, "20260304-own", 500)
    with run.profile.open("a") as file:
        file.write('\n[actions.freeze-two]\nop = "freeze"\nlayers = 2\n')
    assert complete("act", "20260304-own", "freeze") == ["freeze", "freeze-two"]
    assert complete("act", "nowhere", "unf") == ["unfreeze"]


def test_profiles_are_offered_by_name_and_as_files(complete: Complete) -> None:
    assert complete("run", "biography-m") == ["biography-mini"]
    assert complete("run", "pro") == ["prod.toml", "profiles/"]
    assert complete("profile", "check", "./pro") == ["./prod.toml", "./profiles/"]


def test_tasks_and_stages_are_those_of_the_run(complete: Complete) -> None:
    assert complete("diagnose", "last", "--task", "") == ["old", "new"]
    assert complete("recover", "20260301-a", "--stage", "n") == ["new"]


def test_values_and_pages_are_offered(complete: Complete) -> None:
    assert complete("recover", "last", "--by", "inter") == ["interpolate"]
    assert complete("guide", "head") == ["headless"]
    assert complete("data", "check", "x.jsonl", "--on-bad-row", "") == ["error", "skip"]


def test_what_is_not_there_is_not_offered_and_nothing_fails(complete: Complete) -> None:
    assert complete("show", "nothing-begins-so") == []
    assert complete("act", "nothing-begins-so", "x") == []
    assert complete("run", "no-such-folder/") == []


def test_the_help_of_the_installation_names_what_it_edits(tmp_path: Path) -> None:
    env = os.environ | {"HOME": str(tmp_path), "COLUMNS": "100"}

    def sf(arguments: str) -> str:
        # typer asks for the shell that it was started from.
        line = f"'{sys.executable}' -m sf_tui.cli {arguments}; exit $?"
        return subprocess.run(
            ["bash", "-c", line], env=env, capture_output=True, text=True, check=True
        ).stdout

    assert "Install completion: adds a line to your shell's startup file." in " ".join(
        sf("--help").replace("│", " ").split()
    )
    assert not list(tmp_path.iterdir())
    sf("--install-completion")
    startup = (tmp_path / ".bashrc").read_text()
    assert startup.count("source") == 1
