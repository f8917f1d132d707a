"""`sf ask` on runs and models on disk: what it prints agrees with the log and with the model."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.cells import cell_len

from sf_tui.cli.answer_table import print_questions
from sf_tui.run.events import read_objects
from support import PATIENCE_S
from support.answer_sheets import COUNTRIES, capitals
from support.fork_client import ForkHost

Ask = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def run(finished_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("asked") / "tiny"
    shutil.copytree(finished_run, path)
    return path


@pytest.fixture
def ask(fork_host: ForkHost) -> Ask:
    def ask(*arguments: object) -> tuple[int, str, str]:
        done = fork_host.start("ask", *map(str, arguments))
        code = done.wait(PATIENCE_S)
        return code, done.stdout, done.stderr

    return ask


def probes(run: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the scores of the last stage's first and last probe, on the probe's examples."""
    found = [e for e in read_objects(run / "events.jsonl") if e["type"] == "probe"]
    found = [e for e in found if e["stage"] == found[-1]["stage"]]
    return found[0]["subset"], found[-1]["subset"]


def test_the_counts_are_those_of_the_probes(run: Path, ask: Ask) -> None:
    code, out, err = ask(run, "--json")
    assert code == 0, err
    sheet = json.loads(out)
    assert [state["name"] for state in sheet["states"]] == ["start", "now"]
    for task, counts in sheet["counts"].items():
        examples = counts["examples"]
        for scores, right in zip(probes(run), counts["right"], strict=True):
            assert examples == min(scores[task]["n"], 100)
            if examples == scores[task]["n"]:
                assert right == round(scores[task]["exact_match"] * examples)
        start, now = counts["right"]
        assert now == start - counts["lost"] + counts["gained"]
    changes = [one["change"] for one in sheet["questions"]]
    assert changes == sorted(changes, key=["lost", "gained", ""].index)
    assert min(changes.count("lost"), changes.count("gained")) > 0
    # A right answer is the wanted one; nothing else is.
    for one in sheet["questions"]:
        for answer in one["answers"]:
            assert answer["right"] == (answer["text"] == one["wanted"] and answer["ended"])
    kept = json.loads((run / "answers" / f"{sheet['stage']}.json").read_text())
    assert kept["states"] == sheet["states"]

    word = sheet["questions"][0]["wanted"].split()[0]
    code, out, _ = ask(run, "--gained", "--find", word, "--json")
    shown = json.loads(out)
    assert (code, shown["counts"]) == (0, sheet["counts"])
    assert {one["change"] for one in shown["questions"]} <= {"gained"}
    code, out, _ = ask(run, "-n", "2")
    assert code == 0
    header, *rows = [line for line in out.splitlines() if "\t" in line]
    assert header.startswith("task\tchange\tquestion\twanted\tat start\tnow @")
    assert len(rows) == sum(min(counts["examples"], 2) for counts in sheet["counts"].values())


def test_an_alert_shows_three_answers_that_were_lost(run: Path) -> None:
    alerts = [e for e in read_objects(run / "events.jsonl") if e["type"] == "alert"]
    first = next(alert for alert in alerts if alert["code"] == "drop")
    assert len(first["answers"]) == 3
    for one in first["answers"]:
        assert one["question"].startswith("Question: ")
        assert one["answered"] != one["wanted"]


def test_columns_fit_the_terminal_or_become_lines(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sf_tui.cli.answer_table.to_terminal", lambda: True)
    monkeypatch.setattr("sf_tui.cli.columns.to_terminal", lambda: True)
    for width in (60, 80, 120, 200):
        monkeypatch.setenv("COLUMNS", str(width))
        assert print_questions(capitals().part(), 10) == 0
        lines = capsys.readouterr().out.splitlines()
        assert max(map(cell_len, lines)) <= width
        # Whatever is left out, each row still says which country it is about and what is said now.
        assert all(any(f"{name}?" in line for line in lines) for name in COUNTRIES)
        now = [line for line in lines if '{"country": "Peru"}' in line or '{"country":' in line]
        assert len(now) >= 9
    assert print_questions(capitals().part(), 2) == 10
    assert print_questions(capitals().part(find="nowhere"), 2) == 0
    assert "no question matches" in capsys.readouterr().out


def test_a_question_of_ones_own_is_answered_as_a_held_out_one(run: Path, ask: Ask) -> None:
    (path,) = (run / "answers").glob("*.json")
    one = next(q for q in json.loads(path.read_text())["questions"] if q["answers"][-1]["ended"])
    code, out, err = ask(run, "--task", one["task"], "--json", "--", one["question"])
    assert code == 0, err
    (found,) = json.loads(out)["questions"]
    assert [answer["text"] for answer in found["answers"]] == [a["text"] for a in one["answers"]]
    code, out, err = ask(run / "model", "--json", one["question"])
    assert code == 0, err
    (found,) = json.loads(out)["questions"]
    assert found["answers"][0]["text"] == one["answers"][-1]["text"]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--step", "3333"), "there are: 0"),
        (("--stage", "nwe"), "no stage 'nwe' has begun"),
        (("--task", "odl"), "no held-out questions of a task 'odl'"),
        (("--model", "nowhere"), "nowhere"),
        (("",), "an empty question"),
    ],
)
def test_mistakes_are_named(arguments: tuple[str, ...], says: str, run: Path, ask: Ask) -> None:
    code, out, err = ask(run, *arguments)
    assert (code, out) == (2, ""), err
    assert says in err


def test_a_stage_and_a_model_have_a_file_of_their_own(run: Path, ask: Ask, tmp_path: Path) -> None:
    copied = tmp_path / "copied"
    shutil.copytree(run, copied)
    folder = copied / "answers"
    folder.mkdir(exist_ok=True)
    for stage in ("old", "new"):
        (folder / f"{stage}.json").write_text("what was there")
    code, out, err = ask(copied, "--stage", "old", "--model", copied / "model", "--json")
    assert code == 0, err
    sheet = json.loads(out)
    assert [state["name"] for state in sheet["states"]] == ["start", "checkpoint", "model"]
    (other,) = folder.glob("*[@+]*")
    assert other.name.startswith(f"old@{sheet['states'][1]['step']}+")
    assert json.loads(other.read_text())["states"] == sheet["states"]
    for stage in ("old", "new"):
        assert (folder / f"{stage}.json").read_text() == "what was there"


def test_a_model_has_no_questions_of_its_own(run: Path, ask: Ask) -> None:
    code, _, err = ask(run / "model")
    assert (code, "no held-out questions" in err) == (2, True)
    code, _, err = ask(run / "model", "--lost", "What?")
    assert (code, "--lost" in err) == (2, True)


def test_damage_is_named(run: Path, ask: Ask, tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(run, broken)
    stage = sorted((broken / "checkpoints").iterdir())[-1]
    for start in broken.glob("checkpoints/*/step-000000/weights/*"):
        start.write_bytes(start.read_bytes()[:-8])
    code, _, err = ask(broken)
    assert code != 0
    assert "step-000000" in err
    assert "internal error" not in err
    shutil.rmtree(stage / "step-000000")
    for first in broken.glob("checkpoints/*/step-000000"):
        shutil.rmtree(first)
    code, out, err = ask(broken, "--json")
    assert code == 0, err
    assert "start weights" in err
    assert [state["name"] for state in json.loads(out)["states"]] == ["now"]
