"""The start model's answers to neighbor prompts, computed once and kept on disk.

The number of prompts, the answer length and the number of tokens kept per position bound its size.
It is written in parts, each to a temporary name and then renamed: a killed build continues with the
next part and ends with the same cache.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import torch
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from sf_tui.errors import RunError
from sf_tui.neighbors.anatomy import Tokens
from sf_tui.neighbors.propose import KINDS, Neighbor
from sf_tui.neighbors.start_model import StartModel
from sf_tui.run.durable import (
    follow_umask,
    remove,
    replace_file,
    sync_directory,
    sync_file,
)
from sf_tui.tasks.encoding import NO_LOSS, Encoded

MOST_PROMPTS = 16384
"""Most prompts in a cache; longer stages reuse them in another order."""

PROMPTS_A_PART = 1024

# Shorter answers show little of the model's behavior; the start of a long answer decides the rest.
_SHORTEST_ANSWER = 4
_LONGEST_ANSWER = 32

TAUGHT = "taught"
"""Kind of the prompts of tasks that the run taught."""

_KINDS = (*KINDS, TAUGHT)

_PROMPTS_FILE = "prompts.safetensors"
_KEY_FILE = "bank.json"


@dataclass
class TeacherCache:
    """Neighbor prompts, the start model's answers, and its top-k log-probabilities there."""

    rows: list[Encoded] = field(default_factory=list)
    """Prompt and greedy answer; labels on the answer."""
    kinds: list[str] = field(default_factory=list)
    top_ids: list[np.ndarray] = field(default_factory=list)
    """For each row (answer tokens, k) int32: the start model's likeliest tokens."""
    top_logprobs: list[np.ndarray] = field(default_factory=list)
    """For each row (answer tokens, k) float32: their log-probabilities, in nats."""
    built_tokens: int = 0
    """Tokens that the start model read to build it; 0 if it was loaded from disk."""

    def __len__(self) -> int:
        """Return the number of prompts."""
        return len(self.rows)

    @property
    def lengths(self) -> list[int]:
        """Tokens of each row."""
        return [len(row.input_ids) for row in self.rows]

    def encoded(self, index: int, draw: int) -> Encoded:  # noqa: ARG002  required by the protocol
        """Return row `index`, the same in every epoch."""
        return self.rows[index]

    def logprobs(self, places: Sequence[int]) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the top token ids and log-probabilities at the answer positions of some rows.

        Returns:
            (tokens, k) int64 ids and (tokens, k) float32 log-probabilities.
        """
        ids = np.concatenate([self.top_ids[at] for at in places])
        chances = np.concatenate([self.top_logprobs[at] for at in places])
        return torch.from_numpy(ids).long(), torch.from_numpy(chances)

    def part(self, places: Sequence[int]) -> TeacherCache:
        """Return a cache of some of its rows."""
        return TeacherCache(
            [self.rows[at] for at in places],
            [self.kinds[at] for at in places],
            [self.top_ids[at] for at in places],
            [self.top_logprobs[at] for at in places],
        )

    def extend(self, other: TeacherCache) -> None:
        """Append another cache's rows."""
        self.rows += other.rows
        self.kinds += other.kinds
        self.top_ids += other.top_ids
        self.top_logprobs += other.top_logprobs


def build_cache(
    folder: Path | None,
    key: dict[str, Any],
    propose: Callable[[], Sequence[Neighbor]],
    start: StartModel,
    *,
    longest: int,
    top_k: int,
) -> TeacherCache:
    """Return the cache in a folder, building the parts that are missing.

    Args:
        folder: where the cache is kept; None keeps it in memory only.
        key: everything that its content depends on; a cache with another key is built again.
        propose: makes the prompts; not called if they are on disk.
        start: the start model; not queried if all answers are on disk.
        longest: largest number of tokens in an answer.
        top_k: number of likeliest tokens kept at each position.

    Raises:
        RunError: the folder can't be written, or a part of it is damaged.
    """
    before = start.forwarded
    with _cache_faults(folder):
        if folder is not None:
            _open(folder, key)
        neighbors = _prompts(folder, propose)
        cache = TeacherCache()
        for path, part in _parts(folder, neighbors):
            found = _read_part(path, part)
            if found is None:
                found = _answered_part(path, part, start, longest, top_k)
            cache.extend(found)
    cache.built_tokens = start.forwarded - before
    return cache


def read_cache(folder: Path, key: dict[str, Any]) -> TeacherCache | None:
    """Return the cache of a folder if it is complete; queries no model.

    Raises:
        RunError: the folder can't be read, or a part of it is damaged.
    """
    with _cache_faults(folder):
        file = folder / _KEY_FILE
        prompts = folder / _PROMPTS_FILE
        if not prompts.exists() or not file.exists() or file.read_bytes() != _key_content(key):
            return None
        cache = TeacherCache()
        for path, part in _parts(folder, _read_prompts(prompts)):
            stored = _read_part(path, part)
            if stored is None:
                return None
            cache.extend(stored)
    return cache


def answer_limit(wanted: int | None, known: int) -> int:
    """Return the token limit of a greedy answer.

    Args:
        wanted: `[anchor] answer_tokens`; None uses the length of the longest known answer, within
            bounds.
        known: tokens of the longest known answer.
    """
    return wanted or min(max(known, _SHORTEST_ANSWER), _LONGEST_ANSWER)


def cache_key(seed: int, count: int, kinds: dict[str, float], **others: Any) -> dict[str, Any]:
    """Return the key of a cache: everything that its content depends on."""
    return {"schema": 2, "seed": seed, "count": count, "kinds": kinds, **others}


def digest(rows: Sequence[Tokens]) -> str:
    """Return a digest of some prompts, for a cache's key."""
    found = hashlib.sha256()
    for row in rows:
        found.update(np.asarray(row, dtype=np.int64).tobytes() + b"|")
    return found.hexdigest()[:16]


@contextmanager
def _cache_faults(folder: Path | None) -> Iterator[None]:
    try:
        yield
    except (OSError, SafetensorError) as error:
        raise RunError(
            f"{folder}: can't keep the start model's answers there: {error}",
            "make room, or delete the folder if it is damaged: it is only a cache",
        ) from error


def _key_content(key: dict[str, Any]) -> bytes:
    return orjson.dumps(key, option=orjson.OPT_SORT_KEYS | orjson.OPT_INDENT_2)


def _open(folder: Path, key: dict[str, Any]) -> None:
    content = _key_content(key)
    file = folder / _KEY_FILE
    if file.exists() and file.read_bytes() == content:
        return
    for place in (folder.parent, folder):
        if place.is_symlink():
            raise RunError(
                f"{place}: a link to {place.readlink()}; what lies there would be deleted",
                "put a folder there, or remove the link",
            )
    if folder.is_dir():
        remove(folder)
    folder.mkdir(parents=True)
    replace_file(file, content)


def _prompts(folder: Path | None, propose: Callable[[], Sequence[Neighbor]]) -> Sequence[Neighbor]:
    if folder is None:
        return propose()
    file = folder / _PROMPTS_FILE
    if not file.exists():
        neighbors = propose()
        lengths = np.array([len(one.tokens) for one in neighbors], dtype=np.int32)
        tokens = np.array([t for one in neighbors for t in one.tokens], dtype=np.int32)
        kinds = np.array([_KINDS.index(one.kind) for one in neighbors], dtype=np.uint8)
        _write(file, {"lengths": lengths, "tokens": tokens, "kinds": kinds})
    return _read_prompts(file)


def _read_prompts(file: Path) -> list[Neighbor]:
    stored = load_file(file)
    ends = np.cumsum(stored["lengths"])
    return [
        Neighbor(tuple(stored["tokens"][end - length : end].tolist()), _KINDS[kind])
        for end, length, kind in zip(ends, stored["lengths"], stored["kinds"], strict=True)
    ]


def _parts(
    folder: Path | None, neighbors: Sequence[Neighbor]
) -> Iterator[tuple[Path | None, Sequence[Neighbor]]]:
    for number, at in enumerate(range(0, len(neighbors), PROMPTS_A_PART)):
        path = None if folder is None else folder / f"part-{number:04d}.safetensors"
        yield path, neighbors[at : at + PROMPTS_A_PART]


def _read_part(path: Path | None, neighbors: Sequence[Neighbor]) -> TeacherCache | None:
    if path is None or not path.exists():
        return None
    stored = load_file(path)
    ends = np.cumsum(stored["lengths"])[:-1]
    answers = [tuple(part.tolist()) for part in np.split(stored["answers"], ends)]
    return TeacherCache(
        [_row(one.tokens, answer) for one, answer in zip(neighbors, answers, strict=True)],
        [one.kind for one in neighbors],
        list(np.split(stored["top_ids"], ends)),
        list(np.split(stored["top_logprobs"], ends)),
    )


def _answered_part(
    path: Path | None,
    neighbors: Sequence[Neighbor],
    start: StartModel,
    longest: int,
    top_k: int,
) -> TeacherCache:
    answers = start.answer([one.tokens for one in neighbors], longest)
    rows = [_row(one.tokens, answer) for one, answer in zip(neighbors, answers, strict=True)]
    chances = start.answer_logprobs(rows, top_k)
    cache = TeacherCache(
        rows,
        [one.kind for one in neighbors],
        [ids.astype(np.int32) for ids, _ in chances],
        [found for _, found in chances],
    )
    if path is not None:
        _write(
            path,
            {
                "lengths": np.array([len(answer) for answer in answers], dtype=np.int32),
                "answers": np.array([t for answer in answers for t in answer], dtype=np.int32),
                "top_ids": np.concatenate(cache.top_ids),
                "top_logprobs": np.concatenate(cache.top_logprobs),
            },
        )
    return cache


def _row(prompt: Tokens, answer: Tokens) -> Encoded:
    return Encoded([*prompt, *answer], [*([NO_LOSS] * len(prompt)), *answer])


def _write(path: Path, arrays: dict[str, np.ndarray]) -> None:
    aside = path.with_name(f".{path.name}.writing")
    save_file(arrays, aside)
    follow_umask(aside)
    sync_file(aside)
    aside.rename(path)
    sync_directory(path.parent)
