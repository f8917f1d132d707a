"""`e`: what the model answers, filtered, in full, and asked again."""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest
from textual import events
from textual.pilot import Pilot

from sf_tui.run.answers import (
    NOW,
    START,
    ModelState,
    sheet_path,
    shortened_questions,
    write_sheet,
)
from sf_tui.tui.asking import SheetReader
from sf_tui.tui.console import ConsoleApp
from sf_tui.tui.dialogs.answers import POLL_EVERY_S
from sf_tui.vocabulary.events import AnswersWritten, QuestionAnswered, Rewound
from support.answer_sheets import capitals
from support.hostile import EVERYWHERE, steering
from tui.driving import console_of, let_time_pass, screen_text, sent
from tui.written_run import WrittenRun

MakeRun = Callable[..., WrittenRun]
PLAIN = (ModelState(START, 0, "checkpoints/new/step-000000"), ModelState(NOW, 85))


async def answers_opened(pilot: Pilot[int], app: ConsoleApp) -> str:
    await pilot.press("e")
    await pilot.pause()
    let_time_pass(app, 1.0)
    return screen_text(app)


async def until_polled(pilot: Pilot[int], app: ConsoleApp) -> str:
    app.poll()
    await pilot.pause(1.5 * POLL_EVERY_S)
    return screen_text(app)


@pytest.mark.parametrize("size", [(80, 24), (120, 40), (200, 60)])
async def test_lost_answers_come_first_and_one_is_shown_in_full(
    size: tuple[int, int], running: WrittenRun
) -> None:
    write_sheet(running.run, capitals())
    app = console_of(running)
    async with app.run_test(size=size) as pilot:
        text = await answers_opened(pilot, app)
        assert "old right of 10:  10 at start  1 now @85  9 right -> wrong" in text
        lines = text.splitlines()
        first = next(at for at, line in enumerate(lines) if "Peru?" in line)
        assert '{"country": "Peru"}' in lines[first]
        assert "Chile?" in lines[first + 1]
        below = text[text.rindex("Peru?") :]
        assert "The capital of Peru is Lima." in below
        assert "x before repair @40" in below
        await pilot.press("down")
        assert "The capital of Chile is Santiago." in screen_text(app)


async def test_the_answers_are_filtered_and_escape_clears_first(running: WrittenRun) -> None:
    write_sheet(running.run, capitals())
    app = console_of(running)
    async with app.run_test(size=(120, 40)) as pilot:
        await answers_opened(pilot, app)
        await pilot.press("f")
        assert "Fiji" not in screen_text(app)
        await pilot.press("f")
        assert "Peru?" not in screen_text(app)
        assert "Facts of Peru" in screen_text(app)
        await pilot.press("f", "/", *"oslo")
        let_time_pass(app, 1.0)
        await pilot.press("enter")
        text = screen_text(app)
        assert ("Norway?" in text, "Peru?" in text) == (True, False)
        await pilot.press("escape")
        assert "Peru?" in screen_text(app)
        await pilot.press("escape")
        assert "Peru?" not in screen_text(app)


async def test_a_live_worker_is_asked_once_and_its_answers_appear(running: WrittenRun) -> None:
    app = console_of(running)
    async with app.run_test(size=(120, 40)) as pilot:
        text = await answers_opened(pilot, app)
        assert "the worker answers" in text
        assert sent(running) == [("ask", {})]
        write_sheet(running.run, capitals(PLAIN))
        running.event(AnswersWritten("new", 85, "answers/new.json", 14, 9, 4))
        text = await until_polled(pilot, app)
        assert "9 right -> wrong" in text
        # Current, so opening it again asks nothing; r does.
        await pilot.press("escape")
        await answers_opened(pilot, app)
        assert sent(running) == [("ask", {})]
        await pilot.press("r")
        assert sent(running) == [("ask", {}), ("ask", {})]


async def test_answers_of_weights_that_a_rollback_abandoned_are_marked_and_asked_again(
    running: WrittenRun,
) -> None:
    now = ModelState(NOW, 85, seq=running.seq)
    write_sheet(running.run, capitals((PLAIN[0], now)))
    app = console_of(running)
    async with app.run_test(size=(120, 40)) as pilot:
        assert "taken back" not in await answers_opened(pilot, app)
        assert sent(running) == []
        await pilot.press("escape")
        running.event(Rewound("new", 60, "rollback", 25))
        # The step of the answers again, with other weights.
        running.steps(61, 85)
        app.poll()
        await answers_opened(pilot, app)
        assert sent(running) == [("ask", {})]
    watching = console_of(running, read_only=True)
    async with watching.run_test(size=(120, 40)) as pilot:
        assert "taken back" in await answers_opened(pilot, watching)


async def test_a_question_of_ones_own_is_sent_and_answered(running: WrittenRun) -> None:
    write_sheet(running.run, capitals(PLAIN))
    app = console_of(running)
    async with app.run_test(size=(120, 40)) as pilot:
        await answers_opened(pilot, app)
        question = (
            "Who wrote a book of more than eighty characters, and when and where and why at all?"
        )
        await pilot.press("e")
        app.screen.post_message(events.Paste(question))
        await pilot.pause()
        let_time_pass(app, 1.0)
        await pilot.press("enter")
        assert sent(running) == [("ask", {"question": question})]
        identity = app.screen._command  # type: ignore[attr-defined]
        running.event(
            QuestionAnswered("new", 85, question, "Goethe.", start="Schiller.", command=identity)
        )
        text = await until_polled(pilot, app)
        assert "your question" in text
        assert "Goethe." in text
        assert "Schiller." in text


@pytest.mark.parametrize("ended", [False, True])
async def test_watching_asks_nothing(ended: bool, running: WrittenRun) -> None:
    if ended:
        write_sheet(running.run, capitals(PLAIN))
    app = console_of(running, read_only=True)
    async with app.run_test(size=(120, 40)) as pilot:
        text = await answers_opened(pilot, app)
        assert ("9 right -> wrong" in text) == ended
        await pilot.press("r", "e")
        assert "read-only" in screen_text(app)
        assert sent(running) == []


async def test_a_run_without_a_worker_is_not_loaded_unasked(make_run: MakeRun) -> None:
    written = make_run(profile="name = 3")
    written.begin()
    written.begin_stage()
    written.steps(1, 20)
    app = console_of(written)
    async with app.run_test(size=(120, 40)) as pilot:
        text = await answers_opened(pilot, app)
        assert "r loads the run's model and asks it" in text
        # What `sf ask` has to say is shown.
        await pilot.press("r")
        assert "in a process of its own" in screen_text(app)
        app.screen._process._process.wait()  # type: ignore[attr-defined]
        assert "sf: " in await until_polled(pilot, app)


@pytest.mark.parametrize("stage", ["\0", "../run", "a/b"])
def test_a_stage_that_cannot_name_a_file_has_no_answers(running: WrittenRun, stage: str) -> None:
    reader = SheetReader(running.run)
    assert reader.poll(stage)
    assert "can't have a file of answers" in reader.problem


def test_as_few_words_as_needed_are_left_out_of_long_questions() -> None:
    questions = capitals().questions[:3]
    assert shortened_questions(questions, 29)[0] == "What is the capital of Peru?"
    assert shortened_questions(questions, 28)[:2] == [
        "…is the capital of Peru?",
        "…is the capital of Chile?",
    ]
    assert shortened_questions(questions, 5)[0] == "…Peru?"
    assert shortened_questions(questions[:1], 5) == ["What is the capital of Peru?"]


async def test_a_damaged_file_and_hostile_answers_are_shown_printably(
    running: WrittenRun,
) -> None:
    write_sheet(running.run, capitals(PLAIN, more=EVERYWHERE))
    app = console_of(running)
    async with app.run_test(size=(120, 40)) as pilot:
        text = await answers_opened(pilot, app)
        assert "Peru" in text
        assert steering(text) == ""
        path = sheet_path(running.run, "new")
        path.write_bytes(b"{}")
        os.utime(path, (1, 1))
        assert "delete it" in (await until_polled(pilot, app)).replace("\n", "")


async def test_alert_and_verdict_show_lost_answers(running: WrittenRun) -> None:
    from dataclasses import replace

    from sf_tui.run.answers import record_of
    from sf_tui.tui.panels.lists import Events
    from sf_tui.tui.panels.verdict import Verdict
    from sf_tui.vocabulary.events import Alert

    lost = [
        record_of(one.question, one.wanted, one.answers[-1].text)
        for one in capitals(PLAIN).questions[:3]
    ]
    running.event(Alert("warn", "drop", "old lost 40 points", "new", 85, "old", answers=lost))
    running.diagnose(85, answers=lost)
    app = console_of(running)
    async with app.run_test(size=(200, 60)):
        alert = "".join(text for line in app.query_one(Events)._lines for text, _ in line)
        verdict = "".join(text for line in app.query_one(Verdict)._lines for text, _ in line)
        assert replace(lost[0]).spelled() in " ".join(alert.split())
        assert '"{"country": "Japan"}" to What is the capital of Japan?' in verdict
