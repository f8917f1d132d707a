"""The processes of a host's training: the first one watches and decides, the others follow.

Between two steps, the first process sends one message, and every process does what it says at that
step: freeze, take over gradients or weights, write a checkpoint, stop. Under FSDP2 a pass through
the model is a collective, so the first process announces each of its passes, and the others make
one of their own: the numbers of passes are equal by construction.
"""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass, replace
from datetime import timedelta
from typing import Any, ClassVar

import orjson
import torch
from torch import nn

from sf_tui.engine.layout import ModelLayout, read_layout
from sf_tui.engine.observation import Observation
from sf_tui.engine.process_ranks import ProcessRanks
from sf_tui.engine.ranks import ALONE, RankLostError, Ranks
from sf_tui.errors import RunError
from sf_tui.integrations.spread import Spread, bare, spread_of
from sf_tui.integrations.undisturbed import undisturbed
from sf_tui.worker.rank_watch import RankWatch

_PASS = b"pass"

_LONGEST_WAIT = timedelta(days=30)
"""Of a message: the first process may be paused, or repairing; one that is gone ends the wait."""

_WAIT_S = 60.0
"""Longest wait for the other processes, which have just prepared the same model together."""


@dataclass(frozen=True)
class Decided:
    """What every process does between two steps.

    Attributes:
        stop: end the training.
        save: the host writes a checkpoint.
        adds: the first process adds to the gradients of the next step.
        weights: the first process changed weights.
        over: nothing is watched any more, and no message follows.
        frozen: places of the frozen parameters among those that trained at the start.
    """

    stop: bool = False
    save: bool = False
    adds: bool = False
    weights: bool = False
    over: bool = False
    frozen: tuple[int, ...] = ()


def is_first_process() -> bool:
    """Return whether this process is the first of its launch, by the launcher's variables."""
    return os.environ.get("RANK", "0") == "0"


class Processes:
    """The processes of one training."""

    _trainings: ClassVar[int] = 0
    """Trainings that began in this process; the same in each, so it names their messages."""

    def __init__(self, model: nn.Module, inner: Any, *, watches: bool) -> None:
        """Find the other processes; every process of the training must do this.

        Args:
            model: as the host passes it to its callbacks.
            inner: the model in it, without wrappers and adapters, that `sf` calls.
            watches: whether the first process is going to watch; without meaning in the others.

        Raises:
            RunError: another process has no callback, or the model is spread in another way.
        """
        self._spread = Spread()
        self._ranks: Ranks = ALONE
        self._inner = inner
        self._trained = [p for p in model.parameters() if p.requires_grad]
        self._frozen: tuple[int, ...] = ()
        self._announces = False
        self._handle: Any = None
        self.adds = False
        """Whether the first process adds to the gradients of the next step."""
        Processes._trainings += 1
        self.layout: ModelLayout | None = None
        """The layers of a sharded model, read in every process; None for a whole model."""
        self._meet(watches)
        self.watch = RankWatch(self._ranks, None)
        """What the processes do, for the first one's heartbeat."""
        self.watch.start()
        failure = self._examine(model)
        (failed,) = self._ranks.sums([float(failure is not None)])
        if failed:
            # All or none: one that is left out would keep the others waiting.
            self.close()
            raise failure or RunError("another process can't be watched", "its own output says why")

    @property
    def spread(self) -> Spread:
        """How they hold the model."""
        return self._spread

    @property
    def is_first(self) -> bool:
        """Whether this process watches."""
        return self._ranks.is_main

    def measured(self, loss: float, tokens: int, *, is_share: bool) -> tuple[float, int]:
        """Return the loss and the tokens of a step over all processes.

        Args:
            loss: this process's, in nats.
            tokens: its number of tokens.
            is_share: whether the losses are shares of the whole batch's mean.
        """
        if self._ranks.world < 2:
            return loss, tokens
        losses, counted = self._ranks.sums([loss, tokens])
        return losses if is_share else losses / self._ranks.world, int(counted)

    def begin_work(self) -> None:
        """Announce this process's passes from now on; the others must be in `agree`."""
        self._announces = self._spread.is_sharded

    def agree(self, decided: Decided) -> Decided:
        """Do in every process what the first one decided, and return it.

        Args:
            decided: the first process's; ignored in the others.
        """
        self._announces = False
        several = self._ranks.world > 1
        if self.is_first:
            decided = replace(decided, frozen=self._frozen_now())
            if several:
                self._ranks.broadcast(orjson.dumps(asdict(decided)))
        else:
            decided = self._received()
        if self._spread.is_sharded:
            self._spread.reshard()
        if several:
            self._apply(decided)
        self.adds = decided.adds and several
        if decided.over:
            self.close()
        return decided

    def close(self) -> None:
        """Leave the other processes; every one must do this at the same point."""
        self.adds = False
        self.watch.stop()
        ranks, self._ranks = self._ranks, ALONE
        if isinstance(ranks, HostRanks):
            ranks.close()
        if self._handle is not None:
            self._handle.remove()
            self._handle = None

    def share_gradients(self) -> None:
        """Take over the first process's gradients, to which it added others'."""
        if not self.adds:
            return
        present = self._ranks.broadcast(bytes(p.grad is not None for p in self._trained))
        for parameter, has_gradient in zip(self._trained, present, strict=True):
            if not has_gradient:
                parameter.grad = None
                continue
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
            self._ranks.copy_main([parameter.grad])

    def _meet(self, watches: bool) -> None:
        """Join the processes if each has a callback; nothing waits long for one that has none."""
        distributed: Any = torch.distributed
        if not distributed.is_available() or not distributed.is_initialized():
            return
        rank, size = distributed.get_rank(), distributed.get_world_size()
        if size < 2:
            return
        # The store answers with a time limit; a collective would wait for a missing process.
        store = distributed.distributed_c10d._get_default_store()
        place = f"sf/{Processes._trainings}"
        reason = ""
        if rank == 0:
            others = [f"{place}/{other}" for other in range(1, size)] if watches else []
            silent = next((key for key in others if _read(store, key, _WAIT_S) is None), None)
            if silent is not None:
                reason = f"process {silent.rpartition('/')[2]} of {size} has no callback"
            store.set(f"{place}/verdict", reason or ("go" if watches else "no"))
        else:
            store.set(f"{place}/{rank}", "here")
            verdict = _read(store, f"{place}/verdict", 2 * _WAIT_S)
            reason = "" if verdict == "go" else verdict or "process 0 has no callback"
        if reason:
            raise RunError(reason, "give every process SfCallback, or start each with `sf exec`")
        if watches or rank:
            self._ranks = HostRanks()

    def _examine(self, model: nn.Module) -> Exception | None:
        """Find out how the model is spread; return what went wrong."""
        try:
            self._spread = spread_of(model)
            if self._spread.is_sharded:
                if bare(model) is not self._inner:
                    # Its passes begin outside the model that `sf` calls.
                    raise RunError("FSDP2 is around an adapter's own module", "use DDP")
                self.layout = self._read_layout()
                self._handle = self._inner.register_forward_pre_hook(self._announce, prepend=True)
        except Exception as error:
            return error
        return None

    def _read_layout(self) -> ModelLayout:
        """Read the layers with a pass of every process; no weights of theirs are stored."""
        with undisturbed(self._inner):
            observation = Observation(self._inner)
        self._spread.reshard()
        layout = read_layout(self._inner, observation)
        return replace(layout, stored=frozenset())

    def _announce(self, *_: Any) -> None:
        if self._announces:
            self._ranks.broadcast(_PASS)

    def _received(self) -> Decided:
        """Return the first process's decision; before it come the passes that it makes."""
        while (message := self._ranks.broadcast(b"")) == _PASS:
            self._pass_along()
        fields = orjson.loads(message)
        return Decided(**fields | {"frozen": tuple(fields["frozen"])})

    @torch.no_grad()
    def _pass_along(self) -> None:
        """Make the smallest pass: of every pass, the others need only its collectives."""
        with undisturbed(self._inner):
            self._inner.eval()
            ids = torch.zeros(1, 1, dtype=torch.long, device=self._inner.device)
            self._inner(input_ids=ids)

    def _frozen_now(self) -> tuple[int, ...]:
        return tuple(at for at, p in enumerate(self._trained) if not p.requires_grad)

    def _apply(self, decided: Decided) -> None:
        if decided.frozen != self._frozen:
            self._frozen = decided.frozen
            frozen = set(decided.frozen)
            for at, parameter in enumerate(self._trained):
                parameter.requires_grad_(at not in frozen)
                if at in frozen:
                    parameter.grad = None
            self._spread.follow_freeze()
        if decided.weights:
            self._ranks.copy_main([parameter.detach() for parameter in self._trained])


class HostRanks(ProcessRanks):
    """The processes of the default group of torch.distributed, which the host initialized."""

    def __init__(self) -> None:
        """Join them over a group of our own; every process must do this."""
        distributed: Any = torch.distributed
        self._dist = distributed
        self.rank, self.world = distributed.get_rank(), distributed.get_world_size()
        self.local_rank = int(os.environ.get("LOCAL_RANK", self.rank))
        store = distributed.distributed_c10d._get_default_store()
        self._store = distributed.PrefixStore("sf-ranks", store)
        self._control = distributed.new_group(backend="gloo", timeout=_LONGEST_WAIT)

    def lost(self, error: BaseException) -> Exception:
        """Return what to raise for a failed exchange: the training itself can't go on either."""
        cause = str(error).strip().partition("\n")[0][:160]
        return RankLostError(
            f"another process of this training is gone: {cause}",
            "start the training again with its own way to resume",
        )

    def close(self) -> None:
        """Give the group back; every process must do this at the same point."""
        self._dist.destroy_process_group(self._control)


def _read(store: Any, key: str, wait_s: float) -> str | None:
    """Return a value of the launch's store; None if it doesn't come in time."""
    try:
        store.wait([key], timedelta(seconds=wait_s))
    except RuntimeError:
        # Its time is over, or the store is gone.
        return None
    return str(store.get(key).decode())
