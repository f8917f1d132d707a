"""No command sends a terminal anything but text, line breaks, tabs and its own colors."""

from __future__ import annotations

import ast
import dataclasses
import io
import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import tomli

import sf_tui.cli
from sf_tui.cli.app import app, main
from sf_tui.cli.output import write_json, write_line
from sf_tui.run.answers import AnswerSheet, write_sheet
from sf_tui.run.commands import CommandTail
from sf_tui.run.events import read_events
from sf_tui.run.liveness import RunLock
from sf_tui.vocabulary.declared import DiagnosisCost
from sf_tui.vocabulary.events import AnswersWritten, DiagnosisMade, RunFinished
from support import PATIENCE_S
from support.answer_sheets import capitals
from support.hostile import COLOR, EVERYWHERE, IN_NAMES, full_run, steering, tainted
from support.pseudo_terminal import Terminal
from tui.written_run import PROFILE, WrittenRun

Sf = Callable[..., tuple[int, str, str]]
Command = tuple[str, ...]


def commands(typer_app: Any = app, path: Command = ()) -> Iterator[Command]:
    """Yield every command that there is."""
    for command in typer_app.registered_commands:
        yield (*path, command.name or command.callback.__name__.replace("_", "-"))
    for group in typer_app.registered_groups:
        yield from commands(
            group.typer_instance, (*path, group.name or group.typer_instance.info.name)
        )


@pytest.fixture
def sf(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Sf:
    """Run a command line as the process does and return exit code, stdout and stderr, checked."""

    def run(*arguments: object, color: bool = False) -> tuple[int, str, str]:
        capfd.readouterr()
        monkeypatch.setattr(sys, "argv", ["sf", *map(str, arguments)])
        code = 0
        try:
            main()
        except SystemExit as ended:
            code = int(ended.code or 0)
        out, err = capfd.readouterr()
        allowed = COLOR if color else None
        assert steering(out, allowed) == "", ascii(out)
        assert steering(err, allowed) == "", ascii(err)
        assert "internal error" not in err, err
        return code, out, err

    for name in ("FORCE_COLOR", "PY_COLORS", "GITHUB_ACTIONS"):
        monkeypatch.delenv(name, raising=False)
    return run


@pytest.fixture
def make_run(sf_home: Path) -> Callable[..., WrittenRun]:
    from sf_tui.profile import dump_profile, load_profile

    profile = dump_profile(load_profile("biography-tiny"))
    return lambda name: WrittenRun(sf_home / "runs" / name, profile)


@pytest.fixture
def forged(make_run: Callable[..., WrittenRun]) -> WrittenRun:
    return full_run(make_run, f"20260301-093000-x-{IN_NAMES}")


def answer_commands(
    written: WrittenRun, status: str, reason: str, sheet: AnswerSheet | None = None
) -> threading.Thread:
    """Answer the next command as a worker would, with a sheet of answers if it is given."""

    # What was asked before, when no worker was there, nobody waits for any more.
    asked = written.run.commands
    tail = CommandTail(asked, asked.stat().st_size if asked.exists() else 0)

    def answer() -> None:
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline:
            for line in tail.poll():
                if sheet is not None:
                    path = write_sheet(written.run, sheet).relative_to(written.run.path)
                    written.event(AnswersWritten(sheet.stage, sheet.step, str(path)))
                written.command(line["id"], line["action"], status, 43, reason=reason)
                return
            time.sleep(0.01)

    thread = threading.Thread(target=answer)
    thread.start()
    return thread


def data_file(folder: Path, name: str = "data.jsonl") -> Path:
    path = folder / name
    rows = [{"prompt": f"p{i}{EVERYWHERE}", "completion": f"c{EVERYWHERE}"} for i in range(4)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows) + f'"{EVERYWHERE}\n')
    return path


def show(sf: Sf, forged: WrittenRun, _: Path) -> None:
    _, out, _ = sf("show", forged.run.path)
    assert "\\x1b]52;c;QUJD\\x07" in out
    assert "日本" in out
    code, out, _ = sf("show", forged.run.path, "--json")
    assert code == 0
    assert json.loads(out)["alerts"][-1]["message"] == f"m{EVERYWHERE}"
    sf("show", forged.run.id)
    sf("show", f"no such run {IN_NAMES}")


def runs(sf: Sf, forged: WrittenRun, _: Path) -> None:
    code, out, _ = sf("runs")
    assert (code, "\\x1b]0;title" in out.replace("\n", "")) == (0, True)
    _, out, _ = sf("runs", "--json")
    assert json.loads(out)[0]["stage"] == f"new{EVERYWHERE}"
    assert json.loads(out)[0]["run"] == forged.run.id


def log(sf: Sf, forged: WrittenRun, _: Path) -> None:
    for more in ((), ("--kind", "all"), ("--json",), ("--kind", "all", "--json"), ("-n", "3")):
        code, out, _ = sf("log", forged.run.path, *more)
        assert code == 0
        assert "QUJD" in out
    code, out, _ = sf("log", forged.run.path, "--worker")
    assert (code, "\\x1b]0;title" in out) == (0, True)
    sf("log", forged.run.path, "--grep", IN_NAMES)
    sf("log", forged.run.path, "--stage", IN_NAMES)
    sf("log", forged.run.path, "--kind", IN_NAMES)


def compare(sf: Sf, forged: WrittenRun, folder: Path) -> None:
    other = WrittenRun(folder / f"other{IN_NAMES}", "name = 3\n")
    other.begin()
    other.begin_stage()
    other.steps(1, 20)
    code, out, _ = sf("compare", forged.run.path, other.run.path)
    assert (code, "\\x1b]0;title" in out) == (0, True)
    code, out, _ = sf("compare", forged.run.path, other.run.path, "--json")
    assert any(EVERYWHERE in row["stage"] for row in json.loads(out)["tasks"])
    sf("compare", forged.run.path, f"r{IN_NAMES}")


def ask(sf: Sf, forged: WrittenRun, folder: Path) -> None:
    # A live worker's answers, as it would have written them.
    lock = RunLock(forged.run)
    lock.acquire()
    sheet = capitals(stage="new", more=EVERYWHERE)
    for more, mark in ((("--json",), EVERYWHERE), (("-n", "0"), "\\x1b]0;title")):
        thread = answer_commands(forged, "done", EVERYWHERE, sheet)
        code, out, _ = sf("ask", forged.run.path, *more)
        thread.join()
        text = json.loads(out)["questions"][0]["answers"][-1]["text"] if mark in EVERYWHERE else out
        assert (code, mark in text) == (0, True)
    thread = answer_commands(forged, "refused", EVERYWHERE)
    code, _, err = sf("ask", forged.run.path, f"q{IN_NAMES}")
    thread.join()
    lock.release()
    assert (code, "not answered: \\x1b]0;title" in err) == (1, True)
    for more in (
        ("--step", "3"),
        ("--task", IN_NAMES),
        ("--stage", IN_NAMES),
        ("--find", IN_NAMES),
    ):
        assert sf("ask", forged.run.path, *more)[0] != 0
    sf("ask", folder, f"q{IN_NAMES}")
    sf("ask", f"r{IN_NAMES}")


def wait(sf: Sf, forged: WrittenRun, _: Path) -> None:
    sf("wait", f"r{IN_NAMES}")
    forged.event(RunFinished(status="failed", exit_code=1, metrics={}, reason=EVERYWHERE))
    code, _, err = sf("wait", forged.run.path)
    assert (code, "failed (exit 1): \\x1b]0;title" in err) == (1, True)
    code, out, _ = sf("wait", forged.run.path, "--json")
    assert json.loads(out)[0]["reason"] == EVERYWHERE


def labels(sf: Sf, forged: WrittenRun, _: Path) -> None:
    assert sf("rename", forged.run.path, IN_NAMES)[0] == 2
    assert sf("note", forged.run.path, IN_NAMES)[0] == 2
    assert sf("note", forged.run.path, "--tag", IN_NAMES)[0] == 2
    forged.run.path.joinpath("labels.json").write_text(
        json.dumps({"name": EVERYWHERE, "note": EVERYWHERE, "tags": [EVERYWHERE]})
    )
    _, out, _ = sf("note", forged.run.path)
    assert "QUJD" in out
    _, out, _ = sf("note", forged.run.path, "--json")
    assert json.loads(out)["note"] == EVERYWHERE
    for more in ((), ("--columns", "run,name,tags,note"), ("--columns", IN_NAMES)):
        sf("runs", *more)
    sf("runs", "--tag", IN_NAMES, "--since", IN_NAMES)
    sf("show", forged.run.path)


def housekeeping(sf: Sf, forged: WrittenRun, _: Path) -> None:
    forged.run.path.joinpath(f"own{IN_NAMES}").touch()
    (forged.run.checkpoints / f"s{IN_NAMES}" / "step-000007").mkdir(parents=True)
    (forged.run.checkpoints / f"s{IN_NAMES}" / "step-000008").mkdir()
    (forged.run.checkpoints / f"s{IN_NAMES}" / "step-000009").mkdir()
    forged.event(RunFinished(status="completed", exit_code=0, metrics={}, reason=None))
    sf("du")
    sf("du", "--json")
    sf("prune", "--older-than", IN_NAMES)
    sf("prune", forged.run.path)
    sf("prune", forged.run.path, "--json")
    sf("prune", forged.run.path, "--yes")
    sf("rm", f"r{IN_NAMES}")
    assert sf("rm", forged.run.path)[0] == 2
    assert sf("rm", forged.run.path, "--yes")[0] == 0


def act(sf: Sf, forged: WrittenRun, _: Path) -> None:
    sf("act", forged.run.path, f"f{IN_NAMES}")
    sf("act", forged.run.path, "freeze", "--set", IN_NAMES)
    sf("act", forged.run.path, "freeze", "--wait", "0.1")
    lock = RunLock(forged.run)
    lock.acquire()
    thread = answer_commands(forged, "refused", EVERYWHERE)
    code, out, err = sf("act", forged.run.path, "freeze", "--json")
    thread.join()
    lock.release()
    assert code == 1
    assert json.loads(out)["reason"] == EVERYWHERE
    assert "freeze refused @43: \\x1b]0;title\\x07" in err


def stop(sf: Sf, forged: WrittenRun, _: Path) -> None:
    sf("stop", forged.run.path, "--wait", "0.1")
    lock = RunLock(forged.run)
    lock.acquire()
    thread = answer_commands(forged, "refused", EVERYWHERE)
    code, _, err = sf("stop", forged.run.path)
    thread.join()
    lock.release()
    assert code == 1
    assert "not stopped: \\x1b]0;title\\x07" in err


def resume(sf: Sf, forged: WrittenRun, _: Path) -> None:
    sf("resume", f"r{IN_NAMES}")
    forged.event(RunFinished(status="completed", exit_code=0, metrics={}, reason=EVERYWHERE))
    code, _, err = sf("resume", forged.run.path)
    assert (code, "no steps are left" in err) == (0, True)


def run(sf: Sf, forged: WrittenRun, folder: Path) -> None:
    # The narration of a run, by the very listeners that a headless run has.
    from sf_tui.cli.narration import headless_listeners

    profile = folder / f"p{IN_NAMES}.toml"
    profile.write_text(PROFILE, encoding="utf-8")
    sf("run", profile, "--no-ui")
    sf("run", IN_NAMES, "--no-ui")
    sf("run", "biography-tiny", "--no-ui", "--set", f"train.steps={IN_NAMES}")
    events = list(read_events(forged.run.events))
    forged.run.events.write_bytes(b"")
    stdout, stderr = sys.stdout, sys.stderr
    out, err = io.TextIOWrapper(io.BytesIO()), io.StringIO()
    try:
        sys.stdout, sys.stderr = out, err
        listeners = headless_listeners(forged.run, json=True)
        for event in events:
            for listener in listeners:
                listener(event)
    finally:
        sys.stdout, sys.stderr = stdout, stderr
    written = out.buffer.getvalue()  # type: ignore[attr-defined]
    assert steering(written) == steering(err.getvalue()) == ""
    assert [json.loads(line)["seq"] for line in written.splitlines()] == [e.seq for e in events]
    assert "warn: m\\x1b]0;title" in err.getvalue()


def console(sf: Sf, forged: WrittenRun, _: Path) -> None:
    # What they show is tested with the console; here there is no terminal for it.
    for command in ("attach", "watch"):
        code, _, err = sf(command, forged.run.path)
        assert (code, "needs a terminal" in err) == (2, True)


def profile_list(sf: Sf, _: WrittenRun, __: Path) -> None:
    sf("profile", "list")
    sf("profile", "list", "--json")


def profile_of(folder: Path) -> Path:
    path = folder / f"p{IN_NAMES}.toml"
    # JSON's escapes are TOML's, too.
    data = json.dumps(str(data_file(folder, f"f{IN_NAMES}.jsonl")).replace("\x7f", ""))
    source = json.dumps(f"org/x\x9b\u202e{'y'}")
    path.write_text(
        f'name = "x"\ndescription = {json.dumps("d" + IN_NAMES.replace(chr(0x7F), ""))}\n'.replace(
            "\\udb40\\udc41", "\\U000e0041"
        )
        + f"[model]\nsource = {source}\n[train]\nsteps = 3\n"
        + f'[[tasks]]\nname = "t\\u009b\\u202e"\ndata = {data}\n'.replace(
            "\\udb40\\udc41", "\\U000e0041"
        )
    )
    return path


def profile_show(sf: Sf, _: WrittenRun, folder: Path) -> None:
    sf("profile", "show", IN_NAMES)
    from sf_tui.profile import load_profile

    overrides = [f"description={json.dumps('a' + chr(0x9B) + chr(0x202E) + chr(27))}"]
    code, out, _ = sf("profile", "show", "biography-tiny", "--set", overrides[0])
    assert code == 0
    assert tomli.loads(out)["description"] == "a\x9b\u202e\x1b"
    code, out, _ = sf("profile", "show", "biography-tiny", "--json", "--set", overrides[0])
    assert json.loads(out) == load_profile("biography-tiny", overrides).model_dump(mode="json")
    sf("profile", "show", profile_of(folder))


def profile_check(sf: Sf, _: WrittenRun, folder: Path) -> None:
    sf("profile", "check", profile_of(folder))
    sf("profile", "check", profile_of(folder), "--json")
    sf("profile", "check", "biography-tiny", "--set", f"{IN_NAMES}=3")
    sf("profile", "check", IN_NAMES)


def profile_init(sf: Sf, _: WrittenRun, folder: Path) -> None:
    sf("profile", "init", "--out", folder / f"n{IN_NAMES}.toml")
    sf("profile", "init", "--out", folder / f"n{IN_NAMES}.toml")
    sf("profile", "init", "--out", folder / "o.toml", "--name", IN_NAMES)
    data = data_file(folder)
    sf("profile", "init", "--model", IN_NAMES, "--old", data, "--new", data)


def data_check(sf: Sf, _: WrittenRun, folder: Path) -> None:
    data = data_file(folder, f"f{IN_NAMES}.jsonl")
    sf("data", "check", data)
    code, out, err = sf("data", "check", data, "--on-bad-row", "skip")
    assert (code, "\\x1b]52;c;QUJD\\x1b\\" in out) == (0, True), err
    _, out, _ = sf("data", "check", data, "--on-bad-row", "skip", "--json")
    assert EVERYWHERE in json.loads(out)["sample"]["pieces"][0]["text"]
    sf("data", "check", data, "--field", IN_NAMES)
    sf("data", "check", folder / IN_NAMES)


def data_biography(sf: Sf, _: WrittenRun, folder: Path) -> None:
    few = ("--people", "30", "--new-people", "4", "--entries", "2")
    sf("data", "biography", folder / f"b{IN_NAMES}", *few)
    sf("data", "biography", folder / f"c{IN_NAMES}", *few, "--json")
    sf("data", "biography", folder / "d", "--form", IN_NAMES)


def diagnose(sf: Sf, forged: WrittenRun, _: Path) -> None:
    from sf_tui.cli.cards import print_diagnosis

    sf("diagnose", f"r{IN_NAMES}")
    sf("diagnose", forged.run.path, "--set", IN_NAMES)
    events = read_events(forged.run.events)
    event = next(event for event in events if isinstance(event, DiagnosisMade))
    arms = {name.removesuffix(EVERYWHERE): arm for name, arm in (event.arms or {}).items()}
    more = {"run": f"r{IN_NAMES}", "notes": [EVERYWHERE], "start_weights": EVERYWHERE}
    cost = DiagnosisCost(tokens=1, seconds=1.0, money=None)
    print_diagnosis(dataclasses.replace(event, arms=arms, cost=cost), more)


def recover(sf: Sf, forged: WrittenRun, folder: Path) -> None:
    from sf_tui.cli.cards import print_repair
    from sf_tui.recovery.outcome import Accuracies, RepairOutcome

    sf("recover", f"r{IN_NAMES}")
    sf("recover", forged.run.path, "--out", folder / IN_NAMES)
    both = Accuracies(0.1, 0.9)
    outcome = RepairOutcome(
        *(both, both, 0.9, 10, 5, 1.0, 100, 100, None, both, 1e-4, ((0, 0.1), (5, 0.9))),
        *(EVERYWHERE, EVERYWHERE),
    )
    print_repair(outcome, EVERYWHERE, folder / IN_NAMES)


def import_training(sf: Sf, _: WrittenRun, folder: Path) -> None:
    import torch
    from safetensors.torch import save_file

    out = folder / f"out{IN_NAMES}"
    checkpoint = out / f"checkpoint-{1}"
    checkpoint.mkdir(parents=True)
    config = checkpoint / "adapter_config.json"
    config.write_text(json.dumps({"base_model_name_or_path": f"/gone/{EVERYWHERE}"}))
    save_file({EVERYWHERE: torch.ones(1)}, checkpoint / "adapter_model.safetensors")
    code, _, err = sf("import", out, "--old", folder / IN_NAMES)
    assert (code, "\\x1b]52;c;QUJD" in err) == (2, True), err
    state = {"global_step": 1, "log_history": [{"loss": EVERYWHERE, "step": 1}]}
    (checkpoint / "trainer_state.json").write_text(json.dumps(state))
    assert sf("import", out, "--old", folder / IN_NAMES)[0] == 2
    assert sf("import", folder / IN_NAMES, "--name", IN_NAMES)[0] == 2


def merge(sf: Sf, forged: WrittenRun, folder: Path) -> None:
    sf("merge", f"r{IN_NAMES}", "--out", folder / "out")
    sf("merge", forged.run.path, "--out", folder / IN_NAMES)
    adapter = folder / f"a{IN_NAMES}"
    adapter.mkdir()
    config = {"peft_type": "LORA", "base_model_name_or_path": f"/no/{EVERYWHERE}"}
    (adapter / "adapter_config.json").write_text(json.dumps(config))
    (adapter / "adapter_model.safetensors").write_bytes(b"")
    sf("merge", adapter, "--out", folder / "out")
    sf("merge", adapter, "--out", folder / "out", "--base", IN_NAMES)


def neighbors(sf: Sf, _: WrittenRun, __: Path) -> None:
    from sf_tui.cases.risk_survey import Survey, SurveyedGroup
    from sf_tui.cli.analyze import _print
    from sf_tui.neighbors.risk import RiskGroup

    sf("analyze", "neighbors", f"r{IN_NAMES}")
    group = RiskGroup(EVERYWHERE, "other_template", -3.0, EVERYWHERE, ())
    survey = Survey(EVERYWHERE, "new", None, 1, (SurveyedGroup(group, None),), 1, 1.0, 1)
    _print(survey, EVERYWHERE)


def bench(sf: Sf, _: WrittenRun, folder: Path) -> None:
    from sf_tui.bench.harness import BenchReport, Figure
    from sf_tui.cli.bench import _show

    figure = Figure(EVERYWHERE, EVERYWHERE, 1.0, EVERYWHERE)
    report = BenchReport(EVERYWHERE, (figure,), {EVERYWHERE: EVERYWHERE}, {})
    _show(report, False)
    _show(report, True)
    sf("bench", "verdict", "--out", folder / IN_NAMES / "a", "--seeds", IN_NAMES)


def doctor(sf: Sf, _: WrittenRun, __: Path) -> None:
    sf("doctor", "--profile", IN_NAMES)
    sf("doctor")
    sf("doctor", "--json")


def guide(sf: Sf, _: WrittenRun, __: Path) -> None:
    sf("guide")
    sf("guide", "recovery")
    sf("guide", IN_NAMES)
    sf("guide", "--search", IN_NAMES)


def profile_schema(sf: Sf, _: WrittenRun, __: Path) -> None:
    sf("profile", "schema")


def exec_(sf: Sf, _: WrittenRun, tmp_path: Path) -> None:
    code, _, err = sf("exec", "--old", data_file(tmp_path), "--", "true")
    assert code == 2
    assert "data.jsonl:5" in err
    code, _, err = sf("exec", "--", f"no{IN_NAMES}")
    assert code == 127
    assert "\\x1b" in err
    code, _, err = sf("exec", "--", "false")
    assert (code, "exit code 1" in err) == (1, True)


def sweep(sf: Sf, _: WrittenRun, folder: Path) -> None:
    code, _, _ = sf("sweep", profile_of(folder), "--set", "seed=1,2")
    assert code == 2
    sf("sweep", "biography-tiny", "--set", f"{IN_NAMES}=3,4")
    sf("sweep", "biography-tiny", "--set", f"train.strategy={IN_NAMES},{EVERYWHERE}")
    sf("sweep", IN_NAMES, "--set", "seed=1,2")


def integrate(sf: Sf, _: WrittenRun, __: Path) -> None:
    code, out, _ = sf("integrate", "ms-swift")
    assert code == 0
    assert Path(out.strip()).is_file()
    code, _, err = sf("integrate", f"trl{IN_NAMES}")
    assert code == 2
    assert "\\x1b" in err


CASES: dict[Command, Callable[[Sf, WrittenRun, Path], None]] = {
    ("run",): run,
    ("sweep",): sweep,
    ("attach",): console,
    ("watch",): console,
    ("runs",): runs,
    ("show",): show,
    ("log",): log,
    ("compare",): compare,
    ("ask",): ask,
    ("wait",): wait,
    ("rename",): labels,
    ("note",): labels,
    ("du",): housekeeping,
    ("prune",): housekeeping,
    ("rm",): housekeeping,
    ("act",): act,
    ("stop",): stop,
    ("resume",): resume,
    ("import",): import_training,
    ("exec",): exec_,
    ("integrate",): integrate,
    ("diagnose",): diagnose,
    ("recover",): recover,
    ("merge",): merge,
    ("doctor",): doctor,
    ("guide",): guide,
    ("analyze", "neighbors"): neighbors,
    ("profile", "list"): profile_list,
    ("profile", "show"): profile_show,
    ("profile", "check"): profile_check,
    ("profile", "init"): profile_init,
    ("profile", "schema"): profile_schema,
    ("data", "check"): data_check,
    ("data", "biography"): data_biography,
    ("bench", "overhead"): bench,
    ("bench", "hosted"): bench,
    ("bench", "throughput"): bench,
    ("bench", "memory"): bench,
    ("bench", "verdict"): bench,
    ("bench", "repair"): bench,
}


def test_every_command_has_a_case() -> None:
    assert set(CASES) == set(commands())


@pytest.mark.parametrize("command", CASES, ids=" ".join)
def test_no_command_steers_the_terminal(
    command: Command,
    sf: Sf,
    forged: WrittenRun,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    CASES[command](sf, forged, tmp_path)
    printed = capfd.readouterr()
    assert steering(printed.out) == steering(printed.err) == ""


@pytest.mark.parametrize("color", [False, True])
@pytest.mark.parametrize("command", CASES, ids=" ".join)
def test_what_was_typed_comes_back_printable(
    command: Command, color: bool, sf: Sf, monkeypatch: pytest.MonkeyPatch
) -> None:
    if color:
        monkeypatch.setenv("FORCE_COLOR", "1")
    for wrong in ([f"--no-such{IN_NAMES}"], [f"a{IN_NAMES}"] * 4, ["--steps", IN_NAMES]):
        code, _, err = sf(*command, *wrong, color=color)
        assert code in {1, 2, 3, 127}  # 127: `sf exec` of an unknown command
        assert "\\x1b" in err or not wrong[0].startswith("--no-such")
    sf(*command[:-1], f"no{IN_NAMES}", color=color)


def test_on_a_terminal_only_colors_are_sent(forged: WrittenRun) -> None:
    terminal = Terminal(["-m", "sf_tui.cli", "show", str(forged.run.path)], {})
    terminal.read_to_end()
    terminal.end()
    assert b"QUJD" in terminal.data
    # The line discipline makes \r\n of every line end.
    assert steering(terminal.data.replace(b"\r\n", b"\n"), COLOR) == ""


def test_names_that_are_no_utf8_are_shown(capfd: pytest.CaptureFixture[str]) -> None:
    write_line("run-\udcff\udc9b")
    write_json({"path": "run-\udcff\udc9b"})
    line, text = capfd.readouterr().out.splitlines()
    assert line == "run-\\udcff\\udc9b"
    assert json.loads(text) == {"path": "run-\udcff\udc9b"}


def test_warnings_and_errors_of_libraries_are_printable(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    import logging
    import warnings

    from sf_tui.printable import guard_streams

    for name in ("stdout", "stderr"):
        monkeypatch.setattr(sys, name, getattr(sys, name))
    guard_streams()
    logger = logging.Logger("library")
    logger.addHandler(logging.StreamHandler())
    logger.warning("config says %s", EVERYWHERE)
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.showwarning(f"w{EVERYWHERE}", UserWarning, "file.py", 1)
    sys.excepthook(ValueError, ValueError(EVERYWHERE), None)
    out, err = capfd.readouterr()
    assert steering(out + err) == ""
    assert err.count("\\x1b]0;title") >= 2


def test_commands_print_through_one_module() -> None:
    own = {"output.py", "printable_console.py"}
    found = []
    for path in sorted(Path(sf_tui.cli.__file__).parent.glob("*.py")):
        if path.name in own:
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            called = node.func if isinstance(node, ast.Call) else None
            name = getattr(called, "attr", getattr(called, "id", ""))
            owner = getattr(getattr(called, "value", None), "id", "")
            if (name in {"print", "Console"} and isinstance(called, ast.Name)) or name in {
                "echo",
                "secho",
            }:
                found.append(f"{path.name}:{node.lineno}")
            if name == "write" and owner in {"stdout", "stderr"}:
                found.append(f"{path.name}:{node.lineno}")
    assert found == []


def test_a_table_stays_aligned() -> None:
    from rich.table import Table

    from sf_tui.cli.printable_console import PrintableConsole

    table = Table(box=None)
    table.add_column("a")
    table.add_column("b")
    for name in ("x", f"\x1b]0;t\x07\r{tainted('y', '')}", "[link=http://e.org]l[/link]"):
        table.add_row(name, "|")
    out = io.StringIO()
    PrintableConsole(file=out, width=80, force_terminal=True).print(table)
    lines = [COLOR.sub("", line) for line in out.getvalue().splitlines()[1:]]
    assert len({line.index("|") for line in lines}) == 1
    assert steering(out.getvalue(), COLOR) == ""
    assert "[link=http://e.org]" in out.getvalue()


def test_traceback_passes_no_color_of_a_message_and_keeps_the_exit_code(
    run_sf: Callable[..., subprocess.CompletedProcess[str]],
) -> None:
    done = run_sf("show", "r\x1b[35;45;5m", "--debug")
    assert done.returncode == 3
    assert "Traceback" in done.stderr
    assert "r\\x1b[35;45;5m" in done.stderr
    terminal = Terminal(["-m", "sf_tui.cli", "show", "r\x1b[35;45;5m", "--debug"], {})
    try:
        assert terminal.read_to_end() == 3
        assert "RunNotFoundError" in terminal.screen()
    finally:
        terminal.end()
    assert b"\x1b[35;45;5m" not in terminal.data
