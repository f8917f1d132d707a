"""One console session: from the terminal as it is to an exit code and a closing message.

Knows the process and its streams; the console decides what is shown.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from sf_tui.errors import UsageError
from sf_tui.quick_imports import without_collecting
from sf_tui.run.directory import RunDirectory
from sf_tui.run.hosted import host_name
from sf_tui.run.liveness import WorkerState, end_status, probe_liveness
from sf_tui.run.next_steps import what_next, why_no_worker
from sf_tui.tui.terminal import (
    LOST_EXIT_CODE,
    ConsoleOptions,
    TerminalWatch,
    fit_options,
    is_lost,
    is_writable,
    missing_for_console,
)

if TYPE_CHECKING:
    from textual.app import App


def open_console(
    run: RunDirectory,
    options: ConsoleOptions,
    *,
    environ: Mapping[str, str] | None = None,
    worker_ended: Callable[[], bool] | None = None,
) -> int:
    """Show a run on this process's terminal until the operator leaves.

    Args:
        run: the run.
        options: the requested ones; features that the terminal lacks are turned off.
        environ: the environment; this process's if not given.
        worker_ended: whether the worker of a run that is starting has ended.

    Returns:
        0 left, 75 the terminal was lost, 130 interrupted, 1 the console failed, -1 the run never
        began.

    Raises:
        UsageError: there is no terminal.
    """
    require_terminal(f"`sf show {run.id}` prints the state, `sf run --no-ui` needs no terminal")
    environ = os.environ if environ is None else environ
    fitted = fit_options(options, environ, sys.stderr.encoding)
    with without_collecting():
        # Deferred: callers without a console must not wait for Textual.
        from sf_tui.tui.console import ConsoleApp

    output = sys.stderr.fileno()
    app = ConsoleApp(
        run,
        fitted,
        terminal_is_ready=lambda: is_writable(output),
        worker_ended=worker_ended,
    )
    return run_application(app, mouse=fitted.mouse and not fitted.lite)


def run_application(app: App[int], *, mouse: bool) -> int:
    """Run a Textual application, watch its terminal, and return its exit code."""
    source, output = sys.stdin.fileno(), sys.stderr.fileno()
    watch = TerminalWatch(source, output)
    watch.start()
    try:
        code = app.run(mouse=mouse)
        if is_lost(source):
            # The application may have noticed first. No output is possible any more.
            os._exit(LOST_EXIT_CODE)
    finally:
        watch.stop()
    return code if code is not None else (app.return_code or 0)


def require_terminal(remedy: str) -> None:
    """Check that the console can open.

    Raises:
        UsageError: stdin or stderr is no terminal, or the terminal can't move its cursor.
    """
    missing = missing_for_console(os.environ)
    if missing:
        raise UsageError(missing, remedy)


def closing_message(run: RunDirectory, code: int) -> str:
    """Return the message printed on exit: the run's state and how to attach again."""
    state, status = probe_liveness(run).state, end_status(run)
    back = f"`sf attach {run.id}` opens it again"
    if code == 1:
        return f"the console failed; the run is not affected: {back}"
    if state in {WorkerState.ALIVE, WorkerState.STARTING, WorkerState.SILENT}:
        return f"{run.id} keeps running; {back}, `sf stop {run.id}` ends it"
    if state is WorkerState.DEAD:
        return f"{why_no_worker(run.id, state, '')}; {what_next(run.id, '', host_name(run))}"
    return f"{why_no_worker(run.id, state, status)}; {what_next(run.id, status, host_name(run))}"


def pick_run(options: ConsoleOptions) -> RunDirectory | None:
    """Let the operator choose one of the machine's runs; None if they leave without a choice."""
    fitted = fit_options(options, os.environ, sys.stderr.encoding)
    # Deferred: callers without a console must not wait for Textual.
    from sf_tui.tui.picker import RunPicker

    app = RunPicker(fitted)
    watch = TerminalWatch(sys.stdin.fileno(), sys.stderr.fileno())
    watch.start()
    try:
        return app.run(mouse=False)
    finally:
        watch.stop()
