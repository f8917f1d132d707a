"""Alerts about the task that a stage trains: not learned, or a loss of training that diverged."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sf_tui.cases.suggestion import learning_rate_for
from sf_tui.profile import StageSpec
from sf_tui.run.closing import ROWS_ALONE
from sf_tui.vocabulary.measured import KNOWN_FROM, Drop, format_number, format_score
from sf_tui.vocabulary.sizes import counted
from sf_tui.worker.context import RunContext

NOT_LEARNED = "not-learned"

# Batch losses fluctuate; ending at twice the first loss is more than fluctuation.
_DIVERGED_FACTOR = 2.0

_FITTED_FACTOR = 0.5
"""A loss at or under this share of the stage's first is falling for certain."""
_USUAL_RANGE = 3.0
"""A rate within this factor of the width's usual one isn't what keeps a task from being learned."""


def early_look(window: int, steps: int) -> int:
    """Return the first step at which a task that was learned shows it: a third, or the window.

    Args:
        window: length of the danger window at the stage's start; 0 without any.
        steps: length of the stage.
    """
    third = -(-steps // 3)
    return max(window, third) if window < steps else third


def warn_if_not_learned(
    context: RunContext,
    spec: StageSpec,
    gain: Drop,
    step: int,
    steps: int,
    *,
    paired: bool,
    anchor: float | None,
) -> None:
    """Alert if a stage's own task has not risen above its start, once early and once at the end.

    Whole answers become right late: at a usual rate with a falling loss, only the end alerts.

    Args:
        context: the run.
        spec: the stage.
        gain: the drop of its task since its start; negative for a gain.
        step: optimizer steps done.
        steps: length of the stage.
        paired: whether its examples were compared one by one, so that the interval is narrow.
        anchor: strength of its anchor; None if it has none.
    """
    if not _has_not_risen(gain, paired=paired):
        return
    now, start = gain.after, gain.before
    train = spec.train
    epochs = step * train.batch_size / max(len(context.prepared.tasks[spec.task].train), 1)
    over = step >= steps
    usual = _usual_rate(context)
    falls = _loss_has_fallen(context, spec)
    if not over and falls and usual is not None and _is_usual(train.learning_rate, usual):
        return
    if gain.value >= 0:
        seen = "it was not learned" if over else "it is not being learned"
    else:
        seen = (
            f"{counted(now.examples, 'example')} can't tell that from its start, "
            f"{format_score(start, interval=False)}: it was {'not' if over else 'not yet'} learned"
        )
    context.alert(
        "warn",
        NOT_LEARNED,
        f"{spec.task} is at {format_score(now)} after {step} of {steps} steps "
        f"({counted(_few(epochs), 'epoch')}) at learning rate "
        f"{_rate(train.learning_rate)}: {seen}; "
        + _levers(context, spec, steps, rate_levers(train.learning_rate, usual, falls), anchor),
        spec.name,
        step,
        spec.task,
        again=True,
    )


def _has_not_risen(gain: Drop, *, paired: bool) -> bool:
    if gain.after.metric.is_share and gain.after.value >= KNOWN_FROM:
        return False
    # The interval of separate examples is too wide to deny a gain by: the value has to do.
    return (gain.estimate.high if paired and gain.estimate else gain.value) >= 0


def rate_levers(rate: float, usual: float | None, falls: bool) -> str:
    """Return what to do about a stage's learning rate; empty if it isn't to blame.

    Args:
        rate: the stage's rate.
        usual: the usual rate at the model's width; None if the width is unknown.
        falls: whether the loss has fallen for certain.
    """
    if usual is None:
        return "" if falls else f"raise [train] learning_rate (try {_rate(10 * rate)})"
    if _is_usual(rate, usual):
        return ""
    if rate < usual:
        return f"raise [train] learning_rate (try {_rate(usual)})"
    return f"lower [train] learning_rate (try {_rate(usual)})"


def _is_usual(rate: float, usual: float) -> bool:
    return usual / _USUAL_RANGE <= rate <= usual * _USUAL_RANGE


def _usual_rate(context: RunContext) -> float | None:
    text: Any = context.prepared.loaded.model.config.get_text_config(decoder=True)
    width = int(getattr(text, "hidden_size", 0) or 0)
    adapter = context.profile.adapter is not None
    return learning_rate_for(width, adapter=adapter) if width else None


def _loss_has_fallen(context: RunContext, spec: StageSpec) -> bool:
    state = context.resume_log.state.stages.get(spec.name)
    if state is None or state.first_loss is None or state.last_step is None:
        return False
    last = state.last_step.loss
    return last is not None and last <= _FITTED_FACTOR * state.first_loss


def _levers(
    context: RunContext, spec: StageSpec, steps: int, rate: str, anchor: float | None
) -> str:
    state = context.resume_log.state.stages.get(spec.name)
    if state is not None and state.knows_its_rows:
        return ROWS_ALONE
    levers = [rate or f"raise [train] steps (try {2 * steps})"]
    if anchor is not None:
        levers.append(f"lower [anchor] strength, now {anchor:g}")
    if context.prepared.freezer.frozen:
        levers.append("freeze fewer layers")
    return f"in another run, {' or '.join(levers)}"


def warn_of_divergence(context: RunContext, spec: StageSpec, loss: float, step: int) -> None:
    """Alert at the stage's end if its loss is far above its first value.

    Args:
        context: the run.
        spec: the stage.
        loss: the last step's, in nats.
        step: the last step.
    """
    first = context.resume_log.first_loss(spec.name)
    if first is not None and loss > max(_DIVERGED_FACTOR * first, first + 1.0):
        context.alert(
            "warn",
            "diverged",
            f"the loss ended at {format_number(loss)} and began at {format_number(first)}: the "
            f"stage diverged; lower [train] learning_rate (now {spec.train.learning_rate:g})",
            spec.name,
            step,
        )


def nan_levers(context: RunContext, spec: StageSpec) -> str:
    """Return what can still be changed after a NaN; a run's own profile is fixed."""
    train = spec.train
    levers = [f"a lower [train] learning_rate (now {_rate(train.learning_rate)})"]
    settings = context.profile.strategy_settings(train.strategy, train)
    strength = getattr(settings, "strength", 0.0)
    if strength > 1:
        levers.insert(0, f"a lower [{train.declaration.table}] strength than {strength:g}")
    if train.on_nan != "continue":
        levers.append('on_nan = "continue"')
    return f"start another run with {_any_of(levers)}; this one keeps its profile"


def _any_of(levers: Sequence[str]) -> str:
    return " or ".join(levers)


def _few(value: float) -> str:
    return f"{value:.0f}" if value >= 10 or value == round(value) else f"{value:.1f}"


def _rate(value: float) -> str:
    return f"{value:.3g}".replace("e-0", "e-").replace("e+0", "e+")
