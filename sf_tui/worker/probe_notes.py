"""Notes on a stage's probes: how far apart they are, what they cost, and what few examples bear."""

from __future__ import annotations

from sf_tui.engine.probe_plan import NEW_TASK_FLOOR, OLD_TASK_FLOOR
from sf_tui.profile import StageSpec
from sf_tui.vocabulary.intervals import paired_difference, wilson_estimate
from sf_tui.vocabulary.measured import half_width
from sf_tui.vocabulary.metrics import metric_named
from sf_tui.vocabulary.sizes import counted
from sf_tui.worker.context import RunContext
from sf_tui.worker.probes import StageProbes

# The estimate counts tokens; below this it says nothing against the profile's budget.
_CLEARLY_ABOVE = 1.05


def note_probe_plan(context: RunContext, spec: StageSpec, probes: StageProbes) -> None:
    """Write info alerts where the probes differ from what `[probe]` says, or bear little.

    Args:
        context: the run.
        spec: the stage.
        probes: its probes; the first one has been made.
    """
    if probes.has_old_tasks:
        _note_intervals(context, spec, probes)
        _note_cost(context, spec, probes)
        _note_few_examples(context, spec, probes)


def _note_intervals(context: RunContext, spec: StageSpec, probes: StageProbes) -> None:
    settings, plan = context.profile.probe, probes.plan
    found = []
    if probes.danger.at_start and plan.every_in_window != settings.every_in_window:
        found.append(
            f"every {counted(plan.every_in_window, 'step')} in the danger window "
            f"(profile: {settings.every_in_window})"
        )
    if plan.every != settings.every:
        found.append(f"every {counted(plan.every, 'step')} outside it (profile: {settings.every})")
    if found:
        context.alert(
            "info",
            "probe-interval",
            f"probes come {' and '.join(found)}, because the budget does not pay for the "
            f"{OLD_TASK_FLOOR} examples of each old task and {NEW_TASK_FLOOR} of the new one more "
            "often; [probe] examples makes probes smaller, budget and budget_in_window more "
            "frequent",
            spec.name,
        )


def _note_cost(context: RunContext, spec: StageSpec, probes: StageProbes) -> None:
    settings, plan = context.profile.probe, probes.plan
    if settings.examples is not None:
        return
    found = []
    if plan.share_in_window is not None:
        budget = settings.budget_in_window
        if plan.share_in_window > _CLEARLY_ABOVE * budget:
            found.append(f"{plan.share_in_window:.0%} in the danger window (budget {budget:.0%})")
    ends_in_window = probes.danger.at_start >= probes.steps
    if not ends_in_window and plan.share > _CLEARLY_ABOVE * settings.budget:
        found.append(f"{plan.share:.0%} outside it (budget {settings.budget:.0%})")
    if found:
        context.alert(
            "info",
            "probe-cost",
            f"probes cost about {' and '.join(found)} of the training's compute: fewer of them "
            "would miss a collapse, smaller ones would not show it; [probe] examples sets their "
            "size",
            spec.name,
        )


def _note_few_examples(context: RunContext, spec: StageSpec, probes: StageProbes) -> None:
    bound = context.profile.window.alert_drop
    for name in probes.old_tasks:
        task = context.prepared.tasks[name]
        count = len(task.held_out)
        if count >= OLD_TASK_FLOOR or not metric_named(task.metric).is_share:
            continue
        half = half_width(wilson_estimate(count / 2, count))
        losses = range(1, count + 1)
        first = next((n for n in losses if paired_difference(count, n, 0, count).low > bound), None)
        bears = (
            "can't show a loss past the alert's bound"
            if first is None
            else f"show a loss past {counted(f'{100 * bound:.0f}', 'point')} once it measures "
            f"{100 * first / count:.0f}"
        )
        context.alert(
            "info",
            "few-examples",
            f"{name} has {counted(count, 'held-out example')}: a score of 0.50 is known to "
            f"± {half:.2f}, and they {bears}; give it at least {OLD_TASK_FLOOR} "
            "([[tasks]] held_out)",
            spec.name,
            0,
            name,
        )
