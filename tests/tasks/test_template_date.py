from __future__ import annotations

import copy
from datetime import UTC, datetime

from transformers import PreTrainedTokenizerFast

from sf_tui.tasks.encoded_examples import encode_all
from sf_tui.tasks.task import Example, Message
from sf_tui.tasks.template import fix_date
from support import chat_templates as templates

ROW = Example(messages=(Message("user", "Who?"), Message("assistant", "Ada.")))


def test_a_dated_template_writes_the_date_that_was_fixed(
    chat_tokenizer: PreTrainedTokenizerFast,
) -> None:
    chat_tokenizer.chat_template = templates.DATED
    other = copy.deepcopy(chat_tokenizer)
    fix_date(chat_tokenizer, datetime(2024, 2, 29, 23, 59, tzinfo=UTC))
    fix_date(other, datetime(2031, 1, 2, tzinfo=UTC))
    encoded = encode_all([ROW], chat_tokenizer)
    assert chat_tokenizer.decode(encoded.rows[0].input_ids).startswith(
        "Today is 29 February 2024.\n<|im_start|>user\n"
    )
    assert "fixed at 2024-02-29" in encoded.template_note
    later = encode_all([ROW], other)
    assert "Today is 02 January 2031." in other.decode(later.rows[0].input_ids)
    # Whoever renders it outside sf has the real date.
    text = str(
        chat_tokenizer.apply_chat_template([{"role": "user", "content": "Who?"}], tokenize=False)
    )
    assert text.startswith(f"Today is {datetime.now():%d %B %Y}.")


def test_a_template_without_a_date_says_nothing_of_it(
    chat_tokenizer: PreTrainedTokenizerFast,
) -> None:
    assert encode_all([ROW], chat_tokenizer).template_note == ""


def test_a_date_that_nobody_has_fixed_is_reported(
    chat_tokenizer: PreTrainedTokenizerFast,
) -> None:
    chat_tokenizer.chat_template = templates.DATED
    encoded = encode_all([ROW], chat_tokenizer)
    assert "writes today's date into every prompt" in encoded.template_note
