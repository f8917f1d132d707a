"""Which rows the events have: folded checkpoints, pinned alerts, the chosen row."""

from __future__ import annotations

from dataclasses import replace

from sf_tui.tui.activity import ActivityLog, Kind
from sf_tui.tui.event_rows import EventList, fold, pinned
from sf_tui.tui.key_bursts import BURST_S, KeyBursts
from sf_tui.tui.worker_log import LINES_KEPT, WorkerLogTail
from sf_tui.vocabulary.events import Alert, CheckpointWritten, CommandAnswered, DiagnosisMade, Event
from tui.written_run import WrittenRun

TIME = "2026-03-01T09:30:00Z"


def log_of(*events: Event) -> ActivityLog:
    log = ActivityLog()
    for number, event in enumerate(events, 1):
        log.add(replace(event, seq=number, time=TIME))
    return log


def checkpoint(step: int, stage: str = "new") -> CheckpointWritten:
    return CheckpointWritten(stage, step, f"checkpoints/{stage}/step-{step:06d}", bytes=100)


def alert(step: int, stage: str = "new") -> Alert:
    return Alert(level="warn", code="drop", message=f"lost by {step}", stage=stage, step=step)


def saved(status: str, step: int) -> CommandAnswered:
    return CommandAnswered(
        id="c-1", action="checkpoint", op="checkpoint", status=status, stage="new", step=step
    )


def test_checkpoints_in_a_row_are_one_row() -> None:
    log = log_of(checkpoint(0), alert(5), checkpoint(10), checkpoint(20), checkpoint(30, "other"))
    rows = fold(log.rows)
    assert [len(row.entries) for row in rows] == [1, 1, 2, 1]
    assert rows[2].text == "2 checkpoints, steps 10 to 20; newest: new/step-000020, 100 B"
    assert rows[2].main.step == 20


def test_a_command_and_the_checkpoint_that_it_asked_for_are_one_row() -> None:
    log = log_of(saved("accepted", 7), checkpoint(7), saved("done", 7), checkpoint(20))
    rows = fold(log.rows)
    assert [len(row.entries) for row in rows] == [2, 1]
    assert rows[0].text == "checkpoint: requested > accepted @7 > done"


def test_alerts_of_the_newest_stage_and_the_verdict_are_pinned_however_long_ago() -> None:
    verdict = DiagnosisMade(stage="new", step=6, verdict="spurious", task="old", now=0.2)
    log = log_of(
        alert(3, "earlier"), alert(5), verdict, *(checkpoint(step) for step in range(3000))
    )
    assert all(row.kind is Kind.CHECKPOINT for row in log.rows), "the list itself has lost them"
    assert [row.main.step for row in pinned(log)] == [5, 6]
    assert [row.main.kind for row in pinned(log, most=1)] == [Kind.ALERT, Kind.VERDICT]
    assert [row.main.step for row in pinned(log, "spurious")] == [6]
    assert [row.main.step for row in pinned(log.until(2))] == [5]


def test_the_chosen_row_stays_chosen_while_rows_arrive() -> None:
    log = log_of(alert(1), alert(2), alert(3))
    events = EventList()
    assert events.index(events.rows(log, "")) is None, "it follows"
    events.move(events.rows(log, ""), -1)
    events.move(events.rows(log, ""), -1)
    assert events.chosen is log.rows[1]
    log.add(alert(4))
    assert events.index(events.rows(log, "")) == 1
    # A filter may take it away: then the nearest one.
    assert events.index(events.rows(log, "lost by 3")) == 0
    events.move(events.rows(log, ""), 3)
    assert events.chosen is None, "below the newest row it follows again"


def test_letters_right_behind_each_other_are_text_and_a_held_key_is_not() -> None:
    bursts = KeyBursts()
    assert not any(bursts.is_text("j", at / 1000) for at in range(0, 330, 33)), "held down"
    assert bursts.is_text("f", 0.35)
    assert bursts.is_text("f", 0.36)
    assert bursts.goes_on(0.37)
    assert not bursts.goes_on(0.36 + 2 * BURST_S)
    assert not bursts.is_text("f", 0.6)


def test_the_log_is_read_as_it_grows_and_its_lines_keep_their_numbers(running: WrittenRun) -> None:
    path = running.run.worker_log
    path.write_bytes(b"first\n\nhalf")
    tail = WorkerLogTail(path)
    assert tail.poll()
    assert tail.lines == ["first", "half"]
    assert not tail.poll()
    with path.open("ab") as file:
        file.write(b" a line\n10%\r20%\r")
    assert tail.poll()
    assert tail.lines == ["first", "half a line", "20%"]
    with path.open("ab") as file:
        file.write(b"30%\x1b[K\ndone\n" + b"more\n" * LINES_KEPT)
    assert tail.poll()
    assert tail.dropped == 4
    assert tail.lines == ["more"] * LINES_KEPT
    path.write_bytes(b"again\n")
    assert tail.poll()
    assert tail.lines == ["again"]
