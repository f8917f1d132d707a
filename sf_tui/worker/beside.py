"""Tests beside the training: when one is refused, how it begins, and what becomes of its result.

The worker copies the weights to a folder of the run, as in a checkpoint, and a process of its own
runs the recovery test of `sf diagnose` on them (`beside_process`). Between two steps the worker
logs what that process reports. Nothing here touches the weights, the optimizer or random numbers.

A test ends with its worker, and a resume does not repeat it. It also ends when the weights of the
run change in another way than by steps, because its verdict would be read as one on the new ones.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import torch

from sf_tui.cases.assemble import StagePoint
from sf_tui.cases.choice import choose_old_task
from sf_tui.engine.checkpoint import save_checkpoint, step_folder
from sf_tui.engine.loop import StageTuner, TrainingLoop
from sf_tui.errors import RunError
from sf_tui.profile.check_beside import HOSTED, INSTEAD, SEVERAL_PROCESSES
from sf_tui.recovery.progress import Progress
from sf_tui.run.durable import remove
from sf_tui.vocabulary.commands import CANCELLED, DONE, FAILED, Command
from sf_tui.vocabulary.declared import build
from sf_tui.vocabulary.events import DiagnosisMade
from sf_tui.worker import beside_test
from sf_tui.worker.beside_room import check_room, free_bytes, test_bytes
from sf_tui.worker.beside_test import BesideTest
from sf_tui.worker.context import RunContext
from sf_tui.worker.stop import CommandFailedError, StopRun


def check_beside(context: RunContext, loop: TrainingLoop) -> None:
    """Refuse a test beside a training that doesn't support it, or without room for it.

    Raises:
        RunError: it is refused.
    """
    if not isinstance(loop, StageTuner):
        raise RunError(HOSTED, INSTEAD)
    if context.ranks.world > 1:
        raise RunError(SEVERAL_PROCESSES, INSTEAD)
    device, own = _device(context), context.prepared.compute.device
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if device.type == "cuda" and (device.index or 0) >= count:
        raise RunError(
            f'[diagnose] device = "{context.profile.diagnose.device}": there is no such device, '
            f"torch finds {count} of CUDA",
            "name another one, or cpu",
        )
    free = free_bytes(device, own)
    if free is not None:
        check_room(_needed(context, device), free, str(device))


def start_beside(context: RunContext, point: StagePoint, command: Command) -> None:
    """Copy the weights aside and start a test of them, which `tend_beside` follows.

    Args:
        context: the run.
        point: the position of its stage.
        command: asks for the test.

    Raises:
        CommandFailedError: the copy can't be written, or the process can't be started.
    """
    profile, arguments = context.profile, command.arguments
    history = context.resume_log.state
    old = choose_old_task(profile, history, point.spec, None, context.accuracy)
    device = _device(context)
    threads = profile.diagnose.threads or _spare_threads()
    # Named like other unfinished files, so that the next worker clears it up.
    folder = context.run.path / f".beside.{os.getpid()}.writing"
    weights = folder / step_folder(point.step)
    request = {
        "run": str(context.run.path),
        "weights": str(weights),
        "task": old.name,
        "seq": context.log.seq,
        "examples": arguments["examples"],
        "thorough": arguments["thorough"],
        "time": arguments["time"],
        "bytes": _needed(context, device),
        "device": str(device),
    }
    state = {
        "stage": point.spec.name,
        "step": point.step,
        "seq": context.log.seq,
        "threads": threads,
    }
    here = replace(command, stage=point.spec.name, step=point.step)
    try:
        remove(folder)
        folder.mkdir()
        save_checkpoint(weights, context.prepared.layout, None, state)
        context.beside = BesideTest(here, folder, request, environment_of(device, threads))
    except (OSError, RunError) as error:
        remove(folder)
        # Without a hint: that of a checkpoint is about resuming, and the run goes on.
        why = error.message if isinstance(error, RunError) else error
        raise CommandFailedError(f"can't test beside the training: {why}") from error
    context.log_event(context.beside.operation.announcement())


def tend_beside(context: RunContext, *, paused: bool) -> None:
    """Log what the test beside the training has reported, and let it wait while the run is paused.

    Does nothing without a test; never waits for one.
    """
    test = context.beside
    if test is None:
        return
    test.hold(paused)
    for message in test.messages():
        if beside_test.PROGRESS in message:
            progress = test.operation.progress(Progress(**message[beside_test.PROGRESS]))
            if progress is not None:
                context.log_event(progress)
        elif beside_test.EVENT in message:
            event = build(DiagnosisMade, message[beside_test.EVENT])
            context.log_event(event)
            notes = "".join(f"; {note}" for note in message[beside_test.NOTES])
            _answer(
                context, DONE, f"{event.verdict} at step {event.step}: {event.evidence[0]}{notes}"
            )
        else:
            _answer(context, FAILED, message[beside_test.FAILED])


def drop_beside(context: RunContext, reason: str) -> None:
    """End the test beside the training, if there is one, without a result."""
    if context.beside is not None:
        _answer(context, FAILED, reason)


def cancel_beside(context: RunContext, by: str) -> None:
    """End the test beside the training because someone asks for it."""
    _answer(context, CANCELLED, f"by {by}; the training went on meanwhile")


@contextmanager
def ending_beside(context: RunContext) -> Iterator[None]:
    """End the test beside the training with the block, however that ends."""
    try:
        yield
    except StopRun:
        drop_beside(context, "the run was being stopped")
        raise
    finally:
        _end(context)


def _end(context: RunContext) -> None:
    test, context.beside = context.beside, None
    if test is not None:
        test.end()


def _answer(context: RunContext, status: str, reason: str) -> None:
    """End the test and answer its command, at the step that the run has reached."""
    assert context.beside is not None  # the caller has seen it
    command = context.beside.command
    _end(context)
    stage = context.resume_log.state.stages[command.stage or ""]
    context.log_event(replace(command, step=stage.step).answer(status, reason))


def _device(context: RunContext) -> torch.device:
    named = context.profile.diagnose.device
    return context.prepared.compute.device if named is None else torch.device(named)


def _needed(context: RunContext, device: torch.device) -> int:
    prepared = context.prepared
    return test_bytes(prepared.loaded.model, prepared.layout, device)


def _spare_threads() -> int:
    """Return how many cores the training leaves, at least 1."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return max((cores or 1) - torch.get_num_threads(), 1)


def environment_of(device: torch.device, threads: int) -> dict[str, str]:
    """Return the environment of a process that sees one device alone."""
    visible = ""
    if device.type == "cuda":
        given = [name for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name]
        index = device.index or 0
        visible = given[index] if index < len(given) else str(index)
    return os.environ | {"CUDA_VISIBLE_DEVICES": visible, "OMP_NUM_THREADS": str(threads)}
