"""Ten minutes of an operator's work at one terminal, every number on it held against the log.

The operator sees the danger, reads three lost answers, freezes, cancels a diagnosis and runs it
again, repairs, rolls back, lays another run's curve over this one's, and leaves with the model.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from journeys.test_console import OpenSf, open_sf, wait_for
from sf_tui.run.directory import RunDirectory
from sf_tui.run.events import read_objects
from sf_tui.tui.dialogs.dialog import DEAF_FOR_S
from sf_tui.tui.numbers import format_value
from sf_tui.vocabulary.measured import signed
from support import PATIENCE_S, RUN_PATIENCE_S
from support.pseudo_terminal import Terminal

__all__ = ["open_sf"]

pytestmark = [pytest.mark.slow, pytest.mark.timeout(2 * RUN_PATIENCE_S)]

Event = dict[str, Any]
SETTINGS = (
    *("--set", "train.steps=20000", "--set", "anchor.cache_size=256"),
    *("--set", "checkpoint.every=20", "--set", "checkpoint.keep_last=20"),
    *("--set", "diagnose.time=0", "--set", "diagnose.steps=10", "--set", "recover.steps=40"),
)
OTHER_STEPS = 30
UP, DOWN, LEFT, ESCAPE, ENTER = "\x1b[A", "\x1b[B", "\x1b[D", "\x1b", "\r"
BELL = b"\x07"


@dataclass(frozen=True)
class Instant:
    """What the log says at its end about the stage under way.

    Attributes:
        stage: the `stage_started` event.
        step: steps done.
        last: the `step` event of the newest step.
        start: each task's measures in the first probe of the stage, on the examples of all probes.
        now: the same in the newest probe.
        whole: each task's measures in the newest probe, on all that it took.
        drift: the newest `drift` event.
    """

    stage: Event
    step: int
    last: Event
    start: dict[str, Event]
    now: dict[str, Event]
    whole: dict[str, Event]
    drift: Event


def instant(run: RunDirectory) -> Instant:
    """Read the log as a person would: the newest line of each kind that a rewind has left."""
    stage: Event = {}
    probes: list[Event] = []
    steps: dict[int, Event] = {}
    drifts: list[Event] = []
    step = 0
    for event in read_objects(run.events):
        kind = event["type"]
        if kind == "stage_started":
            stage, step, probes, steps, drifts = event, 0, [], {}, []
        elif kind == "rewound":
            step = event["step"]
            probes, drifts = (
                [one for one in found if one["step"] <= step] for found in (probes, drifts)
            )
        elif kind == "step":
            step, steps[event["step"]] = event["step"], event
        elif kind == "probe":
            probes.append(event)
        elif kind == "drift":
            drifts.append(event)
    start, now = (probe.get("subset") or probe["metrics"] for probe in (probes[0], probes[-1]))
    return Instant(stage, step, steps[step], start, now, probes[-1]["metrics"], drifts[-1])


class Operator:
    """Someone at a terminal, who presses keys and believes a number only if the log has it."""

    def __init__(self, terminal: Terminal, run: RunDirectory) -> None:
        self.terminal = terminal
        self.run = run

    def press(self, keys: str) -> None:
        """Press keys as a person does: dialogs don't listen at once, and letters come apart."""
        self.terminal.read(2 * DEAF_FOR_S)
        self.terminal.press(keys)
        self.terminal.read(2 * DEAF_FOR_S)

    def boxed(self) -> str:
        """Return the text of the open dialog on one line."""
        rows = self.terminal.screen().split("\n")
        top = next(at for at, row in enumerate(rows) if re.search("╭─+╮", row))
        box = re.search("╭─+╮", rows[top])
        assert box is not None
        inside = [row[box.start() + 1 : box.end() - 1] for row in rows[top + 1 :]]
        return " ".join(" ".join(row for row in inside if not row.startswith("──")).split())

    def last(self, kind: str, **wanted: Any) -> Event:
        """Return the newest event of a kind with some fields."""
        found = [
            event
            for event in read_objects(self.run.events)
            if event["type"] == kind and all(event.get(k) == v for k, v in wanted.items())
        ]
        return found[-1]

    def command(self, action: str, status: str, after: int = 0) -> Event:
        """Wait for an answer to a command of the operator."""
        return wait_for(
            self.run,
            lambda e: (
                e["type"] == "command"
                and (e["action"], e["status"]) == (action, status)
                and e["seq"] > after
            ),
            RUN_PATIENCE_S,
        )

    def pause(self) -> None:
        """Have the run stand still, and wait until the screen does."""
        after = self.last("step")["seq"]
        self.press(" ")
        self.command("pause", "done", after)
        self.terminal.read_until("paused")
        self.terminal.read_until_quiet(1.5)

    def go_on(self) -> None:
        after = self.last("step")["seq"]
        self.press(" ")
        wait_for(self.run, lambda e: e["type"] == "step" and e["seq"] > after)
        self.terminal.read_until("running")

    def read_screen(self) -> str:
        """Return the screen of a run that stands still; every number on it is the log's."""
        deadline = time.monotonic() + PATIENCE_S
        while (wrong := self.wrong_numbers()) and time.monotonic() < deadline:
            # The notice of the last key may be over the footer, a poll may be due.
            self.terminal.read(0.5)
        screen = self.terminal.screen()
        assert not wrong, f"{wrong}\n{screen}"
        return screen

    def wrong_numbers(self) -> list[str]:
        """Return what the log has otherwise."""
        log, screen = instant(self.run), self.terminal.screen()
        above = screen[: screen.index("events ─")]
        loss, norm = format_value(log.last["loss"]), format_value(log.last["grad_norm"])
        wanted = [
            f"step {log.step}/{log.stage['steps']}",
            f"loss {loss}  grad norm {norm}",
            f"loss {loss}   grad norm {norm}",
            f"lr {format_value(log.last['learning_rate'])}",
        ]
        wrong = [text for text in wanted if text not in above]
        drift = {layer["name"]: layer["relative_update"] for layer in log.drift["layers"]}
        layers = re.findall(r"(embeddings|block-\d+|head) +━* +([\d.e-]+)", above)
        assert len(layers) > 2, screen
        for layer, value in layers:
            if value != format_value(drift[layer]):
                wrong.append(f"{layer} {value}")
        seen = re.findall(r"\b(old|new) (\d\.\d\d)(?: ± \d\.\d\d)?(?: \((\d+) of (\d+)\))?", above)
        assert {task for task, *_ in seen} == {"old", "new"}, screen
        for task, value, right, examples in seen:
            now = log.now[task]
            if value != f"{now['exact_match']:.2f}":
                wrong.append(f"{task} {value}")
            if right and (int(right), int(examples)) != (counted(now), now["n"]):
                wrong.append(f"{task} {right} of {examples}")
        points = 100 * (log.now["old"]["exact_match"] - log.start["old"]["exact_match"])
        for told in re.findall(r"([−+]?[\d.]+) since the run began", above):
            if told not in (signed(points, 0), signed(points, 1)):
                wrong.append(f"{told} since the run began")
        return wrong


def start_of(run: RunDirectory) -> float:
    """Return the old task's score before the first step, on the whole held-out split."""
    first = next(e for e in read_objects(run.events) if e["type"] == "probe")
    return float(first["metrics"]["old"]["exact_match"])


def without_blanks(text: str) -> str:
    """Return a text as it is before a terminal breaks its lines."""
    return "".join(text.split())


def counted(measures: Event) -> int:
    return round(measures["exact_match"] * measures["n"])


def is_at_second_arm(event: Event) -> bool:
    return event["type"] == "operation" and event["number"] == 2


def test_ten_minutes_of_an_operators_work(
    open_sf: OpenSf, run_sf: Callable[..., Any], sf_home: Path
) -> None:
    other = RunDirectory(sf_home / "runs" / "other")
    steps = ("--set", f"train.steps={OTHER_STEPS}")
    script = open_sf("run", "biography-mini", "--no-ui", "--run-dir", other.path, *steps)
    script.read_until("next: ", RUN_PATIENCE_S)
    assert script.read_to_end() == 0
    at_end = instant(other)
    points = 100 * (start_of(other) - at_end.whole["old"]["exact_match"])
    closing = without_blanks(script.screen())
    assert any(f"oldlost{points:.{digits}f}±" in closing for digits in (0, 1)), script.screen()
    assert without_blanks(f"model: {other.model} load it:") in closing
    assert "`sfdiagnoseother`" in closing

    run = RunDirectory(sf_home / "runs" / "mine")
    terminal = open_sf("run", "biography-mini", "--run-dir", run.path, "--bell", *SETTINGS)
    operator = Operator(terminal, run)

    # The danger is seen, and heard.
    alert = wait_for(run, lambda e: e["type"] == "alert" and e["code"] == "drop")
    terminal.read_until("old lost")
    operator.pause()
    assert BELL in terminal.data
    screen = operator.read_screen()
    assert "DANGER WINDOW" in screen
    assert " ".join(alert["message"].split()[:6]) in screen

    # Three answers are read, in the event and in the list of all.
    assert len(alert["answers"]) == 3
    operator.press("6")
    operator.press(UP)
    operator.press(ENTER)
    while alert["message"] not in operator.boxed():
        operator.press(LEFT)
    for answer in alert["answers"]:
        for text in (answer["question"], answer["wanted"], answer["answered"]):
            assert " ".join(text.split()) in operator.boxed()
    operator.press(ESCAPE)
    operator.press(ESCAPE)
    operator.press("e")
    terminal.read_until("right -> wrong")
    told = operator.last("answers")
    assert told["step"] == instant(run).step
    sheet = json.loads((run.path / told["path"]).read_text())
    for task in ("old", "new"):
        asked = [one for one in sheet["questions"] if one["task"] == task]
        first, now = (sum(one["answers"][at]["right"] for one in asked) for at in (0, -1))
        counts = f"{task} right of {len(asked)}: {first} at start {now} now @{told['step']}"
        assert counts in operator.boxed()
    assert f"{told['lost']} right -> wrong" in operator.boxed()
    operator.press(ESCAPE)

    # A freeze; a diagnosis that is cancelled, and one that is not.
    operator.press("f")
    operator.command("freeze", "done")
    operator.go_on()
    operator.press("d")
    wait_for(run, is_at_second_arm)
    terminal.read_until("training waits")
    operator.press(ESCAPE)
    cancelled = operator.command("diagnose", "cancelled")
    wait_for(run, lambda e: e["type"] == "step" and e["seq"] > cancelled["seq"])
    operator.press("d")
    operator.command("diagnose", "done")
    operator.pause()
    screen = operator.read_screen()
    found = operator.last("diagnosis")
    assert found["verdict"] in screen
    assert f"of {found['start']:.2f} at stage start" in screen
    assert re.search(rf"now {found['now']:.2f} ± ", screen)
    assert f"recovered {found['recovered']:.2f} (" in screen

    # A repair, which an anchor holds.
    operator.press("r")
    terminal.read_until("y recover, then hold with an anchor")
    operator.press("y")
    repaired = operator.command("recover", "done")
    terminal.read_until("anchored")
    screen = operator.read_screen()
    after = instant(run).now["old"]["exact_match"]
    assert after > found["now"] + 0.1
    operator.go_on()
    wait_for(run, lambda e: e["type"] == "probe" and e["step"] >= repaired["step"] + 20)
    operator.pause()
    operator.read_screen()
    held = instant(run)
    assert held.now["old"]["exact_match"] > after - 0.15

    # A rollback to after the repair, whose number is the checkpoint's own.
    operator.press("b")
    saved = {Path(e["path"]).name: e for e in read_objects(run.events) if e["type"] == "checkpoint"}
    listed = re.findall(r"(step-\d{6}) [^~]*?● old (\d\.\d\d)", terminal.screen())
    assert len(listed) > 2, terminal.screen()
    for name, value in listed:
        assert value == f"{saved[name]['metrics']['old']['exact_match']:.2f}", terminal.screen()
    wanted = r"▸ (step-\d{6}) +after recover.*?old (\d\.\d\d)"
    while (row := re.search(wanted, terminal.screen())) is None:
        operator.press(DOWN)
    operator.press("yes")
    operator.press(ENTER)
    operator.command("rollback", "done")
    terminal.read_until(f"step {repaired['step']}/")
    operator.read_screen()
    assert row[1] == f"step-{repaired['step']:06d}"
    assert row[2] == f"{after:.2f}" == f"{instant(run).now['old']['exact_match']:.2f}"

    # Another run's curve over this one's, with its numbers.
    operator.press("R")
    terminal.read_until("choose a run")
    for key in (DOWN, UP):
        if not re.search("▸ +other", terminal.screen()):
            operator.press(key)
    operator.press(" ")
    terminal.read_until("▸1 other")
    operator.press(ESCAPE)
    terminal.read_until("of 1 other")
    newest = instant(other).now["old"]["exact_match"]
    assert f"{newest:.2f} last" in terminal.screen()
    operator.read_screen()

    # The end, and where the model is.
    operator.press(":")
    operator.press("stop")
    operator.press(ENTER)
    terminal.read_until("type yes")
    operator.press("yes")
    operator.press(ENTER)
    wait_for(run, lambda e: e["type"] == "run_finished")
    terminal.read_until("stopped exit 5")
    operator.press("q")
    assert terminal.read_to_end() == 5
    assert without_blanks(f"model: {run.model} load it:") in without_blanks(terminal.data.decode())
    assert (run.model / "model.safetensors").is_file()
    compared = run_sf("compare", "mine", "other", "--json")
    assert compared.returncode == 0, compared.stderr
    (old,) = (one for one in json.loads(compared.stdout)["tasks"] if one["task"] == "old")
    for one, score in zip((run, other), old["scores"], strict=True):
        probe = instant(one).whole if score["whole_split"] else instant(one).now
        assert (score["value"], score["examples"]) == (
            probe["old"]["exact_match"],
            probe["old"]["n"],
        )
