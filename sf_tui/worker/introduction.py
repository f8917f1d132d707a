"""The first events of a run and of a stage: their settings, and all notes on their parts."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from typing import Any

import torch

from sf_tui.cases.estimates import checkpoint_bytes
from sf_tui.cases.model_size import short_count
from sf_tui.cases.profile_warnings import learned_by_heart, stage_warnings
from sf_tui.cases.risk_survey import risk_at_start
from sf_tui.engine.loop import TrainingLoop, refusals_of
from sf_tui.engine.probe_plan import ProbePlan
from sf_tui.engine.strategies import StageStrategies
from sf_tui.profile import StageSpec
from sf_tui.vocabulary.declared import AnchorState, ModelFacts, PlannedStage
from sf_tui.vocabulary.events import Alert, RunStarted, StageStarted
from sf_tui.vocabulary.sizes import counted, format_bytes
from sf_tui.worker.anchor_control import AnchorControl
from sf_tui.worker.context import RunContext
from sf_tui.worker.lockstep import ending_alike
from sf_tui.worker.stage_bank import start_model
from sf_tui.worker.stop import is_out_of_memory


def introduce_run(context: RunContext) -> None:
    """Write `run_started` and the alerts that a user should see before the first step."""
    prepared, profile = context.prepared, context.profile
    context.log_event(
        RunStarted(
            run=context.run.id,
            profile=profile.name,
            model=ModelFacts(
                source=profile.model.source,
                parameters=prepared.layout.elements,
                layers=len(prepared.layout.blocks),
            ),
            tasks=list(prepared.tasks),
            metrics={name: task.metric for name, task in prepared.tasks.items()},
            watched=profile.watched_tasks(),
            guess_floor={
                name: task.task.guess_floor
                for name, task in prepared.tasks.items()
                if task.task.guess_floor
            },
            stages=[
                PlannedStage(
                    stage=stage.name,
                    task=stage.task,
                    steps=stage.train.total_steps(len(prepared.tasks[stage.task].train)),
                )
                for stage in profile.stages()
            ],
            seed=profile.seed,
            device=str(prepared.compute.device),
            precision=prepared.compute.precision,
            threads=torch.get_num_threads(),
        )
    )
    if prepared.layout.adapters is not None:
        context.log_event(Alert("info", "adapter", _describe_adapter(context)))
    for note in profile.notes:
        context.log_event(Alert("info", "profile", note))
    for note in prepared.loaded.notes:
        context.log_event(Alert("warn", "model", note))
    for note in prepared.notes:
        context.log_event(Alert("warn", "template", note))
    if any(stage.train.tf32 for stage in profile.stages()) and not prepared.compute.tf32:
        context.log_event(
            Alert("info", "tf32", f"tf32 has no effect: {prepared.compute.device} has no TF32")
        )
    for name, task in prepared.tasks.items():
        for note in task.task.notes:
            context.log_event(Alert("info", "data", f"'{name}': {note}"))
        for note in task.notes:
            context.log_event(Alert("warn", "rows", f"'{name}', {note}"))
        if profile.task(name).metric == "auto":
            context.log_event(
                Alert("info", "metric", f"metric of '{name}': {task.metric.replace('_', ' ')}")
            )
    if profile.host is None:
        _warn_of_plan(context)
        _warn_of_disk(context)


def _describe_adapter(context: RunContext) -> str:
    layout, base = context.prepared.layout, context.prepared.loaded.base
    assert layout.adapters is not None  # the caller checked
    # A host's model is in memory already, and its profile names where it came from.
    source = base.source if base is not None else context.profile.model.source
    count = sum(parameter.numel() for parameter in layout.trainable_parameters)
    # The rest of what is stored are the adapters of finished stages.
    whole = layout.elements - layout.stored_elements + count
    nowhere = [
        layer.name
        for layer in (layout.embeddings, layout.head)
        if layer.parameters and not layout.trainable_in(layer)
    ]
    untouched = f"; nothing trains in {' and '.join(nowhere)}" if nowhere else ""
    return (
        f"an adapter of {short_count(count)} parameters trains ({count / whole:.1%}), in "
        f"{counted(len(layout.adapters.modules), 'module')} of {source}{untouched}"
    )


def _warn_of_plan(context: RunContext) -> None:
    """Write an alert for each stage whose rate, warmup or epochs can't be what is wanted."""
    prepared, profile = context.prepared, context.profile
    text: Any = prepared.loaded.model.config.get_text_config(decoder=True)
    for spec in profile.stages():
        rows = len(prepared.tasks[spec.task].train)
        for warning in stage_warnings(
            spec,
            steps=spec.train.total_steps(rows),
            rows=rows,
            hidden_size=int(getattr(text, "hidden_size", 0) or 0),
            repeats=learned_by_heart(spec, profile),
            adapter=profile.adapter is not None,
        ):
            context.log_event(Alert("warn", "plan", warning))


def _warn_of_disk(context: RunContext) -> None:
    needed = checkpoint_bytes(context.profile, context.prepared.layout.stored_elements)
    free = shutil.disk_usage(context.run.path).free
    if needed > free:
        context.alert(
            "warn",
            "disk",
            f"the checkpoints may take {format_bytes(needed)}, and {format_bytes(free)} are "
            "free; lower [checkpoint] keep_last or choose another --run-dir",
        )


def announce_stage(
    context: RunContext,
    spec: StageSpec,
    loop: TrainingLoop,
    known: Sequence[str],
    strategies: StageStrategies,
    plan: ProbePlan,
) -> None:
    """Log a stage's settings, unless the log has them already.

    Args:
        context: the run.
        spec: the stage.
        loop: its training loop.
        known: the tasks learned before it.
        strategies: the strategies hooked into its steps.
        plan: when it probes.
    """
    if context.resume_log.has_event("stage_started", spec.name):
        return
    control = strategies.get("anchor")
    assert isinstance(control, AnchorControl)
    anchor = control.summary
    task = context.prepared.tasks[spec.task]
    context.log_event(
        StageStarted(
            stage=spec.name,
            task=spec.task,
            strategy=spec.train.strategy,
            steps=loop.total_steps,
            known=list(known),
            frozen=context.prepared.freezer.frozen,
            anchor=None if anchor is None else AnchorState(**anchor),
            probe_every=plan.every,
            probe_every_in_window=plan.every_in_window,
            rows=len(task.train),
            rows_per_step=spec.train.batch_size - strategies.old_rows,
            tokens_per_row=round(task.mean_length, 2),
            refused=refusals_of(loop),
        )
    )


def announce_risk(context: RunContext, spec: StageSpec, steps: int) -> None:
    """Log the tasks nearest to a stage's own, once, before its first step.

    Args:
        context: the run; its model has the stage's start weights.
        spec: the stage.
        steps: length of the stage in steps.
    """
    if context.resume_log.has_event("tasks_at_risk", spec.name):
        return
    prepared = context.prepared
    try:
        with ending_alike(context.ranks):
            event = risk_at_start(prepared, spec, steps, start_model(prepared, spec))
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        context.alert(
            "warn", "tasks_at_risk", "no memory to name the tasks at risk by", spec.name, 0
        )
        return
    if event is not None:
        context.log_event(event)


def say_tied_embeddings(context: RunContext, stage: str, step: int) -> None:
    """Write an alert if freezing the embeddings froze the output projection too."""
    freezer = context.prepared.freezer
    if "embeddings" in freezer.frozen and freezer.freezes_output_head:
        context.alert(
            "info",
            "tied-embeddings",
            "the output projection is the input embedding, so it is frozen too",
            stage,
            step,
        )
