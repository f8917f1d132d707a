"""Runs a worker as several ranks: forked processes on the CPU, connected by gloo."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import torch

from sf_tui.engine.parts import part
from sf_tui.engine.process_ranks import ProcessRanks
from sf_tui.engine.ranks import Ranks
from sf_tui.errors import SfError
from sf_tui.run.directory import RunDirectory
from sf_tui.run.events import JsonObject
from sf_tui.vocabulary.events import event_object
from sf_tui.worker.stop import StopSignals
from sf_tui.worker.worker import Worker
from support import PATIENCE_S

Listener = Callable[[JsonObject], None]


@dataclass(frozen=True)
class RankEnd:
    """How a rank ended.

    Attributes:
        code: its exit code; negative for a signal.
        error: the error's text, if it raised one.
        weights: digest of the model's parameters at the end.
        frozen: the frozen layers at the end.
    """

    code: int
    error: str = ""
    weights: str = ""
    frozen: tuple[str, ...] = ()


def fork_ranks(
    work: Callable[[Ranks, Path], int], folder: Path, world: int = 2, *, port: int | None = None
) -> list[psutil.Process]:
    """Fork processes that are connected as ranks.

    Args:
        work: called in each with its ranks and a file for what it has to say; returns the exit
            code.
        folder: an empty folder.
        world: number of processes.
        port: of a TCP store, as launchers use; None: a file store, which never blocks.
    """
    from torch.distributed import FileStore, TCPStore

    found = []
    for rank in range(world):
        pid = os.fork()
        if pid:
            found.append(psutil.Process(pid))
            continue
        code = 1
        try:
            os.setsid()
            store: Any = FileStore(str(folder / "store"), world)
            if port is not None:
                store = TCPStore("127.0.0.1", port, world, rank == 0)
            ranks = ProcessRanks(rank=rank, world=world, local_rank=rank, store=store)
            code = work(ranks, folder / f"{rank}.json")
        except BaseException:
            (folder / f"{rank}.trace").write_text(traceback.format_exc())
        finally:
            os._exit(code)
    return found


def work_in_ranks(
    run: RunDirectory,
    *listeners: Listener,
    world: int = 2,
    on_rank: Sequence[Callable[[Worker], None]] = (),
    patience_s: float = PATIENCE_S,
) -> list[RankEnd]:
    """Be the workers of a run until it ends.

    Args:
        run: the run.
        listeners: called in rank 0 with each event.
        world: number of ranks; 1 needs no torch.distributed.
        on_rank: for each rank, what to do to its worker before it begins.
        patience_s: how long the ranks may take.
    """
    folder = Path(tempfile.mkdtemp(dir=run.path.parent))

    def work(ranks: Ranks, report: Path) -> int:
        signals = StopSignals()
        signals.install()
        worker = Worker(run, signals, ranks=ranks)
        for listener in listeners:
            worker.listen(lambda event, listener=listener: listener(event_object(event)))
        for change in on_rank[ranks.rank : ranks.rank + 1]:
            change(worker)
        error = ""
        try:
            code = worker.work()
        except SfError as raised:
            code, error = raised.exit_code, str(raised)
        report.write_text(json.dumps({"error": error, **_state(worker)}))
        return code

    processes = fork_ranks(work, folder, world)
    try:
        deadline = time.monotonic() + patience_s
        codes = [process.wait(max(deadline - time.monotonic(), 0.1)) for process in processes]
    except psutil.TimeoutExpired:
        raise AssertionError(f"a rank hangs: {list(map(str, processes))}") from None
    finally:
        for process in processes:
            if process.is_running():
                process.send_signal(signal.SIGKILL)
    return [_end(folder, rank, code) for rank, code in enumerate(codes)]


def _state(worker: Worker) -> dict[str, Any]:
    context = worker._context
    if context is None:
        return {}
    digest = hashlib.sha256()
    for parameter in context.prepared.loaded.model.parameters():
        digest.update(
            part(parameter.detach()).cpu().contiguous().view(torch.uint8).numpy().tobytes()
        )
    return {"weights": digest.hexdigest(), "frozen": context.prepared.freezer.frozen}


def _end(folder: Path, rank: int, code: int | None) -> RankEnd:
    trace = folder / f"{rank}.trace"
    if trace.exists():
        print(trace.read_text(), file=sys.stderr)
    report = folder / f"{rank}.json"
    said = json.loads(report.read_text()) if report.exists() else {}
    return RankEnd(
        -1 if code is None else code,
        said.get("error", ""),
        said.get("weights", ""),
        tuple(said.get("frozen", ())),
    )
