"""Watches a training of Lightning: `Trainer(callbacks=[SfLightning(old="old.jsonl")])`.

The entry points `factory` and `standalone_factory` are called for every Trainer wherever `sf` is
installed; they return nothing unless the environment variable SF_LIGHTNING is set.
"""

from __future__ import annotations

import os
from contextlib import AbstractContextManager
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sf_tui.integrations.bare_loop import Watch
    from sf_tui.integrations.host_profile import Old

LIGHTNING, STANDALONE = "lightning.pytorch", "pytorch_lightning"
"""The package `lightning`, and its twin: a Trainer takes the callbacks of its own package only."""


def factory() -> list[Any]:
    """Return the callback for a Trainer of `lightning` if SF_LIGHTNING is set.

    Raises:
        SfError: a file doesn't exist, or the profile has mistakes.
    """
    return _asked_for(LIGHTNING)


def standalone_factory() -> list[Any]:
    """Return the callback for a Trainer of `pytorch_lightning` if SF_LIGHTNING is set.

    Raises:
        SfError: a file doesn't exist, or the profile has mistakes.
    """
    return _asked_for(STANDALONE)


def _asked_for(package: str) -> list[Any]:
    if not os.environ.get("SF_LIGHTNING"):
        return []
    # Deferred: only needed here.
    from sf_tui.integrations.variables import given_settings

    old, profile, run_dir = given_settings()
    return [SfLightning(old, profile=profile, run_dir=run_dir, package=package)]


class LightningWatch:
    """What the callback does; Lightning's own class is mixed in by `SfLightning`.

    Args:
        old: examples of the old task, as in `SfCallback`.
        tokenizer: the model's; default: `tokenizer` of the module or its data module.
        profile: as in `SfCallback`.
        run_dir: as in `SfCallback`.
        name: as in `SfCallback`.
    """

    def __init__(
        self,
        old: Old = None,
        *,
        tokenizer: Any = None,
        profile: str | Path | None = None,
        run_dir: str | Path | None = None,
        name: str | None = None,
    ) -> None:
        # Deferred: torch and transformers; a Trainer is created by then.
        from sf_tui.integrations.host_profile import Settings

        Settings.read(old, profile, name)
        self._given: dict[str, Any] = {
            "old": old,
            "profile": profile,
            "run_dir": run_dir,
            "name": name,
        }
        self._tokenizer = tokenizer
        self._opened: AbstractContextManager[Watch] | None = None
        self._watch: Watch | None = None
        self._steps = 0

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """Begin the run, or write why the training is not watched."""
        from sf_tui.integrations.bare_loop import watch
        from sf_tui.integrations.watcher import tell

        if not trainer.is_global_zero:
            return
        why = _unwatchable(trainer, pl_module)
        model, tokenizer = _causal_model(pl_module), self._tokenizer
        if tokenizer is None:
            tokenizer = _tokenizer_of(trainer, pl_module)
        if not why and model is None:
            why = f"{type(pl_module).__name__} holds no model of transformers"
        if not why and tokenizer is None:
            why = "no tokenizer: give SfLightning(tokenizer=...) or the module an attribute"
        if why:
            tell(f"does not watch this training: {why}")
            return
        self._steps = trainer.global_step
        self._opened = watch(
            model,
            trainer.optimizers[0],
            tokenizer,
            total_steps=_steps_to_come(trainer),
            data=trainer.train_dataloader,
            batch_size=_rows_a_step(trainer),
            max_grad_norm=float(trainer.gradient_clip_val or 0.0),
            **self._given,
        )
        self._watch = self._opened.__enter__()

    def on_before_optimizer_step(self, trainer: Any, pl_module: Any, optimizer: Any) -> None:  # noqa: ARG002
        """Add the anchor's gradient, between the backward pass and the update."""
        if self._watch is not None:
            self._watch.before_update()

    def on_train_batch_end(
        self,
        trainer: Any,
        pl_module: Any,  # noqa: ARG002
        outputs: Any,
        batch: Any,  # noqa: ARG002
        batch_idx: int,  # noqa: ARG002
    ) -> None:
        """Record an optimizer step, probe if one is due, and do what is asked for."""
        if self._watch is None or trainer.global_step == self._steps:
            return
        self._steps = trainer.global_step
        self._watch.step(_loss_of(outputs))
        trainer.should_stop = trainer.should_stop or self._watch.should_stop

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:  # noqa: ARG002
        """End the run."""
        self._close(None)

    def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:  # noqa: ARG002
        """Record that the training failed."""
        self._close(exception)

    def _close(self, error: BaseException | None) -> None:
        opened, self._opened, self._watch = self._opened, None, None
        if opened is None:
            return
        try:
            opened.__exit__(None if error is None else type(error), error, None)
        except BaseException as raised:
            # A context manager raises what it was given; Lightning raises it itself.
            if raised is not error:
                raise


class SfLightning:
    """Makes the callback, as a subclass of the `Callback` of Lightning or `pytorch_lightning`.

    Args:
        arguments: as in `LightningWatch`.
        package: where its class is from.
        settings: as in `LightningWatch`.
    """

    def __new__(cls, *arguments: Any, package: str = LIGHTNING, **settings: Any) -> Any:
        """Return the callback.

        Raises:
            SfError: a file doesn't exist, or the profile has mistakes.
        """
        base = import_module(package).Callback
        made = type("SfLightning", (LightningWatch, base), {"__doc__": LightningWatch.__doc__})
        return made(*arguments, **settings)


def _unwatchable(trainer: Any, pl_module: Any) -> str:
    if not pl_module.automatic_optimization:
        return "the module optimizes by itself; use sf_tui.watch in its training_step"
    if len(trainer.optimizers) != 1:
        return f"{len(trainer.optimizers)} optimizers"
    strategy = type(trainer.strategy).__name__
    if strategy not in {"SingleDeviceStrategy", "DDPStrategy"} or trainer.world_size > 1:
        return f"{strategy} on {trainer.world_size} processes"
    return ""


def _causal_model(pl_module: Any) -> Any:
    from transformers import PreTrainedModel

    found = [part for part in pl_module.children() if isinstance(part, PreTrainedModel)]
    wrapped = [part for part in pl_module.children() if hasattr(part, "peft_config")]
    return next(iter([*wrapped, *found]), None)


def _tokenizer_of(trainer: Any, pl_module: Any) -> Any:
    for owner in (pl_module, getattr(trainer, "datamodule", None)):
        tokenizer = getattr(owner, "tokenizer", None)
        if tokenizer is not None:
            return tokenizer
    return None


def _steps_to_come(trainer: Any) -> int | None:
    steps = trainer.estimated_stepping_batches
    return int(steps) if steps != float("inf") else None


def _rows_a_step(trainer: Any) -> int:
    rows = getattr(trainer.train_dataloader, "batch_size", None) or 1
    return int(rows) * int(trainer.accumulate_grad_batches)


def _loss_of(outputs: Any) -> Any:
    loss = outputs.get("loss") if isinstance(outputs, dict) else outputs
    return None if loss is None else loss.detach()
