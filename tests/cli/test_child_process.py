"""A command under `sf exec` has the terminal, the signals and the end that it would have alone."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sf_tui.cli.app import main
from sf_tui.cli.exec import command_start
from support import PATIENCE_S
from support.pseudo_terminal import Terminal

EXEC = [sys.executable, "-m", "sf_tui.cli", "exec"]
REPORTER = """
import os, signal, sys, time
names = {name: getattr(signal, "SIG" + name) for name in ("INT", "TERM", "HUP", "USR1", "QUIT")}
for name, number in names.items():
    signal.signal(number, lambda n, _, name=name: os.write(1, b"got %s\\n" % name.encode()))
print("ready", flush=True)
for line in iter(sys.stdin.readline, ""):
    print("read", line.strip(), flush=True)
    if line.startswith("exit"):
        sys.exit(int(line.split()[1]))
"""
# Long enough for a second signal to arrive.
AGAIN_S = 0.6


class Running:
    """A command under `sf exec` in a process group of its own, with pipes."""

    def __init__(self, *command: str) -> None:
        self.process = subprocess.Popen(
            [*EXEC, "--", *command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def end(self, text: str = "") -> tuple[int, str, str]:
        out, err = self.process.communicate(text, timeout=PATIENCE_S)
        return self.process.returncode, out, err


@pytest.fixture
def start() -> Iterator[Callable[..., Running]]:
    started: list[Running] = []

    def run(*command: str) -> Running:
        started.append(Running(*command))
        return started[-1]

    yield run
    for one in started:
        if one.process.poll() is None:
            os.killpg(one.process.pid, signal.SIGKILL)
            one.process.wait()


def test_streams_and_the_exit_code_are_those_of_the_command(start: Callable[..., Running]) -> None:
    code, out, err = start("sh", "-c", "cat; echo problem >&2; exit 7").end("a\x1b[1mb\n")

    assert (code, out) == (7, "a\x1b[1mb\n")
    assert err.startswith("problem\nsf: not watched: no Python of this command")
    assert "exit code 7" in err


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGSEGV])
def test_a_command_killed_by_a_signal_ends_sf_by_the_same(
    start: Callable[..., Running], number: signal.Signals
) -> None:
    code, _, err = start("sh", "-c", f"kill -{number.value} $$").end()

    assert code == -number
    assert "sf: not watched" in err


def test_a_signal_for_sf_alone_is_passed_on_once(start: Callable[..., Running]) -> None:
    running = start(sys.executable, "-c", REPORTER)
    assert running.line() == "ready"

    for name in ("TERM", "USR1", "INT", "HUP"):
        os.kill(running.process.pid, getattr(signal, f"SIG{name}"))
        assert running.line() == f"got {name}"
    time.sleep(AGAIN_S)

    assert running.end("exit 3\n")[:2] == (3, "read exit 3\n")


def test_a_signal_for_the_whole_group_arrives_once(start: Callable[..., Running]) -> None:
    running = start(sys.executable, "-c", REPORTER)
    assert running.line() == "ready"

    for name in ("TERM", "USR1"):
        os.killpg(running.process.pid, getattr(signal, f"SIG{name}"))
    assert {running.line(), running.line()} == {"got TERM", "got USR1"}
    # As coreutils' timeout does: to the process, then to its group.
    os.kill(running.process.pid, signal.SIGINT)
    os.killpg(running.process.pid, signal.SIGINT)
    assert running.line() == "got INT"
    time.sleep(AGAIN_S)

    assert running.end("exit 0\n")[:2] == (0, "read exit 0\n")


def test_ignored_signals_stay_ignored() -> None:
    show = "import signal; print([signal.getsignal(n).name for n in (1, 2, 13)])"
    done = subprocess.run(
        ["sh", "-c", f"trap '' HUP INT; exec {' '.join(EXEC)} -- {sys.executable} -c '{show}'"],
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=True,
    )
    # Python itself ignores SIGPIPE.
    assert done.stdout.strip() == "['SIG_IGN', 'SIG_IGN', 'SIG_IGN']"


def test_no_signal_is_blocked_in_the_command() -> None:
    def masks(*before: str) -> tuple[int, int]:
        done = subprocess.run(
            [*before, "grep", "-E", "Sig(Blk|Ign)", "/proc/self/status"],
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
            check=True,
        )
        blocked, ignored = (int(line.split()[1], 16) for line in done.stdout.splitlines())
        # glibc's posix_spawn ignores 32 and 33, which its threads use.
        return blocked, ignored & ~(0b11 << 31)

    # A test that runs in the background inherits ignored signals.
    assert masks(*EXEC, "--") == masks()


def test_the_terminal_is_the_commands_and_ctrl_c_comes_once() -> None:
    show = f"import os, sys\nprint(os.isatty(0), os.isatty(1), os.get_terminal_size()){REPORTER}"
    terminal = Terminal(["-m", "sf_tui.cli", "exec", "--", sys.executable, "-c", show], {})
    try:
        terminal.read_until("ready")
        assert "True True os.terminal_size(columns=120, lines=40)" in terminal.screen()
        terminal.press("\x03")
        terminal.read_until("got INT")
        terminal.read(AGAIN_S)
        assert terminal.screen().count("got INT") == 1
        terminal.press("\x03")
        terminal.read(AGAIN_S)
        assert terminal.screen().count("got INT") == 2
        terminal.press("exit 5\n")
        assert terminal.read_to_end() == 5
        assert "sf: not watched" in terminal.screen()
    finally:
        terminal.end()


def test_ctrl_z_and_fg_work_in_a_shell(tmp_path: Path) -> None:
    script = tmp_path / "count.py"
    script.write_text(REPORTER)
    bash = "import os; os.execvp('bash', ['bash', '--norc', '--noprofile', '-i'])"
    terminal = Terminal(["-c", bash], {"PS1": "$ "})
    try:
        terminal.read_until("$ ")
        terminal.press(f"{' '.join(EXEC)} -- {sys.executable} {script}\n")
        terminal.read_until("ready")
        terminal.press("\x1a")
        terminal.read_until("Stopped")
        terminal.press("fg\n")
        terminal.read(0.3)
        terminal.press("hello\n")
        terminal.read_until("read hello")
        terminal.press("exit 4\n")
        terminal.read_until("sf: not watched")
        terminal.press("echo code $?\n")
        terminal.read_until("code 4")
    finally:
        terminal.end()


Call = Callable[..., tuple[int, str, str]]


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Call:
    """Run `sf exec` in this process; return its exit code, stdout and stderr."""

    def run(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["sf", "exec", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        return int(ended.value.code or 0), *capfd.readouterr()

    return run


@pytest.mark.parametrize(
    ("program", "code", "message"),
    [
        ("no-such-program", 127, "no-such-program: command not found"),
        ("{folder}/notes.txt", 126, "notes.txt: can't be executed: Permission denied"),
        ("{folder}/script", 126, "script: can't be executed: No such file or directory"),
        ("{folder}", 126, "can't be executed"),
    ],
)
def test_what_can_not_be_started_ends_as_in_a_shell(
    call: Call, tmp_path: Path, program: str, code: int, message: str
) -> None:
    (tmp_path / "notes.txt").write_text("text")
    (tmp_path / "script").write_text("#!/no/such/interpreter\n")
    (tmp_path / "script").chmod(0o700)

    ended, out, err = call("--", program.format(folder=tmp_path))

    assert (ended, out) == (code, "")
    assert message in err
    assert not list((Path(os.environ["SF_HOME"]) / "exec").iterdir())


def test_wrong_inputs_are_reported_before_the_command_starts(call: Call, tmp_path: Path) -> None:
    bad, one = tmp_path / "old.jsonl", tmp_path / "one.jsonl"
    bad.write_text('{"prompt": "a", "completion": "b"}\nnot json\n')
    one.write_text('{"prompt": "a", "completion": "b"}\n')
    profile = tmp_path / "watch.toml"
    profile.write_text("[probe]\nexamplse = 3\n")
    for options, said in (
        (["--old", bad], f"{bad}:2"),
        (["--old", one], "1 row can't be scored"),
        (["--old", "missing.jsonl"], "missing.jsonl"),
        (["--profile", "missing.toml"], "missing.toml"),
        (["--profile", profile], f"{profile}:2"),
        (["--run-dir", tmp_path], "exists and is not a run"),
    ):
        code, out, err = call(*options, "--", "echo", "started")
        assert (code, out) == (2, ""), err
        assert said in err


@pytest.mark.parametrize(
    ("line", "command"),
    [
        ("exec -- python x.py --debug", "-- python x.py --debug"),
        ("exec --old a.jsonl python x.py --debug", "python x.py --debug"),
        ("exec --old=a.jsonl --debug -- x -- --debug", "-- x -- --debug"),
        ("--debug exec --run-dir d python", "python"),
        ("show exec --debug", ""),
        ("exec --debug", ""),
        ("run --debug", ""),
    ],
)
def test_options_of_the_command_are_left_to_it(line: str, command: str) -> None:
    words = line.split()
    assert words[command_start(words) :] == command.split()
