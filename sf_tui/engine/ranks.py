"""The processes that train one model together, and what they exchange.

Rank 0 decides and writes; the others follow. A decision is JSON that rank 0 broadcasts over a gloo
group of its own, so that it never waits for a device. `Ranks` is the form for one process, in which
the same code runs without torch.distributed; `engine/process_ranks.py` has the one for several.

No method waits for a rank that does nothing: each is called by every rank at the same point of
the run, or raises once the others are gone. Knows no model, no stage and no command.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

import torch

from sf_tui.errors import RunError

T = TypeVar("T")


class MainFailedError(RunError):
    """Rank 0 raised an error while it decided; the other ranks raise this in its place.

    Args:
        message: its message.
        hint: its hint; may be empty.
        exit_code: its exit code.
        kind: the name of its class.
    """

    def __init__(self, message: str, hint: str, exit_code: int, kind: str) -> None:
        super().__init__(message, hint)
        self.exit_code = exit_code
        self.kind = kind


class RankLostError(RunError):
    """Another rank is gone or out of step, so that nothing can be exchanged any more.

    Args:
        message: what is lost.
        hint: what to do.
        ranks: the ranks that are gone, as far as they are known.
    """

    def __init__(self, message: str, hint: str = "", ranks: Sequence[int] = ()) -> None:
        super().__init__(message, hint)
        self.ranks = tuple(ranks)


class RunEnded(Exception):  # noqa: N818  no error: rank 0 has finished the run
    """Rank 0 has ended the run; raised in the other ranks wherever they wait for a decision.

    Args:
        exit_code: the run's exit code.
    """

    def __init__(self, exit_code: int) -> None:
        super().__init__(f"the run ended with exit code {exit_code}")
        self.exit_code = exit_code


class Ranks:
    """One process that trains alone: rank 0 of 1.

    Attributes:
        rank: this process's number.
        world: number of processes.
        local_rank: this process's number on its machine, and the number of its device.
        lockstep: whether each forward pass needs all ranks (sharded weights); if not, every rank
            has the whole model and may run passes of its own.
        step: steps that this rank has done in its stage, for the others to see; None if unknown.
    """

    rank = 0
    world = 1
    local_rank = 0
    lockstep = False
    step: int | None = None
    deciding = False
    """Whether rank 0 is in a decision, in which it works alone."""

    @property
    def waits_s(self) -> float:
        """Seconds for which this rank has waited in the exchange that it is in."""
        return 0.0

    def note_step(self, step: int) -> None:
        """Record a step that this rank has done."""

    def keep_step(self) -> None:
        """Make each forward pass need all ranks from now on; see `lockstep`."""
        self.lockstep = True

    @property
    def is_main(self) -> bool:
        """Whether this is rank 0, which decides and writes."""
        return self.rank == 0

    @property
    def runs_whole(self) -> bool:
        """Whether this rank computes what is not split among the ranks."""
        return self.is_main or self.lockstep

    def share(self, count: int) -> range:
        """Return which of `count` items are this rank's: a contiguous part, possibly empty."""
        return range(self.rank * count // self.world, (self.rank + 1) * count // self.world)

    def passes(self, count: int, size: int) -> list[tuple[range, float]]:
        """Split this rank's share of `count` rows into forward passes.

        In lockstep, ranks with fewer rows repeat one with weight 0, so that all have as many
        passes: a pass that not every rank runs would never end.

        Args:
            count: rows of all ranks together.
            size: largest number of rows in a pass.

        Returns:
            The rows of each pass, and the weight of its loss, 1 or 0.
        """
        own = self.share(count)
        found = [(own[at : at + size], 1.0) for at in range(0, len(own), size)]
        if self.lockstep:
            most = -(-count // self.world)
            found += [(range(1), 0.0)] * (-(-most // size) - len(found))
        return found

    def weigh(self, loss: torch.Tensor, weight: float) -> torch.Tensor:
        """Return what to run the backward pass of, for this rank's part of a loss.

        Args:
            loss: the part; the ranks' parts add up to the loss.
            weight: of the pass, from `passes`.
        """
        # Divided weights take the mean of the ranks' gradients, and this is one part of a sum.
        factor = weight * self.world if self.lockstep else weight
        return loss if factor == 1.0 else factor * loss

    def turns(self, count: int) -> list[tuple[int, bool]]:
        """Deal out `count` passes, one rank after the other.

        Returns:
            (pass, whether its result counts) of each pass that this rank runs. In lockstep, all
            ranks run as many; a repeated one does not count.
        """
        found = [(at, True) for at in range(self.rank, count, self.world)]
        if self.lockstep and count:
            found += [(0, False)] * (-(-count // self.world) - len(found))
        return found

    def broadcast(self, data: bytes) -> bytes:
        """Return rank 0's bytes; those of other ranks are ignored."""
        return data

    def decide(self, decision: Callable[[], T]) -> T:
        """Make a decision on rank 0 and return it on every rank.

        A decision inside another one is made by rank 0 for itself.

        Args:
            decision: called on rank 0 only; its result must survive JSON.

        Raises:
            MainFailedError: in the other ranks, if it raised on rank 0.
            RunEnded: in the other ranks, if rank 0 has ended the run.
        """
        return decision()

    def gather(self, value: T) -> list[T]:
        """Return each rank's value (JSON), by rank."""
        return [value]

    def sums(self, values: Sequence[float]) -> list[float]:
        """Return the sums of some numbers over all ranks, in float64."""
        return list(values)

    def of_main(self, values: Sequence[float]) -> list[float]:
        """Return rank 0's numbers; those of other ranks are ignored."""
        return self.sums(values if self.is_main else [0.0] * len(values))

    def add_up(self, tensor: torch.Tensor) -> None:
        """Replace a contiguous tensor by its sum over all ranks, in place; the same bits on each.

        Args:
            tensor: of the same shape and dtype on every rank.
        """

    def copy_main(self, tensors: Sequence[torch.Tensor]) -> None:
        """Overwrite contiguous tensors with those of rank 0."""

    def compare(self, outcome: str) -> list[str]:
        """Return how a piece of work ended on each rank, by rank; "" is for success.

        Unlike `gather`, it does not wait for a rank that is still in the work: one that failed
        alone leaves the others in the middle of a pass.

        Args:
            outcome: how it ended on this rank.

        Raises:
            RankLostError: this rank failed, and another one has not ended the work soon after.
        """
        return [outcome]

    def end(self, exit_code: int) -> None:
        """Tell the other ranks, from rank 0, that the run has ended and everything is written."""

    def leave(self, reason: str) -> None:
        """Record for the other ranks why this one ends before the run does."""

    def beat(self, content: bytes) -> dict[int, bytes] | None:  # noqa: ARG002  not alone
        """Leave a sign of life of this rank, and return the newest ones of the others.

        Safe to call from another thread. It may wait for a store whose machine has vanished.

        Args:
            content: what the others shall know; another one each time.

        Returns:
            By rank, without those that have not begun to; None if the store is gone.
        """
        return {}


ALONE = Ranks()
"""The ranks of a model that one process trains."""
