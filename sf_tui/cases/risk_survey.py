"""Surveys the tasks at risk: before training, at a stage's start, or later, with their movement.

Reads no old task's data; uses only the new task's prompts and the start model.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from sf_tui.cases.choice import choose_stage
from sf_tui.cases.run_weights import LoadedRun, RunRecord, find_stage_start, load_newest
from sf_tui.engine.compute import choose_compute
from sf_tui.engine.prepare import (
    PreparedRun,
    load_model_of,
    prepare_task,
    read_task,
)
from sf_tui.engine.probing import PROBED_TOKENS_A_TRAINED_ONE
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
from sf_tui.neighbors.substitution import shares_prefixes
from sf_tui.profile import Profile, StageSpec
from sf_tui.profile.names import REPLAY_STAGE
from sf_tui.vocabulary.declared import RiskGroupRecord
from sf_tui.vocabulary.events import TasksAtRisk
from sf_tui.vocabulary.sizes import counted

SOURCES = 12
"""Prompts of the new task whose neighbors are examined by default."""

GROUPS_SHOWN = 20
"""Number of likeliest groups in a survey; further ones are rarely tasks of their own."""

_ASKED_AGAIN = 16
"""Number of a group's likeliest prompts that the start model answers."""

_PASS_TOKENS = 4096


@dataclass(frozen=True)
class Moved:
    """How far a group's answers have moved from the start model's."""

    divergence: float
    """Mean KL from the start model, in nats per answer token."""
    kept: float
    """Share of the start model's answers that the model still gives."""
    asked: int
    """Number of prompts measured on both models."""


@dataclass(frozen=True)
class SurveyedGroup:
    """A task at risk."""

    group: RiskGroup
    moved: Moved | None
    """None if there is no later model."""


@dataclass(frozen=True)
class Survey:
    """The groups of prompts nearest to a new task according to the start model."""

    task: str
    stage: str
    step: int | None
    """Step of the weights that are compared with the start; None without a run."""
    prompts: int
    """Number of the new task's prompts that were examined."""
    groups: tuple[SurveyedGroup, ...]
    """The likeliest first."""
    named: int
    """Total number of groups."""
    seconds: float
    tokens: int
    """Tokens passed through the model."""


def survey_profile(
    profile: Profile, task: str | None, prompts: int | None, log: Callable[[str], None]
) -> Survey:
    """Return the tasks at risk according to the profile's own model, before any training.

    Args:
        profile: the profile; only the new task's data is read.
        task: the new task; None: the last one that has a stage.
        prompts: number of its prompts to examine; None: `SOURCES`.
        log: receives a line for the user about each part of the survey.

    Raises:
        UsageError: there is no such task.
        DataError: its data can't be used, or has no prompts.
        ModelError: the model can't be loaded.
    """
    stages = [stage.task for stage in profile.stages() if stage.name != REPLAY_STAGE]
    name = profile.task(task).name if task is not None else stages[-1]
    compute = choose_compute(profile.model.dtype, profile.train.threads)
    log(f"loading {profile.model.source}")
    loaded = load_model_of(profile, compute)
    model = LoadedRun(loaded, loaded.layout, compute)
    survey = _RiskSurvey(profile, name, model, prompts, log)
    groups = survey.name_groups()
    return survey.result(name, None, [SurveyedGroup(group, None) for group in groups])


def survey_run(
    record: RunRecord,
    task: str | None,
    prompts: int | None,
    log: Callable[[str], None],
) -> Survey:
    """Return the tasks at risk according to a stage's start model, and how far each has moved.

    Args:
        record: the run's progress; its newest checkpoint is compared with the stage's first.
        task: the new task, which names the stage; None: the last stage that has begun.
        prompts: number of its prompts to examine; None: `SOURCES`.
        log: receives a line for the user about each part of the survey.

    Raises:
        UsageError: no such stage has begun.
        DataError: its data can't be used, or has no prompts.
        RunError: the stage's start weights are gone.
    """
    profile = record.profile
    spec = choose_stage(profile, record.history, task, None)
    log(f"loading {record.run.id}")
    model = load_newest(record)
    start = find_stage_start(model, record, spec.name)
    if start is None:
        raise RunError(
            f"{record.start_of(spec.name)}: the stage's first checkpoint is gone",
            "without the start weights nothing can be compared",
        )
    survey = _RiskSurvey(profile, spec.task, model, prompts, log)
    with with_weights(start, model.layout):
        groups = survey.name_groups()
        bank, places = survey.ask_again(groups[:GROUPS_SHOWN])
    moved = survey.measure(bank, places)
    return survey.result(
        spec.name,
        record.place[1],
        [SurveyedGroup(group, moved.get(at)) for at, group in enumerate(groups)],
    )


def risk_at_start(
    prepared: PreparedRun, spec: StageSpec, steps: int, start: StartModel
) -> TasksAtRisk | None:
    """Return a stage's `tasks_at_risk` event.

    None if [neighbors] survey_budget is too small for a single prompt.

    Args:
        prepared: the run's model and tasks.
        spec: the stage.
        steps: the stage's length.
        start: the model, with the stage's start weights.
    """
    task = prepared.tasks[spec.task]
    # A forwarded token costs a third of a trained one.
    trained = steps * spec.train.batch_size * task.mean_length
    tokens = prepared.profile.neighbors.survey_budget * trained * PROBED_TOKENS_A_TRAINED_ONE
    if not tokens:
        return None
    begun = time.perf_counter()
    anatomy = anatomize(sample_prompts(task.train).prompts, prepared.loaded.tokenizer)
    sources = choose_sources(anatomy, tokens, shared=shares_prefixes(start))
    if not sources:
        return None
    groups = name_tasks_at_risk(anatomy, sources, start)
    return TasksAtRisk(
        stage=spec.name,
        step=0,
        prompts=len(sources),
        seconds=time.perf_counter() - begun,
        tokens=start.forwarded,
        groups=[
            RiskGroupRecord(
                frame=group.template,
                kind=group.kind,
                example=group.example,
                likelihood=group.likelihood,
                prompts=len(group.members),
            )
            for group in groups[:GROUPS_SHOWN]
        ],
    )


class _RiskSurvey:
    """One survey, from the new task's prompts to the groups."""

    def __init__(
        self,
        profile: Profile,
        task: str,
        model: LoadedRun,
        prompts: int | None,
        log: Callable[[str], None],
    ) -> None:
        self._begun = time.perf_counter()
        self._task = task
        self._model = model
        self._log = log
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
        """Return the groups; the model must have the start weights."""
        self._log(f"exchanging words in {counted(len(self._sources), 'prompt')} of '{self._task}'")
        return name_tasks_at_risk(self._anatomy, self._sources, self._start)

    def ask_again(self, groups: list[RiskGroup]) -> tuple[TeacherCache, list[list[int]]]:
        """Return the start model's answers to each group's likeliest prompts, and their places."""
        self._log("the start model's answers to each group's likeliest prompts")
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
        """Return how far each group's answers have moved from the start model's."""
        self._log("the same answers with the current weights")
        loaded = self._model.loaded
        meter = DivergenceMeter(loaded.model, self._model.compute, pad_id=loaded.pad_id)
        found = {}
        for at, rows in enumerate(places):
            if rows:
                found[at] = Moved(*meter.measure(bank, rows), len(rows))
        return found

    def result(self, stage: str, step: int | None, groups: list[SurveyedGroup]) -> Survey:
        """Return the groups as a survey, with its cost."""
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
