"""A degraded model with all data that a recovery test or a repair may use.

Knows the rows of both tasks and the weights from before the stage, and how to make neighbors from
them. Does not know their origin: a run, a bare model or a benchmark.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from sf_tui.engine.batches import FixedSource, derive_seed
from sf_tui.engine.compute import ComputeSetting
from sf_tui.engine.layout import ModelLayout
from sf_tui.engine.loading import LoadedModel
from sf_tui.engine.step import ExamplesLoss
from sf_tui.engine.weights import StartWeights, with_weights
from sf_tui.neighbors.anatomy import Anatomy, Tokens, anatomize, prompts_of
from sf_tui.neighbors.anchor import Anchor, DivergenceMeter
from sf_tui.neighbors.cache import (
    MOST_PROMPTS,
    TAUGHT,
    TeacherCache,
    answer_limit,
    build_cache,
)
from sf_tui.neighbors.held_out import HeldOutPrompts, untrained_prompts
from sf_tui.neighbors.propose import LeftOut, Neighbor, propose
from sf_tui.neighbors.start_model import StartModel
from sf_tui.neighbors.taught import add_taught, neighbors_beside
from sf_tui.profile import AnchorSettings, NeighborKinds
from sf_tui.recovery.scoring import EvalSet, Leaks, Scorer
from sf_tui.tasks.encoding import Encoded

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@dataclass(frozen=True)
class TaughtTask:
    """A task that the run taught before the stage: its prompts, and its reference."""

    name: str
    prompts: tuple[Tokens, ...]
    longest_answer: int
    """In tokens."""
    weights: StartWeights
    """The weights of the model that had just learned it."""


@dataclass(frozen=True)
class CaseReferences:
    """The earlier weights that a repair refers to, beside those from before the stage."""

    origin: StartWeights
    """The weights that know what the model knew before the run taught it anything."""
    taught: tuple[TaughtTask, ...]
    share: float
    """Share of the taught tasks' prompts among those that a repair trains on."""


UNKNOWN_RATES = (1.0, 4.0, 16.0, 64.0)
"""Multiples of the default learning rate to try if the stage's own rate is unknown."""


@dataclass(frozen=True)
class CaseTask:
    """The lost task or the most recently learned task, as far as its data is available."""

    name: str
    metric: str
    """A name of `vocabulary.metrics`."""
    held_out: EvalSet
    """Rows never used for training."""
    train: tuple[Encoded, ...] = ()
    """Rows available for training; the old task's safe examples are drawn from them."""
    spare: EvalSet = field(default_factory=lambda: EvalSet(()))
    """More rows never used for training, which a test scores only while its verdict is open."""


@dataclass(frozen=True)
class StartAccuracy:
    """The old task's accuracy before the stage, if it is known without the weights."""

    accuracy: float | None = None
    examples: int | None = None
    """Number of examples it was measured on; None if unknown."""


@dataclass
class RecoveryCase:
    """A model with its current weights, and the known facts about the stage that produced them."""

    loaded: LoadedModel
    layout: ModelLayout
    compute: ComputeSetting
    old: CaseTask | None
    new: CaseTask | None
    start: StartWeights | None
    """The weights from before the stage; None if they are not available."""
    learning_rate: float
    """The stage's learning rate; all other rates are derived from it."""
    batch_size: int = 16
    micro_batch: int = 16
    stage_tokens: int | None = None
    """Tokens that the stage trained on; None if unknown."""
    known_start: StartAccuracy = StartAccuracy()
    control: EvalSet | None = None
    """Questions of the old task about facts that the model never saw."""
    unrelated: tuple[Encoded, ...] = ()
    """Examples of another task."""
    kinds: NeighborKinds = field(default_factory=NeighborKinds)
    anchor: AnchorSettings = field(default_factory=AnchorSettings)
    """Settings for the neighbors' answers: length, top-k, number."""
    seed: int = 0
    reference_rate: float | None = None
    """Learning rate of the paper's recovery; None for a quarter of the stage's."""
    stage: str = ""
    references: CaseReferences | None = None
    """What a repair refers to in a run of several stages; None: only the start weights."""
    other_held_out: tuple[Tokens, ...] = ()
    """Held-out prompts of the run's other tasks."""
    check_stop: Callable[[], None] | None = None
    """Called before each forward pass; an exception ends the test or the repair."""
    clock: Callable[[], float] = time.perf_counter
    """Seconds of work. `check_stop` may wait; the clock must then leave out for how long."""
    agree: Callable[[bool], bool] = bool
    """Returns what all ranks do about a question that each answers by its own clock."""

    @property
    def model(self) -> PreTrainedModel:
        """The model."""
        return self.loaded.model

    @property
    def knows_stage(self) -> bool:
        """Whether the stage that trained the model is known; if not, defaults are used."""
        return self.stage_tokens is not None

    @property
    def trains_adapter(self) -> bool:
        """Whether an adapter trains rather than the model's own weights."""
        return self.layout.adapters is not None

    @property
    def pad_id(self) -> int:
        """Token id for padding."""
        return self.loaded.pad_id

    @property
    def typical_rows(self) -> tuple[Encoded, ...]:
        """Rows of a length typical for training."""
        if self.new is not None:
            return self.new.train
        return self.old.held_out.rows if self.old is not None else ()

    @property
    def pass_tokens(self) -> int:
        """Tokens per forward pass: about as many as in a training step."""
        rows = self.typical_rows
        mean = sum(len(row.input_ids) for row in rows) / len(rows) if rows else 64
        return max(int(self.micro_batch * mean), 512)

    def start_model(self) -> StartModel:
        """Wrap the model as a start model; the caller must have loaded the start weights."""
        return StartModel(
            self.model,
            self.loaded.tokenizer,
            self.compute,
            pad_id=self.pad_id,
            # A sixth faster than passes of 1024 on a CPU; `StartModel` bounds the logits.
            pass_tokens=max(self.pass_tokens, 2048),
            between=self.check_stop,
        )

    def anatomy(self) -> Anatomy | None:
        """Return the analyzed prompts of the new task; None if it has none."""
        return self._anatomy_of(self.new.train if self.new else ())

    def old_anatomy(self, examples: int) -> Anatomy | None:
        """Return the analyzed prompts (never the answers) of some safe old examples.

        None if fewer than two are available.

        Args:
            examples: number of examples.
        """
        return self._anatomy_of(self.safe_examples(examples))

    def safe_examples(self, count: int) -> list[Encoded]:
        """Return the old examples that a test or a repair may train on, sampled with the seed."""
        rows = self.old.train if self.old else ()
        random = np.random.default_rng(derive_seed(self.seed, "safe-examples"))
        return [rows[at] for at in random.permutation(len(rows))[:count].tolist()]

    def _anatomy_of(self, rows: Sequence[Encoded]) -> Anatomy | None:
        # In a plain-text row, only the first token precedes the learned tokens.
        prompts = [prompt for prompt in prompts_of(rows) if len(prompt) > 1]
        return anatomize(prompts, self.loaded.tokenizer) if len(prompts) > 1 else None

    def held_out_prompts(self) -> HeldOutPrompts:
        """Return the held-out prompts of all tasks, which no prompt to train on may equal."""
        found = list(self.other_held_out)
        for task in (self.old, self.new):
            if task is not None:
                rows = (*task.held_out.rows, *task.spare.rows)
                found += untrained_prompts(rows, FixedSource(task.train))
        if self.control is not None:
            found += prompts_of(self.control.rows)
        return HeldOutPrompts(self.loaded.tokenizer, found)

    def leaks(self) -> Leaks:
        """Return the facts that the test asks for, which neighbors must not teach."""
        old = self.old
        return Leaks(
            (*old.held_out.rows, *old.spare.rows) if old else (),
            old.train if old else (),
            self.loaded.tokenizer,
            longest=self.answer_tokens(),
        )

    def bank(
        self,
        count: int,
        *,
        left_out: LeftOut | None = None,
        beside: Anatomy | None = None,
        references: CaseReferences | None = None,
        log: Callable[[str], None] | None = None,
    ) -> TeacherCache | None:
        """Return neighbors with the start model's answers; the model must have the start weights.

        None if the tasks have no prompts to make neighbors from.

        Args:
            count: largest number of prompts.
            left_out: subjects that no prompt may repeat.
            beside: additional prompts; half of the neighbors are made from them.
            references: the weights that answer instead of the model's current ones.
            log: receives a line before the start model runs.
        """
        anatomies = [one for one in (self.anatomy(), beside) if one is not None]
        if not anatomies:
            return None
        if log is not None:
            log("asking the start model about neighbor prompts")
        start = self.start_model()
        count = min(count, MOST_PROMPTS)
        longest = self.answer_tokens()
        limit = self.loaded.max_length
        held_out = self.held_out_prompts()

        kinds: dict[str, float] = self.kinds.model_dump()

        def proposed() -> list[Neighbor]:
            found: dict[Tokens, Neighbor] = {}
            for number, anatomy in enumerate(anatomies):
                seed = derive_seed(self.seed, "case", number)
                part = count // len(anatomies)
                # A quarter of the prompts take words from fillings; more would be left over.
                fillings = max(part // 2, 1)
                for one in propose(
                    *(anatomy, start, kinds, part, seed, left_out),
                    fillings=fillings,
                    held_out=held_out,
                ):
                    if not limit or len(one.tokens) + longest <= limit:
                        found.setdefault(one.tokens, one)
            return list(found.values())

        if references is None:
            bank = build_cache(None, {}, proposed, start, longest=longest, top_k=self.anchor.top_k)
            return bank if len(bank) else None
        share, taught = references.share, references.taught
        count = neighbors_beside(count, share, len(taught))
        with with_weights(references.origin, self.layout):
            bank = build_cache(None, {}, proposed, start, longest=longest, top_k=self.anchor.top_k)
        if not len(bank):
            return None
        banks = [self._taught_bank(task, start, held_out) for task in taught]
        return add_taught(bank, banks, share)

    def _taught_bank(
        self, task: TaughtTask, start: StartModel, held_out: HeldOutPrompts
    ) -> TeacherCache:
        longest = answer_limit(self.anchor.answer_tokens, task.longest_answer)
        limit = self.loaded.max_length
        prompts = [
            prompt
            for prompt in held_out.without(task.prompts)
            if not limit or len(prompt) + longest <= limit
        ]
        with with_weights(task.weights, self.layout):
            return build_cache(
                None,
                {},
                lambda: [Neighbor(prompt, TAUGHT) for prompt in prompts],
                start,
                longest=longest,
                top_k=self.anchor.top_k,
            )

    def answer_tokens(self) -> int:
        """Return the largest number of tokens in an answer of the start model."""
        rows = [*(self.new.train if self.new else ()), *(self.old.train if self.old else ())]
        known = max((row.answer_tokens for row in rows), default=0)
        return answer_limit(self.anchor.answer_tokens, known)

    def scorer(self) -> Scorer:
        """Return a scorer for rows under the model's current weights."""
        return Scorer(
            self.model,
            self.compute,
            pad_id=self.pad_id,
            pass_tokens=self.pass_tokens,
            between=self.check_stop,
        )

    def meter(self) -> DivergenceMeter:
        """Return a meter of the model's divergence from the start model's answers to neighbors."""
        return DivergenceMeter(
            self.model,
            self.compute,
            pad_id=self.pad_id,
            pass_tokens=max(self.pass_tokens, 1024),
        )

    def examples_loss(
        self, name: str, rows: Sequence[Encoded], batch: int, weight: float = 1.0
    ) -> ExamplesLoss:
        """Return the loss on examples; `name` determines their order."""
        return ExamplesLoss.on_rows(
            self.model,
            self.compute,
            rows,
            batch=batch,
            rows_a_pass=self.micro_batch,
            seed=self.seed,
            name=f"{self.stage}/{name}",
            pad_id=self.pad_id,
            weight=weight,
        )

    def neighbors_loss(
        self,
        name: str,
        bank: TeacherCache,
        rows: int,
        strength: float = 1.0,
        *,
        length_grouped: bool = False,
    ) -> Anchor:
        """Return the divergence from the start model as a loss; `name` determines the order."""
        return Anchor(
            self.model,
            self.compute,
            bank,
            strength=strength,
            rows=rows,
            rows_a_pass=self.micro_batch,
            seed=self.seed,
            stage=f"{self.stage}/{name}",
            pad_id=self.pad_id,
            length_grouped=length_grouped,
        )
