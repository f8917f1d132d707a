"""A loaded profile is complete: paths, actions, stages and what each stage trains with."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from sf_tui.errors import ProfileError, UsageError
from sf_tui.profile import Profile, load_profile, parse_profile
from sf_tui.profile.names import DATA_FIELDS
from sf_tui.vocabulary.ops import OPS

MODEL = 'name = "prod"\n[model]\nsource = "org/model"\n'
TASKS = (
    MODEL
    + """\
[[tasks]]
name = "old"
data = "org/old"
[[tasks]]
name = "new"
data = "org/new"
"""
)


def load(text: str = "") -> Profile:
    return parse_profile(TASKS + text)


def test_built_in_profile_goes_by_its_name(installation: Path) -> None:
    profile = load_profile("scene")
    assert profile.description == "a scene"
    assert profile.base_dir == installation


@pytest.mark.usefixtures("installation")
def test_unknown_built_in_profile_names_the_nearest() -> None:
    with pytest.raises(ProfileError) as caught:
        load_profile("secne")
    assert caught.value.message.startswith("no built-in profile is named 'secne'")
    assert caught.value.hint == ("did you mean 'scene'? `sf profile list` shows the built-in ones")
    with pytest.raises(ProfileError) as caught:
        load_profile("scene.toml")
    assert caught.value.hint == "the built-in profile is given by its name: scene"


def test_unknown_starter_is_told_with_its_line(installation: Path) -> None:
    path = installation / "scene.toml"
    path.write_text(path.read_text().replace("biography-mini", "biography-mni"))
    with pytest.raises(ProfileError) as caught:
        load_profile("scene")
    assert caught.value.message == f"{path}:4: [model] no starter model is named 'biography-mni'"
    assert caught.value.hint == "did you mean 'biography-mini'?"


def test_paths_start_at_the_profiles_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "model").mkdir()
    path = tmp_path / "prod.toml"
    path.write_text(
        'name = "a"\nmodel = {source = "model", tokenizer = "org/tokenizer"}\n'
        'diagnose = {control = "sub/facts.csv", unrelated = "org/other"}\n'
        '[[tasks]]\nname = "old"\ndata = "sub/a.jsonl"\nheld_out = "b"\n'
        '[[tasks]]\nname = "mid"\ndata = "org/set"\n[[tasks]]\nname = "new"\ndata = "~/c.csv"\n'
    )
    monkeypatch.chdir("/")
    monkeypatch.setenv("HOME", "/home/somebody")
    profile = load_profile(path)
    assert profile.model.source == str(tmp_path / "model")
    assert profile.model.tokenizer == "org/tokenizer"
    assert [task.data for task in profile.tasks] == [
        str(tmp_path / "sub" / "a.jsonl"),
        "org/set",
        "/home/somebody/c.csv",
    ]
    assert profile.tasks[0].held_out == str(tmp_path / "b")
    assert profile.diagnose.control == str(tmp_path / "sub" / "facts.csv")
    assert profile.diagnose.unrelated == "org/other"


@pytest.mark.parametrize(
    ("data", "is_path"),
    [
        ("a.jsonl", True),
        ("a.csv.gz", True),
        ("./a", True),
        ("a/b/c", True),
        ("~/a", True),
        ("owner/name", False),
        ("name", False),
        ("hf://datasets/owner/name", False),
    ],
)
def test_files_are_told_from_ids(tmp_path: Path, data: str, is_path: bool) -> None:
    profile = parse_profile(TASKS.replace("org/new", data), base_dir=tmp_path)
    assert Path(profile.tasks[1].data).is_absolute() == is_path


def test_fields_of_every_schema_that_is_read_can_be_named() -> None:
    from sf_tui.tasks.schemas import SCHEMAS

    read = {field for schema in SCHEMAS for field in (*schema.required, *schema.optional)}
    assert read == set(DATA_FIELDS)
    profile = load('fields = {question = "Capital of {land}:\\n", answer = "city", system = ""}\n')
    assert profile.tasks[1].fields["question"] == "Capital of {land}:\n"


def test_whole_number_is_taken_for_a_float_and_stays_one() -> None:
    profile = load("[train]\nlearning_rate = 1\n")
    assert profile.train.learning_rate == 1.0
    assert isinstance(profile.train.learning_rate, float)


def test_random_model_of_biographies_has_their_tokenizer() -> None:
    text = (
        'name = "a"\n[model]\nsource = "random"\nconfig = {model_type = "gpt_neox"}\n'
        '[[tasks]]\nname = "pre"\ndata = "biography:pretrain"\nlearn = true\nwatch = false\n'
    )
    profile = parse_profile(text)
    assert profile.model.tokenizer == "biography"
    assert [stage.name for stage in profile.stages()] == ["pre"]


def test_every_op_is_reachable_without_a_word() -> None:
    actions = load().actions
    keys = {name: action.key for name, action in actions.items()}
    assert keys == {
        "freeze": "f",
        "unfreeze": "u",
        "anchor": "a",
        "unanchor": "o",
        "pause": "space",
        "resume": None,
        "checkpoint": "c",
        "rollback": "b",
        "diagnose": "d",
        "recover": "r",
        "shift-edit": None,
        "spectral-edit": None,
        "interpolate": None,
        "cancel": None,
        "ask": None,
        "stop": None,
    }
    assert {action.op for action in actions.values()} == set(OPS)
    asking = ["rollback", "recover", "shift-edit", "spectral-edit", "interpolate"]
    assert [name for name, action in actions.items() if action.confirm] == asking


def test_own_action_takes_a_default_ones_key() -> None:
    profile = load("[actions.hold]\nop = 'pause'\nkey = 'f'\n")
    assert profile.action("hold").key == "f"
    assert profile.action("freeze").key is None


def test_own_action_of_a_default_ones_name_keeps_the_rest_of_it() -> None:
    action = load("[actions.freeze]\nlayers = 2\n").action("freeze")
    assert (action.op, action.key, action.layers) == ("freeze", "f", 2)
    other = load("[actions.freeze]\nop = 'rollback'\n").action("freeze")
    assert (other.op, other.key, other.confirm) == ("rollback", None, False)


def test_unknown_action_names_the_nearest() -> None:
    with pytest.raises(UsageError) as caught:
        load().action("freze")
    assert caught.value.hint == "did you mean 'freeze'?"


def test_arguments_of_a_command_replace_the_profiles_own() -> None:
    action = load("[actions.freeze]\nlayers = 2\n").action("freeze")
    assert action.arguments() == {"layers": 2, "embeddings": True}
    assert action.arguments({"layers": 3}) == {"layers": 3, "embeddings": True}
    with pytest.raises(UsageError, match="op 'freeze' takes no argument 'layer'"):
        action.arguments({"layer": 3})
    with pytest.raises(UsageError, match="layers = -1: must be a whole number of at least 0"):
        action.arguments({"layers": -1})


def test_stages_in_order_with_recovery_last() -> None:
    profile = load(
        "train = {steps = 600, learning_rate = 3e-4}\n"
        "[train]\nepochs = 2\nbatch_size = 8\n"
        "[replay_stage]\nsteps = 400\ntrain = {batch_size = 4}\n"
    )
    new, recover = profile.stages()
    assert (new.name, new.task, new.train.steps, new.train.epochs) == ("new", "new", 600, None)
    assert new.train.batch_size == 8
    assert (recover.name, recover.task, recover.train.steps) == ("replay", "old", 400)
    assert (recover.train.batch_size, recover.train.epochs) == (4, None)


def test_first_task_has_a_stage_when_it_is_to_be_learnt() -> None:
    text = TASKS.replace('data = "org/old"', 'data = "org/old"\nlearn = true')
    assert [stage.name for stage in parse_profile(text).stages()] == ["old", "new"]


def test_recovery_is_of_the_first_watched_task() -> None:
    text = TASKS.replace('data = "org/old"', 'data = "org/old"\nwatch = false')
    profile = parse_profile(
        text + '[[tasks]]\nname = "third"\ndata = "x/y"\n[replay_stage]\nsteps = 1'
    )
    assert profile.stages()[-1].task == "new"


def test_freeze_laid_over_and_taken_back() -> None:
    profile = load(
        "train.freeze.layers = 3\n"
        '[[tasks]]\nname = "third"\ndata = "x/y"\ntrain.strategy = "seq"\n'
        '[train]\nstrategy = "freeze"\nfreeze = {layers = 2, embeddings = false}\n'
    )
    froze = profile.stage_train("new").table("freeze")
    assert froze is not None
    assert (froze.layers, froze.embeddings) == (3, False)
    assert profile.stage_train("third").table("freeze") is None


@pytest.mark.parametrize(
    ("length", "examples", "steps"),
    [
        ("", 1000, 300),
        ("steps = 7", 1000, 7),
        ("epochs = 2", 1000, 125),
        ("epochs = 1", 17, 2),
        ("epochs = 0.5", 3, 1),
    ],
)
def test_total_steps(length: str, examples: int, steps: int) -> None:
    assert load(f"[train]\n{length}\n").train.total_steps(examples) == steps


def test_micro_batch_is_the_batch_unless_said() -> None:
    assert load("[train]\nbatch_size = 8\n").train.micro_batch == 8
    assert load("[train]\nbatch_size = 8\nmicro_batch_size = 2\n").train.micro_batch == 2


def test_what_changes_nothing_is_noted() -> None:
    text = TASKS.replace("org/new", "biography:new").replace(
        'data = "org/old"', 'data = "org/old"\ntrain.steps = 3'
    )
    profile = parse_profile(text.replace('data = "bio', 'group = "x"\ndata = "bio'))
    assert profile.notes == (
        "[[tasks]] 'new' group is ignored: biography data has its own",
        "[[tasks]] 'old' train is ignored: the task is known, not trained",
    )


def test_drop_may_be_in_nats() -> None:
    text = TASKS.replace('data = "org/old"', 'data = "org/old"\nmetric = "nll"')
    rule = "[[rules]]\nname = 'a'\nmetric = 'drop'\nabove = 3.5\naction = 'freeze'\n"
    assert parse_profile(text + rule).rules[0].above == 3.5


def test_loading_takes_well_under_half_a_second_and_nothing_heavy(tmp_path: Path) -> None:
    path = tmp_path / "prod.toml"
    path.write_text(TASKS)
    script = (
        "import sys, time; start = time.process_time()\n"
        "from sf_tui.profile import load_profile\n"
        f"load_profile({str(path)!r})\n"
        "heavy = {'torch', 'transformers', 'datasets', 'textual', 'rich'}\n"
        "print(time.process_time() - start, *sorted(heavy & set(sys.modules)))"
    )
    # CPU time, the best of three: other processes may be at work on this machine.
    results = [
        subprocess.run(
            [sys.executable, "-c", script],
            capture_output=True,
            text=True,
            check=True,
            env=dict(os.environ),
        ).stdout.split()
        for _ in range(3)
    ]
    assert all(len(result) == 1 for result in results), results
    assert min(float(result[0]) for result in results) < 0.5
