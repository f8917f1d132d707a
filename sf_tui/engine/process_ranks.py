"""Several processes connected by torch.distributed: `Ranks` as torchrun or accelerate start them.

Decisions travel over a gloo group of their own, gradients and weights over the default group. What
must be known of a rank that exchanges nothing any more is in the launcher's store.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any, TypeVar

import orjson
import torch

from sf_tui.engine.ranks import MainFailedError, RankLostError, Ranks, RunEnded
from sf_tui.errors import RunError, SfError

T = TypeVar("T")

# A decision may take hours: a recovery test runs on rank 0 while the others wait for its result.
# Lost ranks are noticed by their closed connections and their missing beats.
_DECISION_TIMEOUT = timedelta(days=7)
# In step with each other, ranks wait for the slowest pass only, and for rank 0 while it writes.
_DATA_TIMEOUT = timedelta(minutes=30)
_LOCKSTEP_TIMEOUT = timedelta(hours=2)
# Ranks that fail for the same reason fail within the time of a pass.
_FAILED_ALONE_AFTER = timedelta(seconds=30)
_LAST_WORD_S = 5.0
_LOST_WITHIN_S = 5.0
"""A rank whose exchange fails shows another sign within this time: a beat every two seconds."""

_MESSAGE_BYTES = 1024
_LENGTH_BYTES = 8

_DECIDED, _FAILED, _ENDED = b"d", b"f", b"e"


class ProcessRanks(Ranks):
    """Several processes connected by torch.distributed, started by any launcher.

    Raises:
        RunError: the others can't be reached.
    """

    _beats: Any = None
    _known = False
    _waiting_since: float | None = None

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
        self._compared = 0
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

    def keep_step(self) -> None:
        """Make each forward pass need all ranks from now on."""
        super().keep_step()
        # From here on no rank works alone, so one that waits longer is out of step.
        self._dist.distributed_c10d._set_pg_timeout(_LOCKSTEP_TIMEOUT, self._control)

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

    def compare(self, outcome: str) -> list[str]:
        """Return how a piece of work ended on each rank, by rank; "" is for success."""
        self._compared += 1
        keys = [f"ended/{self._compared}/{rank}" for rank in range(self.world)]
        self._waiting_since = time.monotonic()
        try:
            self._store.set(keys[self.rank], outcome)
            self._store.wait(keys, _FAILED_ALONE_AFTER if outcome else _DATA_TIMEOUT)
            return [self._store.get(key).decode(errors="replace") for key in keys]
        except RuntimeError as error:
            raise self.lost(error) from error
        finally:
            self._waiting_since = None

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
            # No rank can be notified: the store is gone with rank 0 or its launcher.
            return

    @property
    def waits_s(self) -> float:
        """Seconds for which this rank has waited in the exchange that it is in."""
        since = self._waiting_since
        return 0.0 if since is None else time.monotonic() - since

    def note_step(self, step: int) -> None:
        """Record a step that this rank has done."""
        self.step = step

    def beat(self, content: bytes) -> dict[int, bytes] | None:
        """Leave a sign of life of this rank, and return the newest ones of the others."""
        others = [rank for rank in range(self.world) if rank != self.rank]
        try:
            if self._beats is None:
                self._beats = _own_connection(self._store)
            self._beats.set(f"beat/{self.rank}", content)
            if not self._known:
                others = [rank for rank in others if self._beats.check([f"beat/{rank}"])]
                self._known = len(others) == self.world - 1
            found = self._beats.multi_get([f"beat/{rank}" for rank in others]) if others else []
        except RuntimeError:
            return None
        return dict(zip(others, map(bytes, found), strict=True))

    def lost(self, error: BaseException) -> Exception:
        """Return what to raise for a failed exchange: `RunEnded`, or who left and why."""
        try:
            if self._store.check(["ended"]):
                return RunEnded(int(self._store.get("ended")))
            for rank in range(self.world):
                if self._store.check([f"left/{rank}"]):
                    why = self._store.get(f"left/{rank}").decode(errors="replace")
                    return RankLostError(f"rank {rank} ended: {why}", _GO_ON, [rank])
            gone = self._missing()
        except RuntimeError:
            return RankLostError("rank 0 is gone", _GO_ON, [0])
        who = " and ".join(f"rank {rank}" for rank in gone) or "another rank"
        verb = "are" if len(gone) > 1 else "is"
        # gloo begins with the place in its source, and goes on with guesses.
        said = re.match(r"(?:\[[^]]*/[^]]*\] *)?(.+?)(?:\. |\n|$)", str(error).strip())
        cause = said[1][:160] if said else "no answer"
        return RankLostError(f"{who} {verb} gone (killed, or its machine): {cause}", _GO_ON, gone)

    def _missing(self) -> list[int]:
        """Return the ranks that are gone, as rank 0 can tell: they show no sign any more."""
        if self.world == 2:
            return [1 - self.rank]
        self._store.set(f"met/{self.rank}", "")
        if not self.is_main:
            return []
        last = self._signs()
        deadline = time.monotonic() + _LOST_WITHIN_S
        while True:
            signs = self._signs().items()
            missing = [rank for rank, (beat, met) in signs if not met and beat == last[rank][0]]
            if not missing or time.monotonic() > deadline:
                return missing
            time.sleep(0.1)

    def _signs(self) -> dict[int, tuple[bytes, bool]]:
        """Return the last beat of each other rank, and whether its exchange failed, too."""
        found = {}
        for rank in range(1, self.world):
            met = self._store.check([f"met/{rank}"])
            has_beat = self._store.check([f"beat/{rank}"])
            found[rank] = (self._store.get(f"beat/{rank}") if has_beat else b"", met)
        return found


_GO_ON = "`sf resume RUN` continues the run from its last checkpoint, with the same processes"


class _Reaching:
    """Turns the errors of torch.distributed into those of a lost rank."""

    def __init__(self, ranks: ProcessRanks) -> None:
        self._ranks = ranks

    def __enter__(self) -> None:
        # The others wait for the decision's result, not for anything inside it.
        assert not self._ranks.deciding, "an exchange inside a decision"
        self._ranks._waiting_since = time.monotonic()

    def __exit__(self, kind: type | None, error: BaseException | None, trace: object) -> None:
        self._ranks._waiting_since = None
        if isinstance(error, RuntimeError):
            raise self._ranks.lost(error) from error


def _own_connection(store: Any) -> Any:
    """Return the same store over a connection of its own, on which no other thread waits.

    An older torch has no `clone`: there, beats stop while another thread waits for a key.
    """
    return store.clone() if hasattr(store, "clone") else store


def _described(error: Exception) -> tuple[str, str, int, str]:
    kind = type(error).__name__
    if isinstance(error, SfError):
        return error.message, error.hint, error.exit_code, kind
    return str(error), "", 1, kind
