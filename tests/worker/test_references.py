"""A later stage is held to the run's start, and to what the run taught when it was learned."""

from __future__ import annotations

import numpy as np
import pytest

from sf_tui.cases.assemble import CaseOverrides, run_case
from sf_tui.cases.rows import CaseNeeds
from sf_tui.engine.prepare import PreparedRun, prepare_run
from sf_tui.engine.start_weights import open_start_weights
from sf_tui.neighbors.anatomy import every_prompt, prompts_of
from sf_tui.neighbors.cache import TAUGHT, TeacherCache
from sf_tui.profile import StageSpec, dump_profile, load_profile
from sf_tui.profile.references import references_of
from sf_tui.run.directory import RunDirectory
from sf_tui.tasks.encoding import NO_LOSS
from sf_tui.worker.checkpoints import read_record
from sf_tui.worker.stage_bank import StageBank, bank_folder, start_model
from support.quick_run import PROFILE, Begin, Operator, events_of, work

THIRD = '[[tasks]]\nname = "third"\ndata = "biography:new-2"\n'
# Enough to tell the weights of the stages' starts apart.
FEW = ("tasks.old.train.steps=6", "tasks.new.train.steps=6")
ANCHORED = 'tasks.third.train.strategy="anchor"'


def stored_bank(run: RunDirectory) -> tuple[PreparedRun, StageSpec, TeacherCache]:
    profile = load_profile(run.profile)
    prepared = prepare_run(profile, 1)
    spec = next(one for one in profile.stages() if one.name == "third")
    plan = StageBank(prepared, spec, references_of(profile, "third"))
    bank = plan.read(bank_folder(run, "third"))
    assert bank is not None
    return prepared, spec, bank


def agrees(
    run: RunDirectory, prepared: PreparedRun, spec: StageSpec, bank: TeacherCache, stage: str
) -> bool:
    """Return whether a bank has the answers of a stage's start model."""
    folder = run.checkpoints / stage / "step-000000"
    weights = open_start_weights(folder, prepared.loaded.model, prepared.layout)
    weights.load_into(prepared.layout)
    told = start_model(prepared, spec).answer_logprobs(bank.rows, bank.top_ids[0].shape[1])
    pairs = zip(told, bank.top_logprobs, strict=True)
    return all(np.allclose(found, stored, atol=1e-4) for (_, found), stored in pairs)


def test_neighbors_are_answered_by_the_first_start_and_taught_prompts_by_the_stage_behind(
    begin: Begin,
) -> None:
    run = begin(ANCHORED, *FEW, more=THIRD)
    assert work(run) == 0
    prepared, spec, bank = stored_bank(run)
    assert len(bank) == 48
    places = [at for at, kind in enumerate(bank.kinds) if kind == TAUGHT]
    assert places == list(range(36, 48))
    parts = {
        "new": bank.part(range(36)),
        "old": bank.part(range(36, 42)),
        "third": bank.part(range(42, 48)),
    }
    # The run taught `old` in its first stage, so that the second began with a known task.
    for part, stage in (("new", "new"), ("old", "new"), ("third", "third")):
        for other in ("new", "third"):
            assert agrees(run, prepared, spec, parts[part], other) == (other == stage)
    for part, task in (("old", "old"), ("third", "new")):
        own = set(every_prompt(prepared.tasks[task].train))
        for row in parts[part].rows:
            prompt = [
                t for t, label in zip(row.input_ids, row.labels, strict=True) if label == NO_LOSS
            ]
            assert tuple(prompt) in own
    (told,) = [e["message"] for e in events_of(run, "alert") if e["code"] == "anchor"]
    assert "48 prompts" in told


@pytest.fixture(scope="module")
def pressed(tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
    """Return a finished run of three stages with an anchor in the last; tests only read it."""
    folder = tmp_path_factory.mktemp("pressed")
    (folder / "third.toml").write_text(PROFILE + THIRD)
    text = dump_profile(load_profile(folder / "third.toml", FEW))
    run = RunDirectory.create(folder / "run", profile_text=text, profile_name="quick", argv=["sf"])
    assert work(run, Operator(run).at("third", 5, "anchor")) == 0
    return run


def test_an_anchor_that_is_pressed_says_what_it_holds(pressed: RunDirectory) -> None:
    run = pressed
    done = [e["reason"] for e in events_of(run, "command") if e["status"] == "done"]
    assert done[0].startswith(
        "held to the start of new on 36 neighbor prompts and on prompts of old, new as the run "
        "taught them, 4 a step"
    )


@pytest.mark.parametrize("share", [pytest.param(0.0, marks=pytest.mark.slow), 0.25])
def test_without_prompts_of_taught_tasks_a_stage_is_held_to_its_own_start(
    begin: Begin, share: float
) -> None:
    # Plain text has no prompts: then the start of the run would unlearn what it taught.
    texts = () if share == 0 else ('tasks.old.data="biography:pretrain"',)
    run = begin(ANCHORED, *FEW, f"anchor.taught_share={share}", *texts, more=THIRD)
    assert work(run) == 0
    prepared, spec, bank = stored_bank(run)
    neighbors = bank.part([at for at, kind in enumerate(bank.kinds) if kind != TAUGHT])
    assert agrees(run, prepared, spec, neighbors, "third")
    assert not agrees(run, prepared, spec, neighbors, "new")


def test_a_repair_refers_to_the_same_weights(pressed: RunDirectory) -> None:
    profile = load_profile(pressed.profile)
    record = read_record(pressed, profile)
    case = run_case(record, CaseNeeds(0), CaseOverrides()).case
    assert case.references is not None
    assert [task.name for task in case.references.taught] == ["old", "new"]
    starts = [case.references.origin, *(task.weights for task in case.references.taught)]
    assert [one.folder.parent.name for one in starts] == ["new", "new", "third"]
    bank = case.bank(40, references=case.references)
    assert bank is not None
    assert sum(kind == TAUGHT for kind in bank.kinds) == 10
    # Held-out rows of the first task count where another one is repaired, too.
    held_out = prompts_of(prepare_run(profile, 1).tasks["old"].held_out)
    assert held_out
    for lost in ("old", "new"):
        case = run_case(record, CaseNeeds(0), CaseOverrides(task=lost)).case
        assert not case.held_out_prompts().without(held_out)
