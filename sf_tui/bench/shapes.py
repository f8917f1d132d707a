"""Model shapes to measure without any weights of one's own: `--model random:SHAPE`.

The weights are random and the words are those of the biographies; what a step costs in time and
memory depends on neither.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sf_tui.errors import ModelError, did_you_mean

RANDOM = "random:"

SHAPES: dict[str, dict[str, Any]] = {
    "35m": {
        "hidden_size": 512,
        "num_hidden_layers": 10,
        "num_attention_heads": 8,
        "num_key_value_heads": 4,
        "intermediate_size": 1536,
        "vocab_size": 8192,
    },
    # That of SmolLM2-135M.
    "135m": {
        "hidden_size": 576,
        "num_hidden_layers": 30,
        "num_attention_heads": 9,
        "num_key_value_heads": 3,
        "intermediate_size": 1536,
        "vocab_size": 49152,
    },
    # That of Qwen2.5-0.5B, without its biases.
    "0.5b": {
        "hidden_size": 896,
        "num_hidden_layers": 24,
        "num_attention_heads": 14,
        "num_key_value_heads": 2,
        "intermediate_size": 4864,
        "vocab_size": 151936,
    },
}
"""The keys of each shape's Llama configuration, by the shape's name."""


def write_random_model(model: str, folder: Path) -> str:
    """Write a model of a named shape, and return its directory.

    Args:
        model: `random:SHAPE`.
        folder: the directory to write; must not exist or be empty.

    Raises:
        ModelError: there is no such shape, or no memory for it.
    """
    # Deferred: `sf bench --help` lists the shapes, and needs no torch.
    from sf_tui.engine.compute import choose_compute
    from sf_tui.engine.loading import load_model, save_model
    from sf_tui.profile import ModelSettings

    name = model.removeprefix(RANDOM)
    if name not in SHAPES:
        raise ModelError(f"--model {model}: no such shape", did_you_mean(name, SHAPES, "shapes"))
    config = {
        "model_type": "llama",
        "tie_word_embeddings": True,
        "max_position_embeddings": 2048,
        **SHAPES[name],
    }
    settings = ModelSettings(source="random", tokenizer="biography", config=config)
    loaded = load_model(settings, Path.cwd(), choose_compute("float32", None), seed=0)
    save_model(loaded, folder)
    return str(folder)
