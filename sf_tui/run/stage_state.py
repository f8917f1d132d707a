"""The state of one stage of a run, and what a rewind undoes of it.

Everything that a rollback may undo carries the number of its event, so that going back to a
checkpoint is exact, even between two acts at the same step. Reads no files.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from sf_tui.vocabulary.declared import AnchorState, TaskMetrics
from sf_tui.vocabulary.events import (
    ASIDE,
    CheckpointWritten,
    Drift,
    Probe,
    Step,
    TasksAtRisk,
)

PROBES_KEPT = 50
"""Newest probes kept of each stage, besides its first one and those in the danger window."""
WINDOW_PROBES_KEPT = 400
"""Most probes kept of the danger window at a stage's start."""
SAVED_DRIFTS_KEPT = 50
"""Newest checkpoints whose drift is kept; it has every layer."""
_ROWS_KNOWN = 0.1
"""Loss in nats per token at which the right token has 0.9 of the probability."""


@dataclass(frozen=True)
class DangerWindow:
    """Steps after which a loss is most likely: a stage's first ones, and those after some acts."""

    start: int
    length: int
    cause: str = ""
    """The op that opened it; empty for the one at the stage's start."""
    seq: int = field(default=0, compare=False)
    """Number of its event."""

    @property
    def end(self) -> int:
        """First step after it."""
        return self.start + self.length


@dataclass(frozen=True)
class WeightChange:
    """An act between two steps that changed the weights: a repair or an edit.

    Curves break there: the values after it do not continue those before it.
    """

    step: int
    seq: int
    op: str


@dataclass(frozen=True)
class AnchorChange:
    """The anchor from a step on; None: not anchored."""

    step: int
    seq: int
    anchor: AnchorState | None


@dataclass(frozen=True)
class SavedState:
    """A checkpoint of the current branch, with what a rollback to it brings back.

    Attributes:
        event: its event; its `seq` divides what it contains from what came after it.
        path: its folder relative to the run directory, where it is now.
        metrics: its newest probe; empty without one.
        probed_at: step of that probe.
        drift: the newest drift; None if there is none or it is no longer kept.
        last_step: the newest step.
    """

    event: CheckpointWritten
    path: str
    metrics: TaskMetrics
    probed_at: int | None
    drift: Drift | None
    last_step: Step | None

    @property
    def name(self) -> str:
        """The name of its folder."""
        return self.path.rpartition("/")[2]


@dataclass
class StageState:
    """The state of one stage so far."""

    name: str
    task: str
    strategy: str
    steps: int
    known: list[str]
    """Tasks learned before this stage, in profile order."""
    step: int = 0
    probes: list[Probe] = field(default_factory=list)
    """The first probe, those in the danger window, and the newest ones."""
    last_step: Step | None = None
    first_loss: float | None = None
    """Loss of the stage's first step, in nats per token."""
    drift: Drift | None = None
    window: int = 0
    """Length of the danger window at the stage's start; 0 without one."""
    opened: list[DangerWindow] = field(default_factory=list)
    """Every danger window so far with its whole length, in order of their start."""
    weight_changes: list[WeightChange] = field(default_factory=list)
    finished: bool = False
    anchors: list[AnchorChange] = field(default_factory=list)
    """Changes of the anchor, oldest first."""
    at_risk: TasksAtRisk | None = None
    """The newest ranking of tasks at risk."""
    saved: list[SavedState] = field(default_factory=list)
    """The checkpoints of the current branch, oldest first; some may be deleted since."""
    rows: int = 0
    """Training rows of its task; 0: unknown."""
    rows_per_step: int = 0
    tokens_per_row: float = 0.0
    refused: Mapping[str, str] = field(default_factory=dict)
    """Op to the reason why the program that trains can't do it."""

    @property
    def windows(self) -> list[DangerWindow]:
        """All danger windows so far, in order of their start; one ends where the next starts."""
        following = [*(window.start for window in self.opened[1:]), None]
        return [
            window
            if then is None or then >= window.end
            else replace(window, length=then - window.start)
            for window, then in zip(self.opened, following, strict=False)
            if then != window.start
        ]

    @property
    def danger(self) -> DangerWindow | None:
        """The danger window that the stage is in now; None outside of any."""
        return self.danger_at(self.step)

    def danger_at(self, step: int) -> DangerWindow | None:
        """Return the danger window that the stage is in after a step; None outside of any."""
        inside = [w for w in self.windows if w.start <= step < w.end]
        return inside[-1] if inside else None

    @property
    def in_danger(self) -> bool:
        """Whether the stage is in a danger window."""
        return self.danger is not None

    def open_window(self, window: DangerWindow) -> None:
        """Add a danger window; one that is still open ends where the new one starts."""
        # A rollback may bring back one that a later one had cut short, so keep whole lengths.
        self.opened.append(window)
        self.opened.sort(key=lambda each: each.start)
        if window.start == 0:
            self.window = window.length

    @property
    def anchor(self) -> AnchorState | None:
        """The stage's current anchor; None if it is not anchored."""
        return self.anchors[-1].anchor if self.anchors else None

    def anchor_at(self, step: int) -> AnchorState | None:
        """Return the anchor of the stage after a step."""
        return next((each.anchor for each in reversed(self.anchors) if each.step <= step), None)

    @property
    def knows_its_rows(self) -> bool:
        """Whether the last step's loss shows that the stage's training rows are learned."""
        loss = None if self.last_step is None else self.last_step.loss
        return loss is not None and loss <= _ROWS_KNOWN

    @property
    def anchor_loss(self) -> float | None:
        """KL divergence from the start model at the newest step, in nats per token."""
        return None if self.last_step is None else self.last_step.losses.get("anchor")

    def set_anchor(self, step: int, anchor: AnchorState | None, seq: int = 0) -> None:
        """Record the anchor from a step on; None: not anchored."""
        if anchor != self.anchor:
            self.anchors.append(AnchorChange(step, seq, anchor))

    @property
    def frozen(self) -> list[str]:
        """Names of the layers that the newest drift event lists as frozen."""
        return [layer.name for layer in self.drift.layers if layer.frozen] if self.drift else []

    def add_probe(self, probe: Probe) -> None:
        """Add a probe; the number kept is bounded."""
        self.probes.append(probe)
        in_window = bisect_right(self.probes, self.window, key=lambda each: each.step)
        in_window = min(in_window, WINDOW_PROBES_KEPT)
        if len(self.probes) > 2 * PROBES_KEPT + in_window:
            self.probes[max(in_window, 1) : -PROBES_KEPT] = []

    def add_checkpoint(self, event: CheckpointWritten) -> None:
        """Add a checkpoint, or the new name of one that was put aside."""
        base, aside, _ = event.path.rpartition(ASIDE)
        if aside:
            for index in range(len(self.saved) - 1, -1, -1):
                if self.saved[index].path == base:
                    self.saved[index] = replace(self.saved[index], path=event.path)
                    break
            return
        metrics, probed_at = event.metrics, event.probed_at
        if not metrics and self.probes:
            metrics, probed_at = self.probes[-1].metrics, self.probes[-1].step
        while self.saved and self.saved[-1].path == event.path:
            # It was written again.
            self.saved.pop()
        self.saved.append(
            SavedState(event, event.path, metrics, probed_at, self.drift, self.last_step)
        )
        if len(self.saved) > SAVED_DRIFTS_KEPT:
            old = -SAVED_DRIFTS_KEPT - 1
            self.saved[old] = replace(self.saved[old], drift=None, last_step=None)

    def saved_as(self, name: str | None, step: int) -> SavedState | None:
        """Return the checkpoint of a step with a folder's name; None if it is not known."""
        found = [each for each in self.saved if each.event.step == step]
        return next((each for each in reversed(found) if each.name == name), None)

    def rewind(self, step: int, to: SavedState | None = None, *, resumed: bool = False) -> None:
        """Undo everything that a rewind to a step invalidates.

        Args:
            step: the step that the stage continues from.
            to: the checkpoint that it continues from, if it is known.
            resumed: whether a new worker repeats what was done, instead of discarding it.
        """
        keeps = _keeper(step, to)
        self.step = step
        self.finished = self.finished and step >= self.steps
        self.probes = [probe for probe in self.probes if keeps(probe.step, probe.seq)]
        if self.drift is not None and not keeps(self.drift.step, self.drift.seq):
            self.drift = to.drift if to else None
        if self.last_step is not None and not keeps(self.last_step.step, self.last_step.seq):
            self.last_step = to.last_step if to else None
        self.anchors = [each for each in self.anchors if keeps(each.step, each.seq)]
        self.saved = [each for each in self.saved if keeps(each.event.step, each.event.seq)]
        if not resumed:
            # A resumed worker applies these again, without new events.
            self.weight_changes = [c for c in self.weight_changes if keeps(c.step, c.seq)]
            self.opened = [w for w in self.opened if keeps(w.start, w.seq)]
        if to is not None:
            self._show_probe_of(to)

    def _show_probe_of(self, to: SavedState) -> None:
        """Make a checkpoint's own probe the newest one, even if it was not kept."""
        at = to.probed_at
        if to.metrics and at is not None and not any(p.step >= at for p in self.probes):
            event = to.event
            probe = Probe(event.stage, at, to.metrics, seq=event.seq, time=event.time)
            self.probes.append(probe)

    def copy(self) -> StageState:
        """Return a copy that later events do not change."""
        return replace(
            self,
            known=list(self.known),
            probes=list(self.probes),
            opened=list(self.opened),
            weight_changes=list(self.weight_changes),
            anchors=list(self.anchors),
            saved=list(self.saved),
        )


def _keeper(step: int, to: SavedState | None) -> Callable[[int, int], bool]:
    """Return whether something with a step and an event's number outlasts a rewind."""
    if to is None:
        return lambda at, _: at <= step
    last_seq = to.event.seq
    return lambda at, seq: at < step or (at == step and seq <= last_seq)
