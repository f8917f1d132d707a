"""`sf bench throughput`: tokens per second against transformers' Trainer, and the gain of a freeze.

Both sides take the same steps on the same rows from the same weights, one step each in turn.
Neither probes, logs or saves. Trainer gets the same order, padding, precision and AdamW. All of it
is done twice, with the sides exchanged.
"""

from __future__ import annotations

import copy
import math
import statistics
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from transformers import PrinterCallback, Trainer, TrainerCallback, TrainingArguments

from sf_tui.bench.freeze_gain import measure_freeze_gain
from sf_tui.bench.harness import (
    BenchReport,
    Clock,
    Figure,
    PassOn,
    Reading,
    alternate,
    exchanged_ratio,
    median_ratio,
)
from sf_tui.bench.scene import is_starter, make_scene
from sf_tui.engine.batches import BatchOrder, EncodedSource, collate
from sf_tui.engine.loop import StageTuner
from sf_tui.engine.prepare import PreparedRun, prepare_run

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from sf_tui.engine.compute import ComputeSetting
    from sf_tui.profile import TrainSettings
    from sf_tui.tasks.encoding import Encoded

_STAGE = "new"
_STARTER_STEPS = 50
_OWN_STEPS = 10
# The first steps fill caches and the optimizer's state.
_WARM_UP = 2


def measure_throughput(
    model: str, steps: int | None, batch_size: int | None, threads: int
) -> dict[str, Any]:
    """Measure training speed on one model; see `sf bench throughput --help`.

    Args:
        model: `starter:NAME`, a directory or a .gguf file.
        steps: timed optimizer steps of each side in each of two rounds; None: chosen for the model.
        batch_size: examples per step; None: chosen for the model.
        threads: CPU threads, already pinned.

    Returns:
        A `BenchReport` as plain types.

    Raises:
        ModelError: the model can't be used.
    """
    timed = steps or (_STARTER_STEPS if is_starter(model) else _OWN_STEPS)
    with tempfile.TemporaryDirectory(prefix="sf-bench-") as name:
        folder = Path(name)
        profile = make_scene(
            model,
            folder,
            batch_size=batch_size,
            threads=threads,
            # Trainer counts warm-up steps from 0, sf from 1.
            settings={"train.steps": timed + _WARM_UP, "train.warmup_steps": 0},
        )
        prepared = prepare_run(profile, threads)
        settings = profile.stage_train(_STAGE)
        _log(f"{timed} steps of each side, in turn, twice")
        rounds = [_beside_trainer(prepared, folder, ours_at=number) for number in range(2)]
        clock = Clock.for_device(prepared.compute.device.type, threads)
        ratio, side = exchanged_ratio(*(one.ratio(clock) for one in rounds))
        by_wall, _ = exchanged_ratio(*(one.ratio(Clock(by_processor=False)) for one in rounds))
        ours = [second for one in rounds for second in clock.seconds(one.ours)]
        trainer = [second for one in rounds for second in clock.seconds(one.trainers)]
        _log(f"{2 * timed} whole and {2 * timed} half-frozen steps, in turn")
        first = rows_in_order(
            prepared.tasks[_STAGE].train, settings, stage=_STAGE, seed=profile.seed, steps=1
        )
        gain = measure_freeze_gain(prepared, first, settings, clock, repetitions=2 * timed)
    tokens = prepared.tasks[_STAGE].mean_length * settings.batch_size
    report = BenchReport(
        "throughput",
        (
            Figure(
                "ratio_to_trainer",
                "tokens per second relative to transformers' Trainer",
                ratio,
                "at least 1",
            ),
            Figure(
                "freeze_gain_share",
                "time saved by freezing half of the blocks, relative to what it could save",
                gain.share,
                "at least 0.8",
            ),
        ),
        {
            "model": model,
            "parameters": prepared.layout.elements,
            "threads": threads,
            "clock": clock.name,
            "device": str(prepared.compute.device),
            "precision": prepared.compute.precision,
            "batch size": settings.batch_size,
            "repetitions": 2 * timed,
        },
        {
            "tokens_per_second": tokens / statistics.median(ours),
            "trainer_tokens_per_second": tokens / statistics.median(trainer),
            "ratio_in_sum": sum(trainer) / sum(ours),
            "ratio_by_wall": by_wall,
            "side": side,
            "weights_apart": max(one.apart for one in rounds),
            **{f"freeze_{name}": value for name, value in asdict(gain).items() if name != "share"},
        },
    )
    return report.as_plain()


@dataclass(frozen=True)
class _Round:
    """The steps of both sides in turn."""

    ours: list[Reading]
    trainers: list[Reading]
    apart: float
    """Distance between the final weights relative to the distance that the weights moved: near 0
    if both did the same work."""

    def ratio(self, clock: Clock) -> float:
        """Return the time of Trainer's steps relative to sf's."""
        return median_ratio(clock.seconds(self.trainers), clock.seconds(self.ours))


def _beside_trainer(prepared: PreparedRun, folder: Path, *, ours_at: int) -> _Round:
    """Train two copies of a model, one step each in turn.

    Args:
        prepared: the scene; its model stays as it is.
        folder: for Trainer's output.
        ours_at: whether sf is the first side (0) or the second (1).
    """
    profile, compute, loaded = prepared.profile, prepared.compute, prepared.loaded
    task, settings = prepared.tasks[_STAGE], profile.stage_train(_STAGE)
    # Copied with its model, a layout refers to the copy's parameters.
    copies: list[Any] = [copy.deepcopy((loaded.model, prepared.layout)) for _ in range(2)]
    model, layout = copies[ours_at]
    peer, _ = copies[1 - ours_at]
    steps = settings.total_steps(len(task.train))
    rows = rows_in_order(task.train, settings, stage=_STAGE, seed=profile.seed, steps=steps)

    def tune(pass_on: PassOn) -> None:
        torch.set_num_threads(settings.threads or torch.get_num_threads())
        tuner = StageTuner(
            model,
            layout,
            task.train,
            settings,
            compute,
            stage=_STAGE,
            seed=profile.seed,
            pad_id=loaded.pad_id,
        )
        for _ in range(steps):
            tuner.advance()
            _finish(compute.device)
            pass_on()

    def train(pass_on: PassOn) -> None:
        torch.set_num_threads(settings.threads or torch.get_num_threads())

        def at_step_end() -> None:
            _finish(compute.device)
            pass_on()

        make_trainer(
            peer,
            rows,
            settings,
            compute,
            steps=steps,
            pad_id=loaded.pad_id,
            folder=folder / "trainer",
            at_step_end=at_step_end,
        ).train()

    sides = (tune, train) if ours_at == 0 else (train, tune)
    legs = alternate(*sides)
    apart = _apart(*(list(one.parameters()) for one in (loaded.model, model, peer)))
    return _Round(legs[ours_at][_WARM_UP:], legs[1 - ours_at][_WARM_UP:], apart)


def _finish(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


@torch.no_grad()
def _apart(
    start: list[torch.Tensor], ours: list[torch.Tensor], theirs: list[torch.Tensor]
) -> float:
    apart = moved = 0.0
    for before, one, other in zip(start, ours, theirs, strict=True):
        apart += float((one - other).double().square().sum())
        moved += float((one - before).double().square().sum())
    return math.sqrt(apart / max(moved, 1e-30))


def _log(what: str) -> None:
    print(f"sf bench throughput: {what}", file=sys.stderr, flush=True)


class _AtStepEnd(TrainerCallback):
    """Calls a function after each optimizer step."""

    def __init__(self, call: Callable[[], None]) -> None:
        self._call = call

    def on_step_end(self, args: Any, state: Any, control: Any, **others: Any) -> None:  # noqa: ARG002
        self._call()


def rows_in_order(
    source: EncodedSource, settings: TrainSettings, *, stage: str, seed: int, steps: int
) -> list[Encoded]:
    """Return the rows of a stage's first steps in the order in which `StageTuner` uses them."""
    order = BatchOrder(
        source, settings.batch_size, seed, stage, length_grouped=settings.length_grouped
    )
    return [source.encoded(*entry) for step in range(1, steps + 1) for entry in order.entries(step)]


def make_trainer(
    model: PreTrainedModel,
    rows: Sequence[Encoded],
    settings: TrainSettings,
    compute: ComputeSetting,
    *,
    steps: int,
    pad_id: int,
    folder: Path,
    at_step_end: Callable[[], None] = lambda: None,
    tokenizer: PreTrainedTokenizerBase | None = None,
    callbacks: Sequence[TrainerCallback] = (),
) -> Trainer:
    """Return a Trainer that takes `steps` steps over `rows`, in whole batches and in order.

    Args:
        model: the model, trained in place.
        rows: `steps` * `batch_size` rows.
        settings: learning rate, betas, clipping; the schedule must be constant without warm-up.
        compute: the device and precision that `StageTuner` uses.
        steps: optimizer steps.
        pad_id: token id for padding.
        folder: Trainer's output directory; nothing is written to it.
        at_step_end: called after each optimizer step, and after `callbacks`.
        tokenizer: the Trainer's, which needs none itself.
        callbacks: the Trainer's own.
    """

    def batch_of(rows: Sequence[Encoded]) -> dict[str, Any]:
        batch = collate(rows, pad_id)
        # No attention mask, as in sf: rows are padded on the right.
        return {"input_ids": batch.input_ids, "labels": batch.labels}

    arguments = TrainingArguments(
        output_dir=str(folder),
        max_steps=steps,
        per_device_train_batch_size=settings.batch_size,
        learning_rate=settings.learning_rate,
        lr_scheduler_type="constant",
        weight_decay=settings.weight_decay,
        adam_beta1=settings.betas[0],
        adam_beta2=settings.betas[1],
        adam_epsilon=settings.epsilon,
        max_grad_norm=settings.max_grad_norm,
        optim="adamw_torch_fused",
        use_cpu=compute.device.type == "cpu",
        bf16=compute.accelerator.mixed_precision == "bf16",
        train_sampling_strategy="sequential",
        remove_unused_columns=False,
        dataloader_pin_memory=compute.device.type != "cpu",
        logging_strategy="no",
        save_strategy="no",
        report_to=[],
        disable_tqdm=True,
    )
    data: Any = rows
    trainer = Trainer(
        model=model,
        args=arguments,
        train_dataset=data,
        data_collator=batch_of,
        processing_class=tokenizer,
        callbacks=[*callbacks, _AtStepEnd(at_step_end)],
    )
    trainer.remove_callback(PrinterCallback)
    return trainer
