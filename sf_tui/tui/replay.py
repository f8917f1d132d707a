"""The state that the console shows in replay: everything as it was at an earlier step.

The curves stay whole, so that the cursor can move on; state and activity end at the cursor. Knows
states; knows nothing of keys or panels.
"""

from __future__ import annotations

from sf_tui.tui.activity import Entry, Kind
from sf_tui.tui.live_state import LiveState, Place
from sf_tui.vocabulary.events import Step


class ReplayState(LiveState):
    """A run's state at a step of its current branch.

    Args:
        newest: the run's newest state.
        place: the step.
        seq: number of the last event at that step, from `History.branch`.
    """

    def __init__(self, newest: LiveState, place: Place, seq: int) -> None:
        super().__init__()
        self._newest = newest
        self.take_over(newest.history.state_after(seq))
        self.curves = newest.curves
        self.activity = newest.activity.until(seq)
        self.history = newest.history
        self.damaged_lines = newest.damaged_lines
        self.version = newest.version
        self.on_disk = newest.on_disk
        stage = self.stages.get(place.stage)
        if stage is None:
            return
        self.stage = stage
        self._fill_in_steps(place)

    def _fill_in_steps(self, place: Place) -> None:
        """Set the newest step of each stage: plain steps are not kept, but the curves have them."""
        for name, stage in self.stages.items():
            curves = self.curves.stages.get(name)
            if curves is None:
                continue
            at = place.step if name == place.stage else curves.loss.last_x or stage.step
            stage.step = at
            if at:
                # What is shown of a step; whether it was anchored is known.
                loss, norm = curves.loss.value_at(at), curves.grad_norm.value_at(at)
                losses = {"anchor": None} if stage.anchor is not None else {}
                stage.last_step = Step(name, at, loss, grad_norm=norm, losses=losses)
            if name == place.stage:
                return

    def marks(self, *kinds: Kind) -> list[Entry]:
        """Return the newest state's marks: the charts show the whole run."""
        return self._newest.marks(*kinds)


class Replay:
    """Gives the state at a cursor, and keeps the last one."""

    def __init__(self) -> None:
        self._key: tuple[object, ...] = ()
        self._state: LiveState | None = None

    def at(self, newest: LiveState, place: Place) -> LiveState:
        """Return the state at a step; the newest one if nothing is known of that step."""
        seq = newest.history.branch.last_seq(place.stage, place.step)
        if seq is None:
            return newest
        key = (id(newest), place, seq, newest.on_disk)
        if self._state is None or key != self._key:
            self._key, self._state = key, ReplayState(newest, place, seq)
        return self._state
