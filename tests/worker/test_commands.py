"""Every command is acknowledged, carried out between two steps, and never ends a run by itself."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from sf_tui.run.commands import request_command
from sf_tui.run.directory import RunDirectory
from sf_tui.run.events import JsonObject
from support.quick_run import (
    Begin,
    Operator,
    assert_well_told,
    checkpoint_weights,
    checkpoints_of,
    commands_of,
    equal,
    events_of,
    final_weights,
    live_course,
    work,
)

MISTAKES: list[tuple[str, dict[str, Any], str]] = [
    ("freze", {}, "freeze"),
    ("", {}, "no action"),
    ("freeze", {"layer": 1}, "layers"),
    ("pause", {"layers": 1}, "takes no argument"),
    ("freeze", {"layers": "two"}, "layers"),
    ("freeze", {"layers": -1}, "layers"),
    ("freeze", {"layers": 10**15}, "at most"),
    ("freeze", {"layers": 5}, "the model has 4"),
    ("unfreeze", {}, "nothing is frozen"),
    ("resume", {}, "not paused"),
    ("rollback", {"to": "step-000099"}, "there are: step-000000, step-000004, step-000008"),
    ("rollback", {"to": "new/step-000000"}, "new/step-000000"),
]


RUBBISH: list[bytes] = [
    b"rubbish\n",
    b"\xff\xfe\x00\n",
    b"[]\n",
    b"{}\n",
    b"\n",
    b'{"id": "x-1", "action": ["freeze"], "arguments": {}}\n',
    b'{"id": "x-2", "action": "freeze", "arguments": [3]}\n',
    b'{"id": "x-3", "action": "freeze", "arguments": "layers=2"}\n',
    b'{"id": "x-4", "action": "nothing", "arguments": null, "by": null}\n',
    b'{"id": {"a": 1}, "action": "nothing", "arguments": {"\\ud800": 1}}\n',
    b'{"id": "x-5", "action": "' + b"x" * 5000 + b'"}\n',
    b'{"id": "torn", "action": "sto',
]


def test_what_makes_no_sense_or_is_no_command_is_refused_and_changes_nothing(
    begin: Begin, undisturbed: RunDirectory
) -> None:
    run = begin()
    operator = Operator(run)
    for step, (action, arguments, _) in enumerate(MISTAKES, start=1):
        operator.at("old", step, action, **arguments)

    def write(event: JsonObject) -> None:
        if event["type"] == "step" and (event["stage"], event["step"]) == ("new", 3):
            with run.commands.open("ab") as file:
                file.writelines(RUBBISH)

    assert work(run, operator, write) == 0
    assert_well_told(run)
    assert {status for _, status in commands_of(run)} == {"refused"}
    assert {"x-1", "x-2", "x-3", "x-4", "x-5"} <= {e["id"] for e in events_of(run, "command")}
    answers = [e for e in events_of(run, "command") if e["stage"] == "old"]
    assert [(e["action"], e["status"]) for e in answers] == [
        (action, "refused") for action, _, _ in MISTAKES
    ]
    assert [(e["stage"], e["step"]) for e in answers] == [("old", at) for at in range(1, 13)]
    for answer, (_, _, says) in zip(answers, MISTAKES, strict=True):
        assert says in answer["reason"]
        assert "\n" not in answer["reason"]
    assert equal(final_weights(run), final_weights(undisturbed))


def test_freeze_is_accepted_and_done_and_holds_to_the_last_bit(begin: Begin) -> None:
    run = begin()
    assert work(run, Operator(run).at("old", 4, "freeze", layers=2)) == 0
    accepted, done = events_of(run, "command")
    assert accepted["id"] == done["id"]
    assert (accepted["status"], done["status"]) == ("accepted", "done")
    assert (done["op"], done["stage"], done["step"]) == ("freeze", "old", 4)
    assert "embeddings to block-1" in done["reason"]
    assert_well_told(run)

    # The checkpoint of step 4 is written before commands are obeyed, the freeze lasts to the end
    # of the next stage.
    before, after = checkpoint_weights(run, "old", 4), final_weights(run)
    still = {name for name in before if bool((before[name] == after[name]).all())}
    held = {name for name in before if ".0." in name or ".1." in name or "embed_in" in name}
    assert still == held
    for event in events_of(run, "drift"):
        frozen = [layer["name"] for layer in event["layers"] if layer["frozen"]]
        later = event["seq"] > accepted["seq"]
        assert frozen == (["embeddings", "block-0", "block-1"] if later else [])
    # Told at once, before the next probe.
    assert [e["step"] for e in events_of(run, "drift") if e["stage"] == "old"] == [4, 4, 8, 12]
    drifts = {
        (e["stage"], e["step"]): [layer["relative_update"] for layer in e["layers"]]
        for e in events_of(run, "drift")
    }
    assert drifts["old", 4][:3] == drifts["old", 8][:3] == drifts["old", 12][:3]
    assert drifts["new", 12][:3] == [0.0, 0.0, 0.0]


def test_second_freeze_adds_and_a_repeated_one_says_so(begin: Begin) -> None:
    run = begin("train.steps=4")
    operator = Operator(run).at("old", 1, "freeze", layers=1).at("old", 2, "freeze", layers=3)
    assert work(run, operator.at("old", 3, "freeze")) == 0
    reasons = [e["reason"] for e in events_of(run, "command") if e["status"] == "done"]
    assert "block-0" in reasons[0]
    assert "block-1 to block-2" in reasons[1]
    assert "already" in reasons[2]
    # Half of the blocks is said in numbers.
    assert [e["arguments"]["layers"] for e in events_of(run, "command")[-2:]] == [2, 2]


def test_unfreeze_lets_every_layer_train_again(begin: Begin) -> None:
    run = begin("tasks.new.train.steps=1")
    operator = Operator(run).at("old", 4, "freeze", layers=4).at("old", 8, "unfreeze")
    assert work(run, operator) == 0
    assert_well_told(run)
    held = checkpoint_weights(run, "old", 8)
    assert equal(
        {n: w for n, w in held.items() if ".0." in n},
        {n: w for n, w in checkpoint_weights(run, "old", 4).items() if ".0." in n},
    )
    after = final_weights(run)
    assert not any(bool((held[name] == after[name]).all()) for name in held if "weight" in name)


def test_freeze_by_hand_leaves_the_next_stage_no_more_than_it_asked_for(begin: Begin) -> None:
    # The stage's own strategy holds three blocks; the operator asks for one.
    held = ('tasks.old.train.strategy="freeze"', "tasks.old.train.freeze={layers=3}")
    run = begin(*held, "train.steps=2")
    assert work(run, Operator(run).at("old", 1, "freeze", layers=1)) == 0
    started = {e["stage"]: e["frozen"] for e in events_of(run, "stage_started")}
    assert started["old"] == ["embeddings", "block-0", "block-1", "block-2"]
    assert started["new"] == ["embeddings", "block-0"]


def test_tied_embeddings_are_told_when_they_are_frozen(begin: Begin) -> None:
    run = begin("model.config.tie_word_embeddings=true", "train.steps=2")
    assert work(run, Operator(run).at("old", 1, "freeze", layers=1)) == 0
    (done,) = [e for e in events_of(run, "command") if e["status"] == "done"]
    assert "output projection is tied" in done["reason"]
    assert "tied-embeddings" in [e["code"] for e in events_of(run, "alert") if e["stage"] == "new"]


def test_paused_run_takes_no_step_and_goes_on_as_if_nothing_had_been(
    begin: Begin, undisturbed: RunDirectory
) -> None:
    run = begin()
    operator = Operator(run).at("old", 5, "pause")
    operator.after("pause", "checkpoint").after("pause", "pause").after("checkpoint", "resume")
    assert work(run, operator) == 0
    assert_well_told(run)
    assert [e["step"] for e in events_of(run, "command")] == [5] * len(events_of(run, "command"))
    assert commands_of(run)[:2] == [("pause", "accepted"), ("pause", "done")]
    assert ("pause", "refused") in commands_of(run)
    assert commands_of(run)[-1] == ("resume", "done")
    assert "step-000005" in checkpoints_of(run, "old")
    assert live_course(run) == live_course(undisturbed)
    assert equal(final_weights(run), final_weights(undisturbed))


def test_checkpoint_that_was_asked_for_is_never_deleted(begin: Begin) -> None:
    run = begin("checkpoint.keep_last=1", "checkpoint.keep_best=0")
    # Nor where a stop saves the same step.
    operator = Operator(run).at("old", 5, "checkpoint").at("old", 5, "stop")
    assert work(run, operator) == 5
    assert work(run, Operator(run).at("new", 2, "checkpoint")) == 0
    assert checkpoints_of(run, "old") == ["step-000000", "step-000005", "step-000012"]
    assert checkpoints_of(run, "new") == ["step-000000", "step-000002", "step-000012"]
    asked = [e for e in events_of(run, "command") if e["action"] == "checkpoint"]
    done = [e["reason"] for e in asked if e["status"] == "done"]
    assert done == ["step-000005", "step-000002"]


def test_commands_sent_together_are_all_answered_in_their_order(begin: Begin) -> None:
    # A rollback throws away what was left to do at its step, but not the next command.
    run = begin("tasks.new.train.steps=1")
    operator = Operator(run).at("old", 6, "rollback").at("old", 6, "freeze", layers=1)
    assert work(run, operator.at("old", 6, "checkpoint")) == 0
    assert_well_told(run)
    done = [(e["action"], e["step"]) for e in events_of(run, "command") if e["status"] == "done"]
    assert done == [("rollback", 4), ("freeze", 4), ("checkpoint", 4)]


def test_rollback_says_what_is_lost_and_goes_on_from_there(
    begin: Begin, undisturbed: RunDirectory
) -> None:
    run = begin()
    assert work(run, Operator(run).at("old", 11, "rollback")) == 0
    assert_well_told(run)
    (rewound,) = events_of(run, "rewound")
    assert (rewound["step"], rewound["lost"], rewound["reason"]) == (8, 3, "rollback")
    assert "3 steps lost" in events_of(run, "command")[-1]["reason"]
    assert live_course(run) == live_course(undisturbed)
    assert equal(final_weights(run), final_weights(undisturbed))


def test_rollback_to_a_named_checkpoint_undoes_a_freeze_that_came_later(
    begin: Begin, undisturbed: RunDirectory
) -> None:
    run = begin()
    names = {"old": "step-000004", "new": "checkpoints/new/step-000004"}
    operator = Operator(run)
    for stage, name in names.items():
        operator.at(stage, 6, "freeze", layers=2).at(stage, 10, "rollback", to=name)
    assert work(run, operator) == 0
    told = [(e["stage"], e["step"], e["lost"]) for e in events_of(run, "rewound")]
    assert told == [("old", 4, 6), ("new", 4, 6)]
    for stage in names:
        # The checkpoints after the target are put aside, and the new course writes its own.
        assert checkpoints_of(run, stage) == [
            "step-000000",
            "step-000004",
            "step-000008",
            "step-000008~1",
            "step-000012",
        ]
    assert equal(final_weights(run), final_weights(undisturbed))


def test_freeze_survives_a_rollback_to_a_checkpoint_behind_it(begin: Begin) -> None:
    run = begin("tasks.new.train.steps=1")
    operator = Operator(run).at("old", 3, "freeze", layers=1).at("old", 10, "rollback")
    assert work(run, operator) == 0
    frozen = [layer["name"] for layer in events_of(run, "drift")[-1]["layers"] if layer["frozen"]]
    assert frozen == ["embeddings", "block-0"]


def test_rollback_of_a_paused_run_leaves_it_paused(begin: Begin) -> None:
    run = begin("tasks.new.train.steps=1")
    operator = Operator(run).at("old", 6, "pause").after("pause", "rollback")
    assert work(run, operator.after("rollback", "resume")) == 0
    assert_well_told(run)
    done = [(e["action"], e["step"]) for e in events_of(run, "command") if e["status"] == "done"]
    assert done == [("pause", 6), ("rollback", 4), ("resume", 4)]


def test_stop_saves_everything_and_the_run_goes_on_later(
    begin: Begin, undisturbed: RunDirectory
) -> None:
    run = begin()
    operator = Operator(run).at("new", 3, "stop").at("new", 3, "freeze", layers=1)
    assert work(run, operator) == 5
    assert events_of(run)[-1]["status"] == "stopped"
    assert "`sf resume run` continues it" in events_of(run)[-1]["reason"]
    assert ("stop", "done") in commands_of(run)
    assert equal(final_weights(run), checkpoint_weights(run, "new", 3))
    # What was sent behind the stop is answered too, and not carried out by the next worker.
    assert [e["status"] for e in events_of(run, "command") if e["action"] == "freeze"] == [
        "refused"
    ]
    assert work(run) == 0
    assert_well_told(run)
    assert equal(final_weights(run), final_weights(undisturbed))


def test_checkpoint_of_a_stop_is_not_kept_for_ever(begin: Begin) -> None:
    # A requeued job stops every few hours; each stop must not cost the disk a model.
    kept = ("checkpoint.keep_last=1", "checkpoint.keep_best=0", "checkpoint.every=100")
    run = begin(*kept, "tasks.new.train.steps=1")
    for step in (3, 5):
        assert work(run, Operator(run).at("old", step, "stop")) == 5
        assert f"step-{step:06d}" in checkpoints_of(run, "old")
    assert work(run) == 0
    assert checkpoints_of(run, "old") == ["step-000000", "step-000012"]


def test_command_between_two_stages_belongs_to_the_next_and_one_behind_the_last_is_refused(
    begin: Begin,
) -> None:
    run = begin("train.steps=2")

    def ask(event: JsonObject) -> None:
        if event["type"] == "stage_finished":
            request_command(run, "freeze", {"layers": 1})
        if event["type"] == "checkpoint" and (event["stage"], event["step"]) == ("new", 0):
            request_command(run, "rollback")

    assert work(run, ask) == 0
    told = [(e["action"], e["status"], e["stage"]) for e in events_of(run, "command")]
    assert told == [
        ("freeze", "accepted", "new"),
        ("freeze", "done", "new"),
        ("rollback", "refused", "new"),
        ("freeze", "refused", None),
    ]
    _, done, rollback, _ = events_of(run, "command")
    assert done["step"] == 0
    assert "no checkpoint before step 0" in rollback["reason"]
    assert events_of(run)[-1]["type"] == "run_finished"


def test_command_of_the_same_id_is_carried_out_once(begin: Begin) -> None:
    run = begin("tasks.new.train.steps=1")
    line = json.dumps({"id": "twice", "action": "checkpoint", "arguments": {}, "by": "user"}) + "\n"

    def write(event: JsonObject) -> None:
        if event["type"] == "step" and event["stage"] == "old" and event["step"] in (3, 5):
            with Path(run.commands).open("a") as file:
                file.write(line)

    assert work(run, write) == 0
    assert commands_of(run) == [("checkpoint", "accepted"), ("checkpoint", "done")]


def test_own_action_has_its_own_arguments_and_a_command_may_replace_them(begin: Begin) -> None:
    own = '[actions.hold]\nop = "freeze"\nkey = "h"\nlayers = 3\nembeddings = false\n'
    run = begin("train.steps=2", more=own)
    operator = Operator(run).at("old", 1, "hold").at("new", 1, "hold", layers=4)
    assert work(run, operator) == 0
    arguments: list[dict[str, Any]] = [
        e["arguments"] for e in events_of(run, "command") if e["status"] == "done"
    ]
    assert arguments == [
        {"layers": 3, "embeddings": False},
        {"layers": 4, "embeddings": False},
    ]
