"""Controls whether a stage is anchored, with which strength, and to which answers.

The answers come from first checkpoints of stages: what the model knew from the run's start, what
the run taught from the start of the stage after it. These weights are loaded temporarily, and the
current ones are restored bit for bit. Knows no commands.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

from pydantic import Field

from sf_tui.engine.prepare import starts_without_adapter
from sf_tui.engine.step import Loss
from sf_tui.engine.strategies import Strategy, StrategyFacts, StrategyState
from sf_tui.errors import DataError, RunError
from sf_tui.neighbors.anchor import Anchor
from sf_tui.neighbors.cache import TAUGHT, TeacherCache
from sf_tui.recovery.progress import PROMPTS, Progress
from sf_tui.run.durable import remove
from sf_tui.vocabulary.sizes import counted
from sf_tui.vocabulary.strategies import AnchorSettings
from sf_tui.worker.context import RunContext
from sf_tui.worker.stage_bank import StageBank, bank_folder, start_model
from sf_tui.worker.stage_strategies import RunStage

ANCHOR_LOSS = "anchor"
"""Name in `step` events of the divergence from the start model."""


class AnchorFacts(StrategyFacts):
    """The facts that a checkpoint stores about an anchor."""

    strength: float | None = Field(gt=0)
    sticky: float | None = Field(gt=0)


class AnchorControl(Strategy):
    """The anchor of one stage, set by the profile, an action or a rule.

    Attributes:
        strength: λ; None if the stage is not anchored.
        sticky: λ set by an action or a rule; it also anchors each later stage.
        prompts: neighbor prompts per step.
    """

    facts_schema = AnchorFacts

    def __init__(self, stage: RunStage, settings: AnchorSettings) -> None:
        super().__init__(stage, settings)
        self.strength: float | None = None
        self.sticky: float | None = None
        self.prompts = settings.rows or stage.train.batch_size
        self._prepared = stage.prepared
        self._spec = stage.spec
        self._run_context = stage.context
        self._references = stage.references
        self._lend = stage.lend
        self._bank: TeacherCache | None = None
        self._loss: Anchor | None = None

    @property
    def _context(self) -> RunContext:
        assert self._run_context is not None, "a stage that is only checked is never trained"
        return self._run_context

    @property
    def summary(self) -> dict[str, Any] | None:
        """The anchor's settings for events; None if the stage is not anchored."""
        if self.strength is None:
            return None
        return {"strength": self.strength, "rows": self.prompts}

    def check_stage(self) -> None:
        """Raise DataError if the task has no prompts, or no prompt leaves room for an answer."""
        StageBank(self._prepared, self._spec)

    def take_over(self, carried: StrategyState) -> None:
        """Anchor the stage if an earlier one passed on its anchor."""
        self.sticky = carried.facts["sticky"]
        if self.sticky is not None:
            self.hold(self.sticky)

    def begin(self) -> None:
        """Anchor the stage with the strength in `[anchor]`."""
        self.choose(None)

    def open(self, *, at_start: bool) -> str | None:
        """Load or build the bank; return a description of the work, or None if there was none.

        Raises:
            SfError: the bank can't be built.
        """
        if self.strength is None:
            return None
        took = self._fetch(at_start=at_start)
        self._apply()
        return took

    def losses(self) -> Mapping[str, Loss]:
        """Return the divergence from the start model; empty if the stage is not anchored."""
        return {} if self._loss is None else {ANCHOR_LOSS: self._loss}

    def state(self) -> StrategyState:
        """Return the anchor strengths of this stage and of later ones."""
        return StrategyState({"strength": self.strength, "sticky": self.sticky})

    def restore(self, state: StrategyState | None) -> None:
        """Restore the state of a checkpoint."""
        # The number of prompts comes from the profile, which hasn't changed.
        self.strength = state.facts["strength"] if state else None
        self.sticky = state.facts["sticky"] if state else None
        self._apply()

    def carry(self) -> StrategyState | None:
        """Return the anchor strength for later stages; None if there is none."""
        return None if self.sticky is None else self.state()

    def resolve(self, strength: float | None) -> float:
        """Return a strength; None selects the profile's."""
        default: float = self.settings.strength
        return default if strength is None else strength

    def check(self, strength: float) -> None:
        """Raise SfError if the stage can't be anchored with this strength."""
        if self.strength == strength:
            raise RunError(f"anchored already, with strength {strength:g}")
        self.check_stage()

    def choose(self, strength: float | None) -> None:
        """Anchor the stage from its first step; the caller must then call `open`."""
        self.strength = self.resolve(strength)
        self.is_on = True

    def hold(self, strength: float) -> None:
        """Anchor the stage with an earlier one's strength; if that's impossible, write an alert."""
        try:
            self.check(strength)
        except RunError:
            return
        except DataError as error:
            self._context.alert("warn", "anchor", f"not anchored: {error.message}", self._spec.name)
            return
        self.choose(strength)

    def press(self, strength: float) -> str:
        """Anchor the stage, starting with the next step; return a description of the work.

        Raises:
            SfError: the bank can't be built; the stage is unchanged.
        """
        took = self._fetch()
        self.strength = strength
        self.is_on = True
        self._apply()
        return (
            f"{self._held_to()}, {self.prompts} a step, strength {strength:g}; "
            f"{took or 'their answers were there already'}"
        )

    def _held_to(self) -> str:
        plan, bank = self._plan(), self._bank or TeacherCache()
        neighbors = sum(kind != TAUGHT for kind in bank.kinds)
        where = "the stage's start"
        if plan.origin != self._spec.name:
            first = self._prepared.profile.stages()[0].name
            where = "the run's start" if plan.origin == first else f"the start of {plan.origin}"
        text = f"held to {where} on {neighbors} neighbor prompts"
        tasks = ", ".join(one.task for one in plan.taught)
        return f"{text} and on prompts of {tasks} as the run taught them" if tasks else text

    def why_not(self) -> str | None:
        """Return why the stage can't be anchored; None if it can."""
        try:
            self.check_stage()
        except DataError as error:
            return error.message
        return None

    def prepare(self) -> None:
        """Load or build the bank, so that a later `press` can't fail; the stage is unchanged.

        Raises:
            SfError: the bank can't be built.
        """
        self._fetch()

    def release(self) -> None:
        """Continue training without the anchor; the bank is kept."""
        self.strength = None
        self.is_on = False
        self._apply()

    def _plan(self) -> StageBank:
        return StageBank(self._prepared, self._spec, self._references)

    def _fetch(self, *, at_start: bool = False) -> str | None:
        if self._context.ranks.lockstep:
            return self._fetch_in_step(at_start=at_start)
        took = self._context.decide(lambda: self._fetch_or_build(at_start=at_start))
        if self._bank is None:
            # Rank 0 has it, and has written it.
            self._bank = self._plan().read(bank_folder(self._context.run, self._spec.name))
        return took

    def _fetch_in_step(self, *, at_start: bool) -> str | None:
        """Fetch or build the bank where every pass needs all ranks; rank 0 writes it."""
        folder = bank_folder(self._context.run, self._spec.name)

        def is_written() -> bool:
            whole = self._plan().read(folder) is not None
            if not whole:
                # A part of it would be read by one rank and built by the others.
                remove(folder)
            return whole

        if self._bank is None and self._context.decide(is_written):
            self._bank = self._plan().read(folder)
        if self._bank is not None:
            return None
        return self._build(folder if self._context.ranks.is_main else None, at_start=at_start)

    def _fetch_or_build(self, *, at_start: bool) -> str | None:
        if self._bank is not None:
            return None
        folder = bank_folder(self._context.run, self._spec.name)
        self._bank = self._plan().read(folder)
        if self._bank is not None:
            return None
        return self._build(folder, at_start=at_start)

    def _build(self, folder: Path | None, *, at_start: bool) -> str:
        plan = self._plan()
        # The weights of a stage that begins are its start's, but a new adapter may be in use.
        has_weights = at_start and not starts_without_adapter(
            self._prepared.profile, self._spec.name
        )

        def lend(stage: str) -> AbstractContextManager[None]:
            own = stage == self._spec.name
            return nullcontext() if own and has_weights else self._lend(stage)

        begun = time.perf_counter()

        def tell() -> None:
            count = plan.count + sum(len(one.prompts) for one in plan.taught)
            done = min(start.answered, count)
            left_s = (time.perf_counter() - begun) * (count - done) / done if done else None
            what = "the start model's answers"
            self._context.report(
                Progress(what, done=done, total=count, unit=PROMPTS, left_s=left_s)
            )

        start = start_model(self._prepared, self._spec, tell)
        self._bank = plan.build(start, folder, lend)
        return (
            f"the start model answered {counted(len(self._bank), 'prompt')} in "
            f"{time.perf_counter() - begun:.1f} s, {counted(self._bank.built_tokens, 'token')}"
        )

    def _apply(self) -> None:
        if self.strength is None or self._bank is None:
            self._loss = None
            return
        prepared = self._prepared
        self._loss = Anchor(
            prepared.loaded.model,
            prepared.compute,
            self._bank,
            strength=self.strength,
            rows=self.prompts,
            rows_a_pass=self._spec.train.micro_batch,
            seed=prepared.profile.seed,
            stage=self._spec.name,
            pad_id=prepared.loaded.pad_id,
            ranks=prepared.ranks,
        )
