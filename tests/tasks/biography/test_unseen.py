from sf_tui.tasks.biography import Settings, biography_task
from sf_tui.tasks.biography.language import ATTRIBUTES
from sf_tui.tasks.biography.world import build_world

OTHER = Settings(people=30, new_people=4, question_form="other", new_seed=3)


def test_nobody_else_in_the_world_bears_an_unseen_persons_name() -> None:
    world = build_world(OTHER)
    names = [person.name for group in (world.pretrained, *world.new) for person in group]

    unseen = [person.name for person in world.unseen]
    assert len(set(unseen)) == 50
    assert set(unseen).isdisjoint(names)


def test_unseen_people_are_asked_about_as_the_old_task_asks() -> None:
    old, unseen, new = (biography_task(name, OTHER) for name in ("old", "unseen", "new"))

    def frames(prompts: list[str], people: list[str]) -> set[str]:
        for name in people:
            prompts = [prompt.replace(name, "…") for prompt in prompts]
        return set(prompts)

    world = build_world(OTHER)
    everybody = [p.name for group in (world.held_out, world.unseen, *world.new) for p in group]
    asked = [frames([e.prompt for e in task.held_out], everybody) for task in (old, unseen, new)]
    assert asked[0] == asked[1]
    assert asked[0].isdisjoint(asked[2])
    assert len(unseen.held_out) == 50 * len(ATTRIBUTES)


def test_the_answers_about_unseen_people_can_hardly_be_guessed() -> None:
    floors = biography_task("unseen", Settings()).guess_floor

    assert tuple(floors) == ATTRIBUTES
    assert max(floors.values()) <= 0.13
