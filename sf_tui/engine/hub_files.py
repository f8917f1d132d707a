"""Downloads the files of a hub model that loading needs, and no other."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from sf_tui.engine.model_files import INDEX, SINGLE, shards_of
from sf_tui.errors import ModelError
from sf_tui.tasks.model_source import first_line, model_faults

# Small files come first: they determine which weights to download. A repository often holds the
# same weights twice (Mistral's consolidated.safetensors); "*.safetensors" would fetch both.
_SMALL = ("*.json", "*.jinja", "*.txt", "*.model", "*.tiktoken")
_CODE = ("*.py",)


def fetch_snapshot(source: str, revision: str | None, *, trusts_code: bool) -> Path:
    """Return the local cache directory of a hub model, downloading it if necessary.

    transformers would download any file that a repository's index names, pickles included. This
    downloads only configs, tokenizer files and safetensors. Without a network, the cache is used.

    Args:
        source: the hub id.
        revision: branch, tag or commit; None for the main branch.
        trusts_code: whether to download the repository's Python files as well.

    Raises:
        ModelError: the model doesn't exist or can't be reached, or its index names a file that is
            not a safetensors file.
    """
    small = [*_SMALL, *(_CODE if trusts_code else ())]
    with model_faults(lambda error: _not_reached(source, error)):
        folder = _download(source, revision, [*small, SINGLE])
        # Download the rest from the same commit, even if the branch moves meanwhile.
        commit = folder.name
        if not (folder / SINGLE).exists() and (folder / INDEX).exists():
            home = folder.resolve()
            names = [str(path.relative_to(folder)) for path in shards_of(folder / INDEX)]
            if not all((home / name).exists() for name in names):
                # The hub client treats names as patterns.
                folder = _download(source, commit, [_escaped(name) for name in names])
    return folder


def _download(source: str, revision: str | None, patterns: Sequence[str]) -> Path:
    # Deferred: this imports the hub's HTTP client.
    from huggingface_hub import snapshot_download

    return Path(snapshot_download(source, revision=revision, allow_patterns=list(patterns)))


def _escaped(name: str) -> str:
    return "".join(f"[{letter}]" if letter in "*?[" else letter for letter in name)


def _not_reached(source: str, error: BaseException) -> ModelError:
    return ModelError(
        f"[model] {source}: can't be loaded: {first_line(error)}",
        "no directory of that name; as a hub id it needs the network or a filled cache "
        "(and a license accepted where the model asks for one)",
    )
