"""What is written of a profile says everything and loads again to an equal one."""

from __future__ import annotations

from typing import Any

import tomli
import tomlkit
from hypothesis import given, settings
from hypothesis import strategies as st

from sf_tui.profile import dump_profile, parse_profile
from sf_tui.vocabulary.ops import OPS

SHARE = st.floats(0, 1) | st.sampled_from([0, 1])
POSITIVE = st.floats(1e-12, 1e6, exclude_min=True) | st.integers(1, 10**6)
COUNT = st.integers(1, 10**6)
NAME = st.from_regex(r"[a-z0-9][a-z0-9_-]{0,12}", fullmatch=True).filter(
    lambda name: name not in ("replay", "user", "worker")
)
TEXT = st.text(st.characters(codec="utf-8"), max_size=20)
LINE = st.text(st.characters(codec="utf-8", exclude_categories=["Cc"]), min_size=1, max_size=20)
PLAIN = st.recursive(
    TEXT | st.integers() | st.booleans() | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=6,
)
TRAIN = st.fixed_dictionaries(
    {},
    optional={
        "learning_rate": POSITIVE,
        "batch_size": COUNT,
        "lr_schedule": st.sampled_from(["constant", "linear", "cosine"]),
        "betas": st.tuples(st.floats(0, 0.99), st.floats(0, 0.99)).map(list),
        "max_grad_norm": st.just(0) | POSITIVE,
        "threads": st.integers(1, 1024),
        "length_grouped": st.booleans(),
    },
)
LENGTH = st.fixed_dictionaries({"steps": COUNT}) | st.fixed_dictionaries({"epochs": POSITIVE})
LONG_TRAIN = st.builds(lambda train, length: {**train, **length}, TRAIN, LENGTH)
FREEZE = st.fixed_dictionaries(
    {
        "strategy": st.just("freeze"),
        "freeze": st.fixed_dictionaries(
            {"layers": st.integers(0, 99)}, optional={"embeddings": st.booleans()}
        ),
    }
)
ARGUMENTS: dict[str, st.SearchStrategy[Any]] = {
    "layers": st.integers(0, 99),
    "embeddings": st.booleans(),
    "to": LINE,
    "strength": POSITIVE,
    "examples": COUNT,
    "thorough": st.booleans(),
    "beside": st.booleans(),
    "time": st.just(0) | POSITIVE,
    "steps": COUNT,
    "then_anchor": st.booleans(),
    "keep_frozen": st.booleans(),
    "new_floor": st.floats(0, 1),
    "alpha": st.floats(0, 1, exclude_min=True),
    "keep": st.floats(0, 1, exclude_max=True),
    "command": LINE,
    "question": LINE,
    "task": LINE,
}
DATA = st.sampled_from(["biography:old", "biography:new-3"]) | st.sampled_from(
    ["a.jsonl", "org/set", "/abs/b.parquet", "~/c.csv", "é\\ü.json"]
)
NEW_TABLES: dict[str, st.SearchStrategy[Any]] = {
    "anchor": st.fixed_dictionaries(
        {}, optional={"strength": POSITIVE, "rows": COUNT, "answer_tokens": COUNT, "top_k": COUNT}
    ),
    "neighbors": st.fixed_dictionaries(
        {},
        optional={
            "survey_budget": SHARE,
            "kinds": st.fixed_dictionaries(
                {"same_template": POSITIVE}, optional={"random_words": SHARE, "written": SHARE}
            ),
        },
    ),
    "diagnose": st.fixed_dictionaries(
        {},
        optional={
            "examples": COUNT,
            "steps": COUNT,
            "learning_rate": POSITIVE,
            "control": st.sampled_from(["biography:new-5", "never seen.jsonl", "org/facts"]),
            "unrelated": st.sampled_from(["biography:new-4", "./other.csv", "org/other"]),
            "time": st.just(0) | POSITIVE,
            "beside": st.booleans(),
            "device": st.sampled_from(["cpu", "cuda:1"]),
            "threads": COUNT,
        },
    ),
    "recover": st.fixed_dictionaries(
        {},
        optional={
            "examples": st.integers(0, 99),
            "steps": COUNT,
            "learning_rate": POSITIVE,
            "strength": POSITIVE,
            "old_share": st.floats(0.01, 0.99),
            "new_floor": st.floats(0, 1),
            "interpolate": st.floats(0.01, 1),
        },
    ),
}
KEYS = st.sampled_from([*"adfghijkoruvwxy0123456789FUBC", "space", "f5", "up", ""])


@st.composite
def raw_profiles(draw: st.DrawFn) -> dict[str, Any]:
    names = draw(st.lists(NAME, min_size=2, max_size=4, unique=True))
    tasks = [
        {
            "name": name,
            "data": draw(DATA),
            **draw(
                st.fixed_dictionaries(
                    {},
                    optional={
                        "metric": st.sampled_from(["exact_match", "token_accuracy", "nll"]),
                        "held_out": COUNT | st.floats(0.01, 0.99) | st.just("held out.jsonl"),
                        "group": LINE,
                        "fields": st.just({"prompt": "q", "completion": 'a"b'}),
                        "train": LONG_TRAIN | FREEZE,
                        "on_bad_row": st.just("skip"),
                    },
                )
            ),
        }
        for name in names
    ]
    if draw(st.booleans()):
        tasks[0]["learn"] = draw(st.booleans())
    action_names = draw(st.lists(NAME, max_size=4, unique=True))
    keys = draw(st.lists(KEYS, min_size=4, max_size=4, unique=True))
    actions: dict[str, Any] = {}
    for name, key in zip(action_names, keys, strict=False):
        op = draw(st.sampled_from([op for op in OPS if op != "stop"]))
        actions[name] = {"op": op, "key": key, "label": draw(LINE), "confirm": draw(st.booleans())}
        taken = {argument: ARGUMENTS[argument] for argument in OPS[op].argument_names}
        actions[name].update(draw(st.fixed_dictionaries({}, optional=taken)))
    if draw(st.booleans()):
        actions.setdefault("freeze", {"embeddings": draw(st.booleans())})
    profile: dict[str, Any] = {
        "name": draw(st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,20}", fullmatch=True)),
        "description": draw(TEXT),
        "seed": draw(st.integers(0, 2**32 - 1)),
        "model": {
            "source": "random",
            "tokenizer": draw(st.sampled_from(["biography", "org/tokenizer", "./here"])),
            "config": {
                **draw(st.dictionaries(TEXT, PLAIN, max_size=3)),
                "model_type": "gpt_neox",
            },
        },
        "tasks": tasks,
        "train": draw(LONG_TRAIN),
        "replay_stage": {"steps": draw(st.integers(0, 5)), "train": draw(TRAIN)},
        "biography": {
            "people": draw(st.integers(2, 500)),
            "train_share": draw(st.floats(0.01, 0.99)),
        },
        "rules": [
            {
                "name": name,
                "metric": "loss",
                draw(st.sampled_from(["above", "below"])): draw(st.just(0) | POSITIVE),
                "action": "pause",
                # A rule that rolled back again and again would be refused.
                "once": draw(st.booleans()) or actions.get("pause", {}).get("op") == "rollback",
            }
            for name in draw(st.lists(NAME, max_size=2, unique=True))
        ],
        "actions": actions,
        "probe": {"budget": draw(SHARE)},
        **draw(st.fixed_dictionaries({}, optional=NEW_TABLES)),
    }
    return profile


@settings(max_examples=50, deadline=None)
@given(raw_profiles())
def test_dumped_profile_loads_to_an_equal_one(raw: dict[str, Any]) -> None:
    profile = parse_profile(tomlkit.dumps(raw))
    text = dump_profile(profile)
    again = parse_profile(text)
    assert again == profile
    assert dump_profile(again) == text
    assert again.stages() == profile.stages()


MINIMAL = """\
name = "prod"
[model]
source = "org/model"
[[tasks]]
name = "old"
data = "old.jsonl"
[[tasks]]
name = "new"
data = "new.jsonl"
"""


def test_dump_leaves_out_what_has_no_value_and_says_all_else() -> None:
    written = tomli.loads(dump_profile(parse_profile(MINIMAL)))
    assert written["train"]["steps"] == 300
    assert "epochs" not in written["train"]
    assert written["replay_stage"] == {"steps": 0, "task": "old"}
    assert [task["learn"] for task in written["tasks"]] == [False, True]
    assert written["actions"]["stop"] == {"op": "stop", "key": "", "confirm": False}
    assert "biography" not in written
    assert "guard" not in written


def test_stored_profile_of_an_older_version_loads() -> None:
    """It has its own actions on keys that are defaults' today, and none of the newer tables."""
    stored = tomli.loads(dump_profile(parse_profile(MINIMAL)))
    for table in ("anchor", "neighbors", "diagnose", "recover"):
        del stored[table]
    older = ("freeze", "unfreeze", "pause", "resume", "checkpoint", "rollback", "stop")
    stored["actions"] = {name: stored["actions"][name] for name in older}
    stored["actions"]["again"] = {"op": "rollback", "key": "a", "confirm": True}
    stored["actions"]["recover"] = {"op": "rollback", "key": "r", "confirm": False}
    profile = parse_profile(tomlkit.dumps(stored))
    assert profile.action("again").key == "a"
    assert profile.action("anchor").key is None
    assert (profile.action("recover").op, profile.action("recover").confirm) == ("rollback", False)
    assert profile.action("diagnose").key == "d"
    assert profile.anchor.strength == 1.0
    assert parse_profile(dump_profile(profile)) == profile


def test_lost_key_stays_lost() -> None:
    text = MINIMAL + "[actions.hold]\nop = 'unfreeze'\nkey = 'f'\n"
    profile = parse_profile(text)
    assert profile.action("freeze").key is None
    assert parse_profile(dump_profile(profile)).action("freeze").key is None


def test_ignored_table_is_noted_once_and_not_written() -> None:
    profile = parse_profile(MINIMAL + "[biography]\npeople = 10\n")
    assert profile.notes == ("[biography] is ignored: no task uses it",)
    assert parse_profile(dump_profile(profile)).notes == ()
    assert parse_profile(dump_profile(profile)) == profile
