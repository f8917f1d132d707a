import pytest

from sf_tui.errors import UsageError
from sf_tui.tasks.biography import TASKS, Settings, biography_task
from sf_tui.tasks.biography.language import ATTRIBUTES
from sf_tui.tasks.biography.world import build_world
from sf_tui.tasks.task import Example, Task, guess_floor

SETTINGS = Settings(people=40, train_share=0.75, new_people=5, seed=2)


def train_prompts(task: Task) -> list[str]:
    return [task.train.example(index, 0).prompt for index in range(len(task.train))]


def test_the_old_task_trains_the_tuned_people_and_is_scored_on_the_others() -> None:
    task, world = biography_task("old", SETTINGS), build_world(SETTINGS)

    assert len(task.train) == 30 * len(ATTRIBUTES)
    assert len(task.held_out) == 10 * len(ATTRIBUTES)
    trained, scored = train_prompts(task), [example.prompt for example in task.held_out]
    assert set(trained).isdisjoint(scored)
    assert all(any(person.name in prompt for prompt in trained) for person in world.tuned)
    assert all(any(person.name in prompt for prompt in scored) for person in world.held_out)


def test_a_new_task_is_scored_on_the_questions_that_it_trains() -> None:
    for number in range(1, 6):
        task = biography_task(f"new-{number}", SETTINGS)
        assert len(task.train) == 5 * len(ATTRIBUTES)
        assert train_prompts(task) == [example.prompt for example in task.held_out]


def test_new_is_new_1_and_the_five_new_tasks_differ() -> None:
    prompts = {which: train_prompts(biography_task(which, SETTINGS)) for which in TASKS[2:]}

    assert prompts["new"] == prompts["new-1"]
    numbered = [set(prompts[f"new-{number}"]) for number in range(1, 6)]
    assert len(set.union(*numbered)) == sum(len(part) for part in numbered)


def test_pretraining_tells_of_old_people_only_and_scores_entries_that_it_never_draws() -> None:
    task, world = biography_task("pretrain", SETTINGS), build_world(SETTINGS)
    entries = {
        task.train.example(index, draw).completion
        for index in range(len(task.train))
        for draw in range(50)
    }

    assert len(task.train) == 40
    new_names = [person.name for group in world.new for person in group]
    assert not any(name in entry for entry in entries for name in new_names)
    assert len(task.held_out) == 40
    assert entries.isdisjoint(example.completion for example in task.held_out)


def test_the_form_changes_how_new_tasks_ask_and_nothing_else() -> None:
    other = Settings(people=40, train_share=0.75, new_people=5, question_form="other", seed=2)

    assert biography_task("old", other) == biography_task("old", SETTINGS)
    same_new, other_new = biography_task("new", SETTINGS), biography_task("new", other)
    assert set(train_prompts(same_new)).isdisjoint(train_prompts(other_new))
    assert same_new.guess_floor == other_new.guess_floor


def test_the_guess_floor_is_the_share_of_the_most_frequent_answer() -> None:
    examples = [
        Example("a", " red", group="color"),
        Example("b", " red", group="color"),
        Example("c", " blue", group="color"),
        Example("d", " two", group="number"),
    ]

    assert guess_floor(examples) == {"color": 2 / 3, "number": 1.0}


def test_the_default_experiment_can_hardly_be_guessed() -> None:
    for which in TASKS[1:]:
        floors = biography_task(which, Settings()).guess_floor
        assert tuple(floors) == ATTRIBUTES
        assert max(floors.values()) <= 0.13


@pytest.mark.parametrize("which", ["", "new-0", "new-6", "Old", "pretraining"])
def test_an_unknown_task_is_refused_with_those_that_exist(which: str) -> None:
    with pytest.raises(UsageError, match=f"no task '{which}'") as refusal:
        biography_task(which, SETTINGS)
    assert "new-5" in refusal.value.hint
