"""Keeps every failure of `sf` away from the training that it watches.

An error ends the watching with one plain message and an alert in the run; the training goes on.
"""

from __future__ import annotations

import atexit
import os
import sys
import traceback
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch

from sf_tui.engine.loop import StepOutcome
from sf_tui.errors import SfError
from sf_tui.integrations.exec_marks import mark
from sf_tui.integrations.host import Host
from sf_tui.integrations.host_profile import Settings
from sf_tui.integrations.hosted_run import HostedRun
from sf_tui.integrations.undisturbed import undisturbed
from sf_tui.printable import printable
from sf_tui.worker.stop import one_line


def tell(message: str) -> None:
    """Write one line about the watching to the training's stderr."""
    sys.stderr.write(f"sf: {printable(message)}\n")
    sys.stderr.flush()


def tell_unwatched(reason: str) -> None:
    """Write that a training is not watched, and leave the reason for `sf exec`."""
    tell(f"does not watch this training: {reason}")
    mark("failed", f"{sys.executable}\n{reason}")


def reason_of(error: Exception) -> str:
    """Return an error as one line: its message, with its type unless it is one of sf's."""
    return one_line(error) if isinstance(error, SfError) else f"{type(error).__name__}: {error}"


class Watcher:
    """Watches one training.

    Attributes:
        hosted: the run; None before it begins, and after an error.
        changed_weights: whether the work after the last step may have changed weights.
    """

    def __init__(self) -> None:
        self.hosted: HostedRun | None = None
        self.changed_weights = False
        self._model: torch.nn.Module | None = None
        self._at_exit: Callable[[], None] | None = None

    @property
    def should_stop(self) -> bool:
        """Whether an operator, a rule or a script asks the training to stop."""
        return self.hosted is not None and self.hosted.stop is not None

    @property
    def adds_gradients(self) -> bool:
        """Whether the next step has gradients beside the host's."""
        return self.hosted is not None and not self.should_stop and self.hosted.adds_gradients

    def begin(self, host: Callable[[], Host], settings: Settings, run_dir: Path | None) -> None:
        """Begin to watch a training, or write why it is not watched.

        Args:
            host: describes the training; what it raises is contained too.
            settings: what the user wants.
            run_dir: where the run is.
        """
        self.abandon("the next training began in the same process")

        def open_run() -> None:
            described = host()
            self._model = described.model
            with undisturbed(described.model):
                self.hosted = HostedRun(described, settings, run_dir)
                self.hosted.begin()

        if self._contain(open_run) and self.hosted is not None:
            run = self.hosted.run
            self._at_exit = partial(self._abandon_at_exit, os.getpid())
            atexit.register(self._at_exit)
            place = run.id if run.path.parent.name == "runs" else str(run.path)
            tell(f"watches this training; `sf attach {place}` shows it")

    def before_update(self) -> None:
        """Add the gradients of the anchor, between the backward pass and the update."""
        hosted = self.hosted
        # Without an anchor there is nothing to do, at nearly every step.
        if hosted is not None and self.adds_gradients:
            self._run(hosted.add_gradients)

    def after_step(self, outcome: Callable[[], StepOutcome]) -> bool:
        """Record a step; return whether the host is asked to write a checkpoint."""
        hosted = self.hosted
        if hosted is None:
            return False
        wanted: list[bool] = []
        edited = hosted.last_edit
        self._run(lambda: wanted.append(hosted.after_step(outcome())))
        # An error may have come between a change and its event.
        self.changed_weights = self.hosted is None or hosted.last_edit != edited
        return any(wanted)

    def saved(self, folder: Path) -> None:
        """Record a checkpoint that the host wrote."""
        hosted = self.hosted
        if hosted is not None:
            self._run(lambda: hosted.host_saved(folder))

    def end(self) -> None:
        """Record the end of the training."""
        hosted = self.hosted
        if hosted is not None:
            self._run(hosted.end)
            self._close()

    def abandon(self, reason: str) -> None:
        """Record that a training ended without saying so."""
        if self.hosted is not None:
            self.hosted.fail(reason)
            self._close()

    def _abandon_at_exit(self, process: int) -> None:
        # A forked child that ends must not end its parent's run.
        if os.getpid() == process:
            self.abandon("its process ended before its training did")

    def _run(self, work: Callable[[], object]) -> None:
        model = self._model
        assert model is not None  # set before there is a run

        def isolated() -> None:
            with undisturbed(model):
                work()

        self._contain(isolated)

    def _contain(self, work: Callable[[], object]) -> bool:
        """Run some work; return False if it failed, and watch no longer."""
        try:
            work()
        except Exception as error:
            # Whatever it was, it must not end a training that is not ours.
            self._give_up(error)
            return False
        return True

    def _give_up(self, error: Exception) -> None:
        reason = reason_of(error)
        tell(f"watches this training no longer: {reason}; the training goes on")
        mark("failed", f"{sys.executable}\n{reason}")
        hosted = self.hosted
        if hosted is None:
            return
        trace = "".join(traceback.format_exception(error))
        hosted.fail(f"not watched any longer: {reason}; the training went on", trace=trace)
        self._close()

    def _close(self) -> None:
        if self._at_exit is not None:
            atexit.unregister(self._at_exit)
            self._at_exit = None
        if self.hosted is not None:
            self.hosted.close()
            self.hosted = None
