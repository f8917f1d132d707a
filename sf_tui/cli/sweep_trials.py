"""Runs the trials of a sweep as optuna's grid sampler asks for them.

The run directories are the only state: a trial's directory has a name that follows from the sweep,
so a sweep that was killed finds what is done, what is half done and what is being trained still.
A trial's worker is a process of its own session, like that of any detached run.
"""

from __future__ import annotations

import hashlib
import queue
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from types import FrameType
from typing import TYPE_CHECKING, Protocol

import orjson

from sf_tui.errors import SfError
from sf_tui.profile import Profile, dump_profile
from sf_tui.profile.grid import Grid
from sf_tui.report.sweep import SweepTasks, TrialResult, read_trial
from sf_tui.run.directory import RunDirectory, runs_home
from sf_tui.run.labels import read_labels, write_labels
from sf_tui.run.liveness import probe_liveness

if TYPE_CHECKING:
    import optuna

_POLL_S = 0.2
Tell = Callable[[TrialResult], None]


class WorkerProcess(Protocol):
    """A worker that was started."""

    def poll(self) -> int | None:
        """Return its exit code; None while it lives."""

    def terminate(self) -> None:
        """Ask it to save everything and end."""


class Start(Protocol):
    """Starts workers."""

    def __call__(self, run: RunDirectory, *, environ: Mapping[str, str]) -> WorkerProcess:
        """Start a run's worker with some environment variables set."""


class NoOptunaError(SfError):
    """optuna is not installed."""

    exit_code = 2


def load_optuna() -> None:
    """Check that optuna is there, before anything is made.

    Raises:
        NoOptunaError: it is not.
    """
    try:
        import optuna
    except ImportError as error:
        raise NoOptunaError(
            "`sf sweep` needs optuna, which is not installed", 'pip install "sf-tui[sweep]"'
        ) from error
    # Its warnings are tracebacks of trials without scores, which the table has with their reasons.
    optuna.logging.set_verbosity(optuna.logging.ERROR)


@dataclass(frozen=True)
class Sweep:
    """A sweep: one profile for each point of a grid.

    Attributes:
        grid: the values.
        profiles: the resolved profiles, in the order of `grid.points()`.
        tasks: the tasks that are compared.
    """

    grid: Grid
    profiles: Sequence[Profile]
    tasks: SweepTasks

    @cached_property
    def id(self) -> str:
        """The sweep's name: the same profile with the same values is the same sweep."""
        content = [dict(self.grid.axes), *map(dump_profile, self.profiles)]
        digest = hashlib.sha256(orjson.dumps(content)).hexdigest()[:8]
        return f"{self.profiles[0].name}-sweep-{digest}"

    def read(self) -> list[TrialResult]:
        """Return all trials as their run directories are now."""
        return [self.read_trial(at) for at in range(len(self.profiles))]

    def read_trial(self, at: int) -> TrialResult:
        """Return one trial, counted from 0, as its run directory is now."""
        run = RunDirectory(runs_home() / f"{self.id}-{at + 1:03d}")
        return read_trial(at + 1, self.grid.points()[at], run, self.tasks)


class Stop:
    """Whether the sweep was asked to stop, and by which signal."""

    def __init__(self) -> None:
        self.signal: int | None = None

    @contextmanager
    def on_signals(self) -> Iterator[None]:
        """Take SIGINT, SIGTERM and SIGHUP as the request, within the block."""
        numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
        # `nohup` ignores SIGHUP, and shells SIGINT in the background.
        heeded = [n for n in numbers if signal.getsignal(n) is not signal.SIG_IGN]
        before = {number: signal.signal(number, self._remember) for number in heeded}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _remember(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002
        self.signal = self.signal or number


class _TrialEnded(Exception):  # noqa: N818  no error of sf: optuna counts the trial as failed
    """A trial ended without scores."""


def run_trials(
    sweep: Sweep,
    devices: Sequence[str | None],
    jobs: int,
    stop: Stop,
    tell: Tell,
    argv: Sequence[str],
    start: Start,
) -> list[int]:
    """Run every trial that is not done; return the numbers of the trials on the front.

    A trial is on the front if no other one is at least as good in every task and better in one.

    Args:
        sweep: the sweep.
        devices: what CUDA_VISIBLE_DEVICES is for each process; None leaves it alone.
        jobs: processes at the same time.
        stop: ends the running trials at their next step, and starts no other.
        tell: called when a trial starts or ends.
        argv: the command line, for `run.json`.
        start: starts a worker in a session of its own.

    Raises:
        SfError: a trial can't be begun; no other one is started.
    """
    import optuna

    trials = sweep.read()
    # Categories by position: two values may differ only in how they are written.
    places = {key: list(range(len(values))) for key, values in sweep.grid.axes.items()}
    at_point = {frozenset(trial.values.items()): trial.number - 1 for trial in trials}
    free: queue.SimpleQueue[str | None] = queue.SimpleQueue()
    for index in range(jobs):
        free.put(devices[index % len(devices)])
    printing = threading.Lock()
    errors: list[Exception] = []

    def say(result: TrialResult) -> None:
        with printing:
            tell(result)

    def place_of(params: Mapping[str, int]) -> int:
        return at_point[frozenset((key, sweep.grid.axes[key][at]) for key, at in params.items())]

    def play(trial: optuna.Trial) -> list[float]:
        at = place_of({key: trial.suggest_categorical(key, each) for key, each in places.items()})
        result = trials[at]
        if not result.done and stop.signal is None:
            device = free.get()
            try:
                result = _play(sweep, at, device, stop, say, argv, start)
            except Exception as error:
                errors.append(error)
                trial.study.stop()
                raise
            finally:
                free.put(device)
            trials[at] = result
        if stop.signal is not None:
            trial.study.stop()
        if not result.done:
            raise _TrialEnded
        return result.objectives(sweep.tasks)

    study = optuna.create_study(
        directions=["maximize"] * len(sweep.tasks.names),
        sampler=optuna.samplers.GridSampler(places, seed=0),
    )
    study.optimize(play, n_trials=len(trials), n_jobs=jobs, catch=(_TrialEnded,))
    # With several jobs optuna raises no error of the last trials.
    if errors:
        raise errors[0]
    return sorted(place_of(trial.params) + 1 for trial in study.best_trials)


def _play(
    sweep: Sweep,
    at: int,
    device: str | None,
    stop: Stop,
    tell: Tell,
    argv: Sequence[str],
    start: Start,
) -> TrialResult:
    """Train one trial to its end, from where it is."""
    profile = sweep.profiles[at]
    run = sweep.read_trial(at).run
    if not run.run_json.exists():
        RunDirectory.create(
            run.path, profile_text=dump_profile(profile), profile_name=profile.name, argv=argv
        )
    _tag(run, sweep.id)
    tell(replace(sweep.read_trial(at), exit_code=None, reason=""))
    environ = {} if device is None else {"CUDA_VISIBLE_DEVICES": device}
    if not probe_liveness(run).has_worker:
        _wait_for(start(run, environ=environ), stop)
    # The worker of a sweep that was killed goes on by itself.
    while stop.signal is None and probe_liveness(run).has_worker:
        time.sleep(_POLL_S)
    result = sweep.read_trial(at)
    tell(result)
    return result


def _wait_for(worker: WorkerProcess, stop: Stop) -> None:
    asked = False
    while worker.poll() is None:
        if stop.signal is not None and not asked:
            asked = True
            worker.terminate()
        time.sleep(_POLL_S)


def _tag(run: RunDirectory, sweep: str) -> None:
    labels, damage = read_labels(run.path)
    if not damage and sweep not in labels.tags:
        write_labels(run.path, labels.tagged((sweep,)))


def visible_devices(environ: Mapping[str, str]) -> list[str | None]:
    """Return the GPUs that trials are spread over; one None on a machine without any."""
    # Deferred: importing torch takes seconds.
    import torch

    count = torch.cuda.device_count()
    if not count:
        return [None]
    named = [name.strip() for name in environ.get("CUDA_VISIBLE_DEVICES", "").split(",")]
    named = [name for name in named if name]
    return list(named[:count]) if len(named) >= count else [str(index) for index in range(count)]
