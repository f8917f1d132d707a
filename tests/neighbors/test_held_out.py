"""Made-up prompts are never held-out ones, however those are written."""

from __future__ import annotations

import pytest
from tokenizers import Tokenizer, decoders, models
from transformers import PreTrainedTokenizerFast

from sf_tui.engine.batches import FixedSource
from sf_tui.neighbors.anatomy import anatomize, prompts_of
from sf_tui.neighbors.held_out import HeldOutPrompts, untrained_prompts
from sf_tui.neighbors.propose import propose
from sf_tui.tasks.encoding import Encoded
from support.start_scene import Scene

PIECES = ("<unk>", "Who", " is", " Ann", " A", "nn", "?", " ?", "who", " Bob")


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    """Return a tokenizer of pieces, in which a text can be put together in several ways."""
    words = Tokenizer(
        models.WordLevel({piece: at for at, piece in enumerate(PIECES)}, unk_token="<unk>")
    )
    words.decoder = decoders.Fuse()
    return PreTrainedTokenizerFast(tokenizer_object=words, unk_token="<unk>")


@pytest.mark.parametrize(
    ("pieces", "is_held_out"),
    [
        (("Who", " is", " Ann", "?"), True),
        (("Who", " is", " A", "nn", "?"), True),
        (("who", " is", " Ann", " ?"), True),
        (("Who", " is", " Bob", "?"), False),
        (("Who", " is", "<unk>", "?"), False),
        (("Who", " is", "?"), False),
    ],
)
def test_a_held_out_prompt_is_known_by_its_text(
    tokenizer: PreTrainedTokenizerFast, pieces: tuple[str, ...], is_held_out: bool
) -> None:
    held_out = HeldOutPrompts(tokenizer, [(1, 2, 3, 6)])
    prompt = tuple(PIECES.index(piece) for piece in pieces)
    assert (prompt in held_out) == is_held_out
    assert held_out.without([prompt, (1, 2)]) == ([(1, 2)] if is_held_out else [prompt, (1, 2)])
    assert prompt not in HeldOutPrompts(tokenizer, [])


def test_what_a_task_trains_on_is_not_held_out() -> None:
    rows = [Encoded([at, 7, 9], [-100, -100, 9]) for at in range(4)]
    assert untrained_prompts(rows, FixedSource(rows[:3])) == [(3, 7)]
    text = Encoded([1, 7, 9], [-100, 7, 9])
    assert untrained_prompts([text], FixedSource([])) == []


def test_no_neighbor_of_any_kind_is_a_held_out_prompt(untrained: Scene) -> None:
    tokenizer = untrained.loaded.tokenizer
    prompts = prompts_of(untrained.rows)
    kinds = {"substitution": 1.0, "same_template": 1.0, "random_words": 1.0}
    start, anatomy = untrained.start(), anatomize(prompts, tokenizer)
    open_to_all = propose(anatomy, start, kinds, 60, 0)
    for kind in kinds:
        of_kind = [one.tokens for one in open_to_all if one.kind == kind]
        assert len(of_kind) > 5
        held_out = HeldOutPrompts(tokenizer, of_kind[::2])
        found = propose(anatomy, start, kinds, 60, 0, held_out=held_out)
        assert len(found) == 60
        assert not {one.tokens for one in found} & set(of_kind[::2])
