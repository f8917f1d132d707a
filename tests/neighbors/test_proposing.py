"""What stands beside a task's prompts never asks that task's own questions in the frame's place."""

from __future__ import annotations

from sf_tui.neighbors.anatomy import anatomize, template_of
from sf_tui.neighbors.propose import propose
from support.start_scene import Scene


def test_substitutions_ask_another_task_and_none_of_the_tasks_own_questions(starter: Scene) -> None:
    anatomy = starter.anatomy
    found = propose(anatomy, starter.start(), {"substitution": 1.0}, 60, 0)
    assert len(found) == 60
    sources = {prompt.subject: prompt for prompt in anatomy.prompts}
    for neighbor in found:
        beside = [
            prompt
            for prompt in sources.values()
            if len(prompt.tokens) == len(neighbor.tokens)
            and sum(a != b for a, b in zip(prompt.tokens, neighbor.tokens, strict=True)) == 1
        ]
        assert any(
            template_of(neighbor.tokens, prompt.slot, prompt.first, prompt.end)
            not in anatomy.templates
            for prompt in beside
        )


def test_a_task_without_a_frame_is_exchanged_in_everywhere(untrained: Scene) -> None:
    prompts = [(2, *range(first, first + 4)) for first in (5, 15, 25, 35)]
    anatomy = anatomize(prompts, untrained.loaded.tokenizer)
    found = propose(anatomy, untrained.start(), {"substitution": 1.0}, 20, 0)
    exchanged = {
        at
        for neighbor in found
        for prompt in prompts
        for at in range(5)
        if neighbor.tokens == (*prompt[:at], neighbor.tokens[at], *prompt[at + 1 :])
    }
    assert len(found) == 20
    assert len(exchanged) > 1
