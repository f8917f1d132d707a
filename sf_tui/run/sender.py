"""Who sends a command, and from where: `ana@gpu7 pts/3`.

Names come from the system, not from what the sender claims, except for sudo's own record of who
called it. They are for readers: nothing is permitted or refused because of them.
"""

from __future__ import annotations

import os
import pwd
import socket
from collections.abc import Mapping
from contextlib import suppress

from sf_tui.vocabulary.commands import clean_sender

_STREAMS = (0, 2, 1)
"""Descriptors on which the sender's terminal is looked for: stdin, stderr, stdout."""


def sender_name(environ: Mapping[str, str] | None = None) -> str:
    """Return `USER@HOST` of this process, followed by its terminal if it has one.

    Under sudo the user is the one who called it.

    Args:
        environ: the environment; this process's if not given.
    """
    environ = os.environ if environ is None else environ
    host = socket.gethostname().partition(".")[0]
    return clean_sender(f"{_user(environ)}@{host} {_terminal()}")


def _user(environ: Mapping[str, str]) -> str:
    # sudo sets SUDO_UID and SUDO_USER together; SUDO_USER alone is a leftover or made up.
    if environ.get("SUDO_USER") and environ.get("SUDO_UID"):
        return environ["SUDO_USER"]
    with suppress(KeyError):
        return pwd.getpwuid(os.getuid()).pw_name
    # A container may run under a number that its user database doesn't have.
    return environ.get("USER") or environ.get("LOGNAME") or str(os.getuid())


def _terminal() -> str:
    for descriptor in _STREAMS:
        with suppress(OSError):
            return os.ttyname(descriptor).removeprefix("/dev/")
    return ""
