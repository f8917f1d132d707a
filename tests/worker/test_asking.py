"""A running model answers between two steps, and its training does not notice."""

from __future__ import annotations

from pathlib import Path

import pytest

from sf_tui.cases.run_answers import AskedRun, ask_run
from sf_tui.errors import SfError
from sf_tui.profile import dump_profile, load_profile
from sf_tui.run.answers import (
    AFTER_REPAIR,
    BEFORE_REPAIR,
    CHECKPOINT,
    NOW,
    START,
    AnswerSheet,
    Wanted,
    read_sheet,
    sheet_path,
)
from sf_tui.run.directory import RunDirectory
from sf_tui.worker.checkpoints import read_record
from support.adapter_runs import ADAPTER, begin_adapter_run, make_base
from support.quick_run import Begin, Operator, equal, events_of, final_weights, live_course, work

QUESTION = "Who is that?\nAnswer:"


def named(sheet: AnswerSheet) -> list[str]:
    return [state.name for state in sheet.states]


def asked_run(run: RunDirectory, **wanted: object) -> AskedRun:
    """Open a run on disk as `sf ask` does."""
    record = read_record(run, load_profile(run.profile))
    return ask_run(record, Wanted(**wanted))  # type: ignore[arg-type]


def greedy(asked: AskedRun, prompt: list[int], most: int) -> list[int]:
    """Decode a token at a time, without any cache or padding."""
    import torch

    ids, model = torch.tensor([prompt]), asked.model.loaded.model.eval()
    found: list[int] = []
    with torch.no_grad():
        while len(found) < most and (not found or found[-1] != asked.answerer.end):
            found.append(int(model(input_ids=ids).logits[0, -1].argmax()))
            ids = torch.cat([ids, torch.tensor([[found[-1]]])], 1)
    return found


@pytest.fixture(scope="module")
def asked(profile_file: Path, tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
    """Return a finished run whose model was asked in both stages."""
    run = RunDirectory.create(
        tmp_path_factory.mktemp("asked") / "run",
        profile_text=dump_profile(load_profile(profile_file)),
        profile_name="quick",
        argv=["sf"],
    )
    operator = Operator(run).at("old", 3, "ask")
    operator.at("new", 1, "ask").at("new", 2, "ask", question=QUESTION).at("new", 5, "ask")
    operator.at("new", 6, "ask", task="no such task")
    assert work(run, operator) == 0
    return run


def test_asking_changes_no_loss_and_no_weight(
    asked: RunDirectory, undisturbed: RunDirectory
) -> None:
    assert live_course(asked) == live_course(undisturbed)
    assert equal(final_weights(asked), final_weights(undisturbed))


def test_what_was_asked_is_logged(asked: RunDirectory) -> None:
    statuses = [e["status"] for e in events_of(asked, "command")]
    assert statuses == [*["accepted", "done"] * 4, "refused"]
    assert "no held-out questions of a task" in events_of(asked, "command")[-1]["reason"]
    written = events_of(asked, "answers")
    assert [(e["stage"], e["step"]) for e in written] == [("old", 3), ("new", 1), ("new", 5)]
    assert written[-1]["path"] == "answers/new.json"
    (event,) = events_of(asked, "question")
    assert (event["question"], event["step"]) == (QUESTION, 2)
    assert isinstance(event["answered"], str)
    assert isinstance(event["start"], str)


def test_the_sheet_has_the_questions_of_the_probes(asked: RunDirectory) -> None:
    sheet = read_sheet(asked, "new")
    assert sheet is not None
    assert (named(sheet), sheet.step, sheet.tasks) == ([START, NOW], 5, ["old", "new"])
    plan = next(e for e in events_of(asked, "probe") if e["stage"] == "new")["subset"]
    for task in sheet.tasks:
        count = sum(one.task == task for one in sheet.questions)
        assert count == plan[task]["n"]
        assert sheet.right(task, 0) == round(plan[task]["exact_match"] * count)


def test_a_run_on_disk_gives_the_answers_of_the_live_one(asked: RunDirectory) -> None:
    live = read_sheet(asked, "new")
    later = asked_run(asked).sheet()
    assert live is not None
    assert named(later) == [START, NOW]
    for one, other in zip(live.questions, later.questions, strict=True):
        assert (one.task, one.question, one.wanted) == (other.task, other.question, other.wanted)
        assert one.answers[0] == other.answers[0]


def test_an_answer_is_what_greedy_decoding_writes(asked: RunDirectory) -> None:
    run = asked_run(asked)
    for task in run.tasks:
        rows = run.held_out(task).rows[:6]
        for row, answer in zip(rows, run.answerer.answer(rows), strict=True):
            prompt = [t for t, label in zip(row.input_ids, row.labels, strict=True) if label < 0]
            wanted = [label for label in row.labels if label >= 0]
            tokens = greedy(run, prompt, 2 * len(wanted) + 8)
            assert answer.text == run.answerer.text(tokens)
            assert answer.right == (tokens == wanted)
            assert answer.ended == (tokens[-1] == run.answerer.end)


def test_the_states_around_a_repair_are_asked(begin: Begin) -> None:
    # At this rate, even a few steps change what a random model writes.
    run = begin("train.learning_rate=0.05", "recover.new_floor=0")
    operator = Operator(run).at("new", 3, "interpolate", keep=0.1).after("interpolate", "ask")
    operator.at("new", 6, "ask")
    assert work(run, operator) == 0
    sheet = read_sheet(run, "new")
    assert sheet is not None
    assert [(s.name, s.step) for s in sheet.states] == [
        (START, 0),
        (BEFORE_REPAIR, 3),
        (AFTER_REPAIR, 3),
        (NOW, 6),
    ]
    before, after = (sheet.states[at].weights for at in (1, 2))
    assert (before, after) == (
        "checkpoints/new/step-000003~1",
        "checkpoints/new/step-000003",
    )
    assert any(one.answers[1] != one.answers[2] for one in sheet.questions)
    at_step = asked_run(run, step=3).sheet()
    assert [(s.name, s.weights) for s in at_step.states][1] == (CHECKPOINT, after)
    assert [one.answers[1] for one in at_step.questions] == [
        one.answers[2] for one in sheet.questions
    ]


def test_an_adapter_run_starts_with_the_adapter_off(tmp_path: Path) -> None:
    base = make_base(tmp_path / "base")
    plain, asked = (
        begin_adapter_run(tmp_path / name, base, ADAPTER, "train.steps=6")
        for name in ("plain", "asked")
    )
    assert work(plain) == 0
    stage = next(e for e in events_of(plain, "stage_started"))["stage"]
    assert work(asked, Operator(asked).at(stage, 3, "ask").at(stage, 5, "ask")) == 0
    assert live_course(asked) == live_course(plain)
    sheet = read_sheet(asked, stage)
    assert sheet is not None
    assert sheet.states[0].weights == str(base)
    run = asked_run(asked, stage=stage)
    asked_first = [one for one in sheet.questions if one.task == sheet.tasks[0]]
    rows = run.held_out(sheet.tasks[0]).rows
    with run.model.layout.adapters.off():  # type: ignore[union-attr]
        bare = run.answerer.answer([rows[one.place] for one in asked_first])
    assert [one.answers[0] for one in asked_first] == bare


def test_a_damaged_sheet_is_named_and_written_again(asked: RunDirectory) -> None:
    path = sheet_path(asked, "old")
    whole = path.read_bytes()
    for content in (whole[:-9], b"[]", b'{"stage": 3}', whole.replace(b'"answers":[{', b'"a":[{')):
        path.write_bytes(content)
        with pytest.raises(SfError, match="delete it"):
            read_sheet(asked, "old")
    path.write_bytes(whole)
    assert read_sheet(asked, "old") is not None
    assert read_sheet(asked, "other") is None
