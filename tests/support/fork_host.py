"""Forks a process for each `sf` command line that it is sent, with the slow imports done already.

A request is a line of JSON on stdin, its answer a line of JSON on stdout. What is forked is the
whole command line in a process and session of its own, with its own signals, exit code and limits;
nothing is saved but what importing and building the command line take each time.
"""

from __future__ import annotations

import functools
import gc
import importlib
import json
import os
import pkgutil
import resource
import signal
import sys
import traceback
from pathlib import Path
from typing import Any

import accelerate
import datasets
import typer.main
from transformers.models.gpt_neox import modeling_gpt_neox
from transformers.models.llama import modeling_llama

import sf_tui
from sf_tui.cli.app import app, main

IMPORTED = (accelerate, datasets, modeling_gpt_neox, modeling_llama)
# `integrations` has modules that import programs which may not be installed.
NEVER_NEEDED = ("sf_tui.bench", "sf_tui.tui", "sf_tui.integrations")


def prepare() -> None:
    """Do once what each `sf` would do again: import its modules, build its tree of commands."""
    # As in the tests' own process; see `without_sync.py`, which a script can't import.
    os.fsync = lambda fd: None  # noqa: ARG005
    for module in pkgutil.walk_packages(sf_tui.__path__, "sf_tui."):
        if not module.name.startswith(NEVER_NEEDED) and not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    typer.main.get_command = functools.cache(typer.main.get_command)
    typer.main.get_command(app)
    # A collection in a forked process would touch, and so copy, every page that it shares.
    gc.collect()
    gc.freeze()


def start(request: dict[str, Any]) -> int:
    """Fork a process that runs `sf` and return its pid."""
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        _become(request)
        main()
        code = 0
    except SystemExit as ending:
        code = ending.code if isinstance(ending.code, int) else int(ending.code is not None)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        # Never back into the loop below.
        os._exit(code)


def _become(request: dict[str, Any]) -> None:
    os.setsid()
    # A suite that was started in the background has SIGINT ignored, and so has all that it forks;
    # an `sf` at a terminal has not.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    written = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
    places = ((os.devnull, os.O_RDONLY), (request["stdout"], written), (request["stderr"], written))
    for number, (path, flags) in enumerate(places):
        os.dup2(os.open(path, flags, 0o644), number)
    os.environ.update(request["environment"])
    os.chdir(request["folder"])
    for name, bound in request["limits"].items():
        kind = getattr(resource, name)
        resource.setrlimit(kind, (bound, resource.getrlimit(kind)[1]))
    if request["signals_at"]:
        _send_signals_at(request["signals_at"])
    sys.argv = ["sf", *request["arguments"]]


def _send_signals_at(planned: list[tuple[int, dict[str, Any]]]) -> None:
    """Send this process each signal once, behind the first event with its fields in the log."""
    write, due = os.write, list(planned)

    def writing(handle: int, content: bytes) -> int:
        written = write(handle, content)
        if due and Path(f"/proc/self/fd/{handle}").readlink().name == "events.jsonl":
            event = json.loads(content)
            if due[0][1].items() <= event.items():
                os.kill(os.getpid(), due.pop(0)[0])
        return written

    os.write = writing


def reap(pid: int) -> int | None:
    """Return a child's exit code, minus the signal that ended it, or None while it runs."""
    if not pid:
        return None
    done, status = os.waitpid(pid, os.WNOHANG)
    return os.waitstatus_to_exitcode(status) if done else None


def serve() -> None:
    """Answer requests until stdin ends."""
    for line in sys.stdin:
        request = json.loads(line)
        answer = reap(request["reap"]) if "reap" in request else start(request)
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    prepare()
    print(json.dumps(len(IMPORTED)), flush=True)
    serve()
