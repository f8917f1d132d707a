"""The word-level tokenizer of the synthetic experiment.

Knows every word of the lists and the templates, and numbers them the same whatever the seed, so
that one model serves all settings. Knows nothing of people.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from sf_tui.tasks.biography.templates import QUESTIONS, SENTENCES
from sf_tui.tasks.biography.words import LISTS

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

PAD, END, UNKNOWN = "<pad>", "<eos>", "<unk>"

# What stands in a text after a word without a space.
_CLOSING_MARKS = (".", "?", ":", ",")


def vocabulary() -> list[str]:
    """Return every token, its place being its id: special ones, template words, then the lists."""
    told = [sentence for sentences in SENTENCES.values() for sentence in sentences]
    asked = [question for questions in QUESTIONS.values() for question in questions.values()]
    # An equals sign stood there once; it keeps its place, or every starter's ids would shift.
    asked = [re.sub(r"^(Recall .*):$", r"\1 =", question) for question in asked]
    frames = " ".join(told + asked).replace("{name}", " ").replace("{value}", " ")
    # A dict keeps the order of first appearance and drops repetitions.
    words = dict.fromkeys(re.findall(r"\w+|[^\w\s]+", frames))
    for entries in LISTS.values():
        words.update(dict.fromkeys(entries))
    return [PAD, END, UNKNOWN, *words]


def build_tokenizer() -> PreTrainedTokenizerFast:
    """Build the tokenizer; each name word, value and punctuation mark is one token.

    Padding goes to the right and has its own token; the end token is never added by itself.
    `decode(encode(text))` gives back every text that the generator makes.
    """
    # Heavy, and whoever only writes the experiment to files needs neither library.
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    ids = {word: number for number, word in enumerate(vocabulary())}
    tokenizer = Tokenizer(models.WordLevel(ids, unk_token=UNKNOWN))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(r"\w+|[^\w\s]+"), "removed", invert=True)
    # The decoder of WordPiece sets a space before each token but the first: its continuation
    # prefix occurs in no word. Marks then close up with the word before them.
    tokenizer.decoder = decoders.Sequence(
        [
            decoders.WordPiece(prefix="##", cleanup=False),
            decoders.Fuse(),
            *(decoders.Replace(f" {mark}", mark) for mark in _CLOSING_MARKS),
        ]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=PAD,
        eos_token=END,
        unk_token=UNKNOWN,
        padding_side="right",
        clean_up_tokenization_spaces=False,
    )
