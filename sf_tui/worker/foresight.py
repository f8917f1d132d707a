"""The tasks at risk, told before a stage's first step: what the model itself takes for nearest.

Decides what that may cost and how it becomes an event; nothing of it touches the training.
"""

from __future__ import annotations

import time

from sf_tui.engine.probing import PROBED_TOKENS_A_TRAINED_ONE
from sf_tui.neighbors.anatomy import anatomize, sample_prompts
from sf_tui.neighbors.risk import choose_sources, name_tasks_at_risk
from sf_tui.neighbors.substitution import shares_prefixes
from sf_tui.profile import StageSpec
from sf_tui.worker.context import RunContext
from sf_tui.worker.outcomes import is_out_of_memory
from sf_tui.worker.stage_bank import start_model

# The nearest decide; what stands behind so many is hardly a task any more.
_GROUPS_TOLD = 20


def tell_tasks_at_risk(context: RunContext, spec: StageSpec, steps: int) -> None:
    """Tell which tasks lie nearest to a stage's own, once, where the budget pays for a prompt.

    Args:
        context: the run, its model with the stage's start weights.
        spec: the stage.
        steps: its length.
    """
    prepared = context.prepared
    budget = context.profile.neighbors.survey_budget
    task = prepared.tasks[spec.task]
    # A forwarded token costs a third of a trained one.
    trained = steps * spec.train.batch_size * task.mean_length
    tokens = budget * trained * PROBED_TOKENS_A_TRAINED_ONE
    if not tokens or context.ledger.said("tasks_at_risk", spec.name):
        return
    begun = time.perf_counter()
    anatomy = anatomize(sample_prompts(task.train).prompts, prepared.loaded.tokenizer)
    start = start_model(prepared, spec)
    sources = choose_sources(anatomy, tokens, shared=shares_prefixes(start))
    if not sources:
        return
    try:
        groups = name_tasks_at_risk(anatomy, sources, start)
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        context.alert(
            "warn", "tasks_at_risk", "no memory to name the tasks at risk by", spec.name, 0
        )
        return
    context.tell(
        "tasks_at_risk",
        stage=spec.name,
        step=0,
        prompts=len(sources),
        seconds=time.perf_counter() - begun,
        tokens=start.forwarded,
        groups=[
            {
                "frame": group.template,
                "kind": group.kind,
                "example": group.example,
                "likelihood": group.likelihood,
                "prompts": len(group.members),
            }
            for group in groups[:_GROUPS_TOLD]
        ],
    )
