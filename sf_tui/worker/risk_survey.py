"""The tasks at risk for people: before any training, or in a run, with how far each has moved.

Never looks at an old task's data: the new task's prompts and the start model are all there is.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from sf_tui.engine.checkpoint import checkpoint_weights, read_checkpoint
from sf_tui.engine.compute import choose_compute
from sf_tui.engine.prepare import load_model_of, prepare_task, read_task
from sf_tui.engine.weights import with_weights
from sf_tui.errors import DataError, RunError
from sf_tui.neighbors.anatomy import (
    AnatomizedPrompt,
    Anatomy,
    PromptSample,
    anatomize,
    sample_prompts,
)
from sf_tui.neighbors.anchor import DivergenceMeter
from sf_tui.neighbors.cache import TeacherCache, answer_limit, build_cache
from sf_tui.neighbors.propose import Neighbor
from sf_tui.neighbors.risk import RiskGroup, choose_sources, name_tasks_at_risk
from sf_tui.neighbors.start_model import StartModel
from sf_tui.profile import Profile
from sf_tui.profile.names import REPLAY_STAGE
from sf_tui.run.directory import RunDirectory
from sf_tui.worker.cases import choose_stage
from sf_tui.worker.run_weights import ModelAtHand, load_newest, read_record

SOURCES = 12
"""Prompts of the new task whose neighbors are looked at where nobody says how many."""

GROUPS_SHOWN = 20

# Of a group so many of its likeliest prompts are asked again.
_ASKED_AGAIN = 16

_PASS_TOKENS = 4096


@dataclass(frozen=True)
class Moved:
    """How far a group's answers are from the start model's."""

    divergence: float
    """Mean KL from the start model, in nats an answer token."""
    kept: float
    """Share of the start model's answers that are given still."""
    asked: int
    """On how many prompts."""


@dataclass(frozen=True)
class SurveyedGroup:
    """A task at risk."""

    group: RiskGroup
    moved: Moved | None
    """None where there is no later model."""


@dataclass(frozen=True)
class Survey:
    """What the start model takes for the nearest to a new task."""

    task: str
    stage: str
    step: int | None
    """Of the weights that the answers are compared with; None without a run."""
    prompts: int
    """The new task's prompts that were looked at."""
    groups: tuple[SurveyedGroup, ...]
    """The likeliest first."""
    named: int
    """How many groups there are in all."""
    seconds: float
    tokens: int
    """Tokens that the model was given."""


def survey_profile(
    profile: Profile, task: str | None, prompts: int | None, told: Callable[[str], None]
) -> Survey:
    """Name the tasks at risk as the profile's own model sees them, before anything is trained.

    Args:
        profile: the profile; of its data only the new task's are read.
        task: the new task; None: the last one that has a stage.
        prompts: how many of its prompts are looked at; None: `SOURCES`.
        told: told what goes on, for people.

    Raises:
        UsageError: there is no such task.
        DataError: its data can't be used, or ask nothing.
        ModelError: the model can't be loaded.
    """
    stages = [stage.task for stage in profile.stages() if stage.name != REPLAY_STAGE]
    name = profile.task(task).name if task is not None else stages[-1]
    compute = choose_compute(profile.model.dtype, profile.train.threads)
    told(f"loading {profile.model.source}")
    loaded = load_model_of(profile, compute)
    model = ModelAtHand(loaded, loaded.layout, compute)
    surveying = _Surveying(profile, name, model, prompts, told)
    groups = surveying.name_groups()
    return surveying.result(name, None, [SurveyedGroup(group, None) for group in groups])


def survey_run(
    run: RunDirectory,
    profile: Profile,
    task: str | None,
    prompts: int | None,
    told: Callable[[str], None],
) -> Survey:
    """Name the tasks at risk as a stage's start model sees them, and how far each has moved.

    Args:
        run: the run; its newest checkpoint is compared with the stage's first one.
        profile: its profile.
        task: the new task, whose stage is meant; None: the last one that has begun.
        prompts: how many of its prompts are looked at; None: `SOURCES`.
        told: told what goes on, for people.

    Raises:
        UsageError: no such stage has begun.
        DataError: its data can't be used, or ask nothing.
        RunError: the run has no weights, or those of the stage's start are gone.
    """
    record = read_record(run, profile)
    spec = choose_stage(profile, record.history, task, None)
    place = record.start_of(spec.name)
    start = read_checkpoint(place)
    if start is None:
        raise RunError(
            f"{place}: the stage's first checkpoint is gone",
            "without the start weights nothing can be compared",
        )
    told(f"loading {run.id}")
    model = load_newest(record)
    surveying = _Surveying(profile, spec.task, model, prompts, told)
    with with_weights(checkpoint_weights(start, model.layout), model.layout):
        groups = surveying.name_groups()
        bank, places = surveying.ask_again(groups[:GROUPS_SHOWN])
    moved = surveying.measure(bank, places)
    return surveying.result(
        spec.name,
        record.place[1],
        [SurveyedGroup(group, moved.get(at)) for at, group in enumerate(groups)],
    )


class _Surveying:
    """One survey, from the new task's prompts to its groups."""

    def __init__(
        self,
        profile: Profile,
        task: str,
        model: ModelAtHand,
        prompts: int | None,
        told: Callable[[str], None],
    ) -> None:
        self._begun = time.perf_counter()
        self._task = task
        self._model = model
        self._told = told
        self._top_k = profile.anchor.top_k
        self._longest = profile.anchor.answer_tokens
        loaded = model.loaded
        self._limit = loaded.row_limit(profile.stage_train(task).max_length)
        settings = profile.task(task)
        prepared = prepare_task(profile, settings, read_task(profile, settings), loaded)
        self._sample: PromptSample = sample_prompts(prepared.train)
        if not self._sample.prompts:
            raise DataError(
                f"task '{task}' has no prompts to find neighbors of: its rows ask nothing",
                "neighbors need rows with a prompt and an answer, or conversations",
            )
        self._anatomy: Anatomy = anatomize(self._sample.prompts, loaded.tokenizer)
        every: list[AnatomizedPrompt] = choose_sources(self._anatomy, float("inf"))
        self._sources = every[: prompts or SOURCES]
        self._start = StartModel(
            loaded.model,
            loaded.tokenizer,
            model.compute,
            pad_id=loaded.pad_id,
            pass_tokens=_PASS_TOKENS,
        )

    def name_groups(self) -> list[RiskGroup]:
        """Return the groups; the start weights are in the model."""
        self._told(f"exchanging words in {len(self._sources)} prompts of '{self._task}'")
        return name_tasks_at_risk(self._anatomy, self._sources, self._start)

    def ask_again(self, groups: list[RiskGroup]) -> tuple[TeacherCache, list[list[int]]]:
        """Return the start model's answers to each group's likeliest prompts, and their places."""
        self._told("the start model's answers to each group's likeliest prompts")
        longest = answer_limit(self._longest, self._sample.longest_answer)
        asked: list[Neighbor] = []
        places: list[list[int]] = []
        for group in groups:
            fitting = [
                tokens
                for tokens in group.members
                if not self._limit or len(tokens) + longest <= self._limit
            ][:_ASKED_AGAIN]
            places.append(list(range(len(asked), len(asked) + len(fitting))))
            asked += [Neighbor(tokens, "substitution") for tokens in fitting]
        bank = build_cache(None, {}, lambda: asked, self._start, longest=longest, top_k=self._top_k)
        return bank, places

    def measure(self, bank: TeacherCache, places: list[list[int]]) -> dict[int, Moved]:
        """Return how far each group's answers are from the start's, under the weights of now."""
        self._told("the same answers under the weights of now")
        loaded = self._model.loaded
        meter = DivergenceMeter(loaded.model, self._model.compute, pad_id=loaded.pad_id)
        found = {}
        for at, rows in enumerate(places):
            if rows:
                found[at] = Moved(*meter.measure(bank, rows), len(rows))
        return found

    def result(self, stage: str, step: int | None, groups: list[SurveyedGroup]) -> Survey:
        """Return what was found and what it took."""
        return Survey(
            self._task,
            stage,
            step,
            len(self._sources),
            tuple(groups[:GROUPS_SHOWN]),
            len(groups),
            time.perf_counter() - self._begun,
            self._start.forwarded,
        )
