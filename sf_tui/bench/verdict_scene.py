"""The model of `sf bench verdict` and `sf bench repair`: the starter, and ways to damage it.

One model serves all cases; each case starts from the starter's weights. The kind of damage
determines the true verdict, which the reference recovery confirms elsewhere.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch

from sf_tui.engine.batches import derive_seed
from sf_tui.engine.compute import choose_compute
from sf_tui.engine.layout import block_name
from sf_tui.engine.loading import load_model
from sf_tui.engine.start_weights import open_start_weights
from sf_tui.engine.step import ExamplesLoss
from sf_tui.profile import load_profile, starter_directory
from sf_tui.recovery.case import CaseTask, RecoveryCase
from sf_tui.recovery.scoring import eval_set
from sf_tui.recovery.short_tuning import tune_briefly
from sf_tui.tasks.biography.build import EntrySource, ask
from sf_tui.tasks.biography.language import Form
from sf_tui.tasks.biography.world import Person, Settings, World, build_world
from sf_tui.tasks.encoded_examples import encode_all
from sf_tui.tasks.encoding import Encoded
from sf_tui.tasks.task import Example

STARTER = "biography-mini"
BATCH = 48

# A test may spend a share of the tokens of a stage of this length, however long the damage took.
STAGE_STEPS = 300

REFERENCE_RATE = 1.5e-4
"""Learning rate of the built-in experiment's replay stage (`[replay_stage.train]`)."""

_ENTRIES_A_PERSON = 20
_CONTROL_PEOPLE = 50


@dataclass(frozen=True)
class Damaged:
    """How the model was damaged."""

    new: tuple[Encoded, ...]
    """Rows trained on; empty if the weights were damaged directly."""
    new_held_out: tuple[Encoded, ...]
    learning_rate: float


class TrialScene:
    """The starter model with the new people of one seed."""

    def __init__(self, seed: int, *, threads: int, most_new_people: int = 400) -> None:
        profile = load_profile(STARTER, [f"train.threads={threads}"])
        self.seed = seed
        self._compute = choose_compute(profile.model.dtype, threads)
        self._kinds = profile.neighbors.kinds
        self._loaded = load_model(profile.model, profile.base_dir, self._compute, seed=0)
        self._layout = self._loaded.layout
        self._start = open_start_weights(
            starter_directory(STARTER), self._loaded.model, self._layout
        )
        settings = Settings(new_people=most_new_people, new_seed=seed)
        self.world: World = build_world(settings)
        held_out = ask(self.world.held_out, "same", "old")
        tuned = ask(self.world.tuned, "same", "old")
        control = ask(self.world.new[4][:_CONTROL_PEOPLE], "same", "control")
        self.old = CaseTask(
            "old",
            "exact_match",
            eval_set(self._encode(held_out)),
            self._encode(tuned),
        )
        self._control = eval_set(self._encode(control))
        self._unrelated = self._encode(ask(self.world.new[1][:25], "same", "unrelated"))

    def begin(self) -> None:
        """Load the starter's weights into the model."""
        self._start.load_into(self._layout)

    def case(self, damaged: Damaged) -> RecoveryCase:
        """Return the current model as a case for the recovery test."""
        rows = damaged.new
        new = None
        if rows:
            new = CaseTask("new", "exact_match", eval_set(rows, grouped=False), rows)
        mean = sum(len(row.input_ids) for row in self.old.train) / len(self.old.train)
        return RecoveryCase(
            self._loaded,
            self._layout,
            self._compute,
            self.old,
            new,
            self._start,
            damaged.learning_rate,
            reference_rate=REFERENCE_RATE,
            batch_size=BATCH,
            micro_batch=BATCH,
            stage_tokens=int(STAGE_STEPS * BATCH * mean),
            control=self._control,
            unrelated=self._unrelated,
            kinds=self._kinds,
            seed=self.seed,
            stage="trial",
        )

    def tune(self, rows: Sequence[Encoded], steps: int, rate: float, batch: int = BATCH) -> Damaged:
        """Train on rows as a stage does, at a constant rate."""
        part = ExamplesLoss.on_rows(
            self._loaded.model,
            self._compute,
            rows,
            batch=batch,
            rows_a_pass=batch,
            seed=self.seed,
            name="damage",
            pad_id=self._loaded.pad_id,
        )
        tune_briefly(
            self._loaded.model,
            self._layout,
            [part],
            steps=steps,
            learning_rate=rate,
            schedule="constant",
        )
        return Damaged(tuple(rows), tuple(rows), rate)

    def new_people(
        self, people: int, form: Form = "same", answer: Callable[[str], str] = lambda text: text
    ) -> tuple[Encoded, ...]:
        """Return questions about new people; `answer` may reword their answers."""
        asked = ask(self.world.new[0][:people], form, "new")
        return self._encode([replace(one, completion=answer(one.completion)) for one in asked])

    def tuned_half(self) -> tuple[Encoded, ...]:
        """Return the old task's own training questions."""
        return self.old.train

    def biographies(self, contradicted: float) -> tuple[Encoded, ...]:
        """Return entries about the held-out people, some of them with false facts.

        Args:
            contradicted: share of the people who get another person's facts.
        """
        persons = self._with_false_facts(contradicted)
        entries = EntrySource(persons, self.seed, stream="trial")
        return self._encode(
            [
                entries.example(index, draw)
                for draw in range(_ENTRIES_A_PERSON)
                for index in range(len(persons))
            ]
        )

    def wrong_answers(self) -> tuple[Encoded, ...]:
        """Return the held-out people's questions, each answered with another person's fact."""
        return self._encode(ask(self._with_false_facts(1.0), "same", "contradicted"))

    def _with_false_facts(self, share: float) -> list[Person]:
        """Return the held-out people; the first `share` of them have another person's facts."""
        people, others = self.world.held_out, self.world.new[3]
        count = round(share * len(people))
        return [
            Person(person.name, others[at].facts) if at < count else person
            for at, person in enumerate(people)
        ]

    def word_pairs(self) -> tuple[Encoded, ...]:
        """Return a task unrelated to people: one word as the answer to another."""
        words = sorted({value for person in self.world.new[2] for value in person.facts.values()})[
            :150
        ]
        return self._encode(
            [
                Example(prompt=f"{word} =", completion=f" {words[-1 - at]}", place="trial")
                for at, word in enumerate(words)
            ]
        )

    @torch.no_grad()
    def add_noise(self, sigmas: float, rate: float = 4e-4) -> Damaged:
        """Add Gaussian noise to every MLP matrix, in standard deviations of its entries."""
        generator = torch.Generator().manual_seed(derive_seed(self.seed, "noise"))
        for parameter in self._mlp(range(len(self._layout.blocks))):
            noise = torch.randn(parameter.shape, generator=generator)
            parameter.add_(noise * parameter.std() * sigmas)
        return Damaged((), (), rate)

    @torch.no_grad()
    def zero(self, share: float, blocks: Sequence[int], rate: float = 4e-4) -> Damaged:
        """Set a share of the entries of some blocks' MLP matrices to zero."""
        generator = torch.Generator().manual_seed(derive_seed(self.seed, "zero"))
        for parameter in self._mlp(blocks):
            parameter.mul_(torch.rand(parameter.shape, generator=generator) >= share)
        return Damaged((), (), rate)

    def _mlp(self, blocks: Sequence[int]) -> list[torch.Tensor]:
        wanted = {block_name(at) for at in blocks}
        return [
            parameter
            for layer in self._layout.blocks
            if layer.name in wanted
            for name, parameter in layer.parameters.items()
            if ".mlp." in name and parameter.dim() == 2
        ]

    def _encode(self, examples: Sequence[Example]) -> tuple[Encoded, ...]:
        return tuple(encode_all(examples, self._loaded.tokenizer).rows)
