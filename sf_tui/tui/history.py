"""The state of a run as it was at any earlier step, from its events in bounded memory.

Plain steps are not kept: a long run has millions of them, and the state needs only the newest. All
other events are kept compressed, with a copy of the state at intervals, so that a state is folded
from the nearest copy on. Steps are those of the current branch: what a rollback abandoned can't be
reached, but still counts as having happened. Knows events; knows nothing of cursors or panels.
"""

from __future__ import annotations

import zlib
from array import array
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

import orjson

from sf_tui.run.event_parser import EventParser
from sf_tui.run.state import RunState
from sf_tui.vocabulary.events import Drift, Event, Probe, Rewound, UnknownEvent, event_object

BLOCK_EVENTS = 64
"""Events compressed together: 5 to 20 KB."""
COPIES_KEPT = 128
"""Most copies of the state that are kept; beyond it, every other one is dropped."""
_BLOCKS_CACHED = 16
_NEEDS_DRIFT = ("checkpoint", "rewound", "stage_started")
"""Types of events after which the drift before them may still be asked for."""
_STATES_CACHED = 16


class Branch:
    """Which event was the last one at a step, on the branch that the run is on."""

    def __init__(self) -> None:
        self._starts: list[tuple[str, int]] = []
        self._steps = array("q")
        self._seqs = array("q")

    def add(self, stage: str, step: int, seq: int) -> None:
        """Add an event that was written after a step of a stage."""
        if not self._starts or self._starts[-1][0] != stage:
            self._starts.append((stage, len(self._steps)))
        self._steps.append(step)
        self._seqs.append(seq)

    def rewind(self, stage: str, step: int, last_seq: int | None) -> None:
        """Drop what a rewind abandons.

        Args:
            stage: the stage that the run goes back to.
            step: its step.
            last_seq: number of the last event at that step to keep; None for all of them.
        """
        if all(name != stage for name, _ in self._starts):
            return
        while self._starts[-1][0] != stage:
            self._cut(self._starts.pop()[1])
        first = self._starts[-1][1]
        end = len(self._steps)
        while end > first and (
            self._steps[end - 1] > step
            or (
                last_seq is not None
                and self._steps[end - 1] == step
                and self._seqs[end - 1] > last_seq
            )
        ):
            end -= 1
        self._cut(end)

    def last_seq(self, stage: str, step: int) -> int | None:
        """Return the number of the last event at or before a step; None if none is known."""
        for index in range(len(self._starts) - 1, -1, -1):
            name, first = self._starts[index]
            if name == stage:
                last = index + 1 == len(self._starts)
                end = len(self._steps) if last else self._starts[index + 1][1]
                at = bisect_right(self._steps, step, first, end)
                return self._seqs[at - 1] if at > first else None
        return None

    def _cut(self, end: int) -> None:
        del self._steps[end:], self._seqs[end:]


class History:
    """All events of a run except plain steps, and its state after any of them.

    Attributes:
        branch: where the current branch's events are.
    """

    def __init__(self) -> None:
        self.branch = Branch()
        self._blocks: list[tuple[int, bytes]] = []
        self._open: list[Event] = []
        self._copies: list[tuple[int, RunState]] = []
        self._copy_every = 4
        self._parser = EventParser()
        self._decoded: OrderedDict[int, list[dict[str, Any]]] = OrderedDict()
        self._states: OrderedDict[int, RunState] = OrderedDict()

    def add(self, event: Event, state: RunState) -> None:
        """Keep one event; the state was updated before."""
        if not 0 < event.seq < 2**63 or isinstance(event, UnknownEvent):
            # A damaged log may hold any number.
            return
        self._place(event, state)
        self._open.append(event)
        if len(self._open) < BLOCK_EVENTS:
            return
        self._blocks.append((self._open[0].seq, _packed(self._open)))
        self._open = []
        if len(self._blocks) % self._copy_every == 0:
            self.keep_copy(state)

    def keep_copy(self, state: RunState) -> None:
        """Keep a copy of the present state, from which later ones are folded."""
        self._copies.append((state.last_seq, state.copy()))
        if len(self._copies) > COPIES_KEPT:
            # The first may hold what no event tells.
            del self._copies[1::2]
            self._copy_every *= 2

    def event(self, seq: int) -> Event | None:
        """Return the event with a number; None if it was not kept."""
        return next(iter(self._events_between(seq - 1, seq)), None)

    def state_after(self, seq: int) -> RunState:
        """Return a new state, folded from all events up to a number."""
        at = max((known for known in self._states if known <= seq), default=-1)
        index = bisect_right(self._copies, seq, key=lambda copy: copy[0]) - 1
        if index >= 0 and self._copies[index][0] >= at:
            at, nearest = self._copies[index]
            state = nearest.copy()
        elif at >= 0:
            state = self._states[at].copy()
        else:
            state = RunState()
        for event in self._events_between(at, seq):
            state.add(event)
        if seq not in self._states:
            self._states[seq] = state.copy()
            while len(self._states) > _STATES_CACHED:
                self._states.popitem(last=False)
        return state

    def _place(self, event: Event, state: RunState) -> None:
        stage = state.stage
        if stage is None:
            return
        if isinstance(event, Rewound):
            kept = stage.saved[-1].event if stage.saved else None
            exact = (
                event.reason != "resumed"
                and kept is not None
                and kept.step == event.step
                and kept.stage == event.stage
            )
            last = kept.seq if exact and kept is not None else None
            self.branch.rewind(event.stage, event.step, last)
            self.branch.add(event.stage, event.step, event.seq)
            return
        step = stage.step
        if isinstance(event, Probe | Drift) and event.stage == stage.name:
            # Its step may be missing from a damaged log.
            step = max(step, event.step)
        self.branch.add(stage.name, step, event.seq)

    def _events_between(self, after: int, last: int) -> list[Event]:
        lines: list[dict[str, Any]] = []
        first = max(bisect_right(self._blocks, after + 1, key=lambda block: block[0]) - 1, 0)
        for index in range(first, len(self._blocks)):
            if self._blocks[index][0] > last:
                break
            lines += [line for line in self._block(index) if after < line["seq"] <= last]
        found = [self._parser.read(line) for line in _without_replaced_drifts(lines)]
        events = [event for event in found if isinstance(event, Event)]
        return events + [event for event in self._open if after < event.seq <= last]

    def _block(self, index: int) -> list[dict[str, Any]]:
        known = self._decoded.get(index)
        if known is None:
            known = orjson.loads(zlib.decompress(self._blocks[index][1]))
            self._decoded[index] = known
            while len(self._decoded) > _BLOCKS_CACHED:
                self._decoded.popitem(last=False)
        return known


def _without_replaced_drifts(lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Leave out the drifts that a later one replaces before anything asks for them.

    They are the longest lines: each has every layer.
    """
    kept = []
    is_replaced = False
    for line in reversed(lines):
        if line["type"] == Drift.TYPE:
            if is_replaced:
                continue
            is_replaced = True
        elif line["type"] in _NEEDS_DRIFT:
            is_replaced = False
        kept.append(line)
    return kept[::-1]


def _packed(events: Sequence[Event]) -> bytes:
    lines = [event_object(event) for event in events]
    return zlib.compress(orjson.dumps(lines), 1)
