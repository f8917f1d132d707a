"""Small real runs that train an adapter, and the base that their adapter directories name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from sf_tui.engine.compute import choose_compute
from sf_tui.engine.loading import load_model, save_model
from sf_tui.profile import ModelSettings, dump_profile, parse_profile
from sf_tui.run.directory import RunDirectory
from support.quick_run import PROFILE

SHAPE = {
    "model_type": "llama",
    "hidden_size": 16,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "intermediate_size": 32,
    "max_position_embeddings": 64,
    "attention_dropout": 0.1,
}

ADAPTER = """\
[adapter]
r = 4
alpha = 8
dropout = 0.1
"""


def make_base(folder: Path, **more: Any) -> Path:
    """Write a small Llama with the tokenizer of the biographies."""
    settings = ModelSettings(source="random", config=SHAPE | more)
    save_model(load_model(settings, Path.cwd(), choose_compute("float32", 1), seed=0), folder)
    return folder


def adapter_profile(base: Path, adapter: str = ADAPTER) -> str:
    """Return the quick profile with this base and this `[adapter]`."""
    before, _, after = PROFILE.partition('source = "random"')
    rest = after[after.index("[biography]") :]
    return f'{before}source = "{base}"\n{adapter}{rest}'


def begin_adapter_run(
    folder: Path, base: Path, adapter: str = ADAPTER, *overrides: str
) -> RunDirectory:
    """Make the directory of a run that has not begun."""
    profile = parse_profile(adapter_profile(base, adapter), overrides=overrides)
    return RunDirectory.create(
        folder, profile_text=dump_profile(profile), profile_name="quick", argv=["sf"]
    )


def adapter_bytes(folder: Path) -> tuple[bytes, bytes]:
    """Return the content of the two files of a PEFT directory."""
    names = ("adapter_model.safetensors", "adapter_config.json")
    return tuple((folder / name).read_bytes() for name in names)  # type: ignore[return-value]


def tensors_of(folder: Path) -> dict[str, torch.Tensor]:
    """Return the tensors of a PEFT directory."""
    return load_file(folder / "adapter_model.safetensors")


IDS = torch.tensor([[5, 9, 11, 7, 3, 8]])


def logits_of(model: Any) -> torch.Tensor:
    """Return the logits of a model on fixed tokens."""
    model.eval()
    with torch.no_grad():
        return model(input_ids=IDS).logits


def plain_model(folder: Path) -> Any:
    """Load a model directory as a user would."""
    return AutoModelForCausalLM.from_pretrained(str(folder), dtype=torch.float32)
