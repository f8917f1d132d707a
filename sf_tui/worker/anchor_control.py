"""Whether a stage is anchored, how strongly, and to which answers.

The answers are those of the stage's first checkpoint, whenever they are asked for: where training
has gone on, its weights step aside meanwhile and come back bit for bit. Knows no commands.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

from sf_tui.engine.checkpoint import checkpoint_weights, read_checkpoint
from sf_tui.engine.tuning import StageTuner
from sf_tui.engine.weights import with_weights
from sf_tui.errors import DataError, RunError
from sf_tui.neighbors.anchor import Anchor
from sf_tui.neighbors.cache import TeacherCache
from sf_tui.profile import StageSpec
from sf_tui.run.durable import remove
from sf_tui.worker.context import RunContext
from sf_tui.worker.stage_bank import StageBank, start_model

ANCHOR_LOSS = "anchor"
"""What `step` events call the divergence from the start model."""


class AnchorControl:
    """Whether and how one stage is anchored.

    Attributes:
        strength: λ; None where the stage is not anchored.
        rows: neighbor prompts of a step.
    """

    def __init__(self, context: RunContext, spec: StageSpec, tuner: StageTuner) -> None:
        self.strength: float | None = None
        self.rows = context.profile.anchor.rows or spec.train.batch_size
        self._context = context
        self._spec = spec
        self._tuner = tuner
        self._bank: TeacherCache | None = None

    @property
    def state(self) -> dict[str, Any] | None:
        """What events and checkpoints say of it."""
        if self.strength is None:
            return None
        return {"strength": self.strength, "rows": self.rows}

    def resolve(self, strength: float | None) -> float:
        """Return a strength, the profile's where none is given."""
        return self._context.profile.anchor.strength if strength is None else strength

    def check(self, strength: float) -> None:
        """Raise the reason for which the stage can't be anchored so."""
        if self.strength == strength:
            raise RunError(f"anchored already, with strength {strength:g}")
        StageBank(self._context.prepared, self._spec)

    def choose(self, strength: float | None) -> None:
        """Anchor the stage from its first step on; `make_ready` must follow."""
        self.strength = self.resolve(strength)

    def hold(self, strength: float) -> None:
        """Anchor the stage as an earlier one was, or say why that can't be."""
        try:
            self.check(strength)
        except RunError:
            return
        except DataError as error:
            self._context.alert("warn", "anchor", f"not anchored: {error.message}", self._spec.name)
            return
        self.choose(strength)

    def press(self, strength: float) -> str:
        """Anchor the stage from the next step on; return what that took.

        Raises:
            SfError: the bank can't be made; the stage is as it was.
        """
        took = self._fetch(self._start_weights)
        self.strength = strength
        self._apply()
        count = len(self._bank or ())
        return (
            f"held to the stage's start on {count} neighbor prompts, {self.rows} a step, strength "
            f"{strength:g}; {took or 'their answers were there already'}"
        )

    def release(self) -> None:
        """Continue without the anchor; the bank stays."""
        self.strength = None
        self._apply()

    def restore(self, state: dict[str, Any] | None) -> None:
        """Take up what a checkpoint remembers; `make_ready` must follow."""
        # The rows are the profile's, as they were then.
        self.strength = state["strength"] if state else None
        self._apply()

    def forget_bank(self) -> None:
        """Delete what lies there from a course of this stage that is played anew."""
        remove(self._folder)

    def make_ready(self, *, at_start: bool = False) -> str | None:
        """Get the bank where the stage is anchored; return what that took, if anything.

        Args:
            at_start: the model has the stage's start weights.

        Raises:
            SfError: the bank can't be made.
        """
        if self.strength is None:
            return None
        took = self._fetch(nullcontext if at_start else self._start_weights)
        self._apply()
        return took

    def _fetch(self, weights: Callable[[], AbstractContextManager[None]]) -> str | None:
        if self._bank is not None:
            return None
        prepared = self._context.prepared
        plan = StageBank(prepared, self._spec)
        self._bank = plan.read(self._folder)
        if self._bank is not None:
            return None
        begun = time.perf_counter()
        start = start_model(prepared, self._spec, self._context.stop_if_asked)
        with weights():
            self._bank = plan.build(start, self._folder)
        return (
            f"the start model answered {len(self._bank)} prompts in "
            f"{time.perf_counter() - begun:.1f} s, {self._bank.built_tokens} tokens"
        )

    def _apply(self) -> None:
        if self.strength is None or self._bank is None:
            self._tuner.added.pop(ANCHOR_LOSS, None)
            return
        context, prepared = self._context, self._context.prepared
        self._tuner.added[ANCHOR_LOSS] = Anchor(
            prepared.loaded.model,
            prepared.compute,
            self._bank,
            strength=self.strength,
            rows=self.rows,
            rows_a_pass=self._spec.train.micro_batch,
            seed=context.profile.seed,
            stage=self._spec.name,
            pad_id=prepared.loaded.pad_id,
        )

    def _start_weights(self) -> AbstractContextManager[None]:
        path = self._context.shelf.path(self._spec.name, 0)
        checkpoint = read_checkpoint(path)
        if checkpoint is None:
            raise RunError(
                f"{path}: the stage's first checkpoint is not there",
                "without its start weights a stage can't be anchored",
            )
        layout = self._context.prepared.layout
        return with_weights(checkpoint_weights(checkpoint, layout), layout)

    @property
    def _folder(self) -> Path:
        return self._context.run.path / "neighbors" / self._spec.name
