from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from transformers import PreTrainedTokenizerFast

from sf_tui.errors import DataError, ModelError
from sf_tui.tasks.biography import build_tokenizer
from sf_tui.tasks.encoded_examples import choose_metric, encode_all
from sf_tui.tasks.encoding import NO_LOSS, Encoded, Encoder, encode_example
from sf_tui.tasks.task import Example, Message

Fast = PreTrainedTokenizerFast


def chat(*texts: str, system: str = "") -> Example:
    """Make a conversation of turns that alternate."""
    turns = [Message(("user", "assistant")[n % 2], text) for n, text in enumerate(texts)]
    if system:
        turns.insert(0, Message("system", system))
    return Example(messages=tuple(turns), place="x.jsonl:7")


def learnt(tokenizer: Fast, encoded: Encoded) -> list[str]:
    """Return the texts of the runs of tokens that carry loss."""
    assert len(encoded.input_ids) == len(encoded.labels)
    runs: list[list[int]] = []
    previous = NO_LOSS
    for token, label in zip(encoded.input_ids, encoded.labels, strict=True):
        assert label in (token, NO_LOSS)
        if label != NO_LOSS:
            if previous == NO_LOSS:
                runs.append([])
            runs[-1].append(token)
        previous = label
    return [tokenizer.decode(run) for run in runs]


def test_a_prompt_and_its_completion_are_joined_as_they_stand(plain_tokenizer: Fast) -> None:
    example = Example(prompt="The capital of France is", completion=" Paris.")
    encoded = encode_example(example, plain_tokenizer)
    assert plain_tokenizer.decode(encoded.input_ids) == (
        "The capital of France is Paris.<|endoftext|>"
    )
    assert learnt(plain_tokenizer, encoded) == [" Paris.<|endoftext|>"]


@pytest.mark.parametrize(
    ("prompt", "completion"),
    [
        ("The capital is ", "Paris"),  # "Ġ" + "Paris" would be one token
        ("The cap", "ital city"),
        ("The capital is\n", "\nParis"),
        ("", "The capital is Paris"),
        ("caf\u00e9", "\u0301 \u4f60\U0001f600"),
    ],
)
def test_the_prompt_is_what_the_model_is_asked_with_and_the_text_is_whole(
    plain_tokenizer: Fast, prompt: str, completion: str
) -> None:
    encoded = encode_example(Example(prompt=prompt, completion=completion), plain_tokenizer)
    asked = plain_tokenizer.encode(prompt, add_special_tokens=False)
    assert encoded.input_ids[: len(asked)] == asked
    assert plain_tokenizer.decode(encoded.input_ids) == prompt + completion + "<|endoftext|>"
    first = max(len(asked), 1)  # nothing can predict the very first token
    assert encoded.labels == [NO_LOSS] * first + encoded.input_ids[first:]


@hypothesis_settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow], deadline=None
)
@given(st.text(max_size=20), st.text(min_size=1, max_size=20))
def test_any_prompt_and_completion_read_as_their_text(
    plain_tokenizer: Fast, prompt: str, completion: str
) -> None:
    encoded = encode_example(Example(prompt=prompt, completion=completion), plain_tokenizer)
    asked = plain_tokenizer.encode(prompt, add_special_tokens=False)
    assert encoded.input_ids[: len(asked)] == asked
    assert plain_tokenizer.decode(encoded.input_ids) == prompt + completion + "<|endoftext|>"


@pytest.mark.parametrize(
    ("prompt", "completion"),
    [
        ("The capital of France is", " Paris."),
        ("The capital of Fra", "nce is Paris."),
        ("Who wrote the book?", "Ada."),
    ],
)
def test_a_tokenizer_that_opens_every_text_with_a_space_puts_none_between(
    metaspace_tokenizer: Fast, prompt: str, completion: str
) -> None:
    encoded = encode_example(Example(prompt=prompt, completion=completion), metaspace_tokenizer)
    assert metaspace_tokenizer.decode(encoded.input_ids) == f"<s> {prompt}{completion}</s>"
    assert encoded.input_ids[0] == metaspace_tokenizer.bos_token_id
    assert encoded.input_ids.count(metaspace_tokenizer.bos_token_id) == 1
    assert encoded.input_ids[: len(metaspace_tokenizer.encode(prompt))] == (
        metaspace_tokenizer.encode(prompt)
    )


def test_a_start_token_written_in_the_prompt_is_not_doubled(metaspace_tokenizer: Fast) -> None:
    example = Example(prompt="<s>Who wrote the book?", completion=" Ada.")
    encoded = encode_example(example, metaspace_tokenizer)
    assert encoded.input_ids.count(metaspace_tokenizer.bos_token_id) == 1


def test_an_end_token_written_in_the_completion_is_not_doubled(plain_tokenizer: Fast) -> None:
    example = Example(prompt="Who?", completion=" Ada.<|endoftext|>")
    assert learnt(plain_tokenizer, encode_example(example, plain_tokenizer)) == [
        " Ada.<|endoftext|>"
    ]


def test_the_word_level_tokenizer_of_the_experiment_agrees_with_the_joined_text() -> None:
    tokenizer = build_tokenizer()
    example = Example(prompt="What is the major of", completion=" Mathematics")
    encoded = encode_example(example, tokenizer)
    whole = tokenizer.encode(example.prompt + example.completion)
    assert encoded.input_ids == [*whole, tokenizer.eos_token_id]
    assert encoded.labels[-2:] == encoded.input_ids[-2:]
    assert encoded.answer_tokens == 2


def test_a_chat_template_gives_the_assistants_turn_loss_with_its_end(chat_tokenizer: Fast) -> None:
    encoded = encode_example(chat("Who wrote it?", "Ada."), chat_tokenizer)
    assert chat_tokenizer.decode(encoded.input_ids) == (
        "<|im_start|>user\nWho wrote it?<|im_end|>\n<|im_start|>assistant\nAda.<|im_end|>"
    )
    assert learnt(chat_tokenizer, encoded) == ["Ada.<|im_end|>"]


def test_every_assistants_turn_carries_loss_and_sees_the_earlier_ones(chat_tokenizer: Fast) -> None:
    example = chat("Who?", "Ada.", "When?", "It was 1 2 3.", system="You are helpful.")
    encoded = encode_example(example, chat_tokenizer)
    assert learnt(chat_tokenizer, encoded) == ["Ada.<|im_end|>", "It was 1 2 3.<|im_end|>"]
    said = [{"role": m.role, "content": m.content} for m in example.messages[:4]]
    prompt = chat_tokenizer.apply_chat_template(said, add_generation_prompt=True, return_dict=False)
    assert encoded.input_ids[: len(prompt)] == prompt
    assert encoded.labels[len(prompt) - 1] == NO_LOSS
    assert encoded.labels[len(prompt)] != NO_LOSS


@pytest.mark.parametrize("answer", ["im_end", "end", "assistant\n", "\n\nAda", "Ada \n", "user"])
def test_an_answer_that_looks_like_the_template_keeps_its_bounds(
    chat_tokenizer: Fast, answer: str
) -> None:
    example = chat("Who?", answer, "Who?", answer)
    assert learnt(chat_tokenizer, encode_example(example, chat_tokenizer)) == (
        [f"{answer}<|im_end|>"] * 2
    )


def test_a_tools_answer_is_told_in_its_own_role(chat_tokenizer: Fast) -> None:
    turns = (
        Message("user", "Who?"),
        Message("assistant", "[1]"),
        Message("tool", "2"),
        Message("assistant", "Ada."),
    )
    encoded = encode_example(Example(messages=turns), chat_tokenizer)
    assert "<|im_start|>tool\n2<|im_end|>" in chat_tokenizer.decode(encoded.input_ids)
    assert learnt(chat_tokenizer, encoded) == ["[1]<|im_end|>", "Ada.<|im_end|>"]


KNOWS_USER_AND_ASSISTANT = (
    "{% for m in messages %}"
    "{% if m['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
    "{% if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('Conversation roles must alternate user/assistant/user/...') }}{% endif %}"
    "{% if m['role'] == 'user' %}{{ '[INST] ' + m['content'] + ' [/INST]' }}"
    "{% else %}{{ ' ' + m['content'].strip() + ' ' + eos_token }}{% endif %}{% endfor %}"
)


def test_a_template_that_puts_spaces_around_the_answer(chat_tokenizer: Fast) -> None:
    """As Llama 2 has it: no generation prompt, trimmed text."""
    chat_tokenizer.chat_template = KNOWS_USER_AND_ASSISTANT
    encoded = encode_example(chat("Who?", " Ada. ", "When?", "1"), chat_tokenizer)
    assert chat_tokenizer.decode(encoded.input_ids) == (
        "[INST] Who? [/INST] Ada. <|im_end|>[INST] When? [/INST] 1 <|im_end|>"
    )
    assert learnt(chat_tokenizer, encoded) == [" Ada. <|im_end|>", " 1 <|im_end|>"]


def test_a_tools_answer_is_told_as_the_users_where_the_template_knows_no_tools(
    chat_tokenizer: Fast,
) -> None:
    chat_tokenizer.chat_template = KNOWS_USER_AND_ASSISTANT
    turns = (
        Message("user", "Who?"),
        Message("assistant", "[1]"),
        Message("tool", "2"),
        Message("assistant", "Ada."),
    )
    encoded = encode_example(Example(messages=turns), chat_tokenizer)
    assert "[INST] 2 [/INST]" in chat_tokenizer.decode(encoded.input_ids)


@pytest.mark.parametrize(
    ("example", "reason"),
    [
        (chat("Who?", "Ada.", system="Be kind."), "System role not supported"),
        (
            Example(
                messages=(Message("user", "a"), Message("user", "b"), Message("assistant", "c")),
                place="x.jsonl:7",
            ),
            "roles must alternate",
        ),
    ],
)
def test_roles_that_the_template_refuses_are_told_with_their_place(
    chat_tokenizer: Fast, example: Example, reason: str
) -> None:
    chat_tokenizer.chat_template = KNOWS_USER_AND_ASSISTANT
    with pytest.raises(DataError, match=reason) as caught:
        encode_example(example, chat_tokenizer)
    assert caught.value.message.startswith("x.jsonl:7: the model's chat template refuses")
    assert 'on_bad_row = "skip"' in caught.value.hint


def test_a_template_that_leaves_out_a_turn_is_refused(chat_tokenizer: Fast) -> None:
    chat_tokenizer.chat_template = (
        "{% for m in messages if m['role'] != 'system' %}"
        "{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
    )
    with pytest.raises(DataError, match=r"leaves out or changes turn 1 \(system\)"):
        encode_example(chat("Who?", "Ada.", system="Be kind."), chat_tokenizer)


def test_a_template_whose_prompt_is_no_beginning_is_refused(chat_tokenizer: Fast) -> None:
    chat_tokenizer.chat_template = CHATML_THAT_ASKS_FOR.replace("ASKED", "Answer:")
    with pytest.raises(DataError, match="the prompt of turn 2 isn't how the conversation"):
        encode_example(chat("Who?", "Ada."), chat_tokenizer)


def test_thoughts_that_the_prompt_opens_are_closed_where_there_are_none(
    chat_tokenizer: Fast,
) -> None:
    chat_tokenizer.chat_template = CHATML_THAT_ASKS_FOR.replace("ASKED", "<think>\n")
    encoded = encode_example(chat("Who?", "Ada."), chat_tokenizer)
    assert learnt(chat_tokenizer, encoded) == ["\n</think>\n\nAda.<|im_end|>"]


CHATML_THAT_ASKS_FOR = (
    "{% for m in messages %}"
    "{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\nASKED' }}{% endif %}"
)

# As Qwen 3 has it: an empty block of thoughts before the last answer alone.
CHATML_WITH_EMPTY_THOUGHTS = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' }}"
    "{% if m['role'] == 'assistant' and loop.last %}{{ '<think>\n\n</think>\n\n' }}{% endif %}"
    "{{ m['content'] + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


def test_what_a_template_writes_before_the_answer_is_learnt_with_it(chat_tokenizer: Fast) -> None:
    chat_tokenizer.chat_template = CHATML_WITH_EMPTY_THOUGHTS
    rows = encode_all([chat("Who?", "Ada.", "When?", "think")], chat_tokenizer).rows
    assert [learnt(chat_tokenizer, row) for row in rows] == [
        ["<think>\n\n</think>\n\nAda.<|im_end|>"],
        ["<think>\n\n</think>\n\nthink<|im_end|>"],
    ]


def test_a_template_that_closes_twice_is_learnt_to_its_first_end(chat_tokenizer: Fast) -> None:
    """As Phi 3 has it: end of turn, then end of text when nothing follows."""
    chat_tokenizer.chat_template = (
        "{% for m in messages %}"
        "{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}"
        "{% else %}{{ '<|endoftext|>' }}{% endif %}"
    )
    encoded = encode_example(chat("Who?", "Ada.", "When?", "1"), chat_tokenizer)
    assert learnt(chat_tokenizer, encoded) == ["Ada.<|im_end|>", "1<|im_end|>"]
    assert chat_tokenizer.decode(encoded.input_ids).endswith("1<|im_end|>")


def test_a_template_without_an_end_of_turn_gets_the_end_token(chat_tokenizer: Fast) -> None:
    chat_tokenizer.chat_template = (
        "{% for m in messages %}{{ m['role'] + ': ' + m['content'] + '\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ 'assistant: ' }}{% endif %}"
    )
    rows = encode_all([chat("Who?", "Ada.", "When?", "1")], chat_tokenizer).rows
    # Nothing in the template could end the first answer where it stands before the second.
    assert [chat_tokenizer.decode(row.input_ids) for row in rows] == [
        "user: Who?\nassistant: Ada.<|im_end|>",
        "user: Who?\nassistant: Ada.\nuser: When?\nassistant: 1<|im_end|>",
    ]
    assert [learnt(chat_tokenizer, row) for row in rows] == [["Ada.<|im_end|>"], ["1<|im_end|>"]]


@pytest.mark.parametrize(
    "template", ["{{ 'hello' }}", "{{ raise_exception('no') }}", "{{ x.y.z }}"]
)
def test_a_template_without_sense_is_the_models_fault(chat_tokenizer: Fast, template: str) -> None:
    chat_tokenizer.chat_template = template
    with pytest.raises(ModelError, match="chat template") as caught:
        encode_example(chat("Who?", "Ada."), chat_tokenizer)
    assert "prompt/completion" in caught.value.hint


def test_without_a_template_turns_are_joined_by_newlines(plain_tokenizer: Fast) -> None:
    example = chat("Who?", "Ada.", "When?", "1 2", system="You are helpful.")
    encoded = encode_example(example, plain_tokenizer)
    assert plain_tokenizer.decode(encoded.input_ids) == (
        "You are helpful.\nWho?\nAda.\nWhen?\n1 2<|endoftext|>"
    )
    assert learnt(plain_tokenizer, encoded) == ["Ada.", "1 2<|endoftext|>"]


def test_a_conversation_without_a_template_opens_as_the_tokenizer_does(
    metaspace_tokenizer: Fast,
) -> None:
    encoded = encode_example(chat("Who?", "Ada."), metaspace_tokenizer)
    assert metaspace_tokenizer.decode(encoded.input_ids) == "<s> Who?\nAda.</s>"


def test_a_tokenizer_without_an_end_token_is_refused(plain_tokenizer: Fast) -> None:
    plain_tokenizer.eos_token = None
    with pytest.raises(ModelError, match="no end token"):
        encode_example(chat("Who?", "Ada."), plain_tokenizer)


def test_an_answer_that_the_tokenizer_drops_is_refused() -> None:
    example = Example(prompt="What is", completion="  ", place="x.jsonl:3")
    with pytest.raises(DataError, match=r"x\.jsonl:3: the answer has no token"):
        encode_example(example, build_tokenizer())


def test_a_too_long_example_is_refused_and_never_cut(plain_tokenizer: Fast) -> None:
    example = Example(prompt="Who wrote the book?", completion=" Ada.", place="x.jsonl:3")
    length = len(encode_example(example, plain_tokenizer).input_ids)
    assert len(encode_example(example, plain_tokenizer, length).input_ids) == length
    with pytest.raises(DataError, match=rf"x\.jsonl:3: has {length} tokens, more than"):
        encode_example(example, plain_tokenizer, length - 1)


def test_too_long_examples_are_left_out_and_counted(plain_tokenizer: Fast) -> None:
    examples = [
        Example(prompt="Who?", completion=" Ada" * count, place=f"x.jsonl:{count}")
        for count in (1, 30, 2, 40)
    ]
    encoded = encode_all(examples, plain_tokenizer, max_length=20)
    assert [row.place for row in encoded.rows] == ["x.jsonl:1", "x.jsonl:2"]
    assert (encoded.too_long, encoded.given) == (2, 4)
    assert encoded.rows[1] == encode_example(examples[2], plain_tokenizer)
    (note,) = encoded.notes()
    assert note == (
        "2 of 4 rows have more than 20 tokens and are left out, not cut (the first: x.jsonl:30)"
    )
    assert encode_all(examples, plain_tokenizer, max_length=2).rows == []
    rows = encode_all(examples, plain_tokenizer).rows
    assert [row.place for row in rows] == [example.place for example in examples]


def test_rows_that_the_template_refuses_are_errors_or_left_out(chat_tokenizer: Fast) -> None:
    chat_tokenizer.chat_template = KNOWS_USER_AND_ASSISTANT
    examples = [chat("Who?", "Ada."), chat("Who?", "Ada.", system="s")]
    with pytest.raises(DataError, match="1 of 2 rows can't be used") as caught:
        encode_all(examples, chat_tokenizer)
    assert caught.value.message.startswith("x.jsonl:7: the model's chat template refuses")
    encoded = encode_all(examples, chat_tokenizer, on_bad_row="skip")
    assert encoded.rows == [encode_example(examples[0], chat_tokenizer)]
    assert "1 of 2 rows can't be encoded" in encoded.notes()[0]
    with pytest.raises(DataError, match="1 of 1 row can't be used"):
        encode_all(examples[1:], chat_tokenizer, on_bad_row="skip")


def test_rows_with_unknown_words_are_counted(metaspace_tokenizer: Fast) -> None:
    examples = [
        Example(prompt="Who wrote the book?", completion=" Ada."),
        Example(prompt="Who wrote the \u4f60?", completion=" Ada."),
    ]
    encoded = encode_all(examples, metaspace_tokenizer)
    assert encoded.with_unknown == 1
    assert "1 of 2 rows hold words that the tokenizer doesn't know" in encoded.notes()


def test_the_metric_follows_the_median_answer() -> None:
    def rows(*lengths: int) -> list[Encoded]:
        return [Encoded([7] * (n + 1), [NO_LOSS, *[7] * n]) for n in lengths]

    assert choose_metric(rows(2, 32, 500)) == "exact_match"
    assert choose_metric(rows(2, 33, 500)) == "token_accuracy"
    assert choose_metric([]) == "exact_match"


def test_an_encoder_gives_what_encode_example_gives(chat_tokenizer: Fast) -> None:
    encoder = Encoder(chat_tokenizer)
    for example in (chat("Who?", "Ada."), Example(prompt="Who?", completion=" Ada.")):
        assert encoder.encode(example) == encode_example(example, chat_tokenizer)


def test_rows_carry_the_group_and_place_of_their_example(chat_tokenizer: Fast) -> None:
    asked = Example("Who?", " Ada.", group="people", place="x.jsonl:1")
    conversation = replace(chat("Who?", "Ada.", "And then?", "Rome."), group="talk")
    rows = encode_all([asked, conversation], chat_tokenizer).rows
    assert [(row.group, row.place) for row in rows] == [
        ("people", "x.jsonl:1"),
        ("talk", "x.jsonl:7"),
    ]
    # Rows that read the same are equal, wherever they come from.
    assert rows[0] == encode_example(replace(asked, group="", place=""), chat_tokenizer)
