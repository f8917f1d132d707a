"""transformers' Trainer on exactly what `StageTuner` trains on: the peer that we are measured by.

Same model, rows, order, padding, precision and AdamW; no evaluation, no checkpoint and no log.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from transformers import PrinterCallback, Trainer, TrainerCallback, TrainingArguments

from sf_tui.engine.batches import BatchOrder, EncodedSource, collate

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from sf_tui.engine.compute import ComputeSetting
    from sf_tui.profile import TrainSettings
    from sf_tui.tasks.encoding import Encoded


class _AtStepEnd(TrainerCallback):
    """Calls a function after each optimizer step."""

    def __init__(self, call: Callable[[], None]) -> None:
        self._call = call

    def on_step_end(self, args: Any, state: Any, control: Any, **others: Any) -> None:  # noqa: ARG002
        self._call()


def rows_in_order(
    source: EncodedSource, settings: TrainSettings, *, stage: str, seed: int, steps: int
) -> list[Encoded]:
    """Return the rows of a stage's first steps in the order in which `StageTuner` takes them."""
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
) -> Trainer:
    """Return a Trainer that does `steps` steps over `rows`, whole batches in their order.

    Args:
        model: the model; trained in place.
        rows: `steps` times `batch_size` of them.
        settings: learning rate, betas, clipping; the schedule must be constant without warm-up.
        compute: device and precision, the same as `StageTuner` has.
        steps: optimizer steps.
        pad_id: token id for padding.
        folder: what Trainer calls its output directory; nothing is written there.
        at_step_end: called after each optimizer step.
    """

    def batch_of(rows: Sequence[Encoded]) -> dict[str, Any]:
        batch = collate(rows, pad_id)
        # No attention mask, as on our side: the rows are padded on the right.
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
        callbacks=[_AtStepEnd(at_step_end)],
    )
    trainer.remove_callback(PrinterCallback)
    return trainer
