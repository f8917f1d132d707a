"""What a stage does about a loss that is not finite: it goes back, and on or not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from sf_tui.engine.checkpoint import Checkpoint, read_checkpoint
from sf_tui.engine.loop import NonFiniteLossError
from sf_tui.errors import RunError
from sf_tui.profile import StageSpec
from sf_tui.vocabulary.events import Alert
from sf_tui.worker.context import RunContext
from sf_tui.worker.learning_alerts import nan_levers


def learning_rate_factor(context: RunContext, spec: StageSpec) -> float:
    """Return the factor on a stage's learning rate after the losses that were not finite."""
    settings = spec.train
    nans = context.resume_log.nan_rewinds.get(spec.name, 0)
    # A run that stopped at a NaN and is resumed keeps the profile's rate.
    lowered = nans if settings.on_nan == "continue" else 0
    return settings.nan_lr_factor**lowered


def go_back(
    context: RunContext,
    spec: StageSpec,
    error: NonFiniteLossError,
    restore: Callable[[Checkpoint], None],
    rewind: Callable[..., None],
) -> None:
    """Take a stage back to its last good checkpoint.

    Args:
        context: the run.
        spec: the stage.
        error: the loss.
        restore: restores a checkpoint.
        rewind: rewinds the stage to the checkpoint that was restored; takes it, the reason, and
            the steps `lost`.

    Raises:
        RunError: there is no good checkpoint, or the stage ends here.
    """
    again = spec.train.on_nan == "continue" and not context.resume_log.nan_rewinds
    levers = nan_levers(context, spec)
    then = "goes on once at a lower rate" if again else levers
    context.alert("error", Alert.NAN, f"{error.message}; {then}", spec.name, error.step)

    def earlier() -> list[str]:
        # A checkpoint of the previous step is the state that gave this loss, and would again.
        found = context.shelf.current(spec.name)
        return [str(c.path) for c in found if c.step < error.step - 1]

    for path in reversed(context.decide(earlier)):
        checkpoint = read_checkpoint(Path(path))
        assert checkpoint is not None  # it was listed just now
        restore(checkpoint)
        # An earlier update may have broken the weights while the loss was still finite.
        if all(bool(p.isfinite().all()) for p in context.prepared.loaded.model.parameters()):
            break
    else:
        raise RunError(f"stage '{spec.name}', {error.message}; no good checkpoint", levers)
    rewind(checkpoint, "nan", lost=error.step - 1 - checkpoint.step)
    if not again:
        raise RunError(
            f"stage '{spec.name}', {error.message}; rolled back to {checkpoint.path.name}", levers
        )
