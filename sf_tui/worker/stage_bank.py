"""Builds the bank of neighbor prompts of one stage: its size, sources, teachers and seed.

The bank depends only on the profile, on start weights, on the new task's prompts and on those of
tasks that the run taught before; what the model knew before the run is never used. Knows no steps
and no commands.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sf_tui.cases.rows import held_out_prompts_of
from sf_tui.engine.batches import derive_seed
from sf_tui.engine.prepare import PreparedRun
from sf_tui.errors import DataError
from sf_tui.neighbors.anatomy import Tokens, anatomize, every_prompt, prompts_of, sample_prompts
from sf_tui.neighbors.cache import (
    MOST_PROMPTS,
    TAUGHT,
    TeacherCache,
    answer_limit,
    build_cache,
    cache_key,
    digest,
    read_cache,
)
from sf_tui.neighbors.held_out import HeldOutPrompts
from sf_tui.neighbors.propose import LeftOut, Neighbor, propose, subjects_of
from sf_tui.neighbors.start_model import StartModel
from sf_tui.neighbors.taught import add_taught, neighbors_beside
from sf_tui.profile import StageSpec
from sf_tui.profile.references import References
from sf_tui.run.directory import RunDirectory
from sf_tui.vocabulary.sizes import counted

# Inference keeps no activations, so this many tokens fit wherever a training step does. Smaller
# passes are slower (624 tokens instead of 4,096 on the starter: by a third).
_LEAST_PASS_TOKENS = 1024


Lend = Callable[[str], AbstractContextManager[None]]
"""Loads the start weights of a stage into the model temporarily."""


@dataclass(frozen=True)
class TaughtPrompts:
    """The prompts of a task that the run taught.

    Attributes:
        task: its name.
        stage: the stage whose start model answers them.
        prompts: prompts that leave room for an answer.
        longest: largest number of tokens in an answer.
    """

    task: str
    stage: str
    prompts: tuple[Tokens, ...]
    longest: int


class StageBank:
    """The plan of a stage's bank.

    Attributes:
        prompts: the new task's prompts that leave room for an answer.
        rows: prompts per step.
        count: target number of distinct neighbor prompts.
        longest: largest number of tokens in an answer.
        origin: the stage whose start model answers the neighbor prompts.
        taught: the prompts of tasks that the run taught.
    """

    def __init__(
        self,
        prepared: PreparedRun,
        spec: StageSpec,
        references: References | None = None,
        *,
        probed: int | None = None,
    ) -> None:
        """Plan the bank without running the model.

        Args:
            prepared: the run's model and tasks.
            spec: the stage.
            references: the stages whose start models answer; None for the stage's own alone.
            probed: plan this many prompts that are only measured, drawn apart from an anchor's.

        Raises:
            DataError: the task's rows have no prompts, or no prompt leaves room for an answer.
        """
        profile, settings = prepared.profile, prepared.profile.anchor
        self._train = prepared.tasks[spec.task].train
        self._left_out = left_out = _left_out(prepared)
        self._held_out = held_out = _held_out(prepared)
        self._limit = prepared.loaded.row_limit(spec.train.max_length)
        self._kinds: dict[str, float] = profile.neighbors.kinds.model_dump()
        purpose = "neighbours" if probed is None else "probed"
        self._seed = derive_seed(profile.seed, spec.name, purpose)
        self._top_k = settings.top_k
        sample = sample_prompts(self._train)
        if not sample.prompts:
            raise DataError(
                f"task '{spec.task}' has no prompts to make neighbors of: its rows ask nothing",
                "an anchor needs rows with a prompt and an answer, or conversations",
            )
        self.longest = answer_limit(settings.answer_tokens, sample.longest_answer)
        self.rows = settings.rows or spec.train.batch_size
        self._share = settings.taught_share
        self.taught = self._taught_prompts(prepared, references) if self._share else []
        own = references is None or len(self.taught) < len(references.taught)
        # Held to the origin, a model unlearns what it was taught since, unless that is held, too.
        self.origin = spec.name if references is None or own else references.origin
        a_stage = spec.train.total_steps(len(self._train)) * self.rows
        whole = probed or min(settings.cache_size or a_stage, MOST_PROMPTS)
        self.count = neighbors_beside(whole, self._share, len(self.taught))
        self.prompts = [prompt for prompt in sample.prompts if self._fits(prompt)]
        if not self.prompts:
            raise DataError(
                f"task '{spec.task}' can't be anchored: none of its prompts leaves room for an "
                f"answer of {counted(self.longest, 'token')} within {self._limit}",
                "lower [anchor] answer_tokens, or raise [train] max_length",
            )
        self._key = cache_key(
            profile.seed,
            self.count,
            self._kinds,
            stage=spec.name,
            longest=self.longest,
            limit=self._limit,
            top_k=self._top_k,
            prompts=digest(self.prompts),
            left_out=digest(sorted(left_out.subjects)) if left_out else None,
            origin=self.origin,
            held_out=digest(sorted(held_out.prompts)),
        )

    def read(self, folder: Path) -> TeacherCache | None:
        """Return the bank from a folder; None if it is incomplete.

        Raises:
            RunError: the folder can't be read, or a part of the bank is damaged.
        """
        neighbors = read_cache(folder, self._key)
        if neighbors is None:
            return None
        taught = []
        for one in self.taught:
            stored = read_cache(_taught_folder(folder, one), self._taught_key(one))
            if stored is None:
                return None
            taught.append(stored)
        return add_taught(neighbors, taught, self._share)

    def build(
        self, start: StartModel, folder: Path | None, lend: Lend = lambda _: nullcontext()
    ) -> TeacherCache:
        """Return the bank, building the parts that are not in the folder yet.

        Args:
            start: queries the model.
            folder: folder that stores the bank; None stores nothing.
            lend: loads the start weights of a stage into the model; by default the model has
                those that are needed.

        Raises:
            DataError: the start model proposes no neighbors.
            SfError: start weights can't be read.
            RunError: the folder can't be written, or a part of the bank is damaged.
        """
        with lend(self.origin):
            neighbors = build_cache(
                folder,
                self._key,
                lambda: self._propose(start),
                start,
                longest=self.longest,
                top_k=self._top_k,
            )
        taught = []
        for one in self.taught:
            with lend(one.stage):
                taught.append(self._build_taught(one, start, folder))
        return add_taught(neighbors, taught, self._share)

    def _build_taught(
        self, one: TaughtPrompts, start: StartModel, folder: Path | None
    ) -> TeacherCache:
        return build_cache(
            None if folder is None else _taught_folder(folder, one),
            self._taught_key(one),
            lambda: [Neighbor(prompt, TAUGHT) for prompt in one.prompts],
            start,
            longest=one.longest,
            top_k=self._top_k,
        )

    def _taught_key(self, one: TaughtPrompts) -> dict[str, Any]:
        return cache_key(
            0,
            len(one.prompts),
            {},
            stage=one.stage,
            longest=one.longest,
            top_k=self._top_k,
            prompts=digest(one.prompts),
        )

    def _taught_prompts(
        self, prepared: PreparedRun, references: References | None
    ) -> list[TaughtPrompts]:
        found = []
        for task, stage in references.taught if references else ():
            sample = sample_prompts(prepared.tasks[task].train)
            longest = answer_limit(prepared.profile.anchor.answer_tokens, sample.longest_answer)
            fitting = tuple(
                prompt
                for prompt in sample.prompts
                if (self._limit is None or len(prompt) + longest <= self._limit)
                and (self._left_out is None or prompt not in self._left_out)
                and prompt not in self._held_out
            )
            if fitting:
                found.append(TaughtPrompts(task, stage, fitting, longest))
        return found

    def _propose(self, start: StartModel) -> list[Neighbor]:
        found = propose(
            anatomize(self.prompts, start.tokenizer),
            start,
            self._kinds,
            self.count,
            self._seed,
            self._left_out,
            every_prompt(self._train),
            held_out=self._held_out,
        )
        fitting = [neighbor for neighbor in found if self._fits(neighbor.tokens)]
        if not fitting:
            raise DataError(
                "the start model proposes no neighbor prompt of the kinds asked for",
                "give other kinds a weight in [neighbors.kinds]",
            )
        return fitting

    def _fits(self, prompt: Tokens) -> bool:
        return self._limit is None or len(prompt) + self.longest <= self._limit


def _left_out(prepared: PreparedRun) -> LeftOut | None:
    """Return the subjects of the tasks in `[neighbors] exclude_tasks`."""
    names = prepared.profile.neighbors.exclude_tasks
    subjects: set[Tokens] = set()
    for task in (prepared.tasks[name] for name in names):
        prompts = [*every_prompt(task.train), *prompts_of(task.held_out)]
        subjects |= subjects_of(anatomize(prompts, prepared.loaded.tokenizer))
    return LeftOut(subjects) if names else None


def _held_out(prepared: PreparedRun) -> HeldOutPrompts:
    """Return the held-out prompts of the tasks that the run trains.

    Those of other tasks don't count: what an anchor trains on must not depend on old data.
    """
    tasks = {stage.task for stage in prepared.profile.stages()}
    found = held_out_prompts_of(prepared.tasks[name] for name in sorted(tasks))
    return HeldOutPrompts(prepared.loaded.tokenizer, found)


def bank_folder(run: RunDirectory, stage: str) -> Path:
    """Return the folder of a stage's bank."""
    return run.path / "neighbors" / stage


def _taught_folder(folder: Path, taught: TaughtPrompts) -> Path:
    return folder / f"taught-{taught.task}"


def start_model(
    prepared: PreparedRun, spec: StageSpec, between: Callable[[], None] | None = None
) -> StartModel:
    """Wrap the current model as a start model, with passes about as large as a training step's.

    Args:
        prepared: the run's model and tasks.
        spec: the stage whose start weights are in the model.
        between: called before each pass; an exception ends the generation.
    """
    task = prepared.tasks[spec.task]
    return StartModel(
        prepared.loaded.model,
        prepared.loaded.tokenizer,
        prepared.compute,
        pad_id=prepared.loaded.pad_id,
        pass_tokens=max(int(task.mean_length * spec.train.micro_batch), _LEAST_PASS_TOKENS),
        between=between,
    )
