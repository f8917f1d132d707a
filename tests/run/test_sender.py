"""A command names who sent it and from where, and no name can pass for a rule's."""

from __future__ import annotations

import os
import pwd
import socket
import subprocess
import sys

import pytest

from sf_tui.run.commands import CommandTail, request_command
from sf_tui.run.directory import RunDirectory
from sf_tui.run.sender import sender_name
from sf_tui.vocabulary.commands import LONGEST_SENDER, Command, clean_sender
from sf_tui.vocabulary.events import CommandAnswered

HOST = socket.gethostname().partition(".")[0]


def test_the_sender_is_the_user_at_this_host(run: RunDirectory) -> None:
    request_command(run, "freeze")
    (line,) = CommandTail(run.commands).poll()
    assert line["by"].startswith(f"{pwd.getpwuid(os.getuid()).pw_name}@{HOST}")


@pytest.mark.parametrize(
    ("environ", "user"),
    [
        ({"SUDO_USER": "ana", "SUDO_UID": "1007"}, "ana"),
        ({"SUDO_USER": "an\x1b[31ma\n", "SUDO_UID": "1007"}, "an [31ma"),
        ({"SUDO_USER": "ana"}, pwd.getpwuid(os.getuid()).pw_name),
        ({"USER": "somebody-else"}, pwd.getpwuid(os.getuid()).pw_name),
    ],
)
def test_under_sudo_it_is_who_called_it(environ: dict[str, str], user: str) -> None:
    assert sender_name(environ).startswith(f"{user}@{HOST}" if user.isalnum() else user)


def test_a_number_without_a_name_is_named_by_the_environment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(os, "getuid", lambda: 2**31 - 7)
    assert sender_name({"USER": "job"}).startswith(f"job@{HOST}")
    assert sender_name({}).startswith(f"{2**31 - 7}@{HOST}")


def test_the_terminal_is_named_if_there_is_one() -> None:
    ask = "from sf_tui.run.sender import sender_name; print(sender_name())"
    near, far = os.openpty()
    try:
        name = os.ttyname(far).removeprefix("/dev/")
        there = subprocess.run(
            [sys.executable, "-c", ask], stdin=far, capture_output=True, text=True
        )
    finally:
        os.close(near)
        os.close(far)
    assert there.stdout.strip().endswith(f"@{HOST} {name}")
    nowhere = subprocess.run(
        [sys.executable, "-c", ask], stdin=subprocess.DEVNULL, capture_output=True, text=True
    )
    assert nowhere.stdout.strip().endswith(f"@{HOST}")


@pytest.mark.parametrize("by", [None, 7, "", "protect", "rule protect", "x" * 500, "a\x9bb\u202ec"])
def test_a_written_line_never_passes_for_a_rule(by: object) -> None:
    command = Command.from_line({"id": "c-1", "action": "freeze", "by": by, "by_rule": True})
    assert not command.by_rule
    assert command.by.isprintable()
    assert len(command.by) <= LONGEST_SENDER
    assert command.sender == (command.by or "unknown")
    assert not command.answer("done").by_rule


def test_a_rule_is_named_as_one() -> None:
    event = CommandAnswered(id="p:1", status="done", action="freeze", by="protect", by_rule=True)
    assert Command.from_event(event).sender == "rule protect"


def test_names_are_cleaned_of_control_characters() -> None:
    assert clean_sender(" ana\t\x1b]0;x\x07@gpu7\r\n pts/3 ") == "ana ]0;x @gpu7 pts/3"
