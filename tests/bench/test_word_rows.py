from __future__ import annotations

import json
from pathlib import Path

import pytest
from tokenizers import Tokenizer, models
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from sf_tui.bench.scene import own_words, write_word_rows
from sf_tui.errors import ModelError
from sf_tui.tasks.biography import build_tokenizer


def test_words_are_one_token_each(llama_directory: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(llama_directory)
    words = own_words(tokenizer)
    assert "Vienna" in words
    assert all(len(tokenizer.encode(word, add_special_tokens=False)) == 1 for word in words)


def test_the_starters_tokenizer_has_words() -> None:
    assert len(own_words(build_tokenizer())) > 100


def test_rows_have_several_lengths_and_answers_out_of_their_prompts(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    words = [f"word{letter}" for letter in "abcdefghijklmnopqrstuvwxyz"]
    write_word_rows(path, words, 50, seed=0)
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    assert len(rows) == 50
    assert all(row["prompt"].startswith(row["completion"].strip()) for row in rows)
    assert len({len(row["prompt"].split()) for row in rows}) > 5
    assert len({len(row["completion"].split()) for row in rows}) > 3


def test_rows_depend_on_the_seed_alone(tmp_path: Path) -> None:
    words = ["one", "two", "three", "four"]
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        write_word_rows(tmp_path / name, words, 5, seed=seed, from_end=True)
    first, again, other = ((tmp_path / name).read_text() for name in "abc")
    assert first == again != other


def test_a_tokenizer_without_words_is_refused() -> None:
    letters = {f"[{number}]": number for number in range(30)}
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(models.WordLevel(letters, unk_token="[0]"))
    )
    with pytest.raises(ModelError, match="only 0 plain words"):
        own_words(tokenizer)
