"""What is learnt of a conversation is what generation is given and what it has to answer.

The right completions are written out here; prompts come from `apply_chat_template` alone.
"""

from __future__ import annotations

from typing import Any

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from sf_tui.errors import DataError
from sf_tui.tasks.encoded_examples import encode_all
from sf_tui.tasks.encoding import NO_LOSS, Encoded, encode_example
from sf_tui.tasks.messages import read_turns
from sf_tui.tasks.task import Example, Message
from support import chat_templates as templates

Fast = PreTrainedTokenizerFast
Turns = list[dict[str, Any]]

TWO: Turns = [
    {"role": "user", "content": "Name a tree."},
    {"role": "assistant", "content": "Birch."},
    {"role": "user", "content": "Another one."},
    {"role": "assistant", "content": "Linden."},
]
THOUGHTS = ["add", "add again"]
INLINE: Turns = [
    {"role": "user", "content": "2+2?"},
    {"role": "assistant", "content": "<think>\nadd\n</think>\n\n4"},
    {"role": "user", "content": "And 3+3?"},
    {"role": "assistant", "content": "<think>\nadd again\n</think>\n\n6"},
]


def keyed(key: str) -> Turns:
    """Return the same conversation with its thoughts under a key."""
    return [
        {"role": "user", "content": "2+2?"},
        {"role": "assistant", "content": "4", key: "add"},
        {"role": "user", "content": "And 3+3?"},
        {"role": "assistant", "content": "6", key: "add again"},
    ]


@pytest.fixture(scope="module")
def words() -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=420,
        special_tokens=templates.SPECIAL,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    texts = ["Name a tree. Birch. Another one. Linden. add again\n\nanswer. <think> </think>"] * 5
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.add_tokens(["<think>", "</think>"])
    return tokenizer


@pytest.fixture
def tokenizer(words: Tokenizer) -> Fast:
    return PreTrainedTokenizerFast(tokenizer_object=words, eos_token="</s>", bos_token="<s>")


def encode(tokenizer: Fast, turns: Turns, place: str = "x.jsonl:1") -> list[Encoded]:
    example = Example(messages=read_turns(turns, "messages"), place=place)
    return encode_all([example], tokenizer).rows


def wanted(tokenizer: Fast, turns: Turns, completions: list[str]) -> list[Encoded]:
    """Return what generation is given before each answer, and these completions after it."""
    answers = [at for at, turn in enumerate(turns) if turn["role"] == "assistant"]
    made = []
    for at, completion in zip(answers, completions, strict=True):
        prompt = tokenizer.apply_chat_template(
            turns[:at], add_generation_prompt=True, return_dict=False
        )
        answer = tokenizer.encode(completion, add_special_tokens=False)
        made.append(Encoded([*prompt, *answer], [NO_LOSS] * len(prompt) + answer))
    return made


def check(tokenizer: Fast, turns: Turns, completions: list[str], *, split: bool) -> None:
    """Compare what is encoded with what is right: as one sequence, or an example a turn."""
    right = wanted(tokenizer, turns, completions)
    rows = encode(tokenizer, turns)
    if split:
        assert rows == right
        return
    (row,) = rows
    assert row.input_ids == right[-1].input_ids
    labels = [NO_LOSS] * len(row.labels)
    for one in right:
        assert row.input_ids[: len(one.input_ids)] == one.input_ids
        learnt = [at for at, label in enumerate(one.labels) if label != NO_LOSS]
        labels[learnt[0] : learnt[-1] + 1] = one.labels[learnt[0] :]
    assert row.labels == labels


PLAIN = ["Birch.", "Linden."]
EMPTY = "<think>\n\n</think>\n\n"
CLOSED = "\n</think>\n\n"


@pytest.mark.parametrize(
    ("template", "completions", "split"),
    [
        (templates.CHATML, [f"{a}<|im_end|>" for a in PLAIN], False),
        (templates.QWEN3, [f"{EMPTY}{a}<|im_end|>" for a in PLAIN], True),
        (templates.QWEN35, [f"{CLOSED}{a}<|im_end|>" for a in PLAIN], True),
        (templates.REFLECT, [f"\n</reflection>\n\n{a}<|im_end|>" for a in PLAIN], True),
        (templates.NEVER_THINKS, [f"{a}<|im_end|>" for a in PLAIN], True),
        (templates.R1, [f"{CLOSED}{a}</s>" for a in PLAIN], True),
        (templates.R1_FIRST, [f"{a}</s>" for a in PLAIN], False),
        (templates.R1_TOKENS, [f"<|end_of_thought|>{a}</s>" for a in PLAIN], True),
        (templates.HARMONY, [f"<|channel|>final<|message|>{a}<|return|>" for a in PLAIN], True),
        (
            templates.HARMONY_THINKING,
            [f"<|channel|>final<|message|>{a}<|return|>" for a in PLAIN],
            True,
        ),
        (templates.BRACKETS, [f"{a}</s>" for a in PLAIN], False),
        (templates.ALPACA, [f"{a}\n\n</s>" for a in PLAIN], False),
    ],
)
def test_a_conversation_without_thoughts(
    tokenizer: Fast, template: str, completions: list[str], split: bool
) -> None:
    tokenizer.chat_template = template
    check(tokenizer, TWO, completions, split=split)


def analysis(thoughts: str, answer: str) -> str:
    return (
        f"<|channel|>analysis<|message|>{thoughts}<|end|>"
        f"<|start|>assistant<|channel|>final<|message|>{answer}<|return|>"
    )


@pytest.mark.parametrize(
    ("template", "before", "between", "end", "split"),
    [
        (templates.QWEN3, "<think>\n", "\n</think>\n\n", "<|im_end|>", True),
        (templates.QWEN35, "", "\n</think>\n\n", "<|im_end|>", True),
        (templates.R1, "", "\n</think>\n\n", "</s>", True),
        (templates.R1_FIRST, "<think>\n", "\n</think>\n\n", "</s>", True),
        (templates.CHATML, "<think>\n", "\n</think>\n\n", "<|im_end|>", False),
        (
            templates.HARMONY,
            "<|channel|>final<|message|><think>\n",
            "\n</think>\n\n",
            "<|return|>",
            True,
        ),
    ],
)
def test_thoughts_within_the_content_are_learnt(
    tokenizer: Fast, template: str, before: str, between: str, end: str, split: bool
) -> None:
    tokenizer.chat_template = template
    answers = zip(THOUGHTS, "46", strict=True)
    completions = [f"{before}{thoughts}{between}{answer}{end}" for thoughts, answer in answers]
    check(tokenizer, INLINE, completions, split=split)


@pytest.mark.parametrize("key", ["reasoning_content", "reasoning", "thinking"])
@pytest.mark.parametrize(
    ("template", "before", "between", "end"),
    [
        (templates.QWEN3, "<think>\n", "\n</think>\n\n", "<|im_end|>"),
        (templates.QWEN35, "", "\n</think>\n\n", "<|im_end|>"),
        (templates.REFLECT, "", "\n</reflection>\n\n", "<|im_end|>"),
        (templates.R1, "", "\n</think>\n\n", "</s>"),
        (templates.R1_TOKENS, "", "<|end_of_thought|>", "</s>"),
        (
            templates.HARMONY_THINKING,
            "<|channel|>analysis<|message|>",
            "<|end|><|start|>assistant<|channel|>final<|message|>",
            "<|return|>",
        ),
    ],
)
def test_thoughts_under_a_key_are_learnt(
    tokenizer: Fast, template: str, before: str, between: str, end: str, key: str
) -> None:
    tokenizer.chat_template = template
    completions = [
        f"{before}{thoughts}{between}{answer}{end}"
        for thoughts, answer in zip(THOUGHTS, "46", strict=True)
    ]
    check(tokenizer, keyed(key), completions, split=True)


def test_thoughts_that_every_turn_keeps_stay_one_sequence(tokenizer: Fast) -> None:
    tokenizer.chat_template = templates.BRACKETS
    completions = ["[THINK]add[/THINK]4</s>", "[THINK]add again[/THINK]6</s>"]
    check(tokenizer, keyed("reasoning_content"), completions, split=False)


def test_thoughts_between_marks_of_the_templates_own(tokenizer: Fast) -> None:
    tokenizer.chat_template = templates.REFLECT
    turns = [
        {**turn, "content": turn["content"].replace("think>", "reflection>")} for turn in INLINE
    ]
    completions = [
        f"{thoughts}\n</reflection>\n\n{answer}<|im_end|>"
        for thoughts, answer in zip(THOUGHTS, "46", strict=True)
    ]
    check(tokenizer, turns, completions, split=True)


def test_content_parts_of_thoughts(tokenizer: Fast) -> None:
    tokenizer.chat_template = templates.QWEN35
    parts = [
        {"type": "thinking", "thinking": [{"type": "text", "text": "add"}]},
        {"type": "text", "text": "4"},
    ]
    turns = [{"role": "user", "content": "2+2?"}, {"role": "assistant", "content": parts}]
    check(tokenizer, turns, ["add\n</think>\n\n4<|im_end|>"], split=True)


def test_thoughts_that_the_prompt_has_closed_are_counted(tokenizer: Fast) -> None:
    tokenizer.chat_template = templates.NEVER_THINKS
    check(tokenizer, INLINE, ["4<|im_end|>", "6<|im_end|>"], split=True)
    example = Example(messages=read_turns(INLINE, "messages"), place="x.jsonl:1")
    encoded = encode_all([example], tokenizer)
    assert encoded.thoughts_lost == 2
    assert any("the thoughts of 2 assistant turns are left out" in n for n in encoded.notes())


def test_a_tool_turn_between_answers(tokenizer: Fast) -> None:
    tokenizer.chat_template = templates.QWEN3
    turns: Turns = [
        {"role": "user", "content": "2+2?"},
        {"role": "assistant", "content": "add(2, 2)", "reasoning_content": "a tool"},
        {"role": "tool", "content": "4"},
        {"role": "assistant", "content": "It is 4.", "reasoning_content": "done"},
    ]
    rows = encode(tokenizer, turns)
    # After the last user's turn this template keeps thoughts: one sequence learns both.
    (row,) = rows
    text = tokenizer.decode(row.input_ids)
    assert text == (
        "<|im_start|>user\n2+2?<|im_end|>\n<|im_start|>assistant\n<think>\na tool\n</think>\n\n"
        "add(2, 2)<|im_end|>\n<|im_start|>tool\n4<|im_end|>\n<|im_start|>assistant\n<think>\ndone"
        "\n</think>\n\nIt is 4.<|im_end|>"
    )


def test_split_rows_are_reported(tokenizer: Fast) -> None:
    tokenizer.chat_template = templates.QWEN3
    examples = [
        Example(messages=read_turns(turns, "messages"), place=f"x.jsonl:{number}")
        for number, turns in enumerate([TWO, TWO[:2], INLINE], 1)
    ]
    encoded = encode_all(examples, tokenizer)
    places = [row.place.removeprefix("x.jsonl:") for row in encoded.rows]
    assert (places, encoded.given, encoded.split) == ([*"11233"], 3, 2)
    assert "2 of 3 rows became 4 examples, one for each assistant turn" in encoded.notes()[0]
    longest = max(len(row.input_ids) for row in encoded.rows)
    shorter = encode_all(examples, tokenizer, longest - 1)
    assert (len(shorter.rows), shorter.too_long) == (4, 1)
    assert "1 of 5 examples have more than" in shorter.notes()[1]


@pytest.mark.parametrize("template", [templates.CHATML, templates.QWEN3, None])
def test_a_turn_that_is_not_to_be_learnt_carries_no_loss(
    tokenizer: Fast, template: str | None
) -> None:
    tokenizer.chat_template = template
    messages = (
        Message("user", "Name a tree."),
        Message("assistant", "Birch.", learnt=False),
        Message("user", "Another one."),
        Message("assistant", "Linden."),
    )
    encoded = encode_example(Example(messages=messages), tokenizer)
    learnt = tokenizer.decode([label for label in encoded.labels if label != NO_LOSS])
    assert "Linden." in learnt
    assert "Birch." not in learnt
    assert "Birch." in tokenizer.decode(encoded.input_ids)


def test_a_conversation_without_any_turn_to_learn_is_a_bad_row(tokenizer: Fast) -> None:
    tokenizer.chat_template = templates.CHATML
    messages = (Message("user", "Who?"), Message("assistant", "Ada.", learnt=False))
    with pytest.raises(DataError, match=r"x\.jsonl:3: no assistant turn is to be learnt"):
        encode_example(Example(messages=messages, place="x.jsonl:3"), tokenizer)


@pytest.mark.parametrize("blank", ["\n", "\n\n"])
@pytest.mark.parametrize("ends", [True, False])
def test_an_added_blank_token_ends_no_turn(tokenizer: Fast, blank: str, ends: bool) -> None:
    tokenizer.add_tokens([blank])
    tokenizer.chat_template = (
        templates.ALPACA if ends else templates.ALPACA.replace("+ eos_token", "")
    )
    row = encode(tokenizer, TWO[:2])[0]
    assert row.labels[-1] == tokenizer.eos_token_id
    assert row.labels.count(tokenizer.eos_token_id) == 1


def test_an_ordinary_added_word_ends_no_turn(tokenizer: Fast) -> None:
    tokenizer.add_tokens(["Thanks"])
    tokenizer.chat_template = templates.CHATML.replace("'<|im_end|>' }}", "'Thanks</s>' }}")
    check(tokenizer, TWO[:2], ["Birch.Thanks</s>"], split=True)


def test_an_end_of_turn_that_was_added_as_no_special_token(tokenizer: Fast) -> None:
    tokenizer.add_tokens(["<|turn_end|>"])
    tokenizer.chat_template = templates.CHATML.replace("<|im_end|>", "<|turn_end|>")
    check(tokenizer, TWO, ["Birch.<|turn_end|>", "Linden.<|turn_end|>"], split=False)


@pytest.mark.parametrize(
    "loop",
    [
        "{% for i in range(100000000) %}{% endfor %}",
        "{% for i in range(90000) %}{% for j in range(90000) %}{% endfor %}{% endfor %}",
        "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
        "{{ 'x' * 1000000000000000000 }}",
    ],
)
def test_a_template_that_never_ends_is_refused(
    tokenizer: Fast, loop: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sf_tui.tasks.template.LONGEST_RENDERING", 0.3)
    # Only a later turn sets it off, so the row is what is refused.
    tokenizer.chat_template = "{% if messages | length > 2 %}" + loop + "{% endif %}"
    tokenizer.chat_template += templates.CHATML
    with pytest.raises(DataError, match="the model's chat template refuses this conversation"):
        encode(tokenizer, TWO)


def test_a_system_text_that_wanders_to_the_last_turn_is_where_generation_has_it(
    tokenizer: Fast,
) -> None:
    tokenizer.chat_template = templates.LATE_SYSTEM
    turns = [{"role": "system", "content": "add"}, *TWO]
    check(tokenizer, turns, [" Birch.</s>", " Linden.</s>"], split=True)


def test_all_is_learnt_up_to_the_end_token_that_closes_every_turn(tokenizer: Fast) -> None:
    tokenizer.chat_template = templates.TWO_ENDS
    completions = ["<|im_start|>Birch.<|im_end|></s>", "<|im_start|>Linden.<|im_end|></s>"]
    check(tokenizer, TWO, completions, split=False)


def test_a_lone_closing_mark_within_a_line_is_a_word() -> None:
    turns: Turns = [TWO[0], {"role": "assistant", "content": "The mark </think> closes them."}]
    answer = read_turns(turns, "messages")[-1]
    assert (answer.thoughts, answer.content) == ("", "The mark </think> closes them.")
    turns[-1] = {"role": "assistant", "content": "add\n</think>\n\n4"}
    answer = read_turns(turns, "messages")[-1]
    assert (answer.thoughts, answer.content) == ("add", "4")
