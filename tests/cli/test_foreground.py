"""`sf run` without the console: the note that it runs so, and lines that fit a terminal."""

from __future__ import annotations

import io
import re
import sys
from pathlib import Path

import pytest

from sf_tui.cli.narration import Narrator, closing_lines
from sf_tui.cli.printable_console import PrintableConsole
from sf_tui.cli.run import _foreground, _note_foreground
from sf_tui.run.directory import RunDirectory
from sf_tui.run.events import read_events
from sf_tui.run.state import fold
from sf_tui.tui.terminal import missing_for_console
from sf_tui.vocabulary.events import Alert, Probe, RunFinished, StageStarted, Step


class Stream(io.StringIO):
    def __init__(self, *, terminal: bool) -> None:
        super().__init__()
        self._terminal = terminal

    def isatty(self) -> bool:
        return self._terminal


def open_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make every stream a terminal; within the test, since pytest sets its own streams before."""
    for name in ("stdin", "stdout", "stderr"):
        monkeypatch.setattr(sys, name, Stream(terminal=True))
    monkeypatch.setenv("TERM", "xterm-256color")


def test_in_a_terminal_the_console_opens(monkeypatch: pytest.MonkeyPatch) -> None:
    open_terminal(monkeypatch)
    assert _foreground(False, detach=False) is None


@pytest.mark.parametrize("name", ["stdin", "stdout"])
def test_without_a_terminal_it_says_that_it_runs_without_the_console(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    open_terminal(monkeypatch)
    monkeypatch.setattr(sys, name, Stream(terminal=False))
    why = _foreground(False, detach=False)
    assert why is not None
    _note_foreground(why)
    assert sys.stderr.getvalue() == (  # type: ignore[attr-defined]
        f"the console needs a terminal, but {name} is not a terminal: running in the foreground, "
        "as with --no-ui\n"
    )


def test_a_dumb_terminal_gets_no_console(monkeypatch: pytest.MonkeyPatch) -> None:
    open_terminal(monkeypatch)
    monkeypatch.setenv("TERM", "dumb")
    assert "TERM is dumb" in (_foreground(False, detach=False) or "")


@pytest.mark.parametrize(("asked", "detach"), [(True, False), (False, True)])
def test_what_was_asked_for_needs_no_note(
    monkeypatch: pytest.MonkeyPatch, asked: bool, detach: bool
) -> None:
    open_terminal(monkeypatch)
    monkeypatch.setattr(sys, "stdin", Stream(terminal=False))
    why = _foreground(asked, detach=detach)
    assert why == ("" if asked else None)
    _note_foreground(why or "")
    assert sys.stderr.getvalue() == ""  # type: ignore[attr-defined]


def test_a_closed_stdin_is_no_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    open_terminal(monkeypatch)
    monkeypatch.setattr(sys, "stdin", None)
    assert "stdin is not a terminal" in missing_for_console({})


def narrated(*, terminal: bool, width: int = 80) -> tuple[Narrator, io.StringIO]:
    output = io.StringIO()
    console = PrintableConsole(
        file=output, width=width, force_terminal=terminal, color_system=None, legacy_windows=False
    )
    now = iter(range(0, 1000, 10))
    return Narrator(console, clock=lambda: float(next(now))), output


def test_a_small_loss_keeps_its_digits() -> None:
    narrator, output = narrated(terminal=False)
    narrator(StageStarted(stage="new", task="new", steps=100, strategy="seq"))
    narrator(Step(stage="new", step=1, loss=3.4e-7))
    narrator(Step(stage="new", step=2, loss=0.4321))
    assert "loss 3.4e-7" in output.getvalue()
    assert "loss 0.432" in output.getvalue()


def test_scores_of_an_earlier_probe_name_its_step() -> None:
    narrator, output = narrated(terminal=False)
    narrator(StageStarted(stage="new", task="new", steps=100, strategy="seq", known=["old"]))
    for step in (1, 2, 3):
        narrator(Step(stage="new", step=step, loss=0.5))
        if step == 1:
            narrator(Probe(stage="new", step=1, metrics={"old": {"exact_match": 0.5, "n": 50}}))
    assert re.search(r"new 3/100 .*old 0\.50 .*\(step 1\)", output.getvalue())


def test_a_long_line_breaks_between_words_in_a_terminal_and_not_at_all_in_a_file() -> None:
    text = "'old' lost 48 points since this stage began, " * 5 + "see the advice below"
    narrator, output = narrated(terminal=True)
    narrator(Alert("warn", "drop", text))
    lines = output.getvalue().splitlines()
    assert len(lines) > 1
    assert max(map(len, lines)) <= 80
    assert " ".join(" ".join(lines).split()) == f"warn: {text}"
    narrator, output = narrated(terminal=False)
    narrator(Alert("warn", "drop", text))
    assert output.getvalue() == f"warn: {text}\n"


def test_the_end_names_the_model_the_loss_and_the_next_step(tmp_path: Path) -> None:
    run = RunDirectory.create(tmp_path / "r", profile_text="", profile_name="p", argv=[])
    run.model.mkdir()
    output = io.StringIO()
    narrator = Narrator(PrintableConsole(file=output, width=200), run=run)

    def probe(stage: str, step: int, **values: float) -> Probe:
        return Probe(
            stage=stage,
            step=step,
            metrics={task: {"exact_match": v, "n": 50} for task, v in values.items()},
        )

    narrator.catch_up(
        [
            StageStarted(stage="new", task="new", steps=9, strategy="seq", known=["old"]),
            probe("new", 0, old=1.0, new=0.0),
            probe("new", 9, old=0.9, new=1.0),
            StageStarted(
                stage="third", task="third", steps=9, strategy="seq", known=["old", "new"]
            ),
            probe("third", 0, old=0.9, new=1.0, third=0.0),
            probe("third", 9, old=0.38, new=0.96, third=0.4),
        ]
    )
    narrator(RunFinished("completed", 0))
    lines = output.getvalue().splitlines()
    ended = lines.index("completed (exit 0)")
    assert lines[ended + 1 :] == [
        # Since the run began or taught the task, not since the last stage began.
        "old lost 62 ± 16 points since the run began: 1.00 ± 0.07 to 0.38 ± 0.14, 19 of 50",
        "new was kept (−4 ± 9 points) since the run taught it: 1.00 ± 0.07 to 0.96 ± 0.09, "
        "48 of 50",
        "new reached 1.00 ± 0.07, 50 of 50 in its own stage",
        "third reached 0.40 ± 0.14, 20 of 50 in its own stage",
        f"model: {run.model}",
        f'load it: AutoModelForCausalLM.from_pretrained("{run.model}")',
        f"next: `sf diagnose {run.path}`: is the loss spurious or real?",
    ]


def test_a_run_ends_with_its_loss_its_model_and_what_to_do_next(finished_run: Path) -> None:
    run = RunDirectory(finished_run)
    lines = closing_lines(run, fold(read_events(run.events)))
    assert re.match(r"old lost \d+ ± \d+ points since the run taught it: ", lines[0])
    at = lines.index(f"model: {run.model}")
    assert lines[at + 1] == f'load it: AutoModelForCausalLM.from_pretrained("{run.model}")'
    assert lines[at + 2].startswith(f"next: `sf diagnose {run.path}`")
    assert (run.model / "model.safetensors").is_file()
