"""What a rank other than 0 has in place of the files that rank 0 writes.

It applies the same decisions, so it logs the same events; they stay in its memory.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

from sf_tui.engine.checkpoint import Checkpoint
from sf_tui.engine.ranks import Ranks
from sf_tui.run.clock import rfc3339_now
from sf_tui.run.events import AnyEvent, EventLog, read_events
from sf_tui.vocabulary.events import Event
from sf_tui.worker.checkpoints import CheckpointStore
from sf_tui.worker.resume_log import ResumeLog


@dataclass(frozen=True)
class Beginning:
    """What rank 0 found and decided when it took a run over.

    Attributes:
        seq: number of the last event in the log.
        checkpoint: path of the checkpoint to go on from; None to begin.
        alerts: code and message of each alert that rank 0 gives.
    """

    seq: int
    checkpoint: str | None
    alerts: Sequence[tuple[str, str]]

    @classmethod
    def received(cls, ranks: Ranks) -> Beginning:
        """Return rank 0's."""

        def decide() -> Beginning:
            raise AssertionError("rank 0 makes it")

        return cls(**cast("dict[str, Any]", ranks.decide(decide)))


class FollowedLog(EventLog):
    """An event log that rank 0 writes: its history, and what this rank would add.

    Args:
        path: the event log.
        until: number of the last event before this worker's own.
    """

    def __init__(self, path: Path, until: int) -> None:
        self.path = path
        self.seq = until
        self.history: list[Event] = [event for event in read_events(path) if event.seq <= until]

    def listen(self, listener: Callable[[Event], None]) -> None:
        """Do nothing: rank 0 shows the events."""

    def append(self, event: AnyEvent) -> AnyEvent:
        """Return the event with its number and time."""
        self.seq += 1
        return replace(event, seq=self.seq, time=rfc3339_now())

    def sync(self) -> None:
        """Do nothing: nothing was written."""

    def close(self) -> None:
        """Do nothing: no file is open."""


class FollowedStore(CheckpointStore):
    """The checkpoints of a run whose rank 0 chooses, keeps and deletes them."""

    def _found(self, stage: str) -> list[Checkpoint]:  # noqa: ARG002  the store's
        # Rank 0 may be about to rename them.
        return []

    def settle(self, stage: str, last_step: int, log: ResumeLog) -> None:
        """Do nothing."""

    def prune(self, stage: str, last_step: int) -> None:
        """Do nothing."""
