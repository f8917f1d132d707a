"""Conversations on a base model with a ChatML template: what is learnt, and where it stops.

The tokenizer's, the config's and the generation config's end token is `<|endoftext|>`; the template
ends turns with `<|im_end|>`: the commonest fine-tuning there is.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
)

from sf_tui.engine.prepare import read_task
from sf_tui.profile import dump_profile, load_profile
from sf_tui.run.directory import RunDirectory
from support.quick_run import Operator, events_of, work

CHATML = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
DATED = "{{ 'Today: ' + strftime_now('%d %B %Y') + '\n' }}" + CHATML

NAMES = ["ash", "elm", "fir", "oak", "yew", "box", "bay", "fig", "gum", "ivy", "koa", "may"]
ANSWERS = {0: "a tree", 1: "no tree"}


def turns() -> list[dict[str, Any]]:
    return [
        {
            "messages": [
                {"role": "user", "content": f"What is {name}?"},
                {"role": "assistant", "content": ANSWERS[number % 2]},
                {"role": "user", "content": "Again?"},
                {"role": "assistant", "content": ANSWERS[number % 2]},
            ]
        }
        for number, name in enumerate(NAMES)
    ]


def write_base(path: Path, template: str) -> Path:
    words = Tokenizer(models.BPE())
    words.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    words.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=360,
        special_tokens=["<|endoftext|>", "<|im_start|>", "<|im_end|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    words.train_from_iterator([json.dumps(row) for row in turns()] * 3, trainer)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=words, eos_token="<|endoftext|>", pad_token="<|endoftext|>"
    )
    tokenizer.chat_template = template
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        max_position_embeddings=128,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    LlamaForCausalLM(config).save_pretrained(path)
    tokenizer.save_pretrained(path)
    assert json.loads((path / "generation_config.json").read_text())["eos_token_id"] == 0
    return path


PROFILE = """\
name = "chat"
[model]
source = "{model}"
{tasks}
[train]
learning_rate = 1e-2
batch_size = 8
steps = {steps}
warmup_steps = 2
[probe]
every = 50
every_in_window = 50
examples = 8
[checkpoint]
every = 3
keep_last = 50
"""


def begin(folder: Path, model: Path, tasks: Sequence[str], steps: int) -> RunDirectory:
    tables = "".join(
        f'[[tasks]]\nname = "{data}"\ndata = "{folder / data}.jsonl"\nheld_out = 4\nlearn = true\n'
        if not at
        else f'[[tasks]]\nname = "{data}"\ndata = "{folder / data}.jsonl"\nheld_out = 4\n'
        for at, data in enumerate(tasks)
    )
    file = folder / "chat.toml"
    file.write_text(PROFILE.format(model=model, tasks=tables, steps=steps))
    profile = load_profile(file)
    place = folder / f"run-{len(list(folder.glob('run-*')))}"
    return RunDirectory.create(
        place, profile_text=dump_profile(profile), profile_name="chat", argv=["sf", "run"]
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    rows = turns()
    (tmp_path / "talk.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    plain = [
        {"prompt": f"{name} is", "completion": f" {ANSWERS[number % 2]}"}
        for number, name in enumerate(NAMES)
    ]
    (tmp_path / "plain.jsonl").write_text("".join(json.dumps(row) + "\n" for row in plain))
    return tmp_path


def alerts(run: RunDirectory) -> list[str]:
    return [event["message"] for event in events_of(run) if event["type"] == "alert"]


@torch.no_grad()
def answers(directory: Path, prompts: list[list[int]]) -> list[list[int]]:
    """Return what a written model answers greedily, with the directory's own settings."""
    model: Any = AutoModelForCausalLM.from_pretrained(directory)
    found = []
    for prompt in prompts:
        ids = torch.tensor([prompt])
        made = model.generate(
            ids, attention_mask=torch.ones_like(ids), max_new_tokens=24, do_sample=False
        )
        found.append(made[0, len(prompt) :].tolist())
    return found


def test_every_answer_ends_by_itself_in_generate(folder: Path) -> None:
    base = write_base(folder / "base", CHATML)
    run = begin(folder, base, ["plain", "talk"], steps=50)
    assert work(run) == 0
    (told,) = [text for text in alerts(run) if "learnt to end with" in text]
    assert "<|im_end|>" in told
    assert "stop at <|endoftext|> only" in told
    tokenizer: Any = AutoTokenizer.from_pretrained(run.model)
    end, eos = tokenizer.convert_tokens_to_ids(["<|im_end|>", "<|endoftext|>"])
    settings = json.loads((run.model / "generation_config.json").read_text())
    assert settings["eos_token_id"] == [end, eos]
    asked = [row["messages"][:at] for row in turns() for at in (1, 3)]
    prompts = [
        tokenizer.apply_chat_template(said, add_generation_prompt=True, return_dict=False)
        for said in asked
    ]
    found = answers(run.model, prompts)
    assert [answer[-1] for answer in found] == [end] * len(prompts)
    assert {tokenizer.decode(answer[:-1]) for answer in found} <= set(ANSWERS.values())
    # The base itself never stops there: what is tested is not its own doing.
    assert all(end not in answer[:-1] for answer in found)


def test_exact_in_a_probe_is_what_generate_answers(folder: Path) -> None:
    base = write_base(folder / "base", CHATML)
    run = begin(folder, base, ["talk"], steps=25)
    # The held-out rows are asked turn by turn, as the template has it in two examples a row.
    assert work(run) == 0
    tokenizer: Any = AutoTokenizer.from_pretrained(run.model)
    end = tokenizer.convert_tokens_to_ids("<|im_end|>")
    last = [event for event in events_of(run) if event["type"] == "probe"][-1]
    assert last["metrics"]["talk"]["n"] == 4
    held = _held_out(folder)
    exact = 0
    for row in held:
        right = True
        for at in (1, 3):
            prompt = tokenizer.apply_chat_template(
                row["messages"][:at], add_generation_prompt=True, return_dict=False
            )
            wanted = tokenizer.encode(row["messages"][at]["content"], add_special_tokens=False)
            right = right and answers(run.model, [prompt]) == [[*wanted, end]]
        exact += right
    assert last["metrics"]["talk"]["exact_match"] == exact / 4


def _held_out(folder: Path) -> list[dict[str, Any]]:
    profile = load_profile(folder / "chat.toml")
    task = read_task(profile, profile.tasks[0])
    questions = {example.messages[0].content for example in task.held_out}
    return [row for row in turns() if row["messages"][0]["content"] in questions]


def test_a_dated_template_keeps_the_runs_own_date(folder: Path) -> None:
    base = write_base(folder / "base", DATED)

    def played(date: str, *, stopped: bool) -> dict[str, torch.Tensor]:
        run = begin(folder, base, ["talk"], steps=6)
        facts = json.loads(run.run_json.read_text())
        run.run_json.write_text(json.dumps(facts | {"created": f"{date}T12:00:00.000Z"}))
        if stopped:
            assert work(run, Operator(run).at("talk", 4, "stop")) == 5
        assert work(run) == 0
        (told,) = [text for text in alerts(run) if "fixed at" in text]
        assert f"fixed at {date}" in told
        return load_file(run.model / "model.safetensors")

    once = played("2024-02-29", stopped=False)
    again = played("2024-02-29", stopped=True)
    later = played("2024-03-01", stopped=False)
    assert all(torch.equal(once[name], again[name]) for name in once)
    assert not all(torch.equal(once[name], later[name]) for name in once)
