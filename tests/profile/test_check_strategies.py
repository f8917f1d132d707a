"""`[anchor]`, `[neighbors]` and strategy anchor: what is taken, noted and refused."""

from __future__ import annotations

import pytest

from sf_tui.errors import ProfileError
from sf_tui.profile import dump_profile, parse_profile, problems_in
from sf_tui.vocabulary.strategies import ReplaySettings
from support.two_task_profile import TASKS, load, problems

RANDOM = """\
name = "prod"
[model]
source = "random"
config = {model_type = "gpt_neox"}
[[tasks]]
name = "first"
data = "biography:pretrain"
learn = true
[[tasks]]
name = "old"
data = "biography:old"
"""


def problem(text: str = "", *overrides: str) -> tuple[str, str]:
    [told, *_] = problems(text, *overrides)
    return told


def test_defaults() -> None:
    profile = load()
    anchor = profile.anchor
    assert (
        anchor.strength,
        anchor.rows,
        anchor.cache_size,
        anchor.answer_tokens,
        anchor.top_k,
    ) == (
        *(1.0, None, None, None),
        64,
    )
    assert profile.neighbors.survey_budget == 0.03
    assert dict(profile.neighbors.kinds) == {
        "substitution": 1.0,
        "same_template": 2.0,
        "random_words": 1.0,
        "random_tokens": 1.0,
        "written": 0.0,
    }
    assert profile.notes == ()


def test_every_key_is_reached_by_an_option() -> None:
    profile = load(
        "", "anchor.strength=2", "neighbors.kinds.random_tokens=0", "neighbors.survey_budget=0"
    )
    assert profile.anchor.strength == 2.0
    assert profile.neighbors.survey_budget == 0.0
    kinds = profile.neighbors.kinds
    assert (kinds.random_tokens, kinds.same_template) == (0.0, 2.0)
    assert parse_profile(dump_profile(profile)) == profile


def test_strategy_anchor_of_all_stages_and_of_one() -> None:
    profile = load('[train]\nstrategy = "anchor"\n')
    assert profile.stage_train("new").strategy == "anchor"
    one = load('train.strategy = "anchor"\n')
    assert (one.train.strategy, one.stage_train("new").strategy) == ("seq", "anchor")
    assert one.notes == profile.notes == ()
    for loaded in (profile, one):
        assert parse_profile(dump_profile(loaded)) == loaded


def test_strategy_anchor_takes_a_strategy_freezes_table_away() -> None:
    profile = load(
        'train.strategy = "anchor"\n[train]\nstrategy = "freeze"\nfreeze = {layers = 2}\n'
    )
    assert profile.stage_train("new").table("freeze") is None


def test_anchor_that_nothing_shows_is_noted() -> None:
    text = TASKS.replace('data = "org/old"', 'data = "org/old"\nwatch = false')
    profile = parse_profile(text + '[train]\nstrategy = "anchor"\n')
    note = (
        "stage 'new' is trained with 'anchor' and no earlier task is watched: nothing will show "
        "what that keeps"
    )
    assert profile.notes == (note,)
    assert parse_profile(dump_profile(profile)).notes == (note,)


def test_stage_from_random_weights_can_not_be_anchored() -> None:
    with pytest.raises(ProfileError) as caught:
        parse_profile(RANDOM + '[train]\nstrategy = "anchor"\n', name="prod.toml")
    assert problems_in(caught.value) == [
        (
            "prod.toml:13: [train] strategy 'anchor' would hold task 'first' to random weights",
            'give that task train = {strategy = "seq"}',
        )
    ]
    seq_first = RANDOM.replace("learn = true", 'learn = true\ntrain.strategy = "seq"')
    profile = parse_profile(seq_first + '[train]\nstrategy = "anchor"\n')
    assert [stage.train.strategy for stage in profile.stages()] == ["seq", "anchor"]


def test_data_without_prompts_can_not_be_anchored() -> None:
    entries = '[[tasks]]\nname = "more"\ndata = "biography:pretrain"\ntrain.strategy = "anchor"\n'
    assert problem(entries) == (
        "prod.toml:13: [[tasks]] 'more' train: strategy 'anchor' needs prompts, and the data of "
        "task 'more' has none",
        'give that task train = {strategy = "seq"}',
    )


@pytest.mark.parametrize(
    ("text", "line", "message", "hint"),
    [
        (
            "[anchor]\nstrength = 0\n",
            11,
            "[anchor] strength = 0: must be a number above 0",
            "the default is strength = 1.0",
        ),
        (
            "[anchor]\nstrength = -1.5\n",
            11,
            "[anchor] strength = -1.5: must be a number above 0",
            "the default is strength = 1.0",
        ),
        (
            "[anchor]\nstrength = nan\n",
            11,
            "[anchor] strength = nan: must be a number above 0",
            "the default is strength = 1.0",
        ),
        (
            "[anchor]\nrows = 0\n",
            11,
            "[anchor] rows = 0: must be a whole number of at least 1",
            "omit 'rows' for the default",
        ),
        (
            "[anchor]\ntop_k = 6.5\n",
            11,
            "[anchor] top_k = 6.5: must be a whole number of at least 1, not a number",
            "the default is top_k = 64",
        ),
        (
            "[anchor]\nstrenght = 1\n",
            11,
            "[anchor] unknown key 'strenght'",
            "did you mean 'strength'?",
        ),
        (
            "[anchor]\nrows = 8\ncache_size = 4\n",
            12,
            "[anchor] cache_size = 4 is less than the 8 rows of a step",
            "few prompts are memorized; omit it for new ones at every step",
        ),
        (
            "[anchor]\ncache_size = 15\n",
            11,
            "[anchor] cache_size = 15 is less than the 16 rows of a step",
            "few prompts are memorized; omit it for new ones at every step",
        ),
        (
            "[train]\nmax_length = 32\n[anchor]\nanswer_tokens = 32\n",
            13,
            "[anchor] answer_tokens = 32 leaves no token for a prompt: max_length is 32",
            "make it smaller, or omit it for the default",
        ),
        (
            "[neighbours]\nsurvey_budget = 0\n",
            10,
            "unknown key 'neighbours'",
            "did you mean 'neighbors'?",
        ),
        (
            "[neighbors]\nsurvey_budget = 3\n",
            11,
            "[neighbors] survey_budget = 3: must be a share from 0 to 1",
            "the default is survey_budget = 0.03",
        ),
        (
            "[neighbors]\nrandom_tokens = 0\n",
            11,
            "[neighbors] unknown key 'random_tokens'",
            "'random_tokens' is a key of [neighbors.kinds]",
        ),
        (
            "[neighbors]\nkinds = 'words'\n",
            11,
            '[neighbors] kinds = "words": must be a table, not text',
            "write it as a table: [neighbors.kinds]",
        ),
        (
            "[neighbors]\nkinds = {\n  same_templates = 1 }\n",
            12,
            "[neighbors.kinds] unknown key 'same_templates'",
            "did you mean 'same_template'?",
        ),
        (
            "[neighbors.kinds]\nrandom_words = -1\n",
            11,
            "[neighbors.kinds] random_words = -1: must be a number of at least 0",
            "the default is random_words = 1.0",
        ),
        (
            "[neighbors.kinds]\nsubstitution = 0\nsame_template = 0\n"
            "random_words = 0\nrandom_tokens = 0\n",
            10,
            "[neighbors.kinds] every kind has the weight 0",
            "give one a weight above 0, or omit it for the default",
        ),
    ],
)
def test_mistake_is_told(text: str, line: int, message: str, hint: str) -> None:
    assert problem(text) == (f"prod.toml:{line}: {message}", hint)


def test_wrong_option_is_told_as_it_was_written() -> None:
    assert problem("", "neighbors.kinds.random_token=0") == (
        "--set neighbors.kinds.random_token: unknown key 'random_token'",
        "did you mean 'random_tokens'?",
    )
    assert problem("", "anchor.strength=0")[0] == (
        "--set anchor.strength: strength = 0: must be a number above 0"
    )


def test_fewer_prompts_than_the_profiles_batch_are_enough_for_a_smaller_one() -> None:
    profile = load("train.batch_size = 4\n[anchor]\ncache_size = 8\n")
    assert profile.anchor.cache_size == 8


def test_a_recovery_is_not_held_to_what_it_brings_back_from() -> None:
    profile = load('[train]\nstrategy = "anchor"\n[replay_stage]\nsteps = 5\n')
    assert [stage.train.strategy for stage in profile.stages()] == ["anchor", "seq"]

    kept = load('[replay_stage]\nsteps = 5\ntrain = {strategy = "anchor"}\n')
    assert [stage.train.strategy for stage in kept.stages()] == ["seq", "anchor"]


def test_replay_stage_takes_a_holding_strategys_settings_only_with_the_strategy() -> None:
    base = '[train]\nstrategy = "replay"\nreplay = {rows = 3}\nbatch_size = 8\n'
    smaller = load(base + "[replay_stage]\nsteps = 5\ntrain = {batch_size = 1}\n")
    assert smaller.stages()[-1].train.strategy == "seq"

    chosen = load(base + '[replay_stage]\nsteps = 5\ntrain = {strategy = "replay"}\n')
    assert chosen.stages()[-1].train.table("replay") == ReplaySettings(rows=3)

    table = base + "[replay_stage]\nsteps = 5\ntrain = {replay = {rows = 2}}\n"
    assert problem(table) == (
        "prod.toml:16: [replay_stage.train] a replay table goes with strategy 'replay', and "
        "strategy is 'seq'",
        'set strategy = "replay", or take the table away',
    )


@pytest.mark.parametrize("strategy", ["replay", "ewc"])
def test_replay_stage_of_the_only_task_has_no_old_examples(strategy: str) -> None:
    text = TASKS.partition('[[tasks]]\nname = "new"')[0]
    stage = f'[replay_stage]\nsteps = 5\ntrain = {{strategy = "{strategy}"}}\n'
    with pytest.raises(ProfileError) as caught:
        parse_profile(text + stage, name="prod.toml")
    assert problems_in(caught.value) == [
        (
            f"prod.toml:9: [replay_stage.train] strategy '{strategy}' needs examples of an earlier "
            "task, and task 'old' is the only one",
            'give [replay_stage] train = {strategy = "seq"}',
        )
    ]


def test_subjects_are_left_out_of_tasks_that_there_are() -> None:
    assert load('[neighbors]\nexclude_tasks = ["old"]\n').neighbors.exclude_tasks == ["old"]
    assert problem('[neighbors]\nexclude_tasks = ["old", "odl"]\n') == (
        "prod.toml:11: [neighbors.exclude_tasks] no task is named 'odl'",
        "did you mean 'old'?",
    )
