"""The processes that train one model together, and what they tell each other.

Rank 0 decides and writes; the others follow. A decision is JSON that rank 0 broadcasts over a gloo
group of its own, so that it never waits for a device. Everything here has a form for one process,
`Ranks`, in which the same code runs without torch.distributed.

No method waits for a rank that does nothing: each is called by every rank at the same point of
the run, or raises once the others are gone. Knows no model, no stage and no command.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any, TypeVar

import orjson
import torch

from sf_tui.errors import RunError, SfError

T = TypeVar("T")

# A decision may take hours: a recovery test runs on rank 0 while the others wait for its result.
# Lost ranks are noticed by their closed connections and their missing beats.
_DECISION_TIMEOUT = timedelta(days=7)
# In step with each other, ranks wait for the slowest pass only.
_DATA_TIMEOUT = timedelta(minutes=30)
_LAST_WORD_S = 5.0

_MESSAGE_BYTES = 1024
_LENGTH_BYTES = 8

_DECIDED, _FAILED, _ENDED = b"d", b"f", b"e"


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
    """Another rank is gone or out of step, so that nothing can be exchanged any more."""


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
    """

    rank = 0
    world = 1
    local_rank = 0
    lockstep = False
    deciding = False
    """Whether rank 0 is in a decision, in which it works alone."""

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

    def add_up(self, tensor: torch.Tensor) -> None:
        """Replace a contiguous tensor by its sum over all ranks, in place; the same bits on each.

        Args:
            tensor: of the same shape and dtype on every rank.
        """

    def copy_main(self, tensors: Sequence[torch.Tensor]) -> None:
        """Overwrite contiguous tensors with those of rank 0."""

    def end(self, exit_code: int) -> None:
        """Tell the other ranks, from rank 0, that the run has ended and everything is written."""

    def leave(self, reason: str) -> None:
        """Record for the other ranks why this one ends before the run does."""

    def beat(self) -> dict[int, int] | None:
        """Count once more for this rank, and return the counts of the others that have begun to.

        Safe to call from another thread.

        Returns:
            The counts by rank; None if the store is gone.
        """
        return {}


ALONE = Ranks()
"""The ranks of a model that one process trains."""


class ProcessRanks(Ranks):
    """Several processes connected by torch.distributed, whoever started them.

    Raises:
        RunError: the others can't be reached.
    """

    def __init__(self, *, rank: int, world: int, local_rank: int, store: Any) -> None:
        """Connect to the other ranks.

        Args:
            rank: this process's number.
            world: number of processes.
            local_rank: this process's number on its machine.
            store: a torch.distributed store that all ranks reach.
        """
        import torch.distributed as dist
        from torch.distributed.distributed_c10d import PrefixStore

        self.rank, self.world, self.local_rank = rank, world, local_rank
        self._dist = dist
        self._store = PrefixStore("sf", store)
        on_gpu = torch.cuda.is_available()
        self._device = torch.device("cuda", local_rank) if on_gpu else torch.device("cpu")
        if on_gpu:
            count = torch.cuda.device_count()
            if local_rank >= count:
                raise RunError(
                    f"local rank {local_rank} has no GPU: torch finds {count} on this machine",
                    'start as many processes as there are GPUs, or use [launch] processes = "gpus"',
                )
            torch.cuda.set_device(self._device)
        with _Reaching(self):
            dist.init_process_group(
                backend="cpu:gloo,cuda:nccl" if on_gpu else "gloo",
                store=PrefixStore("sf-data", store),
                rank=rank,
                world_size=world,
                timeout=_DATA_TIMEOUT,
            )
            self._control = dist.new_group(backend="gloo", timeout=_DECISION_TIMEOUT)

    @classmethod
    def from_environment(cls) -> ProcessRanks:
        """Connect as RANK, WORLD_SIZE, LOCAL_RANK, MASTER_ADDR and MASTER_PORT say.

        Raises:
            RunError: one of them is missing, or the others can't be reached.
        """
        from torch.distributed.rendezvous import rendezvous

        try:
            store, rank, world = next(rendezvous("env://", timeout=_DATA_TIMEOUT))
        except (ValueError, RuntimeError) as error:
            raise RunError(
                f"the other ranks can't be reached: {error}",
                "torchrun and accelerate set RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT; "
                "`sf doctor --launch PROFILE` tries a profile's processes",
            ) from error
        local_rank = int(os.environ.get("LOCAL_RANK", rank))
        return cls(rank=rank, world=world, local_rank=local_rank, store=store)

    def broadcast(self, data: bytes) -> bytes:
        """Return rank 0's bytes; those of other ranks are ignored."""
        with _Reaching(self):
            length = len(data)
            first = torch.zeros(_MESSAGE_BYTES, dtype=torch.uint8)
            room = _MESSAGE_BYTES - _LENGTH_BYTES
            if self.is_main:
                head = length.to_bytes(_LENGTH_BYTES, "little") + data[:room]
                first[: len(head)] = torch.frombuffer(bytearray(head), dtype=torch.uint8)
            self._dist.broadcast(first, 0, group=self._control)
            got = first.numpy().tobytes()
            length = int.from_bytes(got[:_LENGTH_BYTES], "little")
            if length <= room:
                return got[_LENGTH_BYTES : _LENGTH_BYTES + length]
            rest = torch.empty(length - room, dtype=torch.uint8)
            if self.is_main:
                rest.copy_(torch.frombuffer(bytearray(data[room:]), dtype=torch.uint8))
            self._dist.broadcast(rest, 0, group=self._control)
            return got[_LENGTH_BYTES:] + rest.numpy().tobytes()

    def decide(self, decision: Callable[[], T]) -> T:
        """Make a decision on rank 0 and return it on every rank."""
        if self.deciding:
            return decision()
        if self.is_main:
            self.deciding = True
            try:
                made = decision()
            except Exception as error:
                self.deciding = False
                self.broadcast(_FAILED + orjson.dumps(_described(error)))
                raise
            finally:
                self.deciding = False
            self.broadcast(_DECIDED + orjson.dumps(made, option=orjson.OPT_SERIALIZE_NUMPY))
            return made
        message = self.broadcast(b"")
        kind, content = message[:1], orjson.loads(message[1:])
        if kind == _ENDED:
            raise RunEnded(content)
        if kind == _FAILED:
            raise MainFailedError(*content)
        made = content
        return made

    def gather(self, value: T) -> list[T]:
        """Return each rank's value (JSON), by rank."""
        own = torch.frombuffer(bytearray(orjson.dumps(value)), dtype=torch.uint8)
        lengths = [0.0] * self.world
        lengths[self.rank] = len(own)
        longest = int(max(lengths := self.sums(lengths)))
        padded = torch.zeros(longest, dtype=torch.uint8)
        padded[: len(own)] = own
        parts = [torch.empty_like(padded) for _ in range(self.world)]
        with _Reaching(self):
            self._dist.all_gather(parts, padded, group=self._control)
        return [
            orjson.loads(part.numpy().tobytes()[: int(length)])
            for part, length in zip(parts, lengths, strict=True)
        ]

    def sums(self, values: Sequence[float]) -> list[float]:
        """Return the sums of some numbers over all ranks, in float64."""
        numbers = torch.tensor(list(values), dtype=torch.float64)
        with _Reaching(self):
            self._dist.all_reduce(numbers, group=self._control)
        found: list[float] = numbers.tolist()
        return found

    def add_up(self, tensor: torch.Tensor) -> None:
        """Replace a contiguous tensor by its sum over all ranks, in place."""
        with _Reaching(self):
            self._dist.all_reduce(tensor)

    def copy_main(self, tensors: Sequence[torch.Tensor]) -> None:
        """Overwrite contiguous tensors with those of rank 0."""
        with _Reaching(self):
            for tensor in tensors:
                self._dist.broadcast(tensor, 0)

    def end(self, exit_code: int) -> None:
        """Tell the other ranks, from rank 0, that the run has ended and everything is written."""
        message = _ENDED + orjson.dumps(exit_code)
        # A rank that waits for something else finds the code here once this process is gone.
        self._store.set("ended", str(exit_code))
        first = torch.zeros(_MESSAGE_BYTES, dtype=torch.uint8)
        head = len(message).to_bytes(_LENGTH_BYTES, "little") + message
        first[: len(head)] = torch.frombuffer(bytearray(head), dtype=torch.uint8)
        deadline = time.monotonic() + _LAST_WORD_S
        try:
            work = self._dist.broadcast(first, 0, group=self._control, async_op=True)
            while not work.is_completed() and time.monotonic() < deadline:
                time.sleep(0.01)
        except RuntimeError:
            # They are gone already, which is what this message is for.
            return

    def leave(self, reason: str) -> None:
        """Record for the other ranks why this one ends before the run does."""
        try:
            self._store.set(f"left/{self.rank}", reason)
        except RuntimeError:
            # Nothing can be told to anyone: the store is gone with rank 0 or its launcher.
            return

    def beat(self) -> dict[int, int] | None:
        """Count once more for this rank, and return the counts of the others."""
        found: dict[int, int] = {}
        try:
            self._store.add(f"beat/{self.rank}", 1)
            for rank in range(self.world):
                if rank != self.rank and self._store.check([f"beat/{rank}"]):
                    found[rank] = int(self._store.get(f"beat/{rank}"))
        except RuntimeError:
            return None
        return found

    def lost(self, error: BaseException) -> Exception:
        """Return what to raise for a failed exchange: `RunEnded`, or who left and why."""
        try:
            if self._store.check(["ended"]):
                return RunEnded(int(self._store.get("ended")))
            for rank in range(self.world):
                if self._store.check([f"left/{rank}"]):
                    why = self._store.get(f"left/{rank}").decode(errors="replace")
                    return RankLostError(f"rank {rank} ended: {why}", _GO_ON)
        except RuntimeError:
            return RankLostError("rank 0 is gone", _GO_ON)
        who = f"rank {1 - self.rank}" if self.world == 2 else "another rank"
        cause = str(error).strip().splitlines()[0][:160] if str(error).strip() else "no answer"
        return RankLostError(f"{who} is gone (killed, or its machine): {cause}", _GO_ON)


_GO_ON = "`sf resume RUN` continues the run from its last checkpoint, with the same processes"


class _Reaching:
    """Turns the errors of torch.distributed into those of a lost rank."""

    def __init__(self, ranks: ProcessRanks) -> None:
        self._ranks = ranks

    def __enter__(self) -> None:
        # The others wait for the decision's result, not for anything inside it.
        assert not self._ranks.deciding, "an exchange inside a decision"

    def __exit__(self, kind: type | None, error: BaseException | None, trace: object) -> None:
        if isinstance(error, RuntimeError):
            raise self._ranks.lost(error) from error


def _described(error: Exception) -> tuple[str, str, int, str]:
    kind = type(error).__name__
    if isinstance(error, SfError):
        return error.message, error.hint, error.exit_code, kind
    return str(error), "", 1, kind
