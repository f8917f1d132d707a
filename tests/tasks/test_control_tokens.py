from __future__ import annotations

from collections.abc import Callable

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from sf_tui.errors import DataError
from sf_tui.tasks.encoded_examples import encode_all
from sf_tui.tasks.encoding import NO_LOSS, Encoded
from sf_tui.tasks.task import Example, Message

Fast = PreTrainedTokenizerFast


def asked(question: str, answer: str) -> Example:
    return Example(messages=(Message("user", question), Message("assistant", answer)), place="x:1")


def one(tokenizer: Fast, example: Example) -> Encoded:
    (row,) = encode_all([example], tokenizer).rows
    return row


def learnt(row: Encoded) -> list[int]:
    return [label for label in row.labels if label != NO_LOSS]


@pytest.mark.parametrize("token", ["<|im_end|>", "<|im_start|>", "<|endoftext|>"])
def test_control_tokens_in_a_conversation_are_encoded_as_text(
    chat_tokenizer: Fast, token: str
) -> None:
    id_ = chat_tokenizer.convert_tokens_to_ids(token)
    bare = one(chat_tokenizer, asked("What is it?", "The end."))
    row = one(chat_tokenizer, asked(f"What is {token}?", f"It {token} is {token}"))
    assert row.input_ids.count(id_) == bare.input_ids.count(id_)
    assert learnt(row).count(id_) == learnt(bare).count(id_)
    assert chat_tokenizer.decode(row.input_ids) == (
        f"<|im_start|>user\nWhat is {token}?<|im_end|>\n<|im_start|>assistant\n"
        f"It {token} is {token}<|im_end|>"
    )


def test_they_are_encoded_as_transformers_itself_does_it(chat_tokenizer: Fast) -> None:
    question = "What does <|im_end|><|im_start|>user\n do, <|im_end|> and 1<|endoftext|>2?"
    row = one(chat_tokenizer, asked(question, "It ends."))
    try:
        prompt = chat_tokenizer.apply_chat_template(
            [{"role": "user", "content": question}],
            add_generation_prompt=True,
            return_dict=False,
            sanitize_control_tokens=True,
        )
    except TypeError:
        pytest.skip("this version of transformers knows no sanitize_control_tokens")
    assert row.input_ids[: len(prompt)] == prompt


def test_they_are_counted_with_the_first_place(chat_tokenizer: Fast) -> None:
    examples = [
        asked("Who?", "Ada."),
        Example(prompt="What is <|im_end|>?", completion=" An end.", place="x:2"),
        Example(prompt="And it?", completion=" <|im_end|> and <|endoftext|>.", place="x:3"),
    ]
    encoded = encode_all(examples, chat_tokenizer)
    (note,) = encoded.notes()
    assert note.startswith(
        "2 of 3 rows hold control tokens of the tokenizer in their text: <|im_end|> (2x), "
        "<|endoftext|> (1x), the first: x:2; they are encoded as text"
    )
    assert 'control_tokens = "keep"' in note


def test_they_can_be_kept(chat_tokenizer: Fast) -> None:
    text = "<|im_start|>user\nWho?<|im_end|>\n<|im_start|>assistant\n"
    example = Example(prompt=text, completion="Ada.<|im_end|>", place="x:1")
    encoded = encode_all([example], chat_tokenizer, control_tokens="keep")
    assert encoded.rows[0].input_ids == chat_tokenizer.encode(text + "Ada.<|im_end|>")
    assert "they are control tokens" in encoded.notes()[0]


def test_they_can_make_a_bad_row(chat_tokenizer: Fast) -> None:
    examples = [asked("Who?", "Ada."), asked("What is <|im_end|>?", "An end.")]
    with pytest.raises(DataError, match=r"the control token <\|im_end\|> is in its text"):
        encode_all(examples, chat_tokenizer, control_tokens="error")
    encoded = encode_all(examples, chat_tokenizer, on_bad_row="skip", control_tokens="error")
    assert encoded.rows == encode_all(examples[:1], chat_tokenizer).rows


@pytest.mark.parametrize(
    ("prompt", "completion"),
    [("<s>Who wrote the book?", " Ada."), ("Who?", " Ada.</s>"), ("", "<s>Ada wrote it.</s>")],
)
def test_a_start_and_an_end_that_stand_where_they_belong_are_control_tokens(
    metaspace_tokenizer: Fast, prompt: str, completion: str
) -> None:
    encoded = encode_all([Example(prompt=prompt, completion=completion)], metaspace_tokenizer)
    (row,) = encoded.rows
    assert row.input_ids.count(metaspace_tokenizer.bos_token_id) == 1
    assert row.input_ids.count(metaspace_tokenizer.eos_token_id) == 1
    assert encoded.notes() == ()


def test_an_end_in_the_middle_of_a_completion_is_text(metaspace_tokenizer: Fast) -> None:
    example = Example(prompt="Who?", completion=" Ada </s> wrote.</s>", place="x:1")
    row = one(metaspace_tokenizer, example)
    assert row.input_ids.count(metaspace_tokenizer.eos_token_id) == 1
    assert row.input_ids[-1] == metaspace_tokenizer.eos_token_id


def test_private_use_characters_of_a_row_stay(chat_tokenizer: Fast) -> None:
    text = "sign \U000f0002 and <|im_end|> \U000f0003"
    row = one(chat_tokenizer, asked(text, "1"))
    assert text in chat_tokenizer.decode(row.input_ids)


def test_a_message_names_the_token_and_no_stand_in(chat_tokenizer: Fast) -> None:
    chat_tokenizer.chat_template = (
        "{{ raise_exception('no ' + messages[0].content) if messages | length > 0 "
        "and '?' in messages[0].content }}" + str(chat_tokenizer.chat_template)
    )
    with pytest.raises(DataError, match=r"no What is <\|im_end\|>\?"):
        encode_all([asked("What is <|im_end|>?", "1")], chat_tokenizer)


def unigram() -> Fast:
    pieces = [("<unk>", 0.0), ("<s>", 0.0), ("</s>", 0.0)]
    pieces += [(sign, -2.0) for sign in "▁<>/sabcdefg"]
    tokenizer = Tokenizer(models.Unigram(pieces, unk_id=0, byte_fallback=False))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always")
    tokenizer.decoder = decoders.Metaspace(prepend_scheme="always")
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", unk_token="<unk>"
    )


def words() -> Fast:
    tokenizer = Tokenizer(models.WordLevel(unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    trainer = trainers.WordLevelTrainer(special_tokens=["<unk>", "</s>"], show_progress=False)
    tokenizer.train_from_iterator(["a b c"], trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="</s>", unk_token="<unk>")


@pytest.mark.parametrize("make", [unigram, words])
def test_a_vocabulary_that_holds_the_token_as_a_word_does_not_end_there(
    make: Callable[[], Fast],
) -> None:
    tokenizer = make()
    row = one(tokenizer, Example(prompt="a", completion=" b </s> c", place="x:1"))
    assert row.input_ids.count(tokenizer.eos_token_id) == 1
    assert row.input_ids[-1] == tokenizer.eos_token_id


def byte_level_with_space() -> Fast:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=["</s>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(["2+2? 4 \n \n\n Paris is the capital"] * 5, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="</s>")


def metaspace(scheme: str) -> Fast:
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=scheme)
    tokenizer.decoder = decoders.Metaspace(prepend_scheme=scheme)
    trainer = trainers.BpeTrainer(
        vocab_size=200, special_tokens=["<unk>", "</s>"], show_progress=False
    )
    texts = ["2+2? 4 Paris is the capital of it. a.b(c"] * 3
    tokenizer.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="</s>", unk_token="<unk>")


@pytest.mark.parametrize(
    "make",
    [byte_level_with_space, unigram, lambda: metaspace("always"), lambda: metaspace("first")],
)
@pytest.mark.parametrize(
    ("prompt", "completion"),
    [("2+2? ", "4"), ("2+2?", " 4"), ("abc ", "abc"), ("a", "bc"), ("abc  ", "a"), ("a ", " b")],
)
def test_a_blank_at_the_border_is_read_once(
    make: Callable[[], Fast], prompt: str, completion: str
) -> None:
    tokenizer = make()
    row = one(tokenizer, Example(prompt=prompt, completion=completion))
    asked_with = tokenizer.encode(prompt, add_special_tokens=False)
    assert row.input_ids[: len(asked_with)] == asked_with
    together = tokenizer.decode(tokenizer.encode(prompt + completion, add_special_tokens=False))
    assert tokenizer.decode(row.input_ids[:-1]) == together
