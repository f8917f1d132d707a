"""A newcomer's folder: a small Llama that knows its old task, and two JSONL files.

The facts are asked in four phrasings each, so that a held-out row asks for something that the
model can have learned from another row.
"""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from sf_tui.engine.batches import collate
from sf_tui.tasks.encoded_examples import encode_all
from sf_tui.tasks.task import Example

OLD = ("what is the capital of {} ?", "capital of {} :", "name the capital of {} :", "{} capital :")
NEW = ("what is the color of {} ?", "color of {} :", "name the color of {} :", "{} color :")
_SYLLABLES = ("ba", "ko", "ri", "mu", "ta", "le", "vo", "si", "da", "ne", "pu", "gi")


def facts(
    subjects: int, phrasings: tuple[str, ...], seed: int, about: Sequence[str] = ()
) -> list[tuple[str, str]]:
    """Return shuffled rows, prompt and completion, about given subjects and invented ones."""
    draw = random.Random(seed)
    names = set(about)
    while len(names) < subjects:
        names.add("".join(draw.choice(_SYLLABLES) for _ in range(3)))
    values = ["".join(draw.choice(_SYLLABLES) for _ in range(2)) for _ in range(24)]
    known = {name: draw.choice(values) for name in sorted(names)}
    rows = [(text.format(name), f" {known[name]}") for name in known for text in phrasings]
    draw.shuffle(rows)
    return rows


def write_rows(path: Path, rows: list[tuple[str, str]]) -> Path:
    """Write rows as JSONL with `prompt` and `completion`."""
    path.write_text(
        "".join(json.dumps({"prompt": one, "completion": two}) + "\n" for one, two in rows)
    )
    return path


def write_newcomer(
    folder: Path,
    *,
    hidden: int = 64,
    layers: int = 2,
    old_subjects: int = 60,
    new_subjects: int = 24,
    steps: int = 300,
    seed: int = 0,
    same_subjects: bool = False,
) -> Path:
    """Write `model/`, tuned on the old rows, `old.jsonl` and `new.jsonl` to a folder.

    With `same_subjects`, the new rows ask about subjects of the old ones.
    """
    old = facts(old_subjects, OLD, seed)
    known = [text.split()[0] for text, _ in old if text.endswith("capital :")]
    about = known[:new_subjects] if same_subjects else ()
    new = facts(new_subjects, NEW, seed + 1, about)
    write_rows(folder / "old.jsonl", old)
    write_rows(folder / "new.jsonl", new)
    words = Tokenizer(models.WordLevel(unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    words.train_from_iterator(
        [text for row in (*old, *new) for text in row],
        trainers.WordLevelTrainer(special_tokens=["<pad>", "<unk>", "</s>"]),
    )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=words, eos_token="</s>", pad_token="<pad>", unk_token="<unk>"
    )
    torch.manual_seed(seed)
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=hidden,
            intermediate_size=2 * hidden,
            num_hidden_layers=layers,
            num_attention_heads=4,
            num_key_value_heads=4,
            max_position_embeddings=64,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
            bos_token_id=None,
        )
    )
    _tune(model, tokenizer, old, steps, seed)
    model.save_pretrained(folder / "model")
    tokenizer.save_pretrained(folder / "model")
    return folder


def _tune(
    model: LlamaForCausalLM,
    tokenizer: PreTrainedTokenizerFast,
    rows: list[tuple[str, str]],
    steps: int,
    seed: int,
) -> None:
    encoded = encode_all([Example(one, two) for one, two in rows], tokenizer).rows
    draw = random.Random(seed)
    rate = 0.2 / model.config.hidden_size
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate, betas=(0.9, 0.95))
    for step in range(1, steps + 1):
        batch = collate([draw.choice(encoded) for _ in range(32)], 0)
        for group in optimizer.param_groups:
            group["lr"] = rate * min(step / 20, 1) * min((steps + 1 - step) / (0.3 * steps), 1)
        logits = model(input_ids=batch.input_ids).logits[:, :-1]
        loss = F.cross_entropy(
            logits.reshape(-1, logits.shape[-1]), batch.labels[:, 1:].reshape(-1)
        )
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
