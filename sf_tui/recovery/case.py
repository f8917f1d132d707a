"""A degraded model on the table: everything that a recovery test or a repair may take hold of."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from sf_tui.engine.batches import derive_seed
from sf_tui.engine.compute import ComputeSetting
from sf_tui.engine.layout import ModelLayout
from sf_tui.engine.loading import LoadedModel
from sf_tui.engine.step import ExamplesLoss
from sf_tui.engine.weights import StoredWeights
from sf_tui.neighbors.anatomy import Anatomy, Tokens, anatomize, prompts_of
from sf_tui.neighbors.anchor import Anchor, DivergenceMeter
from sf_tui.neighbors.cache import MOST_PROMPTS, TeacherCache, answer_limit, build_cache
from sf_tui.neighbors.propose import LeftOut, Neighbor, propose
from sf_tui.neighbors.start_model import StartModel
from sf_tui.profile import NeighborKinds
from sf_tui.recovery.leaks import Leaks
from sf_tui.recovery.scoring import ScoredRows, Scorer
from sf_tui.tasks.encoding import Encoded

if TYPE_CHECKING:
    from transformers import PreTrainedModel


UNKNOWN_RATES = (1.0, 4.0, 16.0, 64.0)
"""Multiples of the default learning rate that are tried where nobody knows the stage's own."""


@dataclass(frozen=True)
class OldTask:
    """The task that was lost, as far as its data are at hand."""

    name: str
    metric: str
    """`exact`, `first_token`, `token` or `nll`."""
    held_out: ScoredRows
    """What no training ever sees."""
    examples: tuple[Encoded, ...] = ()
    """Rows that may be trained on: the safe examples are drawn from them."""


@dataclass(frozen=True)
class NewTask:
    """The task that was learnt last."""

    name: str
    metric: str
    train: tuple[Encoded, ...]
    held_out: ScoredRows


@dataclass
class RecoveryCase:
    """A model with its weights as they are now, and what is known of how it came to them."""

    loaded: LoadedModel
    layout: ModelLayout
    compute: ComputeSetting
    old: OldTask | None
    new: NewTask | None
    start: StoredWeights | None
    """The weights from before the stage; None where nobody has them."""
    learning_rate: float
    """The stage's own, which every rate is chosen from."""
    batch_size: int = 16
    micro_batch: int = 16
    stage_tokens: int | None = None
    """Tokens that the stage trained on; None where it is unknown."""
    start_accuracy: float | None = None
    """The old task's accuracy before the stage, where it is known and the weights are not."""
    start_examples: int | None = None
    """How many examples it was measured on."""
    control: ScoredRows | None = None
    """The old task's questions about facts that the model never saw."""
    unrelated: tuple[Encoded, ...] = ()
    """Examples of another task."""
    kinds: dict[str, float] = field(default_factory=lambda: NeighborKinds().model_dump())
    """Neighbors' kinds, by share."""
    top_k: int = 64
    longest_answer: int | None = None
    """Tokens of a neighbor's answer at most; None: as many as the known answers' longest."""
    most_prompts: int | None = None
    """Neighbors that a repair learns from at most; None: a fresh one for each row."""
    seed: int = 0
    reference_rate: float | None = None
    """Of the paper's own recovery; None: a quarter of the stage's."""
    stage: str = ""
    step: int = 0
    between: Callable[[], None] | None = None
    """Called before each pass in which the start model is asked; what it raises ends the asking."""

    @property
    def model(self) -> PreTrainedModel:
        """The model."""
        return self.loaded.model

    @property
    def knows_stage(self) -> bool:
        """Whether the stage that did it is known; else its rate and its work are defaults."""
        return self.stage_tokens is not None

    @property
    def pad_id(self) -> int:
        """Token id for padding."""
        return self.loaded.pad_id

    @property
    def pass_tokens(self) -> int:
        """Tokens of one forward pass: about a training step's."""
        rows = self.new.train if self.new else self.old.held_out.rows if self.old else ()
        mean = sum(len(row.input_ids) for row in rows) / len(rows) if rows else 64
        return max(int(self.micro_batch * mean), 512)

    def start_model(self) -> StartModel:
        """Return the model as something to ask; the caller has put the start weights into it."""
        return StartModel(
            self.model,
            self.loaded.tokenizer,
            self.compute,
            pad_id=self.pad_id,
            pass_tokens=max(self.pass_tokens, 1024),
            between=self.between,
        )

    def anatomy(self) -> Anatomy | None:
        """Return the new task's prompts taken apart; None where it has none."""
        return self._anatomy_of(self.new.train if self.new else ())

    def old_anatomy(self, examples: int) -> Anatomy | None:
        """Return the prompts (never the answers) of some safe old examples taken apart.

        Args:
            examples: how many of them; None comes back where fewer than two are at hand.
        """
        return self._anatomy_of(self.safe_examples(examples))

    def safe_examples(self, count: int) -> list[Encoded]:
        """Return the old examples that a test or a repair may train on, drawn by the seed."""
        rows = self.old.examples if self.old else ()
        random = np.random.default_rng(derive_seed(self.seed, "safe-examples"))
        return [rows[at] for at in random.permutation(len(rows))[:count].tolist()]

    def _anatomy_of(self, rows: Sequence[Encoded]) -> Anatomy | None:
        # A row of plain text has its first token alone before what is learnt.
        prompts = [prompt for prompt in prompts_of(rows) if len(prompt) > 1]
        return anatomize(prompts, self.loaded.tokenizer) if len(prompts) > 1 else None

    def leaks(self) -> Leaks:
        """Return what a test's neighbors may not teach: the facts that are asked for."""
        old = self.old
        return Leaks(
            old.held_out.rows if old else (),
            old.examples if old else (),
            self.loaded.tokenizer,
            longest=self.answer_tokens(),
        )

    def bank(
        self,
        count: int,
        *,
        left_out: LeftOut | None = None,
        beside: Anatomy | None = None,
        told: Callable[[str], None] | None = None,
    ) -> TeacherCache | None:
        """Return neighbors with the start model's answers; its weights are in the model now.

        Args:
            count: how many prompts.
            left_out: subjects that none may repeat.
            beside: further prompts that half of the neighbors are made beside.
            told: told what goes on.
        """
        anatomies = [one for one in (self.anatomy(), beside) if one is not None]
        if not anatomies:
            return None
        if told is not None:
            told("asking the start model about neighbor prompts")
        start = self.start_model()
        count = min(count, MOST_PROMPTS)
        longest = self.answer_tokens()
        limit = self.loaded.max_length

        def proposed() -> list[Neighbor]:
            found: dict[Tokens, Neighbor] = {}
            for number, anatomy in enumerate(anatomies):
                seed = derive_seed(self.seed, "case", number)
                part = count // len(anatomies)
                for one in propose(anatomy, start, self.kinds, part, seed, left_out):
                    if not limit or len(one.tokens) + longest <= limit:
                        found.setdefault(one.tokens, one)
            return list(found.values())

        bank = build_cache(None, {}, proposed, start, longest=longest, top_k=self.top_k)
        return bank if len(bank) else None

    def answer_tokens(self) -> int:
        """Return how many tokens a greedy answer may have."""
        rows = [*(self.new.train if self.new else ()), *(self.old.examples if self.old else ())]
        known = max((row.answer_tokens for row in rows), default=0)
        return answer_limit(self.longest_answer, known)

    def scorer(self) -> Scorer:
        """Return what scores rows under the model as it stands."""
        return Scorer(self.model, self.compute, pad_id=self.pad_id, pass_tokens=self.pass_tokens)

    def meter(self) -> DivergenceMeter:
        """Return what measures how far the model's answers to neighbors have moved."""
        return DivergenceMeter(
            self.model,
            self.compute,
            pad_id=self.pad_id,
            pass_tokens=max(self.pass_tokens, 1024),
        )

    def examples_part(
        self, name: str, rows: Sequence[Encoded], batch: int, weight: float = 1.0
    ) -> ExamplesLoss:
        """Return examples as a part of what the model is tuned on; `name` decides their order."""
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

    def neighbors_part(
        self,
        name: str,
        bank: TeacherCache,
        rows: int,
        strength: float = 1.0,
        *,
        length_grouped: bool = False,
    ) -> Anchor:
        """Return the pull towards the start model as such a part; `name` decides the order."""
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
