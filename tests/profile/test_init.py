"""A new profile tells every key and is right as it stands."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import BaseModel

from sf_tui.errors import ProfileError
from sf_tui.profile import (
    STARTER_SCENE,
    new_profile,
    parse_profile,
    problems_in,
    short_profile,
)
from sf_tui.profile.host_schema import HostSettings
from sf_tui.profile.schema import Profile
from sf_tui.profile.train_schema import TrainSettings
from sf_tui.profile.values import inner_model
from sf_tui.vocabulary.ops import OPS

TEXT = new_profile(
    name="mine", model="org/model", old='odd "name"\\\n.jsonl\U000e0001', new="b/new.csv"
)


def keys_of(table: type[BaseModel]) -> set[str]:
    keys = set()
    for key, field in table.model_fields.items():
        inner = inner_model(field.annotation)
        keys |= keys_of(inner) if inner is not None else {key}
    return keys


def test_it_loads_with_what_was_given() -> None:
    text = new_profile(name="mine", model="org/model", old="a/old.jsonl", new="b/new.csv")
    profile = parse_profile(text, base_dir=Path("/data"))
    assert profile.notes == ()
    assert profile.model.source == "org/model"
    assert [task.data for task in profile.tasks] == ["/data/a/old.jsonl", "/data/b/new.csv"]
    assert [stage.train.total_steps(0) for stage in profile.stages()] == [300]


@pytest.mark.usefixtures("installation")
def test_starter_scene_loads() -> None:
    profile = parse_profile(new_profile(name="mine", **STARTER_SCENE))
    assert (profile.train.learning_rate, profile.train.batch_size) == (4e-4, 48)


def test_every_key_of_the_schema_is_in_it_with_its_meaning() -> None:
    lines = TEXT.splitlines()
    told = {line.lstrip("#").partition(" = ")[0] for line in lines if " = " in line}
    # Written by sf itself, for a training that it only watches.
    wanted = keys_of(Profile) - keys_of(HostSettings)
    assert wanted | {name for op in OPS.values() for name in op.argument_names} <= told
    for place, line in enumerate(lines):
        if line.startswith("#") and " = " in line and not line.startswith("# "):
            assert lines[place - 1].startswith("# "), line


def test_every_key_that_is_commented_out_shows_a_value_that_would_be_taken() -> None:
    """Taking every # away leaves only what can't stand together, and no wrong key or value."""
    text = "\n".join(
        line[1:] if line.startswith("#") and not line.startswith("# ") else line
        for line in new_profile(name="m", model="org/m", old="a.csv", new="b.csv").splitlines()
    )
    with pytest.raises(ProfileError) as caught:
        parse_profile(text)
    told = [line.partition(" ")[2] for line, _ in problems_in(caught.value)]
    assert told == [
        "[model] config goes with a random model only",
        "[train] steps and epochs are both given",
        *(
            f"[train] {article} {key} table goes with strategy '{name}', and strategy is 'seq'"
            for article, key, name in (
                ("a", "freeze", "freeze"),
                ("a", "replay", "replay"),
                ("an", "ewc", "ewc"),
                ("a", "l2_start", "l2-start"),
            )
        ),
        "[[rules]] 'protect-old-task' above and below are both given",
        *(
            f"[actions.freeze-two] op 'freeze' takes no argument '{argument}'"
            for argument in (
                *("strength", "to", "examples", "thorough", "time", "beside"),
                *("steps", "then_anchor", "keep_frozen", "new_floor", "alpha", "keep"),
                *("command", "question", "task"),
            )
        ),
    ]


def test_strange_file_names_are_written_as_toml() -> None:
    with pytest.raises(ProfileError, match="must be text on one line"):
        parse_profile(TEXT)
    strange = 'odd "name" \\ é\U000e0001.jsonl'
    text = new_profile(name="mine", model="org/model", old=strange, new="b.csv")
    assert parse_profile(text, base_dir=Path("/d")).tasks[0].data == f"/d/{strange}"


def test_short_profile_has_what_was_given_with_the_reasons_and_nothing_else() -> None:
    text = short_profile(
        name="mine",
        model="org/model",
        old="a.csv",
        new="b.csv",
        about_model="llama",
        held_out={"old": 60},
        train={"learning_rate": 2e-5, "batch_size": 8, "steps": 120, "warmup_steps": 12},
        probe={"examples": 50},
        guard={"old_accuracy": 0.8, "new_accuracy": 0.7},
        reasons={"train.learning_rate": "0.08 / hidden size 4096", "held_out.old": "of 600 rows"},
    )
    profile = parse_profile(text, base_dir=Path("/d"))
    assert profile.tasks[0].held_out == 60
    assert profile.tasks[1].held_out is None
    assert (profile.train.learning_rate, profile.train.steps) == (2e-5, 120)
    assert (profile.probe.examples, profile.guard.old_accuracy) == (50, 0.8)
    assert "# 0.08 / hidden size 4096" in text
    assert "[biography]" not in text
    assert len(text.splitlines()) <= 50


def test_short_profile_and_schema_agree_on_the_schedule() -> None:
    text = short_profile(name="m", model="org/m", old="a.csv", new="b.csv", train={})
    assert parse_profile(text).train.lr_schedule == TrainSettings().lr_schedule == "constant"
