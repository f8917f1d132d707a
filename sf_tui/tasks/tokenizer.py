"""A tokenizer by the name of its model, without the model.

Knows where tokenizers lie. Knows nothing of weights and needs no torch of its own.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from sf_tui.errors import ModelError
from sf_tui.tasks.model_config import CONFIG, TRUST_HINT, read_model_config
from sf_tui.tasks.reading import shown_path
from sf_tui.tasks.source_faults import first_line, model_faults

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

STARTER = "starter:"


def load_tokenizer(
    source: str,
    base_dir: Path,
    *,
    revision: str | None = None,
    trust_remote_code: bool = False,
) -> PreTrainedTokenizerBase:
    """Load the tokenizer of a model.

    Args:
        source: a model directory, a GGUF file, a hub id, `starter:NAME`, or `biography`.
        base_dir: where relative paths start.
        revision: branch, tag or commit of a hub id.
        trust_remote_code: run code that comes with the tokenizer.

    Raises:
        ModelError: if there is none; the message names the source.
    """
    if source == "biography":
        # Only this one source needs the generator's words.
        from sf_tui.tasks.biography import build_tokenizer

        return build_tokenizer()
    if source.startswith(STARTER):
        # Profiles know where starters lie; no other source needs them.
        from sf_tui.profile import starter_directory

        source = str(starter_directory(source.removeprefix(STARTER)))
    place = base_dir / Path(source).expanduser()
    options: dict[str, Any] = {"revision": revision or "main"}
    name = source
    if source.lower().endswith(".gguf"):
        if not place.is_file():
            raise ModelError(f"{shown_path(place)}: no such file", "name the .gguf file itself")
        name, options = str(place.parent), {"gguf_file": place.name}
    elif place.is_dir():
        name, options = str(place), {"local_files_only": True}
    elif place.exists():
        raise ModelError(
            f"{shown_path(place)}: a file; a model is a directory or a .gguf file",
            f"did you mean its folder {shown_path(place.parent)}?",
        )
    elif source.startswith((".", "/", "~")) or source.count("/") > 1:
        raise ModelError(f"{shown_path(place)}: no such directory", "check the path")
    # Heavy (seconds), so only when everything else is in order.
    from transformers import AutoTokenizer
    from transformers.utils import logging

    logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    with model_faults(lambda error: _no_tokenizer(source, error)):
        if place.is_dir() and (place / CONFIG).is_file():
            # transformers reads it too, to find the tokenizer's class.
            read_model_config(place / CONFIG)
        loaded: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(
            name, trust_remote_code=trust_remote_code, **options
        )
    return loaded


def _no_tokenizer(source: str, error: BaseException) -> ModelError:
    message = f"{source}: no tokenizer can be loaded: {first_line(error)}"
    # transformers' own words where it needs code that it may not run.
    if "trust_remote_code" in str(error):
        return ModelError(
            f"{source}: its tokenizer is code of its own, which sf doesn't run without "
            "trust_remote_code",
            TRUST_HINT,
        )
    return ModelError(
        message,
        "a model directory needs tokenizer.json; a hub id needs a network or a filled cache",
    )
