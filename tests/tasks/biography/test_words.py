"""The word lists hold what the generator and the tokenizer take for granted of them."""

from collections import Counter

import pytest

from sf_tui.tasks.biography.language import LISTS


def test_every_entry_is_one_plain_word_and_in_one_list_only() -> None:
    words = Counter(word for entries in LISTS.values() for word in entries)

    assert [word for word, times in words.items() if times > 1] == []
    assert [word for word in words if not (word.isascii() and word.isalnum())] == []


@pytest.mark.parametrize("name", LISTS)
def test_a_guess_from_a_list_is_rarely_right(name: str) -> None:
    # The accuracy of guessing is the floor under every score.
    assert 1 / len(LISTS[name]) <= 0.1
