"""The names that a profile may use. Metrics, ops and strategies are in the vocabulary.

Also knows the names that are designed but not implemented yet, so that the error can report them as
such. Knows nothing about TOML, files or validation.
"""

from __future__ import annotations

from typing import Literal

Dtype = Literal["auto", "float32", "bfloat16", "float16"]
RuleMetric = Literal["drop", "kl", "old_accuracy", "new_accuracy", "loss", "grad_norm", "drift"]
Schedule = Literal["constant", "linear", "cosine"]

NOT_IN_THIS_VERSION: dict[str, frozenset[str]] = {
    "strategy": frozenset({"lamol", "gradient-projection", "task-vector"}),
    "metric": frozenset({"alignment", "knowledge", "verdict"}),
}
"""Planned values by key that this version does not support yet."""

HOST_DATA = "host:"
"""Starts the `data` of rows that another program trains on; see `sf_tui.profile.host_schema`."""

REPLAY_STAGE = "replay"
"""The stage that `[replay_stage]` adds; no task may have this name."""

RANDOM_MODEL = "random"
"""The `source` of a model with new weights."""

BIOGRAPHY_TOKENIZER = "biography"
"""The tokenizer that the biography generator builds from its own words."""

# Stages, checkpoints and files have these names; file systems allow at most 255 bytes.
NAME_PATTERN = r"^[a-z0-9][a-z0-9_-]{0,63}$"
PROFILE_NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"

BIOGRAPHY_DATA: tuple[str, ...] = (
    "biography:pretrain",
    "biography:old",
    "biography:new",
    *(f"biography:new-{number}" for number in range(1, 6)),
    "biography:unseen",
)

DATA_FIELDS: tuple[str, ...] = (
    *("prompt", "completion", "answer", "response", "question"),
    *("instruction", "input", "output"),
    *("messages", "conversations", "system", "tools", "functions", "history"),
    *("context", "passage", "paragraph", "background", "document", "article"),
)
"""The fields of the schemas that `sf_tui.tasks` reads, which a `fields` table can name."""

ARROW_KEYS = ("up", "down", "left", "right")
FUNCTION_KEYS = tuple(f"f{number}" for number in range(1, 13))
RESERVED_KEYS = (
    *("q", "?", "/", "[", "]", "e", "R", "s", "z", "l", "t", "n", "p", "m"),
    *(":", "<", ">", "tab", "escape", "ctrl+l"),
)
"""Keys that the console uses itself."""


def is_key_name(key: str) -> bool:
    """Return whether the console can bind an action to this key."""
    single = len(key) == 1 and key.isascii() and key.isalnum()
    return single or key == "space" or key in FUNCTION_KEYS or key in ARROW_KEYS
