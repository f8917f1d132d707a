from collections.abc import Iterator
from pathlib import Path

import pytest
from transformers import AutoTokenizer, GPTNeoXConfig, PreTrainedTokenizerFast

from sf_tui.tasks.biography import TASKS, Settings, biography_task, build_tokenizer
from sf_tui.tasks.biography.language import FORMS, LISTS, QUESTIONS, SENTENCES, vocabulary
from sf_tui.tasks.task import Example


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    return build_tokenizer()


def every_text() -> Iterator[str]:
    """Every sentence and question with every word of the lists in some place of it."""
    listed = [word for words in LISTS.values() for word in words]
    templates = [sentence for sentences in SENTENCES.values() for sentence in sentences]
    templates += [
        f"{question} {{value}}" for form in FORMS for question in QUESTIONS[form].values()
    ]
    for number, template in enumerate(templates):
        turned = listed[number:] + listed[:number]
        for place in range(0, len(turned) - 3, 4):
            first, middle, last, value = turned[place : place + 4]
            yield template.format(name=f"{first} {middle} {last}", value=value)


def test_every_text_comes_back_and_nothing_is_unknown(tokenizer: PreTrainedTokenizerFast) -> None:
    texts = list(every_text())
    encoded = tokenizer(texts).input_ids

    assert tokenizer.batch_decode(encoded) == texts
    assert all(tokenizer.unk_token_id not in ids for ids in encoded)


@pytest.mark.parametrize("which", TASKS)
@pytest.mark.parametrize("form", FORMS)
def test_prompt_and_completion_tokenize_apart_as_they_do_joined(
    tokenizer: PreTrainedTokenizerFast, which: str, form: str
) -> None:
    task = biography_task(which, Settings(people=8, new_people=2, question_form=form, seed=3))  # type: ignore[arg-type]
    examples: list[Example] = [
        *task.held_out,
        *(task.train.example(index, 1) for index in range(len(task.train))),
    ]
    for example in examples:
        text = example.prompt + example.completion
        apart = tokenizer(example.prompt).input_ids + tokenizer(example.completion).input_ids
        assert tokenizer(text).input_ids == apart
        assert tokenizer.unk_token_id not in apart
        assert tokenizer.decode(apart) == text


def test_an_answer_is_one_token_and_a_birthday_three(tokenizer: PreTrainedTokenizerFast) -> None:
    for question in biography_task("old", Settings()).held_out:
        answer = tokenizer(question.completion).input_ids
        assert len(answer) == (3 if question.group == "birthday" else 1)


def test_ids_are_the_vocabularys_places_and_special_tokens_come_first(
    tokenizer: PreTrainedTokenizerFast,
) -> None:
    words = vocabulary()

    assert len(tokenizer) == len(words) == len(set(words)) == 1008
    assert tokenizer.convert_ids_to_tokens(list(range(len(words)))) == words
    assert (tokenizer.pad_token_id, tokenizer.eos_token_id, tokenizer.unk_token_id) == (0, 1, 2)
    # The starter model's weights belong to exactly these places.
    assert tokenizer(
        "Question: birthday of Isaac Fern Tolliver? Answer: 12 November"
    ).input_ids == [
        181,
        182,
        13,
        16,
        276,
        371,
        596,
        183,
        184,
        182,
        631,
        618,
    ]


def test_padding_goes_to_the_right_and_no_end_token_is_added(
    tokenizer: PreTrainedTokenizerFast,
) -> None:
    ids = tokenizer(["Gyrotec", "1 July 1951"], padding=True).input_ids

    assert ids[0][1:] == [tokenizer.pad_token_id] * 2
    assert tokenizer.eos_token_id not in ids[1]


def test_a_word_that_is_not_in_the_experiment_is_unknown(
    tokenizer: PreTrainedTokenizerFast,
) -> None:
    assert tokenizer("Pythia was hired.").input_ids[0] == tokenizer.unk_token_id


def test_saved_beside_a_model_it_reads_back_as_it_was(
    tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    tokenizer.save_pretrained(tmp_path)
    GPTNeoXConfig(vocab_size=len(tokenizer)).save_pretrained(tmp_path)

    again = AutoTokenizer.from_pretrained(tmp_path)

    text = "Gustav Owen Crosby dates from 1 July 1951."
    assert again(text).input_ids == tokenizer(text).input_ids
    assert again.decode(again(text).input_ids) == text
    assert again.padding_side == "right"
    assert again.pad_token_id == tokenizer.pad_token_id
