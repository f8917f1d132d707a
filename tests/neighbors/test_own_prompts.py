"""A task's own prompts come from its train split alone, spread evenly over it."""

from __future__ import annotations

from sf_tui.engine.batches import DrawnSource, FixedSource
from sf_tui.neighbors.anatomy import MOST_SAMPLED, every_prompt, sample_prompts
from sf_tui.profile import BiographySettings
from sf_tui.tasks.biography import biography_task
from sf_tui.tasks.encoding import Encoded, encode_example
from sf_tui.tasks.task import Example
from support.start_scene import Scene


def numbered(count: int) -> FixedSource:
    """Return rows whose prompts are numbers, each twice."""
    return FixedSource([Encoded([at // 2, 7, 9], [-100, -100, 9]) for at in range(count)])


def test_prompts_of_a_small_task_are_all_of_them_once_and_in_order() -> None:
    sample = sample_prompts(numbered(10))
    assert sample.prompts == [(at, 7) for at in range(5)]
    assert sample.longest_answer == 1
    assert every_prompt(numbered(10)) == sample.prompts


def test_sample_of_a_large_task_is_spread_over_it_and_every_prompt_is_known() -> None:
    source = numbered(10 * MOST_SAMPLED)
    prompts = sample_prompts(source).prompts
    assert len(prompts) == MOST_SAMPLED
    assert prompts[0] == (0, 7)
    assert prompts[-1] == (5 * MOST_SAMPLED - 5, 7)
    assert len(every_prompt(source)) == 5 * MOST_SAMPLED


def test_rows_that_ask_nothing_have_no_prompts(starter: Scene, untrained: Scene) -> None:
    # Drawn anew in every epoch: what counts is how they read in the first.
    entries = biography_task("pretrain", BiographySettings()).train
    assert sample_prompts(DrawnSource(entries, starter.loaded.tokenizer)).prompts == []
    # With an opening token before the text.
    row = encode_example(Example("", "France Paris"), untrained.loaded.tokenizer)
    assert sample_prompts(FixedSource([row])).prompts == []


def test_drawn_questions_have_prompts(starter: Scene) -> None:
    asked = biography_task("new", BiographySettings()).train
    prompts = sample_prompts(DrawnSource(asked, starter.loaded.tokenizer)).prompts
    assert len(prompts) == 150
    assert every_prompt(DrawnSource(asked, starter.loaded.tokenizer)) == prompts
