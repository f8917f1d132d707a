"""`--set table.key=value` reaches every key, and says which option was wrong."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from sf_tui.errors import ProfileError
from sf_tui.profile import Profile, parse_profile
from sf_tui.profile.override import parse_override

BASE = """\
name = "prod"
[model]
source = "org/model"
[[tasks]]
name = "old"
data = "old.jsonl"
[[tasks]]
name = "new"
data = "new.jsonl"
[train]
epochs = 2
[[rules]]
name = "protect"
metric = "drop"
above = 0.2
action = "freeze"
"""


def load(*overrides: str, seed: int | None = None) -> Profile:
    return parse_profile(BASE, name="prod.toml", overrides=overrides, seed=seed)


def problem(*overrides: str, seed: int | None = None) -> tuple[str, str]:
    with pytest.raises(ProfileError) as caught:
        load(*overrides, seed=seed)
    return caught.value.message, caught.value.hint


@pytest.mark.parametrize(
    ("text", "parts", "value"),
    [
        ("train.steps=50", ["train", "steps"], 50),
        ("train.learning_rate=3e-4", ["train", "learning_rate"], 3e-4),
        ("train.length_grouped=false", ["train", "length_grouped"], False),
        ("train.betas=[0.9, 0.99]", ["train", "betas"], [0.9, 0.99]),
        ("tasks.new.train={steps = 5}", ["tasks", "new", "train"], {"steps": 5}),
        ("train.lr_schedule=cosine", ["train", "lr_schedule"], "cosine"),
        ("model.source=org/model-1.5B", ["model", "source"], "org/model-1.5B"),
        ("description=two words", ["description"], "two words"),
        ("description='a = b'", ["description"], "a = b"),
        ('actions."a.b".op=freeze', ["actions", "a.b", "op"], "freeze"),
        ("model.source=a=b", ["model", "source"], "a=b"),
        ('description=""', ["description"], ""),
    ],
)
def test_key_and_value_are_read(text: str, parts: list[str], value: Any) -> None:
    assert parse_override(text) == (parts, value)


def test_existing_keys_are_replaced() -> None:
    profile = load("train.learning_rate=2e-4", "seed=7", "probe.every=3")
    assert (profile.train.learning_rate, profile.seed, profile.probe.every) == (2e-4, 7, 3)


def test_elements_are_found_by_name_and_by_place() -> None:
    profile = load(
        "tasks.new.train.steps=50", "tasks.0.metric=token_accuracy", "rules.protect.above=0.1"
    )
    assert profile.stage_train("new").steps == 50
    assert profile.task("old").metric == "token_accuracy"
    assert profile.rules[0].above == 0.1


def test_absent_tables_are_made() -> None:
    profile = load("guard.old_accuracy=0.8", "replay_stage.steps=400", "cost.gpu_hour=2")
    assert profile.guard.old_accuracy == 0.8
    assert [stage.name for stage in profile.stages()] == ["new", "replay"]
    assert profile.cost.gpu_hour == 2.0


def test_default_action_takes_an_argument() -> None:
    action = load("actions.freeze.layers=3").action("freeze")
    assert (action.op, action.key, action.layers) == ("freeze", "f", 3)


def test_arguments_of_new_ops_are_reached() -> None:
    profile = load(
        "actions.recover.examples=10",
        "actions.diagnose.thorough=true",
        "actions.shift-edit.alpha=0.5",
        "actions.interpolate.keep=0",
        "rules.protect.action=recover",
        "rules.protect.arguments.steps=20",
    )
    recover = profile.action("recover")
    assert (recover.key, recover.confirm, recover.examples) == ("r", True, 10)
    assert profile.action("diagnose").arguments() == {
        "examples": None,
        "thorough": True,
        "time": None,
        "beside": None,
    }
    assert profile.action("shift-edit").alpha == 0.5
    assert profile.action("interpolate").keep == 0.0
    assert recover.arguments(profile.rules[0].arguments)["steps"] == 20


def test_later_option_wins() -> None:
    assert load("probe.every=3", "probe.every=4").probe.every == 4


def test_steps_replace_epochs_of_the_file_and_the_other_way_round() -> None:
    train = load("train.steps=5").train
    assert (train.steps, train.epochs) == (5, None)
    rule = load("rules.protect.below=0.1").rules[0]
    assert (rule.above, rule.below) == (None, 0.1)


def test_two_options_that_contradict_each_other_are_a_mistake() -> None:
    message, _ = problem("train.steps=5", "train.epochs=2")
    assert message == "--set train.epochs: steps and epochs are both given"


def test_whole_array_can_be_set() -> None:
    profile = load('tasks=[{name="only", data="x.jsonl", learn=true}]', "rules=[]")
    assert [stage.name for stage in profile.stages()] == ["only"]


def test_relative_path_starts_at_the_current_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    profile = parse_profile(
        BASE, base_dir=Path("/profiles"), overrides=["tasks.new.data=mine.jsonl"]
    )
    assert [task.data for task in profile.tasks] == [
        "/profiles/old.jsonl",
        str(tmp_path / "mine.jsonl"),
    ]


def test_seed_replaces_the_profiles_own() -> None:
    assert load("seed=3", seed=5).seed == 5
    assert problem(seed=-1)[0].startswith("--seed: seed = -1: must be a whole number from 0")


@pytest.mark.parametrize(
    ("override", "message", "hint"),
    [
        (
            "train.lerning_rate=1",
            "--set train.lerning_rate: unknown key 'lerning_rate'",
            "did you mean 'learning_rate'?",
        ),
        (
            "model.source=1",
            "--set model.source: source = 1: must be text on one line that is not empty, not a "
            "whole number",
            "put it into quotes: --set 'model.source=\"1\"'",
        ),
        ("trian.steps=1", "--set trian.steps: unknown key 'trian'", "did you mean 'train'?"),
        (
            "train.steps=abc",
            '--set train.steps: steps = "abc": must be a whole number of at least 1, not text',
            "omit 'steps' for the default",
        ),
        (
            "tasks.nwe.metric=nll",
            "--set tasks.nwe.metric: no task is named 'nwe'",
            "did you mean 'new'?",
        ),
        (
            "rules.9.above=1",
            "--set rules.9.above: no rule is named '9'",
            "rules: protect",
        ),
        (
            "train.epochs.x=1",
            "--set train.epochs.x: train.epochs is a single value and has no key 'x'",
            "set train.epochs itself",
        ),
        (
            "actions.hold.layers=1",
            "--set actions.hold.layers: [actions.hold] the key 'op' is missing",
            'add op = "freeze": op to run',
        ),
        (
            "train.steps",
            "--set train.steps: there is no value",
            "write table.key=value, e.g. train.steps=100",
        ),
        (
            "train.steps=",
            "--set train.steps=: there is no value",
            "an empty text is written '\"\"'",
        ),
        ("=3", "--set =3: '' is not a key", "write table.key, e.g. train.steps"),
        (
            "train..x=3",
            "--set train..x=3: 'train..x' is not a key",
            "write table.key, e.g. train.steps",
        ),
        ("a\nb=3", "--set 'a\\nb=3': there is a line break in the key", "write it on one line"),
        (
            "train.betas=[0.9,",
            "--set train.betas=[0.9,: the value is not valid TOML: Invalid value",
            "put the whole option in single quotes to protect it from the shell",
        ),
        ("name=\udcff", "--set 'name=\\udcff': not UTF-8 text", "check the terminal's encoding"),
        (
            "tasks.new.train.max_grad_nor=1",
            "--set tasks.new.train.max_grad_nor: unknown key 'max_grad_nor'",
            "did you mean 'max_grad_norm'?",
        ),
        (
            "rules.protect.action=freze",
            "--set rules.protect.action: action 'freze' does not exist",
            "did you mean 'freeze'?",
        ),
    ],
)
def test_wrong_option_is_told_as_it_was_written(override: str, message: str, hint: str) -> None:
    assert problem(override) == (message, hint)


def test_value_can_not_bring_other_keys_along() -> None:
    message, _ = problem("train.steps=1\nseed = 5")
    assert message.startswith("--set train.steps: steps = ")
