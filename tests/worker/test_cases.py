"""A run's case: which weights, which start, which task, and what is left when files are gone."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from sf_tui.cases.assemble import CaseOverrides, RunCase, run_case
from sf_tui.cases.choice import choose_old_task, choose_stage
from sf_tui.cases.operations import append_diagnosis, diagnose, repair
from sf_tui.cases.rows import CaseNeeds, read_old_task, read_others
from sf_tui.errors import DataError, RunError, UsageError
from sf_tui.profile import Profile, TaskSettings, load_profile
from sf_tui.run.directory import RunDirectory
from sf_tui.run.events import EventLog, read_events
from sf_tui.run.liveness import RunLock
from sf_tui.run.state import RunState, fold
from sf_tui.tasks.biography import Settings
from sf_tui.tasks.biography.world import build_world
from sf_tui.vocabulary.events import Event, Probe, Rewound, StageStarted
from sf_tui.worker.checkpoints import read_record
from support.quick_run import (
    Begin,
    Operator,
    checkpoint_weights,
    equal,
    final_weights,
    work,
)
from support.short_ops import shorten_arms

TEN = CaseNeeds(10)


def case_of(
    run: RunDirectory, needs: CaseNeeds = TEN, overrides: CaseOverrides | None = None
) -> RunCase:
    return run_case(
        read_record(run, load_profile(run.profile)), needs, overrides or CaseOverrides()
    )


def weights_of(assembled: RunCase) -> dict[str, torch.Tensor]:
    return {
        name: parameter.detach()
        for layer in assembled.case.layout.layers
        for name, parameter in layer.parameters.items()
    }


@pytest.fixture
def copied(undisturbed: RunDirectory, tmp_path: Path) -> RunDirectory:
    """Return a copy of the finished run that a test may take things away from."""
    return RunDirectory(Path(shutil.copytree(undisturbed.path, tmp_path / "copied")))


def test_a_runs_case_holds_its_newest_weights_and_its_stages_start(
    undisturbed: RunDirectory,
) -> None:
    assembled = case_of(undisturbed)
    case = assembled.case

    assert equal(weights_of(assembled), checkpoint_weights(undisturbed, "new", 12))
    assert case.start is not None
    start = checkpoint_weights(undisturbed, "new", 0)
    for layer in case.layout.layers:
        for name, tensor in case.start.tensors(layer.name):
            assert torch.equal(tensor, start[name])
    assert (assembled.stage, assembled.step, assembled.since) == ("new", 12, "new")
    assert case.old is not None
    assert case.new is not None
    assert (case.old.name, case.new.name) == ("old", "new")
    assert (case.learning_rate, case.batch_size, case.stage) == (3e-3, 4, "new")
    mean = sum(len(row.input_ids) for row in case.new.train) / len(case.new.train)
    assert case.stage_tokens == round(12 * 4 * mean)
    assert len(case.old.train) == 24
    assert len(case.old.held_out) == 12
    assert not assembled.notes


def test_a_repairs_rate_may_be_a_share_of_the_stages(undisturbed: RunDirectory) -> None:
    assembled = case_of(undisturbed)

    def rate(**configured: float) -> float:
        settings = assembled.profile.recover.model_copy(update=configured)
        profile = assembled.profile.model_copy(update={"recover": settings})
        changed = dataclasses.replace(assembled, profile=profile)
        return repair(changed, examples=4, steps=1, new_floor=0.0).learning_rate

    assert rate(rate_share=0.1) == pytest.approx(3e-4)
    assert rate(rate_share=0.1, learning_rate=2e-4) == 2e-4


def test_without_the_runs_own_model_the_profiles_takes_the_checkpoints_weights(
    copied: RunDirectory,
) -> None:
    shutil.rmtree(copied.model)

    assert equal(weights_of(case_of(copied)), checkpoint_weights(copied, "new", 12))


def test_without_checkpoints_the_model_is_left_and_the_log_tells_the_start(
    copied: RunDirectory,
) -> None:
    shutil.rmtree(copied.checkpoints)

    assembled = case_of(copied)
    probe = fold(read_events(copied.events)).stages["new"].probes[0]
    assert equal(weights_of(assembled), final_weights(copied))
    assert assembled.case.start is None
    assert assembled.case.known_start.accuracy == probe.metrics["old"]["exact_match"]
    assert assembled.case.known_start.examples == 12
    assert "gone" in " ".join(assembled.notes)


def test_a_run_without_weights_is_refused(begin: Begin) -> None:
    with pytest.raises(RunError, match="no checkpoint yet"):
        case_of(begin())


def test_a_rollbacks_target_is_what_counts(copied: RunDirectory) -> None:
    log = EventLog(copied.events)
    log.append(Rewound(stage="new", step=8, lost=4, reason="rollback", checkpoint="step-000008"))
    log.close()

    assembled = case_of(copied)
    assert (assembled.stage, assembled.step) == ("new", 8)
    assert equal(weights_of(assembled), checkpoint_weights(copied, "new", 8))


def history_of(*stages: tuple[str, list[str], dict[str, tuple[float, float]]]) -> RunState:
    """Return the state after stages: name, tasks known before, (first, last) accuracy by task."""
    events: list[Event] = []
    for name, known, courses in stages:
        events.append(StageStarted(name, name, 9, known=known))
        for at, step in enumerate((0, 9)):
            accuracy = {
                task: {"exact_match": course[at], "n": 10} for task, course in courses.items()
            }
            events.append(Probe(name, step, accuracy))
    return fold(events)


@pytest.fixture
def three(tmp_path: Path) -> Profile:
    """Return a profile that learns c after a and b, with a corpus that is not watched."""
    path = tmp_path / "three.toml"
    path.write_text(
        'name = "three"\n[model]\nsource = "random"\nconfig = {model_type = "gpt_neox"}\n'
        '[[tasks]]\nname = "corpus"\ndata = "biography:pretrain"\nlearn = true\nwatch = false\n'
        '[[tasks]]\nname = "a"\ndata = "biography:old"\n'
        '[[tasks]]\nname = "b"\ndata = "biography:new-1"\n'
        '[[tasks]]\nname = "c"\ndata = "biography:new-2"\n'
        "[replay_stage]\nsteps = 5\n"
    )
    return load_profile(path)


COURSE = history_of(
    ("corpus", [], {}),
    ("a", ["corpus"], {}),
    ("b", ["corpus", "a"], {"a": (0.9, 0.2), "b": (0.0, 0.9)}),
    ("c", ["corpus", "a", "b"], {"corpus": (0.9, 0.0), "a": (0.2, 0.1), "b": (0.9, 0.3)}),
    ("recover", ["corpus", "a", "b", "c"], {"a": (0.1, 0.8), "b": (0.3, 0.3)}),
)


def test_the_last_stage_of_a_new_task_and_the_watched_task_that_lost_most_are_chosen(
    three: Profile,
) -> None:
    stage = choose_stage(three, COURSE, None, None)

    assert stage.name == "c"
    # a has come back meanwhile; the corpus lost most and is not watched.
    assert choose_old_task(three, COURSE, stage, None).name == "b"
    now = {"a": {"exact_match": 0.0}, "b": {"exact_match": 0.8}}
    assert choose_old_task(three, COURSE, stage, None, now).name == "a"
    assert choose_old_task(three, COURSE, stage, "corpus").name == "corpus"
    earlier = choose_stage(three, COURSE, "b", None)
    assert choose_old_task(three, COURSE, earlier, None).name == "a"


@pytest.mark.parametrize(
    ("stage", "task", "said"),
    [
        ("d", None, "no stage 'd' has begun"),
        (None, "d", "no task is named 'd'"),
        (None, "c", "no stage began that knew task 'c'"),
        ("b", "b", "task 'b' was not known when stage 'b' began"),
        ("a", None, "stage 'a' began with no watched task"),
    ],
)
def test_a_stage_or_task_that_can_t_be_meant_is_refused_by_name(
    three: Profile, stage: str | None, task: str | None, said: str
) -> None:
    with pytest.raises(UsageError, match=said):
        choose_old_task(three, COURSE, choose_stage(three, COURSE, stage, task), task)


Write = Callable[..., Path]


@pytest.fixture
def rows(tmp_path: Path) -> Write:
    """Write questions whose words the biography tokenizer knows."""

    def write(name: str, count: int) -> Path:
        people = build_world(Settings(people=count)).pretrained
        asked = [
            {"prompt": f"Question: major of {one.name}?", "completion": f" {one.facts['major']}"}
            for one in people
        ]
        path = tmp_path / name
        path.write_text("".join(json.dumps(row) + "\n" for row in asked))
        return path

    return write


def old_of(
    assembled: RunCase, needs: CaseNeeds, *, whole: bool = False, **settings: object
) -> tuple[int, int] | str:
    """Return how many rows are scored and how many may be trained on, or what is missing."""
    table = TaskSettings.model_validate({"name": "old", **settings})
    task, notes = read_old_task(assembled.profile, table, assembled.case.loaded, needs, whole=whole)
    return (len(task.held_out), len(task.train)) if task is not None else notes[0]


def test_a_file_that_nobody_split_gives_safe_examples_and_scores_all_others(
    undisturbed: RunDirectory, rows: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    most = 2000
    monkeypatch.setattr("sf_tui.cases.rows.MOST_EXAMPLES", most)
    assembled, file = case_of(undisturbed), str(rows("old.jsonl", 60))

    assert old_of(assembled, TEN, whole=True, data=file) == (50, 10)
    assert old_of(assembled, CaseNeeds(10, every_example=True), whole=True, data=file) == (30, 30)
    assert old_of(assembled, CaseNeeds(0), whole=True, data=file) == (60, 0)
    assert old_of(assembled, TEN, whole=True, data=file, held_out=5) == (5, 55)
    with pytest.raises(DataError, match="60 rows can't give 59 safe examples"):
        old_of(assembled, CaseNeeds(59), whole=True, data=file)
    many = str(rows("many.jsonl", most + 700))
    assert old_of(assembled, TEN, whole=True, data=many) == (512, most)

    table = TaskSettings.model_validate({"name": "old", "data": many})
    needs = CaseNeeds(10, spare=True)
    found, _ = read_old_task(assembled.profile, table, assembled.case.loaded, needs, whole=True)
    assert found is not None
    parts = [found.held_out.rows, found.spare.rows, found.train]
    assert [len(part) for part in parts] == [512, 2048 - 512, most + 700 - 2048]
    assert len({str(row.input_ids) for part in parts for row in part}) == sum(map(len, parts))
    few = str(rows("few.jsonl", 600))
    assert old_of(assembled, needs, whole=True, data=few) == (512, 10)


def test_the_split_of_a_file_is_the_same_every_time(undisturbed: RunDirectory, rows: Write) -> None:
    assembled = case_of(undisturbed)
    table = TaskSettings.model_validate({"name": "old", "data": str(rows("old.jsonl", 60))})

    def read(count: int) -> tuple[set[str], set[str]]:
        found, _ = read_old_task(
            assembled.profile, table, assembled.case.loaded, CaseNeeds(count), whole=True
        )
        assert found is not None
        scored = {str(row.input_ids) for row in found.held_out.rows}
        return scored, {str(row.input_ids) for row in found.train}

    few, more = read(10), read(20)
    assert read(10) == few
    assert few[0].isdisjoint(few[1])
    assert more[0] < few[0]


def test_absent_old_data_are_done_without_where_nothing_needs_them(
    undisturbed: RunDirectory, rows: Write, tmp_path: Path
) -> None:
    assembled = case_of(undisturbed)
    repair, gone = CaseNeeds(0, scores_needed=False), str(tmp_path / "gone.jsonl")
    held_out = str(rows("held-out.jsonl", 8))

    assert old_of(assembled, repair, data=gone, held_out=held_out) == (8, 0)
    assert old_of(assembled, TEN, data=gone, held_out=held_out) == (8, 0)
    said = old_of(assembled, repair, data=gone)
    assert isinstance(said, str)
    assert "gone.jsonl" in said
    with pytest.raises(DataError, match=r"gone\.jsonl") as refusal:
        old_of(assembled, CaseNeeds(5, scores_needed=False), data=gone)
    assert "without old examples" in refusal.value.hint
    with pytest.raises(DataError, match=r"gone\.jsonl") as refusal:
        old_of(assembled, TEN, data=gone)
    assert "can't be scored" in refusal.value.hint


def test_old_data_that_are_there_and_broken_are_told_of_all_the_same(
    undisturbed: RunDirectory, tmp_path: Path
) -> None:
    broken = tmp_path / "broken.jsonl"
    broken.write_text('{"prompt": "a", "completion": " b"}\n{"prompt": \n')

    with pytest.raises(DataError, match=r"broken\.jsonl:2"):
        old_of(case_of(undisturbed), CaseNeeds(0, scores_needed=False), data=str(broken))


def test_a_control_is_all_of_its_rows(undisturbed: RunDirectory, rows: Write) -> None:
    assembled = case_of(undisturbed)
    profile, loaded = assembled.profile, assembled.case.loaded

    assert read_others(profile, None, loaded) is None
    unseen = read_others(profile, "biography:unseen", loaded)
    assert unseen is not None
    assert len(unseen) == 300
    assert len(set(unseen.groups)) == 6
    own = read_others(profile, str(rows("control.jsonl", 7)), loaded)
    assert own is not None
    assert len(own) == 7


def test_a_diagnosis_between_stop_and_resume_changes_nothing_of_the_course(
    begin: Begin, undisturbed: RunDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    shorten_arms(monkeypatch)
    run = begin()
    assert work(run, Operator(run).at("new", 6, "stop")) == 5
    with RunLock(run):
        found = diagnose(case_of(run), examples=4, steps=3)
        event = append_diagnosis(run, found.event)
    assert (event.stage, event.step) == ("new", 6)
    assert work(run) == 0
    assert equal(final_weights(run), final_weights(undisturbed))
    events = list(read_events(run.events))
    assert [one.seq for one in events] == list(range(1, len(events) + 1))


def test_a_repair_needs_no_task_that_was_known_before(undisturbed: RunDirectory) -> None:
    first = CaseOverrides(stage="old")

    assembled = case_of(undisturbed, CaseNeeds(0, scores_needed=False), first)
    assert assembled.case.old is None
    assert assembled.case.start is not None
    assert "no watched task" in assembled.notes[0]
    with pytest.raises(UsageError, match="no watched task"):
        case_of(undisturbed, TEN, first)


def test_an_accuracy_that_is_named_gives_way_to_start_weights(undisturbed: RunDirectory) -> None:
    assembled = case_of(undisturbed, TEN, CaseOverrides(start_accuracy=0.5))

    assert "the start weights are available" in assembled.notes[0]
