"""The event log is whole at every moment, and a reader sees each event once."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sf_tui.errors import RunError
from sf_tui.run.clock import parse_rfc3339
from sf_tui.run.events import EventLog, EventTail, JsonLinesTail, read_events
from sf_tui.vocabulary.events import UnknownEvent, event_object

shared_folder = settings(
    deadline=None,
    max_examples=40,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)

SCALARS = st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text()
EVENTS = st.lists(
    st.dictionaries(st.text(max_size=8), SCALARS | st.lists(SCALARS, max_size=3), max_size=4),
    max_size=8,
)


def note(**values: object) -> UnknownEvent:
    return UnknownEvent("note", values)


def seqs(path: Path) -> list[int]:
    return [event.seq for event in read_events(path)]


def test_seq_rises_by_one_across_openings(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    for _ in range(3):
        log = EventLog(path)
        log.append(note(loss=1.5))
        assert log.append(note(loss=1.0)).seq == log.seq
        log.close()
    assert seqs(path) == [1, 2, 3, 4, 5, 6]
    assert [event.seq for event in EventLog(path).history] == [1, 2, 3, 4, 5, 6]


def test_every_event_says_its_time_and_type(tmp_path: Path) -> None:
    event = EventLog(tmp_path / "events.jsonl").append(note(state="entered"))
    assert parse_rfc3339(event.time).utcoffset() is not None
    assert event_object(event)["type"] == "note"
    assert list(read_events(tmp_path / "events.jsonl")) == [event]


@shared_folder
@given(cut=st.integers(0, 200))
def test_torn_last_line_is_taken_back_when_the_log_is_opened(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "events.jsonl"
    path.unlink(missing_ok=True)
    log = EventLog(path)
    log.append(note(step=1))
    whole = path.stat().st_size
    log.append(note(step=2, text="é\n" * 5))
    log.close()
    content = path.read_bytes()
    torn = content[: max(whole, len(content) - 1 - cut)]
    path.write_bytes(torn)

    log = EventLog(path)
    assert path.read_bytes() == content[:whole]
    assert log.append(note(step=2)).seq == 2
    assert seqs(path) == [1, 2]


def test_log_of_a_lost_power_supply_is_cut_where_its_zeros_begin(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    EventLog(path).append(note(step=1))
    with path.open("ab") as file:
        file.write(b"\0" * 4096)
    assert EventLog(path).append(note(step=2)).seq == 2
    assert seqs(path) == [1, 2]


@pytest.mark.parametrize("room", [0, 1, 40, 79])
def test_full_disk_in_the_middle_of_a_line_leaves_a_whole_log(
    tmp_path: Path, largest_file: Callable[[int], AbstractContextManager[None]], room: int
) -> None:
    path = tmp_path / "events.jsonl"
    log = EventLog(path)
    heard: list[int] = []
    log.listen(lambda event: heard.append(event.seq))
    log.append(note(step=1))
    before = path.read_bytes()

    with largest_file(len(before) + room), pytest.raises(RunError) as caught:
        log.append(note(step=2, text="x" * 80))
    assert str(path) in caught.value.message
    assert "room" in caught.value.hint
    assert path.read_bytes() == before

    assert log.append(note(step=2)).seq == 2
    assert heard == [1, 2]
    assert seqs(path) == [1, 2]


@pytest.mark.parametrize("line", [b"{broken}\n", b"[1, 2]\n", b"\xff\xfe\n", b"12\n"])
def test_log_with_a_foreign_line_is_refused(tmp_path: Path, line: bytes) -> None:
    path = tmp_path / "events.jsonl"
    EventLog(path).append(note(step=1))
    before = path.read_bytes()
    path.write_bytes(line + before)
    with pytest.raises(RunError, match=r"events\.jsonl:1: .*(not JSON|not an object)"):
        EventLog(path)
    assert path.read_bytes() == line + before


@shared_folder
@given(events=EVENTS, data=st.data())
def test_tail_sees_each_event_once_however_the_bytes_arrive(
    tmp_path: Path, events: list[dict[str, object]], data: st.DataObject
) -> None:
    content = b"".join(json.dumps(event).encode() + b"\n" for event in events)
    cuts = sorted(data.draw(st.sets(st.integers(0, len(content)), max_size=20)))
    path = tmp_path / "events.jsonl"
    path.write_bytes(b"")
    tail = JsonLinesTail(path)
    seen: list[object] = []
    for start, end in zip([0, *cuts], [*cuts, len(content)], strict=True):
        with path.open("ab") as file:
            file.write(content[start:end])
        seen += tail.poll()
    assert seen == events
    assert tail.offset == len(content)
    assert tail.poll() == []


def test_tail_goes_on_where_another_one_stopped(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    log = EventLog(path)
    for step in range(5):
        log.append(note(step=step))
    first = EventTail(path)
    for event in first.iterate():
        if event.values["step"] == 2:
            break
    second = EventTail(path, offset=first.offset)
    assert [event.values["step"] for event in second.poll()] == [3, 4]
    assert [event.values["step"] for event in first.poll()] == [3, 4]


def test_tail_waits_for_a_file_that_is_not_there_yet(tmp_path: Path) -> None:
    tail = EventTail(tmp_path / "events.jsonl")
    assert tail.poll() == []
    EventLog(tmp_path / "events.jsonl").append(note(step=1))
    assert [event.values["step"] for event in tail.poll()] == [1]


def test_tail_passes_over_lines_that_are_no_objects_and_counts_them(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    path.write_bytes(b'{"a": 1}\n\nrubbish\n[1]\n"text"\n\xff\n{"a": 2}\n')
    tail = JsonLinesTail(path)
    assert tail.poll() == [{"a": 1}, {"a": 2}]
    assert tail.unreadable == 4
    assert [damaged.line for damaged in tail.damage] == [3, 4, 5, 6]


def test_line_longer_than_a_chunk_is_one_event(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    log = EventLog(path)
    log.append(note(text="x" * (3 << 20)))
    log.append(note(text="y"))
    assert [len(event.values["text"]) for event in read_events(path)] == [3 << 20, 1]


def test_numbers_of_every_kind_are_written_as_json(tmp_path: Path) -> None:
    @dataclass
    class Layer:
        name: str
        relative_update: float

    path = tmp_path / "events.jsonl"
    EventLog(path).append(
        note(
            share=np.float64(0.5),
            count=np.int64(3),
            array=np.arange(3),
            layers=[Layer("block-0", 0.25)],
            undefined=math.nan,
        )
    )
    # Python's own reader stands for any other program: NaN would not be JSON.
    (line,) = path.read_text().splitlines()
    event = json.loads(line, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    assert (event["share"], event["count"], event["array"]) == (0.5, 3, [0, 1, 2])
    assert event["layers"] == [{"name": "block-0", "relative_update": 0.25}]
    assert event["undefined"] is None
