"""Stands for ssh in tests: runs the command line in a shell of its own, as a host's login would.

Like ssh it joins its arguments with blanks, gives the shell none of the caller's environment but
TERM, and exits with the shell's code. `gone` is a host that can't be reached. If the file that
`LOSE_AT` names exists, the connection is lost: the file goes away, the command gets SIGHUP, and the
exit code is 255.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

_WITH_VALUE = {"-o", "-F", "-p", "-i"}
_POLL_S = 0.05


def main(words: list[str]) -> int:
    asked_settings = False
    while words and words[0].startswith("-"):
        option = words.pop(0)
        asked_settings = asked_settings or option == "-G"
        if option in _WITH_VALUE:
            words.pop(0)
    host, *rest = words
    if asked_settings:
        print("serveraliveinterval 0")
        return 0
    if host == "gone":
        print(f"ssh: connect to host {host} port 22: Connection refused", file=sys.stderr)
        return 255
    environ = {"HOME": os.environ["HOME"], "PATH": "/usr/bin:/bin"}
    environ |= {"TERM": os.environ.get("TERM", "dumb"), "LANG": "C.UTF-8"}
    lose_at = os.environ.get("LOSE_AT")
    # A suite under nohup has SIGHUP ignored, and so have all that it starts.
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    # A shell that stays would take the SIGHUP alone, and leave the command at the terminal.
    line = ("exec " if lose_at else "") + " ".join(rest)
    with subprocess.Popen(["/bin/sh", "-c", line], env=environ) as shell:
        while shell.poll() is None:
            if lose_at and Path(lose_at).exists():
                Path(lose_at).unlink()
                shell.send_signal(signal.SIGHUP)
                shell.wait()
                return 255
            time.sleep(_POLL_S)
        return shell.returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
