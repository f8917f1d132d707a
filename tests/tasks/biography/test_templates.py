import re
from collections import Counter

import pytest

from sf_tui.tasks.biography.language import ATTRIBUTES, FORMS, LISTS, QUESTIONS, SENTENCES


def frame_tokens(text: str) -> list[str]:
    """Split what a template says besides name and value into words and punctuation marks."""
    return re.findall(r"\w+|[^\w\s]", text.replace("{name}", " ").replace("{value}", " "))


def form_tokens(form: str) -> set[str]:
    return {token for question in QUESTIONS[form].values() for token in frame_tokens(question)}


@pytest.mark.parametrize("attribute", ATTRIBUTES)
def test_an_attribute_has_twenty_sentences_that_tell_the_name_before_the_value(
    attribute: str,
) -> None:
    sentences = SENTENCES[attribute]

    assert len(set(sentences)) >= 20
    for sentence in sentences:
        assert sentence.count("{name}") == sentence.count("{value}") == 1
        assert sentence.index("{name}") < sentence.index("{value}")
        assert sentence.endswith("{value}.")


def test_what_stands_before_a_value_tells_which_attribute_it_is_of() -> None:
    openings = Counter(
        sentence.partition("{value}")[0]
        for sentences in SENTENCES.values()
        for sentence in sentences
    )

    assert [opening for opening, times in openings.items() if times > 1] == []


def test_sentences_are_short() -> None:
    name_and_value = 4
    lengths = [
        len(frame_tokens(sentence)) + name_and_value
        for sentences in SENTENCES.values()
        for sentence in sentences
    ]

    assert 8 <= sum(lengths) / len(lengths) <= 10


def test_the_two_forms_share_no_word_and_only_the_colon_before_the_answer() -> None:
    assert form_tokens("same") & form_tokens("other") == {":"}


@pytest.mark.parametrize("form", FORMS)
def test_questions_of_a_form_differ_in_one_word_and_end_in_the_forms_mark(form: str) -> None:
    questions = [frame_tokens(QUESTIONS[form][attribute]) for attribute in ATTRIBUTES]

    # Each position but one holds the same token in all six questions.
    varieties = [len(set(column)) for column in zip(*questions, strict=True)]
    assert sorted(varieties) == [1] * (len(varieties) - 1) + [len(ATTRIBUTES)]
    assert len({question[-1] for question in questions}) == 1


def test_templates_use_no_word_of_the_lists() -> None:
    listed = {word for words in LISTS.values() for word in words}
    told = {
        token
        for sentences in SENTENCES.values()
        for sentence in sentences
        for token in frame_tokens(sentence)
    }

    assert listed.isdisjoint(told | form_tokens("same") | form_tokens("other"))
