"""`[diagnose]`, `[recover]` and the actions that use them: what is taken and refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from sf_tui.errors import ProfileError, UsageError
from sf_tui.profile import Profile, dump_profile, load_profile, parse_profile, problems_in

MODEL = 'name = "prod"\n[model]\nsource = "org/model"\n'
TASKS = (
    MODEL
    + """\
[[tasks]]
name = "old"
data = "biography:old"
[[tasks]]
name = "new"
data = "biography:new"
"""
)
ALONE = MODEL + '[[tasks]]\nname = "only"\ndata = "org/set"\nlearn = true\n'
RULE = '[[rules]]\nname = "protect"\nmetric = "loss"\nabove = 9\naction = "{0}"\n'


def load(text: str = "", *overrides: str) -> Profile:
    return parse_profile(TASKS + text, name="prod.toml", overrides=overrides)


def problem(text: str) -> tuple[str, str]:
    with pytest.raises(ProfileError) as caught:
        parse_profile(text, name="prod.toml")
    [told, *_] = problems_in(caught.value)
    return told


def test_defaults() -> None:
    profile = load()
    assert profile.diagnose.model_dump(exclude_none=True) == {
        "examples": 10,
        "time": 60.0,
        "beside": False,
    }
    assert profile.recover.model_dump(exclude_none=True) == {
        "examples": 0,
        "steps": 150,
        "new_floor": 0.98,
        "then_anchor": True,
        "keep_frozen": False,
        "strength": 1.0,
        "old_share": 0.25,
    }


def test_what_is_given_is_written_and_loads_again() -> None:
    profile = load(
        '[diagnose]\ncontrol = "biography:new-5"\nunrelated = "org/other"\nsteps = 30\n'
        "[recover]\nexamples = 10\ninterpolate = 1\nlearning_rate = 2e-4\n"
    )
    assert profile.recover.interpolate == 1.0
    assert parse_profile(dump_profile(profile)) == profile


def test_biographies_of_the_control_alone_are_made_by_the_generators_table() -> None:
    text = ALONE + '[diagnose]\ncontrol = "biography:new"\n[biography]\nnew_people = 7\n'
    profile = parse_profile(text)
    assert profile.notes == ()
    assert profile.biography.new_people == 7
    assert parse_profile(dump_profile(profile)) == profile


def test_relative_path_of_an_option_starts_at_the_current_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    profile = parse_profile(
        TASKS, base_dir=Path("/profiles"), overrides=["diagnose.control=facts.jsonl"]
    )
    assert profile.diagnose.control == str(tmp_path / "facts.jsonl")


def test_missing_file_is_told_when_asked(tmp_path: Path) -> None:
    path = tmp_path / "prod.toml"
    path.write_text(TASKS + '[diagnose]\nunrelated = "othre.csv"\n')
    (tmp_path / "other.csv").write_text("")
    with pytest.raises(ProfileError) as caught:
        load_profile(path, files=True)
    assert caught.value.message == (
        f"{path}:11: [diagnose] unrelated: there is no file {tmp_path / 'othre.csv'}"
    )
    assert caught.value.hint == f"did you mean {tmp_path / 'other.csv'}?"


NEVER_SEEN = "name data about facts that the model never sees, e.g. biography:new-5"
UNKNOWN = "name data of a task that is not part of the run"


@pytest.mark.parametrize(
    ("text", "line", "message", "hint"),
    [
        (
            "[diagnose]\ncontrol = 'biography:nwe-5'\n",
            11,
            '[diagnose] control = "biography:nwe-5": there is no such data',
            "did you mean 'biography:new-5'?",
        ),
        (
            "[diagnose]\ncontrol = 'biography:new-1'\n",
            11,
            "[diagnose] control = \"biography:new-1\": task 'new' is about the same facts",
            NEVER_SEEN,
        ),
        (
            "[diagnose]\ncontrol = 'biography:pretrain'\n",
            11,
            "[diagnose] control = \"biography:pretrain\": task 'old' is about the same facts",
            NEVER_SEEN,
        ),
        (
            "[diagnose]\nunrelated = 'biography:old'\n",
            11,
            "[diagnose] unrelated = \"biography:old\": task 'old' is about the same facts",
            UNKNOWN,
        ),
        (
            "[diagnose]\ncontrol = 'org/x'\nunrelated = 'org/x'\n",
            12,
            "[diagnose] unrelated and control are about the same facts",
            "the control measures guessing without teaching; use other data for one of them",
        ),
        (
            "[diagnose]\nexamples = 0\n",
            11,
            "[diagnose] examples = 0: must be a whole number of at least 1",
            "the default is examples = 10",
        ),
        (
            "[diagnose]\nlearning_rate = 0.0\n",
            11,
            "[diagnose] learning_rate = 0.0: must be a number above 0",
            "omit 'learning_rate' for the default",
        ),
        (
            "[diagnose]\ncontrol = 5\n",
            11,
            "[diagnose] control = 5: must be text on one line that is not empty, not a whole "
            "number",
            'put it into quotes: control = "5"',
        ),
        (
            "[diagnose]\nexample = 5\n",
            11,
            "[diagnose] unknown key 'example'",
            "did you mean 'examples'?",
        ),
        (
            "[recover]\nexamples = -1\n",
            11,
            "[recover] examples = -1: must be a whole number of at least 0",
            "the default is examples = 0",
        ),
        (
            "[recover]\nsteps = 0\n",
            11,
            "[recover] steps = 0: must be a whole number of at least 1",
            "the default is steps = 150",
        ),
        (
            "[recover]\nstrength = inf\n",
            11,
            "[recover] strength = inf: must be a number above 0",
            "the default is strength = 1.0",
        ),
        (
            "[recover]\nold_share = 1\n",
            11,
            "[recover] old_share = 1: must be a share between 0 and 1",
            "the default is old_share = 0.25",
        ),
        (
            "[recover]\ninterpolate = 0\n",
            11,
            "[recover] interpolate = 0: must be a number above 0 and up to 1",
            "omit 'interpolate' for the default",
        ),
        (
            "[replay_stage]\nstrength = 2\n",
            11,
            "[replay_stage] unknown key 'strength'",
            "'strength' is a key of [train.ewc], [train.l2_start], [anchor], [recover] and "
            "[actions.NAME]",
        ),
    ],
)
def test_mistake_is_told(text: str, line: int, message: str, hint: str) -> None:
    assert problem(TASKS + text) == (f"prod.toml:{line}: {message}", hint)


def test_another_split_of_a_tasks_data_is_other_data() -> None:
    text = MODEL + (
        '[[tasks]]\nname = "old"\ndata = "org/set"\nsplit = "train"\n'
        '[[tasks]]\nname = "new"\ndata = "org/new"\n'
        '[diagnose]\ncontrol = "{0}"\n'
    )
    assert parse_profile(text.format("org/set")).diagnose.control == "org/set"
    assert "task 'new' is about the same facts" in problem(text.format("org/new"))[0]


TAKE_AWAY = "watch a task before the last one, or remove examples"


@pytest.mark.parametrize(
    ("text", "line", "message", "hint"),
    [
        (
            "[recover]\nexamples = 10\n",
            9,
            "[recover] examples = 10: no earlier task is watched that they could come from",
            TAKE_AWAY,
        ),
        (
            '[actions.mend]\nop = "recover"\nexamples = 3\n',
            10,
            "[actions.mend] examples = 3: no earlier task is watched that they could come from",
            TAKE_AWAY,
        ),
        (
            RULE.format("recover") + "arguments = {examples = 3}\n",
            13,
            "[[rules]] 'protect' arguments: examples = 3: no earlier task is watched that they "
            "could come from",
            TAKE_AWAY,
        ),
        (
            RULE.format("diagnose"),
            12,
            "[[rules]] 'protect' action 'diagnose' has nothing to diagnose: no earlier task is "
            "watched",
            "watch a task before the last one, or remove the rule",
        ),
    ],
)
def test_old_examples_need_an_old_task(text: str, line: int, message: str, hint: str) -> None:
    assert problem(ALONE + text) == (f"prod.toml:{line}: {message}", hint)


def test_recovery_without_old_examples_needs_no_old_task() -> None:
    profile = parse_profile(ALONE + "[recover]\nexamples = 0\n" + RULE.format("recover"))
    assert profile.rules[0].action == "recover"


def test_commands_arguments_replace_the_profiles_own() -> None:
    profile = load('[actions.recover]\nexamples = 10\nstrength = 2\n[actions.edit]\nop = "pause"\n')
    recover = profile.action("recover")
    assert recover.arguments({"examples": 0, "steps": 20}) == {
        "examples": 0,
        "steps": 20,
        "strength": 2.0,
        "then_anchor": None,
        "keep_frozen": None,
        "new_floor": None,
    }
    assert profile.action("anchor").arguments() == {"strength": None}
    assert profile.action("unanchor").arguments() == {}
    assert profile.action("shift-edit").arguments() == {"alpha": 1.0}
    assert profile.action("interpolate").arguments({"keep": 0.8}) == {"keep": 0.8}


@pytest.mark.parametrize(
    ("action", "given", "message", "hint"),
    [
        (
            "diagnose",
            {"examples": 0},
            "examples = 0: must be a whole number of at least 1",
            "",
        ),
        (
            "diagnose",
            {"strength": 1.0},
            "op 'diagnose' takes no argument 'strength'",
            "it belongs to ops anchor and recover",
        ),
        (
            "recover",
            {"example": 1},
            "op 'recover' takes no argument 'example'",
            "did you mean 'examples'?",
        ),
        (
            "anchor",
            {"strength": float("nan")},
            "strength = nan: must be a number above 0",
            "",
        ),
        ("unanchor", {"x": 1}, "op 'unanchor' takes no argument 'x'", "it takes no arguments"),
    ],
)
def test_wrong_argument_of_a_command_is_told(
    action: str, given: dict[str, float], message: str, hint: str
) -> None:
    with pytest.raises(UsageError) as caught:
        load().action(action).arguments(given)
    assert (caught.value.message, caught.value.hint) == (message, hint)
