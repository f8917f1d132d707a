"""The start model's answers are made once, a part at a time, and are the same however they came."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sf_tui.errors import RunError
from sf_tui.neighbors.cache import PROMPTS_A_PART, TeacherCache, build_cache, cache_key, read_cache
from sf_tui.neighbors.propose import Neighbor, propose
from support.start_scene import Scene

KINDS = {"substitution": 1.0, "same_template": 1.0, "random_words": 1.0, "random_tokens": 1.0}
COUNT = PROMPTS_A_PART + 100
KEY = cache_key(0, COUNT, KINDS, stage="new")


class Interrupted(Exception):  # noqa: N818
    """Somebody wants the asking to end."""


def build(
    scene: Scene,
    folder: Path | None,
    key: dict[str, Any] = KEY,
    between: Callable[[], None] | None = None,
    seed: int = 0,
) -> TeacherCache:
    start = scene.start(between)
    return build_cache(
        folder,
        key,
        lambda: propose(scene.anatomy, start, KINDS, COUNT, seed),
        start,
        longest=4,
        top_k=8,
    )


def after(passes: int) -> Callable[[], None]:
    """Return what ends the asking after so many passes."""
    left = iter(range(passes))

    def count() -> None:
        if next(left, None) is None:
            raise Interrupted

    return count


def contents(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def equal(one: TeacherCache, other: TeacherCache) -> bool:
    def arrays(bank: TeacherCache) -> Sequence[np.ndarray]:
        return [*bank.top_ids, *bank.top_logprobs]

    return (
        one.rows == other.rows
        and one.kinds == other.kinds
        and all(np.array_equal(a, b) for a, b in zip(arrays(one), arrays(other), strict=True))
    )


@pytest.fixture(scope="module")
def whole(untrained: Scene, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bank") / "new"
    assert len(build(untrained, folder)) == COUNT
    return folder


def test_bank_is_read_from_disk_and_the_model_is_not_asked(untrained: Scene, whole: Path) -> None:
    def refuse() -> None:
        raise AssertionError("asked")

    read = read_cache(whole, KEY)
    again = build(untrained, whole, between=refuse)
    assert read is not None
    assert again.built_tokens == read.built_tokens == 0
    assert equal(read, again)
    assert equal(read, build(untrained, None))


@pytest.fixture(scope="module")
def passes(untrained: Scene) -> int:
    """Return how many passes a bank takes."""
    made: list[None] = []
    build(untrained, None, between=lambda: made.append(None))
    return len(made)


@pytest.mark.parametrize(
    "share",
    [
        0.0,
        pytest.param(0.2, marks=pytest.mark.slow),
        0.6,
        pytest.param(0.95, marks=pytest.mark.slow),
    ],
)
def test_bank_that_was_broken_off_is_gone_on_with_to_the_last_bit(
    untrained: Scene, whole: Path, passes: int, tmp_path: Path, share: float
) -> None:
    folder = tmp_path / "new"
    with pytest.raises(Interrupted):
        build(untrained, folder, between=after(int(share * passes)))
    assert read_cache(folder, KEY) is None
    build(untrained, folder)
    assert contents(folder) == contents(whole)


def test_finished_parts_are_not_made_again(untrained: Scene, whole: Path, tmp_path: Path) -> None:
    folder = tmp_path / "new"
    full = build(untrained, folder).built_tokens
    (folder / "part-0001.safetensors").unlink()
    assert read_cache(folder, KEY) is None
    assert 0 < build(untrained, folder).built_tokens < full / 4
    assert contents(folder) == contents(whole)


def test_bank_of_another_key_is_made_anew(untrained: Scene, tmp_path: Path) -> None:
    folder = tmp_path / "new"
    build(untrained, folder)
    before = contents(folder)
    other = cache_key(1, COUNT, KINDS, stage="new")
    assert read_cache(folder, other) is None
    build(untrained, folder, other, seed=1)
    assert read_cache(folder, KEY) is None
    after_ = contents(folder)
    assert after_.keys() == before.keys()
    assert all(after_[name] != before[name] for name in before)


def test_folder_that_is_none_or_damaged_is_an_error_with_its_name(
    untrained: Scene, tmp_path: Path
) -> None:
    folder = tmp_path / "new"
    folder.write_text("in the way")
    with pytest.raises(RunError, match=str(folder)) as caught:
        build(untrained, folder)
    assert "make room" in caught.value.hint
    folder.unlink()
    build(untrained, folder)
    part = folder / "part-0000.safetensors"
    part.write_bytes(part.read_bytes()[:-9])
    with pytest.raises(RunError, match=str(folder)):
        read_cache(folder, KEY)


def test_fewer_fillings_cost_less_and_give_as_many_neighbors(untrained: Scene) -> None:
    costs = []
    for fillings in (None, 4):
        start = untrained.start()
        kinds = {"same_template": 1.0, "random_words": 1.0}
        assert len(propose(untrained.anatomy, start, kinds, 40, 0, fillings=fillings)) == 40
        costs.append(start.forwarded)
    assert costs[1] < costs[0] / 5


def test_neighbors_are_never_the_tasks_own_prompts(untrained: Scene) -> None:
    start, anatomy = untrained.start(), untrained.anatomy
    found = propose(anatomy, start, {"same_template": 1.0}, 12, 0)
    prompts = {prompt.tokens for prompt in anatomy.prompts}
    assert len({one.tokens for one in found}) == 12
    assert not prompts & {one.tokens for one in found}
    # Of a task whose prompts are only sampled, the others are its own as well.
    own = {one.tokens for one in found[::2]}
    others = propose(anatomy, start, {"same_template": 1.0}, 12, 0, own=own)
    assert not (prompts | own) & {one.tokens for one in others}
    assert all(isinstance(one, Neighbor) and one.kind == "same_template" for one in others)
