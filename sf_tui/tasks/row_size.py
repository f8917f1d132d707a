"""Rows that are too long by their characters alone: tokenizing them would fill the memory.

Knows lengths of texts. Knows nothing of tokenizers.
"""

from __future__ import annotations

from sf_tui.errors import DataError
from sf_tui.tasks.task import Example

# The longest tokens of today's vocabularies are runs of 128 spaces or dashes; twice that is safe.
MOST_CHARACTERS_PER_TOKEN = 256

# Tokenizers take about 30 bytes a character, so a row of this length takes a quarter of a GB.
LONGEST_ROW = 8 * 2**20


def characters(example: Example) -> int:
    """Return how many characters an example's texts have."""
    turns = sum(len(message.content) + len(message.thoughts) for message in example.messages)
    return len(example.prompt) + len(example.completion) + turns


def is_too_long(example: Example, max_length: int | None) -> bool:
    """Tell, without a tokenizer, whether an example can't have at most `max_length` tokens.

    Raises:
        DataError: there is no such limit, and the example is too long for any tokenizer.
    """
    length = characters(example)
    if max_length is not None and length > max_length * MOST_CHARACTERS_PER_TOKEN:
        return True
    if length > LONGEST_ROW:
        if max_length is not None:
            return True
        raise DataError(
            f"{example.place}: has {length} characters, more than {LONGEST_ROW}",
            "split the row, or give a max_length: rows beyond it are left out and counted",
        )
    return False
