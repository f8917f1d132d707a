"""Small trainings of transformers' Trainer and of TRL, to be watched."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    DataCollatorForSeq2Seq,
    Trainer,
    TrainingArguments,
)

from sf_tui.run.directory import RunDirectory
from support.newcomer import write_newcomer


def scene(folder: Path) -> Path:
    """Write a tiny Llama that knows its old rows, `old.jsonl` and `new.jsonl`."""
    return write_newcomer(folder, steps=80)


def rows_of(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


def trainer(
    folder: Path,
    out: Path,
    callbacks: Sequence[Any] = (),
    *,
    lora: bool | dict[str, Any] = False,
    adapter_name: str = "default",
    steps: int = 8,
    trl: bool = False,
    loading: dict[str, Any] | None = None,
    **more: Any,
) -> Trainer:
    """Return a Trainer, or TRL's, on the new rows, with its default settings."""
    torch.manual_seed(1)
    model = AutoModelForCausalLM.from_pretrained(folder / "model", **(loading or {}))
    tokenizer = AutoTokenizer.from_pretrained(folder / "model")
    given: dict[str, Any] = {
        "output_dir": str(out),
        "max_steps": steps,
        "per_device_train_batch_size": 4,
        "gradient_accumulation_steps": 2,
        "learning_rate": 1e-3,
        "logging_steps": 1,
        "save_strategy": "no",
        "report_to": [],
        "use_cpu": True,
        "disable_tqdm": True,
        "seed": 3,
    } | more
    rows = rows_of(folder / "new.jsonl")
    if trl:
        from trl import SFTConfig, SFTTrainer

        config = _lora(lora) if lora else None
        return SFTTrainer(
            model=model,
            args=SFTConfig(**given),
            train_dataset=Dataset.from_list(rows),
            processing_class=tokenizer,
            callbacks=list(callbacks),
            peft_config=config,
        )
    if lora:
        from peft import get_peft_model

        model = get_peft_model(model, _lora(lora), adapter_name)
        model.enable_input_require_grads()
    encoded = []
    for row in rows:
        prompt = tokenizer(row["prompt"])["input_ids"]
        answer = [*tokenizer(row["completion"])["input_ids"], tokenizer.eos_token_id]
        encoded.append({"input_ids": prompt + answer, "labels": [-100] * len(prompt) + answer})
    return Trainer(
        model=model,
        args=TrainingArguments(**({"gradient_checkpointing": True} | given)),
        train_dataset=Dataset.from_list(encoded),
        data_collator=DataCollatorForSeq2Seq(tokenizer),
        processing_class=tokenizer,
        callbacks=list(callbacks),
    )


def _lora(more: bool | dict[str, Any]) -> Any:
    from peft import LoraConfig

    own = more if isinstance(more, dict) else {}
    given = {"r": 4, "lora_alpha": 8, "lora_dropout": 0.1, "target_modules": "all-linear"} | own
    return LoraConfig(**given)


def losses_of(trained: Trainer) -> list[float]:
    """Return the losses that the host itself logged."""
    return [entry["loss"] for entry in trained.state.log_history if "loss" in entry]


def weights_of(trained: Trainer) -> dict[str, torch.Tensor]:
    return {name: p.detach().clone() for name, p in trained.model.named_parameters()}


def lines_of(run: Path, kind: str | None = None) -> list[dict[str, Any]]:
    """Return a run's events."""
    lines = RunDirectory(run).events.read_text(encoding="utf-8").splitlines()
    found = [json.loads(line) for line in lines]
    return [event for event in found if kind is None or event["type"] == kind]
