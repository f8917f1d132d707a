"""Whatever happens to other writers, a command is one whole line."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager

import pytest

from sf_tui.errors import RunError, UsageError
from sf_tui.run.commands import CommandTail, request_command
from sf_tui.run.directory import RunDirectory
from support import PATIENCE_S

WRITER = """\
import sys
from pathlib import Path
from sf_tui.run.commands import request_command
from sf_tui.run.directory import RunDirectory
run = RunDirectory(Path(sys.argv[1]))
for number in range(50):
    request_command(run, "freeze", {"layers": number, "pad": "x" * 3000}, by=sys.argv[2])
"""


def test_command_says_who_wants_what(run: RunDirectory) -> None:
    identity = request_command(run, "freeze", {"layers": 2}, by="ada")
    (line,) = CommandTail(run.commands).poll()
    assert line["id"] == identity
    assert (line["action"], line["arguments"], line["by"]) == ("freeze", {"layers": 2}, "ada")
    assert line["time"].endswith("Z")


def test_commands_of_many_writers_at_once_are_all_there_and_whole(run: RunDirectory) -> None:
    writers = [
        subprocess.Popen([sys.executable, "-c", WRITER, str(run.path), f"writer-{number}"])
        for number in range(4)
    ]
    assert [writer.wait(timeout=PATIENCE_S) for writer in writers] == [0, 0, 0, 0]
    tail = CommandTail(run.commands)
    lines = tail.poll()
    assert tail.unreadable == 0
    assert len({line["id"] for line in lines}) == len(lines) == 200
    for number in range(4):
        own = [line["arguments"]["layers"] for line in lines if line["by"] == f"writer-{number}"]
        assert own == list(range(50))


def test_torn_line_of_another_writer_swallows_nothing(run: RunDirectory) -> None:
    request_command(run, "pause")
    with run.commands.open("ab") as file:
        file.write(b'{"id": "c-1", "action": "fr')
    tail = CommandTail(run.commands)
    assert [line["action"] for line in tail.poll()] == ["pause"]
    request_command(run, "resume")
    assert [line["action"] for line in tail.poll()] == ["resume"]
    assert tail.unreadable == 1


def test_full_disk_leaves_no_half_command(
    run: RunDirectory, largest_file: Callable[[int], AbstractContextManager[None]]
) -> None:
    request_command(run, "pause")
    before = run.commands.read_bytes()
    with largest_file(len(before) + 20), pytest.raises(RunError) as caught:
        request_command(run, "resume")
    assert str(run.commands) in caught.value.message
    assert run.commands.read_bytes() == before
    request_command(run, "resume")
    assert [line["action"] for line in CommandTail(run.commands).poll()] == ["pause", "resume"]


def test_each_line_without_an_id_is_a_command_of_its_own(run: RunDirectory) -> None:
    run.commands.write_bytes(b'{"action":"pause"}\n{"id":null}\n{"action":"pause"}\n{"id":"c"}\n')
    tail = CommandTail(run.commands)
    lines = tail.poll()
    identities = [line["id"] for line in lines]
    assert len(set(identities)) == 4
    assert identities[3] == "c"
    assert lines == CommandTail(run.commands).poll()


def test_command_to_a_directory_that_is_gone_is_an_error_with_its_name(run: RunDirectory) -> None:
    for file in run.path.iterdir():
        file.unlink()
    run.path.rmdir()
    with pytest.raises(RunError, match=str(run.path)):
        request_command(run, "pause")


@pytest.mark.parametrize("value", [10**30, "\ud800", {1}])
def test_argument_that_is_no_json_is_an_error_and_nothing_is_sent(
    run: RunDirectory, value: object
) -> None:
    with pytest.raises(UsageError, match="freeze"):
        request_command(run, "freeze", {"layers": value})
    assert run.commands.read_bytes() == b""
