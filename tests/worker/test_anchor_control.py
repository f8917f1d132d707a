"""An anchor comes and goes by strategy, action or rule, and never knows of an old task's data."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from sf_tui.engine.prepare import prepare_run
from sf_tui.errors import DataError
from sf_tui.neighbors.anatomy import anatomize, every_prompt, prompts_of
from sf_tui.neighbors.held_out import HeldOutPrompts
from sf_tui.neighbors.propose import LeftOut, subjects_of
from sf_tui.profile import dump_profile, load_profile
from sf_tui.run.commands import request_command
from sf_tui.run.directory import RunDirectory
from sf_tui.run.events import JsonObject
from sf_tui.worker.stage_bank import StageBank, start_model
from support.quick_run import (
    Begin,
    Operator,
    assert_well_told,
    commands_of,
    equal,
    events_of,
    final_weights,
    live_course,
    work,
)

ANCHORED = 'tasks.new.train.strategy="anchor"'


def anchored_steps(run: RunDirectory) -> list[tuple[str, int]]:
    """Return the steps that were held to their stage's start, rewound ones included."""
    return [(e["stage"], e["step"]) for e in events_of(run, "step") if "losses" in e]


def steps(stage: str, *numbers: int) -> list[tuple[str, int]]:
    return [(stage, number) for number in numbers]


def bank_files(run: RunDirectory, stage: str) -> dict[str, bytes]:
    folder = run.path / "neighbors" / stage
    files = (file for file in folder.rglob("*") if file.is_file())
    return {str(file.relative_to(folder)): file.read_bytes() for file in files}


def reasons(run: RunDirectory, status: str) -> list[str]:
    return [e["reason"] for e in events_of(run, "command") if e["status"] == status]


@pytest.fixture(scope="module")
def anchored(profile_file: Path, tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
    """Return the quick run with its second stage anchored from step 0; tests only read it."""
    profile = load_profile(profile_file, [ANCHORED])
    run = RunDirectory.create(
        tmp_path_factory.mktemp("anchored") / "run",
        profile_text=dump_profile(profile),
        profile_name="quick",
        argv=["sf"],
    )
    assert work(run) == 0
    return run


def test_strategy_anchors_its_own_stage_from_the_first_step_to_the_last(
    anchored: RunDirectory, undisturbed: RunDirectory
) -> None:
    assert_well_told(anchored)
    started = {
        e["stage"]: (e["strategy"], e["anchor"]) for e in events_of(anchored, "stage_started")
    }
    assert started == {"old": ("seq", None), "new": ("anchor", {"strength": 1.0, "rows": 4})}
    assert anchored_steps(anchored) == steps("new", *range(1, 13))
    (cost,) = [e for e in events_of(anchored, "alert") if e["code"] == "anchor"]
    assert (cost["level"], cost["stage"]) == ("info", "new")
    assert "48 prompts in" in cost["message"]
    assert cost["message"].endswith(" tokens")
    assert not equal(final_weights(anchored), final_weights(undisturbed))
    assert sorted(path.name for path in (anchored.path / "neighbors").iterdir()) == ["new"]


def test_sizes_are_the_profiles(begin: Begin) -> None:
    sizes = ("anchor.rows=3", "anchor.cache_size=20", "anchor.strength=0.5")
    run = begin(ANCHORED, *sizes, "train.steps=1")
    assert work(run) == 0
    (_, started) = events_of(run, "stage_started")
    assert started["anchor"] == {"strength": 0.5, "rows": 3}
    assert "20 prompts" in next(
        e["message"] for e in events_of(run, "alert") if e["code"] == "anchor"
    )


def test_pressed_anchor_holds_from_the_next_step_to_the_start_of_the_stage(
    begin: Begin, anchored: RunDirectory
) -> None:
    run = begin()
    operator = Operator(run).at("new", 5, "anchor").at("new", 9, "unanchor")
    assert work(run, operator) == 0
    assert_well_told(run)
    done = [
        ("anchor", "accepted"),
        ("anchor", "done"),
        ("unanchor", "accepted"),
        ("unanchor", "done"),
    ]
    assert commands_of(run) == done
    assert events_of(run, "command")[0]["arguments"] == {"strength": 1.0}
    assert anchored_steps(run) == steps("new", 6, 7, 8, 9)
    said = reasons(run, "done")[0]
    assert "held to the stage's start on 48 neighbor prompts" in said
    assert "tokens" in said
    # Five steps away from it, the start model says what it said before the first of them.
    assert bank_files(run, "new") == bank_files(anchored, "new")


def test_making_the_bank_leaves_the_weights_and_the_course_as_they_are(
    begin: Begin, undisturbed: RunDirectory
) -> None:
    run = begin()
    operator = Operator(run)
    for stage, step in (("old", 3), ("new", 5)):
        operator.at(stage, step, "anchor").at(stage, step, "unanchor")
    assert work(run, operator) == 0
    assert reasons(run, "done")[1] == "the steps that follow are plain ones"
    assert anchored_steps(run) == []
    assert live_course(run) == live_course(undisturbed)
    assert equal(final_weights(run), final_weights(undisturbed))


def test_anchor_that_makes_no_sense_is_refused(begin: Begin) -> None:
    run = begin()
    operator = Operator(run).at("old", 2, "unanchor")
    operator.at("old", 3, "anchor", strength=2.0).at("old", 4, "anchor", strength=2.0)
    operator.at("old", 5, "anchor", strength=0.0).at("old", 6, "anchor", rows=3)
    operator.at("old", 7, "anchor")
    assert work(run, operator) == 0
    assert_well_told(run)
    says = ["the stage is not anchored", "already, with strength 2", "strength", "rows"]
    for reason, said in zip(reasons(run, "refused"), says, strict=True):
        assert said in reason
    # Another strength is another anchor, and the answers are there already.
    assert [e["arguments"] for e in events_of(run, "command") if e["status"] == "done"] == [
        {"strength": 2.0},
        {"strength": 1.0},
    ]
    assert "were there already" in reasons(run, "done")[1]


def test_task_whose_rows_ask_nothing_can_not_be_anchored(begin: Begin, tmp_path: Path) -> None:
    run = begin('tasks.old.data="biography:pretrain"', "train.steps=3")
    assert work(run, Operator(run).at("old", 2, "anchor")) == 0
    (reason,) = reasons(run, "refused")
    assert "task 'old' has no prompts" in reason

    text = {"prompt": "", "completion": "is known to be a major of Meridian"}
    train, held_out = tmp_path / "train.jsonl", tmp_path / "held-out.jsonl"
    train.write_text(json.dumps(text) + "\n")
    held_out.write_text(json.dumps(text | {"completion": "is known"}) + "\n")
    texts = begin(
        *(ANCHORED, 'model.tokenizer="biography"'),
        *(f'tasks.new.data="{train}"', f'tasks.new.held_out="{held_out}"'),
        name="texts",
    )
    with pytest.raises(DataError, match="task 'new' has no prompts"):
        work(texts)
    # Found before anything is trained.
    assert [e["type"] for e in events_of(texts)] == ["run_finished"]


def test_prompts_that_leave_no_room_for_an_answer_are_left_out(begin: Begin) -> None:
    # Questions have ten tokens with their opening and mark, the model reaches 64.
    run = begin(ANCHORED, "anchor.answer_tokens=60")
    with pytest.raises(DataError, match="leaves room for an answer of 60 tokens within 64"):
        work(run)
    shorter = begin(ANCHORED, "anchor.answer_tokens=40", "train.steps=1", name="shorter")
    assert work(shorter) == 0


def test_no_neighbor_repeats_a_subject_of_a_task_that_is_named(profile_file: Path) -> None:
    repeated = {}
    for names in ("[]", '["new"]'):
        # The anchor's own stage: nearly all of its slot words are made of this task's names.
        settings = ["biography.new_people=25", f"neighbors.exclude_tasks={names}"]
        profile = load_profile(profile_file, [ANCHORED, *settings])
        prepared = prepare_run(profile, 1)
        (spec,) = [one for one in profile.stages() if one.name == "new"]
        bank = StageBank(prepared, spec).build(start_model(prepared, spec), None)
        task = prepared.tasks["new"]
        asked = [*every_prompt(task.train), *prompts_of(task.held_out)]
        subjects = LeftOut(subjects_of(anatomize(asked, prepared.loaded.tokenizer)))
        assert subjects.subjects
        prompts = prompts_of(bank.rows)
        repeated[names] = sum(prompt in subjects for prompt in prompts)
        assert len(prompts) == 48
    assert repeated["[]"] > 0 == repeated['["new"]']


def test_no_neighbor_is_a_held_out_prompt_of_the_task_that_is_trained(
    llama_directory: Path,
    two_schemas: tuple[Path, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    _, countries = two_schemas
    file = tmp_path / "own.toml"
    file.write_text(
        f'name = "own"\n[model]\nsource = "{llama_directory}"\n'
        f'[[tasks]]\nname = "new"\ndata = "{countries}"\nheld_out = 8\nlearn = true\n'
    )
    profile = load_profile(file)
    prepared = prepare_run(profile, 1)
    held_out = set(prompts_of(prepared.tasks["new"].held_out))
    (spec,) = profile.stages()

    def hits() -> int:
        bank = StageBank(prepared, spec, probed=100).build(start_model(prepared, spec), None)
        return len(held_out & set(prompts_of(bank.rows)))

    assert hits() == 0
    monkeypatch.setattr(HeldOutPrompts, "__contains__", lambda *_: False)
    assert hits() > 0


def test_anchor_by_action_holds_for_the_stages_behind_it_as_a_freeze_does(
    begin: Begin, anchored: RunDirectory
) -> None:
    run = begin()
    operator = Operator(run).at("old", 10, "anchor", strength=2.0).at("new", 4, "unanchor")
    assert work(run, operator) == 0
    started = {e["stage"]: e["anchor"] for e in events_of(run, "stage_started")}
    assert started == {"old": None, "new": {"strength": 2.0, "rows": 4}}
    assert anchored_steps(run) == steps("old", 11, 12) + steps("new", 1, 2, 3, 4)
    # Towards the later stage's own start.
    assert bank_files(run, "old")["bank.json"] != bank_files(run, "new")["bank.json"]
    assert bank_files(run, "new").keys() == bank_files(anchored, "new").keys()


def test_strategys_own_anchor_ends_with_its_stage(begin: Begin) -> None:
    replay = ("replay_stage.steps=2", 'replay_stage.train.strategy="seq"')
    few = ("tasks.old.train.steps=1", "tasks.new.train.steps=4")
    run = begin(ANCHORED, *replay, *few)
    assert work(run, Operator(run).at("new", 2, "unanchor")) == 0
    assert anchored_steps(run) == steps("new", 1, 2)
    whole = begin(ANCHORED, *replay, *few, name="whole")
    assert work(whole) == 0
    assert {e["stage"]: e["anchor"] is not None for e in events_of(whole, "stage_started")} == {
        "old": False,
        "new": True,
        "replay": False,
    }


def test_held_anchor_passes_over_a_stage_whose_task_asks_nothing(begin: Begin) -> None:
    more = '[[tasks]]\nname = "texts"\ndata = "biography:pretrain"\n'
    run = begin("train.steps=4", more=more)
    assert work(run, Operator(run).at("new", 1, "anchor")) == 0
    assert anchored_steps(run) == steps("new", 2, 3, 4)
    alerts = [e for e in events_of(run, "alert") if e["stage"] == "texts"]
    (warned,) = [e for e in alerts if e["code"] == "anchor"]
    assert warned["level"] == "warn"
    assert "no prompts" in warned["message"]


def test_anchor_and_freeze_go_together(begin: Begin) -> None:
    run = begin(ANCHORED, "tasks.old.train.steps=2")
    assert work(run, Operator(run).at("new", 4, "freeze", layers=4)) == 0
    assert_well_told(run)
    assert anchored_steps(run) == steps("new", *range(1, 13))
    drifts = [
        [layer["relative_update"] for layer in e["layers"] if layer["frozen"]]
        for e in events_of(run, "drift")
        if e["stage"] == "new" and e["step"] > 4
    ]
    assert drifts[0] == drifts[-1]
    assert len(drifts[0]) == 5


def test_rule_anchors(begin: Begin) -> None:
    more = (
        '[[rules]]\nname = "hold"\nmetric = "drift"\nabove = 0.4\naction = "anchor"\n'
        "arguments = {strength = 4.0}\n"
    )
    run = begin("tasks.new.train.steps=2", more=more)
    assert work(run) == 0
    assert_well_told(run)
    accepted, done = events_of(run, "command")
    assert (accepted["by"], accepted["stage"], accepted["step"]) == ("hold", "old", 8)
    assert done["arguments"] == {"strength": 4.0}
    assert anchored_steps(run) == steps("old", *range(9, 13)) + steps("new", 1, 2)


def test_rollback_brings_back_the_anchor_of_its_checkpoint(begin: Begin) -> None:
    run = begin()
    operator = Operator(run).at("old", 6, "anchor").at("old", 10, "rollback", to="step-000004")
    operator.at("new", 2, "anchor").at("new", 6, "unanchor")
    operator.at("new", 7, "rollback", to="step-000004")
    assert work(run, operator) == 0
    assert_well_told(run)
    old = [step for stage, step in anchored_steps(run) if stage == "old"]
    new = [step for stage, step in anchored_steps(run) if stage == "new"]
    assert old == [7, 8, 9, 10]
    assert new == [3, 4, 5, 6, *range(5, 13)]


def test_stage_taken_back_by_a_nan_is_anchored_as_it_was(begin: Begin) -> None:
    run = begin(
        ANCHORED,
        "tasks.old.train.steps=1",
        "tasks.new.train.learning_rate=1e30",
        'tasks.new.train.on_nan="continue"',
        "tasks.new.train.nan_lr_factor=1e-33",
    )
    assert work(run) == 0
    assert [e["reason"] for e in events_of(run, "rewound")] == ["nan"]
    assert anchored_steps(run)[-12:] == steps("new", *range(1, 13))


def test_bank_that_can_not_be_kept_fails_the_command_and_the_run_goes_on(
    begin: Begin, undisturbed: RunDirectory
) -> None:
    run = begin()
    (run.path / "neighbors").write_text("in the way")
    assert work(run, Operator(run).at("new", 5, "anchor")) == 0
    assert_well_told(run)
    assert commands_of(run) == [("anchor", "accepted"), ("anchor", "failed")]
    assert str(run.path / "neighbors") in reasons(run, "failed")[0]
    assert anchored_steps(run) == []
    assert live_course(run) == live_course(undisturbed)
    assert equal(final_weights(run), final_weights(undisturbed))


def test_start_weights_that_can_not_be_read_fail_the_command(
    begin: Begin, undisturbed: RunDirectory
) -> None:
    run = begin()

    def damage(event: JsonObject) -> None:
        # The stage's last look at them: drift is measured from there, too.
        if event["type"] == "drift" and (event["stage"], event["step"]) == ("new", 12):
            file = run.checkpoints / "new" / "step-000000" / "weights" / "head.safetensors"
            file.write_bytes(file.read_bytes()[:-9])
            request_command(run, "anchor")

    assert work(run, damage) == 0
    assert commands_of(run) == [("anchor", "accepted"), ("anchor", "failed")]
    assert "head.safetensors" in reasons(run, "failed")[0]
    assert equal(final_weights(run), final_weights(undisturbed))


def test_old_data_decides_nothing_of_the_bank_and_of_no_anchored_step(
    llama_directory: Path, two_schemas: tuple[Path, Path], tmp_path: Path
) -> None:
    capitals, countries = two_schemas
    other = tmp_path / "other.jsonl"
    lines = capitals.read_text().splitlines()
    questions: list[dict[str, Any]] = [json.loads(line) for line in lines]
    other.write_text(
        "".join(
            json.dumps({"question": row["answer"], "answer": row["question"][-5:]}) + "\n"
            for row in questions[::-1]
        )
    )
    runs = []
    for name, old in (("one", capitals), ("two", other)):
        profile = tmp_path / f"{name}.toml"
        profile.write_text(
            f'name = "own"\n[model]\nsource = "{llama_directory}"\n'
            f'[[tasks]]\nname = "old"\ndata = "{old}"\nheld_out = 4\n'
            f'[[tasks]]\nname = "new"\ndata = "{countries}"\nheld_out = 4\n'
            '[train]\nstrategy = "anchor"\nlearning_rate = 3e-3\nbatch_size = 4\nsteps = 8\n'
        )
        loaded = load_profile(profile)
        run = RunDirectory.create(
            tmp_path / name, profile_text=dump_profile(loaded), profile_name="own", argv=["sf"]
        )
        assert work(run) == 0
        runs.append(run)
    one, two = runs
    probed = [[e["metrics"]["old"] for e in events_of(run, "probe")] for run in runs]
    assert probed[0] != probed[1]
    assert bank_files(one, "new") == bank_files(two, "new")
    assert live_course(one) == live_course(two)
    assert equal(final_weights(one), final_weights(two))


def test_gradient_checkpointing_changes_memory_and_nothing_else_with_an_anchor_too(
    begin: Begin, anchored: RunDirectory
) -> None:
    run = begin(ANCHORED, "train.gradient_checkpointing=true")
    assert work(run) == 0

    def plain(run: RunDirectory) -> list[float]:
        return [e["loss"] for e in events_of(run, "step") if e["stage"] == "old"]

    def held(run: RunDirectory) -> list[float]:
        steps = [e for e in events_of(run, "step") if e["stage"] == "new"]
        return [value for e in steps for value in (e["loss"], e["losses"]["anchor"])]

    assert plain(run) == pytest.approx(plain(anchored), rel=1e-4)
    assert held(run) == pytest.approx(held(anchored), rel=1e-3, abs=1e-6)
