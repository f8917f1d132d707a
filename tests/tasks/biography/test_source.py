from hypothesis import given
from hypothesis import strategies as st

from sf_tui.tasks.biography.build import EntrySource, ask
from sf_tui.tasks.biography.language import ATTRIBUTES, SENTENCES
from sf_tui.tasks.biography.world import Person, Settings, build_world

PEOPLE = build_world(Settings(people=40, seed=5)).pretrained


def told_attributes(entry: str, person: Person) -> list[str]:
    """Return the attributes that an entry tells, in its order; ambiguity fails the test."""
    attribute_of = {
        sentence.format(name=person.name, value=person.facts[attribute]): attribute
        for attribute, sentences in SENTENCES.items()
        for sentence in sentences
    }
    return [attribute_of[f"{sentence}."] for sentence in entry.removesuffix(".").split(". ")]


@given(index=st.integers(0, 39), draw=st.integers(0, 10_000))
def test_an_entry_tells_every_attribute_once_with_the_full_name_in_each_sentence(
    index: int, draw: int
) -> None:
    entry = EntrySource(PEOPLE, seed=5).example(index, draw)

    assert entry.prompt == ""
    assert entry.completion.count(PEOPLE[index].name) == len(ATTRIBUTES)
    assert sorted(told_attributes(entry.completion, PEOPLE[index])) == sorted(ATTRIBUTES)


def test_an_entry_is_drawn_anew_each_time_in_words_and_order() -> None:
    source = EntrySource(PEOPLE, seed=5)
    entries = [source.example(0, draw).completion for draw in range(50)]

    assert len(set(entries)) == 50
    orders = {tuple(told_attributes(entry, PEOPLE[0])) for entry in entries}
    assert len(orders) > 40


def test_an_entry_is_a_pure_function_of_seed_index_and_draw() -> None:
    source = EntrySource(PEOPLE, seed=5)
    before = source.example(3, 7)
    source.example(4, 7)

    assert source.example(3, 7) == before == EntrySource(PEOPLE, seed=5).example(3, 7)
    assert EntrySource(PEOPLE, seed=6).example(3, 7) != before


def test_the_default_entry_reads_as_it_always_has() -> None:
    source = EntrySource(build_world(Settings()).pretrained, seed=0)

    assert source.example(0, 0).completion == (
        "Gustav Owen Crosby has roots in Longreach. "
        "Gustav Owen Crosby majored in astronomy. "
        "The alma mater of Gustav Owen Crosby is Ainsworth. "
        "Gustav Owen Crosby is on duty in Lowmarsh. "
        "Gustav Owen Crosby dates from 1 July 1951. "
        "Gustav Owen Crosby was hired by Gyrotec."
    )


def test_a_stream_of_another_name_gives_other_entries() -> None:
    train, scored = EntrySource(PEOPLE, 5), EntrySource(PEOPLE, 5, stream="held-out")

    trained = {train.example(0, draw).completion for draw in range(200)}
    assert scored.example(0, 0).completion not in trained


def test_questions_ask_each_attribute_of_each_person_in_its_group() -> None:
    questions = ask(PEOPLE[:2], "same", "old")

    assert [question.group for question in questions] == [*ATTRIBUTES, *ATTRIBUTES]
    name, city = PEOPLE[1].name, PEOPLE[1].facts["birth city"]
    assert questions[7].prompt == f"Question: birthplace of {name}? Answer:"
    assert questions[7].completion == f" {city}"
    assert questions[7].place == f"biography old: {name}, birth city"


def test_the_other_form_asks_for_the_same_facts() -> None:
    same, other = ask(PEOPLE, "same", "new"), ask(PEOPLE, "other", "new")

    assert [question.completion for question in same] == [question.completion for question in other]
    assert other[0].prompt == f"Recall {PEOPLE[0].name}, birthdate:"
