"""What `m` says about the clipboard is what happened, in tmux and outside."""

from __future__ import annotations

import base64
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sf_tui.tui.clipboard import offer_to_clipboard
from support import PATIENCE_S
from support.pseudo_terminal import Terminal

TEXT = "**a run**: ä\nline two\n"

needs_tmux = pytest.mark.skipif(shutil.which("tmux") is None, reason="tmux is not installed")


def never(text: str) -> None:  # noqa: ARG001
    raise AssertionError("the sequence was sent to tmux, which drops it")


@pytest.fixture
def tmux(tmp_path: Path) -> Iterator[Callable[..., str]]:
    """Return a function that runs a command of a tmux server of this test's own."""
    environ = {name: value for name, value in os.environ.items() if name != "TMUX"}
    environ |= {"LANG": "C.UTF-8", "TERM": "xterm-256color"}
    server = ["tmux", "-S", str(tmp_path / "socket"), "-f", "/dev/null"]

    def run(*command: str) -> str:
        return subprocess.run(
            [*server, *command], env=environ, check=True, capture_output=True, text=True
        ).stdout

    # With a name of its own: one taken from the command may still be the shell's.
    run("new-session", "-d", "-n", "inner", "-x", "80", "-y", "24", "sleep 600")
    yield run
    run("kill-server")


@needs_tmux
def test_inside_tmux_its_buffer_has_the_text_and_the_terminal_is_offered_it(
    tmux: Callable[..., str], tmp_path: Path
) -> None:
    attach = "import os, sys; os.execvp('tmux', ['tmux', *sys.argv[1:]])"
    outer = Terminal(["-c", attach, "-S", str(tmp_path / "socket"), "attach"], {"TMUX": ""})
    try:
        outer.read_until("0:inner")
        inside = tmux("display-message", "-p", "#{socket_path},#{pid},0").strip()
        done = offer_to_clipboard(TEXT, dict(os.environ) | {"TMUX": inside}, never)
        assert "tmux's buffer" in done
        assert "offered to the terminal's clipboard" in done
        assert tmux("show-buffer") == TEXT
        sequence = b"\x1b]52;"
        deadline = time.monotonic() + PATIENCE_S
        while sequence not in outer.data and time.monotonic() < deadline:
            outer.read(0.1)
        assert base64.b64encode(TEXT.encode()) in outer.data.partition(sequence)[2]
    finally:
        outer.end()


def old_tmux(folder: Path, body: str) -> dict[str, str]:
    """Return an environment whose tmux is a script."""
    script = folder / "tmux"
    script.write_text(f"#!{sys.executable}\nimport sys\n{body}\n")
    script.chmod(0o755)
    return {"TMUX": "/nowhere,1,0", "PATH": str(folder)}


def test_an_old_tmux_takes_the_text_without_the_clipboard(tmp_path: Path) -> None:
    taken = tmp_path / "taken"
    environ = old_tmux(
        tmp_path,
        f"if '-w' in sys.argv: sys.exit('unknown flag -w')\n"
        f"open({str(taken)!r}, 'w').write(sys.stdin.read())",
    )
    done = offer_to_clipboard(TEXT, environ, never)
    assert "tmux's buffer" in done
    assert "not the clipboard" in done
    assert taken.read_text() == TEXT


@pytest.mark.parametrize("environ", [{}, {"TMUX": "/nowhere,1,0", "PATH": "/nowhere"}])
def test_elsewhere_the_terminal_is_offered_it(environ: dict[str, str]) -> None:
    sent: list[str] = []
    assert offer_to_clipboard(TEXT, environ, sent.append) == (
        "and offered to the terminal's clipboard"
    )
    assert sent == [TEXT]
