"""Builds the training loop and the strategies of a stage, with the data that they need."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial

from sf_tui.cases.run_weights import LoadedRun, own_start
from sf_tui.engine.batches import EncodedSource
from sf_tui.engine.loop import StageTuner, TrainingLoop
from sf_tui.engine.prepare import PreparedRun
from sf_tui.engine.start_weights import open_start_weights
from sf_tui.engine.strategies import StageStrategies, StartTensors, StrategyStage
from sf_tui.engine.strategies.in_stage import build_strategy
from sf_tui.engine.weights import with_weights
from sf_tui.errors import RunError
from sf_tui.profile import StageSpec
from sf_tui.profile.references import References, references_of
from sf_tui.worker.context import RunContext


@dataclass(frozen=True)
class RunStage(StrategyStage):
    """A stage of a run, for strategies that need more of the run than the engine provides."""

    prepared: PreparedRun
    spec: StageSpec
    context: RunContext | None
    """None before the run has begun, while the stages are only checked."""
    references: References
    """The stages whose start models the stage's anchor is held to."""
    lend: Callable[[str], AbstractContextManager[None]]
    """Loads the start weights of a stage, this one or an earlier one, into the model temporarily,
    then restores its own, bit for bit."""


LoopOf = Callable[[RunContext, StageSpec], TrainingLoop]
"""Builds the loop that trains a stage."""


def own_loop(context: RunContext, spec: StageSpec) -> TrainingLoop:
    """Return sf's own training loop for a stage."""
    return stage_tuner(context.prepared, spec)


def stage_tuner(prepared: PreparedRun, spec: StageSpec) -> StageTuner:
    """Return what trains a stage of a prepared run on its task's rows."""
    return StageTuner(
        prepared.loaded.model,
        prepared.layout,
        prepared.tasks[spec.task].train,
        spec.train,
        prepared.compute,
        stage=spec.name,
        seed=prepared.profile.seed,
        pad_id=prepared.loaded.pad_id,
        ranks=prepared.ranks,
    )


def stage_strategies(context: RunContext, spec: StageSpec, known: Sequence[str]) -> StageStrategies:
    """Return the strategies of a stage.

    Args:
        context: the run.
        spec: the stage.
        known: the tasks learned before it.
    """
    stage = _run_stage(context.prepared, spec, known, context)
    profile = context.profile
    return StageStrategies(
        stage, spec.train.strategy, lambda name: profile.strategy_settings(name, spec.train)
    )


def check_strategies(prepared: PreparedRun) -> None:
    """Check, before training starts, that every stage can be trained with its strategy.

    Raises:
        SfError: as the strategy's `check_stage`.
    """
    profile = prepared.profile
    for spec, known in profile.stages_with_known():
        name = spec.train.strategy
        settings = profile.strategy_settings(name, spec.train)
        stage = _run_stage(prepared, spec, known, None)
        strategy = build_strategy(name, stage, settings)
        strategy.check_stage()


def _run_stage(
    prepared: PreparedRun, spec: StageSpec, known: Sequence[str], context: RunContext | None
) -> RunStage:
    old: dict[str, EncodedSource] = {
        name: prepared.tasks[name].train for name in known if name != spec.task
    }
    return RunStage(
        name=spec.name,
        seed=prepared.profile.seed,
        train=spec.train,
        model=prepared.loaded.model,
        layout=prepared.layout,
        freezer=prepared.freezer,
        compute=prepared.compute,
        pad_id=prepared.loaded.pad_id,
        source=prepared.tasks[spec.task].train,
        old=old,
        start=_start_tensors(context, spec),
        lend_start=partial(_lend_start, context, spec.name),
        between=context.stop_if_asked if context is not None else _nothing,
        prepared=prepared,
        spec=spec,
        context=context,
        references=references_of(prepared.profile, spec.name),
        lend=partial(_lend_start, context),
    )


def _nothing() -> None:
    pass


def _start_tensors(context: RunContext | None, spec: StageSpec) -> Callable[[], StartTensors]:
    def start() -> StartTensors:
        assert context is not None, "a stage that is only checked has no start weights"
        prepared = context.prepared
        folder = context.shelf.start(spec.name)
        return open_start_weights(folder, prepared.loaded.model, prepared.layout)

    return start


def _lend_start(context: RunContext | None, stage: str) -> AbstractContextManager[None]:
    assert context is not None, "a stage that is only checked has no start weights"
    prepared = context.prepared
    model = LoadedRun(prepared.loaded, prepared.layout, prepared.compute)
    start = own_start(prepared.profile, stage, model, context.shelf.start)
    if start is None:
        raise RunError(
            f"{context.shelf.start(stage)}: the first checkpoint of stage '{stage}' is not there",
            "without its start weights nothing can hold the model to them",
        )
    return with_weights(start, prepared.layout)
