"""Makes generation stop at every token that ends a training answer.

The most common fine-tuning setup, a base model with a ChatML template, learns to end with
`<|im_end|>` while generation_config.json lists only `<|endoftext|>`, so `generate` never stops.
Knows token ids and generation configs; the encoding decides how answers end.
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
    """Return the token ids at which `generate` stops under the model's own settings."""
    return _as_ids(getattr(getattr(model, "generation_config", None), "eos_token_id", None))


def stop_at(model: PreTrainedModel, ends: Iterable[int]) -> tuple[int, ...]:
    """Add stop ids to a model's generation settings, and return those that were new.

    New ids are placed before the existing ones, which stay.
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
    """Copy a model's stop ids into the generation_config.json of a written directory.

    Args:
        model: the model with the stop ids.
        path: the directory; all its other files are already written.
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
    """Return the stop ids of a model without loading it; None if unknown.

    Args:
        name: a model directory or a hub id.
        revision: branch, tag or commit of a hub id.
    """
    # Deferred: needed only when a profile is checked without the model.
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
            # A tokenizer-only source; errors in the model are reported when it is loaded.
            return None
        config = getattr(config, "text_config", None) or config
    return _as_ids(getattr(config, "eos_token_id", None))


def end_note(
    tokenizer: PreTrainedTokenizerBase, missing: Sequence[int], stops: Collection[int]
) -> str:
    """Return a note if generation does not stop at the answers' end tokens, else an empty string.

    Args:
        tokenizer: converts ids to token names.
        missing: end tokens at which generation does not stop.
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
