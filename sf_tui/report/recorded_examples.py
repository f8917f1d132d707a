"""Which held-out examples a run got right at a stage's end, and whether two runs share them.

The `state.json` of a stage's last checkpoint keeps one bit an example. Reads JSON only, verifies no
checksum, and trusts bits only if they agree with the log's own count.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import orjson

from sf_tui.profile import Profile
from sf_tui.profile.write import differences
from sf_tui.run.checkpoint_folders import folders_of
from sf_tui.run.directory import RunDirectory
from sf_tui.run.durable import read_regular
from sf_tui.vocabulary.events import ASIDE

Bits = tuple[bool, ...]


@dataclass(frozen=True)
class Inputs:
    """What decides which held-out examples a run has.

    Attributes:
        profile: its profile; None if it can't be read.
        files: digests of its input files by profile key; None if they were not recorded.
    """

    profile: Profile | None
    files: dict[str, Any] | None


def read_input_digests(run: RunDirectory) -> dict[str, Any] | None:
    """Return the digests of a run's input files by profile key; None without a usable record."""
    try:
        found = orjson.loads(read_regular(run.path / "inputs.json"))
    except (OSError, orjson.JSONDecodeError):
        return None
    inputs = found.get("inputs") if isinstance(found, dict) else None
    return inputs if isinstance(inputs, dict) else None


_OF_THE_STAGE = ("train", "learn", "watch")
"""Keys of a task's table that do not choose its held-out examples."""


def why_other_examples(task: str, first: Inputs, second: Inputs) -> str:
    """Return why two runs may have scored other examples of a task; empty if they are the same."""
    if first.profile is None or second.profile is None:
        return "a profile can't be read"
    prefix = f"tasks.{task}."
    # Rows that a file holds out are the same whatever the seed.
    by_file = any(one.name == task and isinstance(one.held_out, str) for one in first.profile.tasks)
    tables = {"biography"} if by_file else {"biography", "seed"}
    for one in differences(first.profile, second.profile):
        if one.key.removeprefix(prefix).partition(".")[0] in _OF_THE_STAGE:
            continue
        if one.key.startswith(prefix) or one.key.partition(".")[0] in tables:
            return f"{one.key} differs"
    if first.files is None or second.files is None:
        return "a run has no record of its data files"
    for key in sorted({*first.files, *second.files}):
        if key.startswith(prefix) and _sums(first.files.get(key)) != _sums(second.files.get(key)):
            return f"the file of {key} differs"
    return ""


def _sums(files: object) -> list[str] | None:
    """Return the checksums of the files under one key, without their paths."""
    if not isinstance(files, dict):
        return None
    return sorted(str(one.get("sha256")) for one in files.values() if isinstance(one, dict))


def right_at_end(run: RunDirectory, stage: str, task: str, n: int, right: int) -> Bits | None:
    """Return which examples of a task were right at the end of a stage.

    Args:
        run: the run.
        stage: the stage.
        task: the task.
        n: number of its held-out examples.
        right: how many of them the log counts as right.

    Returns:
        A bool for each example in the order of the split; None if no checkpoint has them.
    """
    for name in sorted(folders_of(run, stage), key=_age, reverse=True):
        if ASIDE in name:
            # Abandoned, or from before an edit: not what the stage ended with.
            continue
        try:
            path = run.checkpoints / stage / name / "state.json"
            state = orjson.loads(read_regular(path))
        except (OSError, orjson.JSONDecodeError):
            return None
        kept = state.get("right_now") if isinstance(state, dict) else None
        text = kept.get(task) if isinstance(kept, dict) else None
        bits = _bits(text, n) if isinstance(text, str) else None
        return bits if bits is not None and sum(bits) == right else None
    return None


def _age(folder: str) -> tuple[int, str]:
    """Return a key that sorts a stage's checkpoints by step, also beyond six digits."""
    return len(folder), folder


def _bits(text: str, n: int) -> Bits | None:
    try:
        packed = bytes.fromhex(text)
    except ValueError:
        return None
    if len(packed) != -(-n // 8):
        return None
    return tuple(bool(packed[at // 8] >> (7 - at % 8) & 1) for at in range(n))
