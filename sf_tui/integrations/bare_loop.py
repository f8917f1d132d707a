"""`sf_tui.watch`: watches and acts in a training loop of one's own.

with sf_tui.watch(model, optimizer, tokenizer, old="old.jsonl") as watch:
    for batch in batches:
        loss = model(**batch).loss
        loss.backward()
        watch.before_update()  # only needed for an anchor
        optimizer.step()
        optimizer.zero_grad()
        watch.step(loss)
        if watch.should_stop:
            break
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from sf_tui.engine.loop import StepOutcome
from sf_tui.home import user_path
from sf_tui.integrations.adapter_table import adapter_table
from sf_tui.integrations.callback import bare_model
from sf_tui.integrations.host import Host
from sf_tui.integrations.host_profile import Old, Settings
from sf_tui.integrations.host_rows import rows_of_loader
from sf_tui.integrations.watcher import Watcher

DEFAULT_STEPS = 1000
"""Assumed length of a loop that gives none; the run ends when the loop does."""

_CANT = "a loop of one's own has no checkpoints that sf knows: "


class Watch:
    """A loop that is watched; `watch` returns it."""

    def __init__(self, watcher: Watcher, optimizer: torch.optim.Optimizer) -> None:
        self._watcher = watcher
        self._optimizer = optimizer
        self._began = time.perf_counter()

    @property
    def should_stop(self) -> bool:
        """Whether an operator, a rule or a script asks the loop to stop."""
        return self._watcher.should_stop

    @property
    def run(self) -> Path | None:
        """The run directory; None if the loop is not watched, after an error."""
        hosted = self._watcher.hosted
        return None if hosted is None else hosted.run.path

    def before_update(self) -> None:
        """Add the anchor's gradient; call it between `backward` and `optimizer.step`."""
        self._watcher.before_update()

    def step(self, loss: torch.Tensor | float | None = None, *, tokens: int = 0) -> None:
        """Record one optimizer step; call it behind `optimizer.step`.

        Args:
            loss: the step's loss, in nats a token; None if unknown.
            tokens: number of tokens trained on, for the speed.
        """
        self._watcher.after_step(lambda: self._outcome(loss, tokens))
        self._began = time.perf_counter()

    def _outcome(self, loss: torch.Tensor | float | None, tokens: int) -> StepOutcome:
        value = float("nan") if loss is None else float(torch.as_tensor(loss).detach())
        seconds = max(time.perf_counter() - self._began, 1e-9)
        rate = float(self._optimizer.param_groups[0]["lr"])
        return StepOutcome(value, float("nan"), rate, tokens / seconds)


@contextmanager
def watch(
    model: Any,
    optimizer: torch.optim.Optimizer,
    tokenizer: Any,
    *,
    old: Old = None,
    total_steps: int | None = None,
    data: Any = None,
    batch_size: int = 16,
    max_grad_norm: float = 0.0,
    autocast: torch.dtype | None = None,
    profile: str | Path | None = None,
    run_dir: str | Path | None = None,
    name: str | None = None,
) -> Iterator[Watch]:
    """Watch a training loop of one's own.

    Args:
        model: a causal language model of transformers, possibly wrapped.
        optimizer: over its parameters.
        tokenizer: the model's.
        old: examples of the old task, as in `SfCallback`.
        total_steps: optimizer steps to come; default: 1000, and the run ends with the loop.
        data: the loop's data loader, if its batches have `input_ids`: needed for an anchor, a
            repair, and for watching without old examples.
        batch_size: rows per optimizer step.
        max_grad_norm: bound of the gradient's norm together with the anchor's; 0 = no clipping.
        autocast: dtype in which the loop runs its passes; None: as the weights are.
        profile: as in `SfCallback`.
        run_dir: as in `SfCallback`.
        name: as in `SfCallback`.

    Raises:
        SfError: a file does not exist, or the profile has mistakes. Later errors end the
            watching, never the loop.
    """
    settings = Settings.read(old, profile, name)
    bare = bare_model(model)
    steps = total_steps or DEFAULT_STEPS

    def describe() -> Host:
        rows, notes = rows_of_loader(data, tokenizer)
        rate = max(float(optimizer.param_groups[0]["lr"]), 1e-12)
        return Host(
            name="loop",
            command=[sys.executable, *sys.argv],
            model=bare,
            model_source=str(getattr(bare, "name_or_path", "") or ""),
            optimizer=optimizer,
            tokenizer=tokenizer,
            step=0,
            total_steps=steps,
            adapter=adapter_table(model, bare),
            train={"learning_rate": rate, "batch_size": batch_size, "steps": steps},
            autocast=autocast,
            max_grad_norm=max_grad_norm,
            train_rows=rows,
            notes=notes,
            refusals={
                "rollback": f"{_CANT}load one of your own, and start again",
                "checkpoint": f"{_CANT}write one in the loop",
            },
        )

    watcher = Watcher()
    watcher.begin(describe, settings, None if run_dir is None else user_path(str(run_dir)))
    try:
        yield Watch(watcher, optimizer)
    except BaseException as error:
        watcher.abandon(f"the loop raised {type(error).__name__}: {error}")
        raise
    watcher.end()
