"""What transformers' own Trainer leaves behind: a real training of a newcomer's small Llama."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from transformers import AutoModelForCausalLM, AutoTokenizer, Trainer, TrainingArguments

from sf_tui.engine.batches import collate
from sf_tui.tasks.encoded_examples import encode_all
from sf_tui.tasks.task import Example


def train_with_trainer(
    newcomer: Path,
    out: Path,
    *,
    steps: int = 30,
    save_steps: int = 10,
    learning_rate: float = 3e-3,
    adapter: Any = None,
    adapter_name: str = "default",
    final: bool = True,
    **more: Any,
) -> Path:
    """Tune a newcomer's model on its new rows and return the Trainer's `output_dir`.

    Args:
        newcomer: a folder from `write_newcomer`.
        out: the `output_dir`.
        steps: optimizer steps.
        save_steps: steps between checkpoints.
        learning_rate: the peak rate.
        adapter: a peft configuration; None tunes all weights.
        adapter_name: peft's name of it.
        final: also save the final model and the log into `out`, as scripts do at their end.
        more: further training arguments.
    """
    model: Any = AutoModelForCausalLM.from_pretrained(newcomer / "model")
    tokenizer = AutoTokenizer.from_pretrained(newcomer / "model")
    if adapter is not None:
        from peft import get_peft_model

        model = get_peft_model(model, adapter, adapter_name)
    lines = (newcomer / "new.jsonl").read_text().splitlines()
    rows = [Example(row["prompt"], row["completion"]) for row in map(json.loads, lines)]
    encoded = encode_all(rows, tokenizer).rows

    def batch(items: list[Any]) -> dict[str, Any]:
        found = collate([item["row"] for item in items], 0)
        return {"input_ids": found.input_ids, "labels": found.labels}

    arguments = TrainingArguments(
        output_dir=str(out),
        **{
            "max_steps": steps,
            "save_steps": save_steps,
            "logging_steps": 5,
            "per_device_train_batch_size": 16,
            "learning_rate": learning_rate,
            "warmup_steps": 2,
            "report_to": "none",
            "disable_tqdm": True,
            "remove_unused_columns": False,
            "use_cpu": True,
            "seed": 0,
            **more,
        },
    )
    trainer = Trainer(
        model=model,
        args=arguments,
        train_dataset=[{"row": row} for row in encoded],
        data_collator=batch,
        processing_class=tokenizer,
    )
    trainer.train()
    if final:
        trainer.save_model()
        trainer.save_state()
    return out
