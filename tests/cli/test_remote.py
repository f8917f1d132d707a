"""A run on another host: the same output and exit codes over ssh, and safe command lines."""

from __future__ import annotations

import json
import shlex
import shutil
import sys
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner

import support
from conftest import RunSf
from sf_tui.cli.app import app
from sf_tui.cli.remote import remote_line, remote_run
from support import PATIENCE_S
from support.pseudo_terminal import Terminal

SSH = Path(support.__file__).with_name("ssh.py")
ROOT = Path(support.__file__).parents[2]
LEAVE_SCREEN = b"\x1b[?1049l"
ID = "20260301-093000-biography-tiny-a1b2"


@pytest.fixture
def there(tmp_path: Path, finished_run: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the home of another host's runs, which has one; this host has none."""
    home = tmp_path / "its home"
    shutil.copytree(finished_run, home / "runs" / ID)
    remote = ["env", f"SF_HOME={home}", f"PYTHONPATH={ROOT}", sys.executable, "-m", "sf_tui.cli"]
    monkeypatch.setenv("SF_SSH", shlex.join([sys.executable, str(SSH)]))
    monkeypatch.setenv("SF_REMOTE_COMMAND", shlex.join(remote))
    return home


def test_a_run_there_is_shown_waited_for_and_listed(there: Path, run_sf: RunSf) -> None:
    shown = run_sf("show", "box:last", "--json")
    assert (shown.returncode, json.loads(shown.stdout)["run"]) == (0, ID)
    assert json.loads(shown.stdout)["path"] == str(there / "runs" / ID)
    events = there / "runs" / ID / "events.jsonl"
    ended = events.read_text().replace('"exit_code":0', '"exit_code":4')
    events.write_text(ended)
    waited = run_sf("wait", f"me@box:{ID}")
    assert (waited.returncode, waited.stdout) == (4, "")
    listed = run_sf("runs", "box:", "--columns", "run,state")
    assert listed.stdout == f"run\tstate\n{ID}\tcompleted\n"


def test_what_a_shell_could_take_apart_arrives_whole(there: Path, run_sf: RunSf) -> None:
    evil = f"it's $HOME; touch '{there}/made' & `id` \"*\""
    noted = run_sf("note", "box:last", evil)
    assert noted.returncode == 0, noted.stderr
    assert json.loads((there / "runs" / ID / "labels.json").read_text())["note"] == evil
    assert not (there / "made").exists()
    missing = run_sf("show", f"box:{evil}")
    assert missing.returncode == 3
    assert evil in missing.stderr


def test_a_question_for_a_run_there_is_asked_there(
    run_sf: RunSf, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SF_SSH", shlex.join([sys.executable, str(SSH)]))
    monkeypatch.setenv("SF_REMOTE_COMMAND", "printf '%s\\n'")
    asked = run_sf("ask", "box:last", "-n", "0", "--task", "old", "What's it?", "And $this?")
    words = ["ask", "--task=old", "--limit=0", "--", "last", "What's it?", "And $this?"]
    assert asked.stdout.splitlines() == words
    local = CliRunner().invoke(app, ["ask", "starter:none"])
    assert "a model outside a run" in str(local.exception)


def test_a_host_that_can_t_be_reached_and_one_without_sf(
    there: Path, run_sf: RunSf, monkeypatch: pytest.MonkeyPatch
) -> None:
    del there
    gone = run_sf("show", "gone:last")
    assert gone.returncode == 255
    assert "Connection refused" in gone.stderr
    assert "gone: ssh can't connect" in gone.stderr
    monkeypatch.delenv("SF_REMOTE_COMMAND")
    without = run_sf("act", "box:last", "freeze")
    assert without.returncode == 127
    assert "box: 'sf' can't be run there" in without.stderr
    assert "SF_REMOTE_COMMAND" in without.stderr
    monkeypatch.setenv("SF_SSH", "no-such-ssh -p 22")
    assert "no-such-ssh: there is no such program" in run_sf("stop", "box:last").stderr


def test_another_version_is_named_when_it_refuses_the_command_line(
    there: Path, run_sf: RunSf, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = there / "sf"
    other.write_text('#!/bin/sh\n[ "$1" = --version ] && echo "sf 0.0.1" && exit\nexit 2\n')
    other.chmod(0o700)
    monkeypatch.setenv("SF_REMOTE_COMMAND", shlex.quote(str(other)))
    refused = run_sf("log", "box:last", "--kind", "all")
    assert refused.returncode == 2
    assert "box has sf 0.0.1, this is sf " in refused.stderr


@pytest.mark.parametrize(
    "reference",
    [
        "-oProxyCommand=x:last",
        "a b:last",
        "$(id):last",
        "box:-x",
        "box:a\nb",
        "@box:last",
        "[::1:x",
    ],
)
def test_what_ssh_or_sf_could_take_for_an_option_is_refused(reference: str) -> None:
    done = CliRunner().invoke(app, ["show", "--", reference])
    assert done.exception is not None
    assert getattr(done.exception, "exit_code", None) in {2, 3}


def test_local_paths_and_names_stay_local(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a:b").mkdir()
    for local in ("last", "./x:y", "/x/y:z", "a:b", ID, ":x"):
        assert remote_run(local) is None
    assert vars(remote_run("me@[fe80::1%eth0]:last")) == {
        "host": "me@[fe80::1%eth0]",
        "run": "last",
    }
    assert vars(remote_run("box:/data/run:1")) == {"host": "box", "run": "/data/run:1"}


def test_runs_of_two_machines_are_not_mixed() -> None:
    done = CliRunner().invoke(app, ["wait", "box:last", "last"])
    assert getattr(done.exception, "exit_code", None) == 2
    assert "different machines" in str(done.exception)


def test_drawing_variables_are_passed_on() -> None:
    assert remote_line(["attach", "--", "x y"], {"NO_COLOR": "1"}) == (
        "env NO_COLOR=1 sf attach -- 'x y'"
    )


def _read_until_written(terminal: Terminal, text: bytes, start: int) -> None:
    """Read until a text was written: what is drawn over it at once is not on the screen."""
    deadline = time.monotonic() + PATIENCE_S
    while text not in terminal.data[start:]:
        assert time.monotonic() < deadline, terminal.screen()
        terminal.read(0.1)


def test_a_console_there_comes_back_after_a_lost_connection(there: Path, tmp_path: Path) -> None:
    lost = tmp_path / "lost"
    start = (
        "import sf_tui.cli.remote as r; r._ESTABLISHED_S = 0; r._RETRY_S = (0.1,);"
        "from sf_tui.cli.app import main; main()"
    )
    terminal = Terminal(["-c", start, "attach", "box:last"], {"LOSE_AT": str(lost)})
    try:
        terminal.read_until("danger window")
        lost.touch()
        _read_until_written(terminal, b"the connection is lost, the run is not affected", 0)
        closed = terminal.data.index(LEAVE_SCREEN)
        _read_until_written(terminal, b"danger", closed)
        terminal.press("q")
        assert terminal.read_to_end() == 0
    finally:
        terminal.end()
    assert (there / "runs" / ID).is_dir()
