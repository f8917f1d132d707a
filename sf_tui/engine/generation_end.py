"""Makes generation stop at every token that answers were trained to end with.

The most common fine-tuning, a base model with a ChatML template, learns to end with `<|im_end|>`
while its generation_config.json names only `<|endoftext|>`: `generate` never stops. Knows token ids
and generation configs; how answers end is up to the encoding.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

_FILE = "generation_config.json"


def stop_ids(model: PreTrainedModel) -> tuple[int, ...]:
    """Return the token ids at which `generate` stops with the model's own settings."""
    return _as_ids(getattr(getattr(model, "generation_config", None), "eos_token_id", None))


def stop_at(model: PreTrainedModel, ends: Iterable[int]) -> tuple[int, ...]:
    """Make a model's generation stop at these ids too, the new ones first; return the new ones.

    The ids that a model already stops at stay as they are.
    """
    config: Any = getattr(model, "generation_config", None)
    stops = stop_ids(model)
    missing = tuple(sorted(set(ends) - set(stops)))
    if config is None or not missing:
        return ()
    together = [*missing, *stops]
    config.eos_token_id = together if len(together) > 1 else together[0]
    return missing


def write_stops(model: PreTrainedModel, path: Path) -> None:
    """Make a written directory's generation_config.json stop where the model does.

    Args:
        model: its settings count.
        path: the directory, after its other files were written.
    """
    file, stops = path / _FILE, stop_ids(model)
    facts = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    written = _as_ids(facts.get("eos_token_id"))
    missing = [token for token in stops if token not in written]
    if not missing:
        return
    together = [*missing, *written]
    facts["eos_token_id"] = together if len(together) > 1 else together[0]
    file.write_text(json.dumps(facts, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def stops_of_source(name: str, *, revision: str | None = None) -> tuple[int, ...] | None:
    """Return where generation stops with a model that is not loaded; None if unknown.

    Args:
        name: a model directory or a hub id.
        revision: branch, tag or commit of a hub id.
    """
    # Deferred: only a check without the model needs them.
    from transformers import AutoConfig, GenerationConfig

    options: dict[str, Any] = {"revision": revision or "main"}
    if Path(name).is_dir():
        options = {"local_files_only": True}
    config: Any
    try:
        config = GenerationConfig.from_pretrained(name, **options)
    except (OSError, ValueError, TypeError):
        # Without a generation config, the model's config applies.
        try:
            config = AutoConfig.from_pretrained(name, **options)
        except (OSError, ValueError, TypeError, KeyError, AttributeError, ImportError):
            # A tokenizer alone; faults of the model are reported when it is loaded for training.
            return None
        config = getattr(config, "text_config", None) or config
    return _as_ids(getattr(config, "eos_token_id", None))


def end_note(
    tokenizer: PreTrainedTokenizerBase, missing: Sequence[int], stops: Collection[int]
) -> str:
    """Return a note if answers end with tokens that generation does not stop at, else nothing.

    Args:
        tokenizer: for the tokens' names.
        missing: ends that generation runs past.
        stops: ids at which it stops.
    """
    if not missing:
        return ""
    learnt = f"answers are learnt to end with {_named(tokenizer, missing)}, but the model's"
    if not stops:
        return (
            f"{learnt} generation settings name no end token: the generation_config.json that is "
            "written names it"
        )
    return (
        f"{learnt} generation settings stop at {_named(tokenizer, stops)} only: the "
        "generation_config.json that is written stops at either"
    )


def _named(tokenizer: PreTrainedTokenizerBase, ids: Collection[int]) -> str:
    return ", ".join(str(tokenizer.convert_ids_to_tokens(token)) for token in ids)


def _as_ids(value: Any) -> tuple[int, ...]:
    if value is None:
        return ()
    return (int(value),) if isinstance(value, int) else tuple(int(token) for token in value)
