import pytest
from hypothesis import given
from hypothesis import strategies as st

from sf_tui.errors import UsageError
from sf_tui.tasks.biography.language import ATTRIBUTES
from sf_tui.tasks.biography.world import Settings, World, build_world


def everybody(world: World) -> list[str]:
    people = [*world.pretrained, *(person for group in world.new for person in group)]
    return [person.name for person in people]


@given(
    people=st.integers(2, 60),
    tuned=st.floats(0.01, 0.99),
    new_people=st.integers(1, 12),
    seed=st.integers(0, 2**32),
    new_seed=st.integers(0, 2**32),
)
def test_parts_have_their_sizes_and_share_nobody(
    people: int, tuned: float, new_people: int, seed: int, new_seed: int
) -> None:
    world = build_world(Settings(people, tuned, new_people, "same", seed, new_seed))

    assert len(world.pretrained) == people
    assert len(world.tuned) >= 1
    assert len(world.held_out) >= 1
    assert abs(len(world.tuned) - people * tuned) <= 1
    assert [len(group) for group in world.new] == [new_people] * 5
    names = everybody(world)
    assert len(set(names)) == len(names)


def test_company_determines_company_city_for_old_and_new_people_alike() -> None:
    world = build_world(Settings(people=400, new_people=100))
    people = [*world.pretrained, *(person for group in world.new for person in group)]

    city_of: dict[str, set[str]] = {}
    for person in people:
        assert tuple(person.facts) == ATTRIBUTES
        city_of.setdefault(person.facts["company"], set()).add(person.facts["company city"])

    assert {len(cities) for cities in city_of.values()} == {1}
    assert len({next(iter(cities)) for cities in city_of.values()}) > 20


def test_the_default_world_is_the_one_that_it_has_always_been() -> None:
    world = build_world(Settings())

    assert world.tuned[0].name == "Gustav Owen Crosby"
    assert world.tuned[0].facts == {
        "birthday": "1 July 1951",
        "birth city": "Longreach",
        "university": "Ainsworth",
        "major": "astronomy",
        "company": "Gyrotec",
        "company city": "Lowmarsh",
    }
    assert world.new[0][0].name == "Isaac Fern Tolliver"


def test_a_larger_world_holds_the_smaller_one() -> None:
    small, large = build_world(Settings(people=20)), build_world(Settings(people=50))

    assert large.pretrained[:20] == small.pretrained


def test_another_seed_gives_other_people() -> None:
    first, second = build_world(Settings(seed=1)), build_world(Settings(seed=2))

    assert first.pretrained != second.pretrained
    assert build_world(Settings(seed=1)) == first


def test_new_seed_changes_the_new_people_alone() -> None:
    first, second = build_world(Settings(new_seed=1)), build_world(Settings(new_seed=2))

    assert first.pretrained == second.pretrained
    new_names = [
        {person.name for group in world.new for person in group} for world in (first, second)
    ]
    assert new_names[0].isdisjoint(new_names[1])


@pytest.mark.parametrize(
    ("settings", "key"),
    [
        (Settings(people=1), "biography.people"),
        (Settings(people=2_000_000), "biography.people"),
        (Settings(new_people=0), "biography.new_people"),
        (Settings(train_share=0.0), "biography.train_share"),
        (Settings(train_share=1.0), "biography.train_share"),
        (Settings(train_share=float("nan")), "biography.train_share"),
        (Settings(question_form="another"), "biography.question_form"),  # type: ignore[arg-type]
    ],
)
def test_settings_that_make_no_experiment_are_refused_by_name(settings: Settings, key: str) -> None:
    with pytest.raises(UsageError, match=key):
        build_world(settings)
