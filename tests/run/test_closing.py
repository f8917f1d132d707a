"""What a run's end says: what was lost since the run began, where the model is, what to do next."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from sf_tui.run.closing import closing_of
from sf_tui.run.course import courses
from sf_tui.run.directory import RunDirectory
from sf_tui.run.losses import worst_loss
from sf_tui.run.state import RunState, fold
from sf_tui.vocabulary.events import (
    Alert,
    CheckpointWritten,
    CommandAnswered,
    DiagnosisMade,
    Event,
    Probe,
    Rewound,
    RunFinished,
    RunStarted,
    StageStarted,
    Step,
)


def share(value: float, examples: int) -> dict[str, float]:
    return {"exact_match": value, "nll": 1.0, "n": examples}


def two_stages(*, second: float = 0.0, learned: float = 1.0) -> list[Event]:
    """An old task falls to 0.10 in the first stage and to `second` in the second one."""
    events: list[Event] = [
        RunStarted(tasks=["old", "a", "b"], watched=["old", "a", "b"], run="r"),
        StageStarted("a", "a", 100, known=["old"]),
        Probe("a", 0, {"old": share(1.0, 400), "a": share(0.0, 100)}, full=True),
        Probe("a", 50, {"old": share(0.2, 50), "a": share(1.0, 20)}),
        Probe("a", 100, {"old": share(0.1, 400), "a": share(1.0, 100)}, full=True),
        StageStarted("b", "b", 100, known=["old", "a"]),
        Probe("b", 0, {"old": share(0.1, 400), "a": share(1.0, 100), "b": share(0.0, 100)}, True),
        Probe(
            "b",
            100,
            {"old": share(second, 400), "a": share(0.6, 100), "b": share(learned, 100)},
            True,
        ),
    ]
    return [_numbered(event, seq) for seq, event in enumerate(events, 1)]


def _numbered(event: Event, seq: int) -> Event:
    return replace(event, seq=seq, time="2026-03-01T09:30:00Z")


def ended(events: list[Event], *more: Event) -> RunState:
    added = [_numbered(event, len(events) + at) for at, event in enumerate(more, 1)]
    return fold([*events, *added])


def test_loss_is_counted_since_the_run_began_not_since_the_stage() -> None:
    worst = worst_loss(ended(two_stages()))
    assert worst is not None
    assert worst.task == "old"
    assert worst.since_run is not None
    assert worst.in_stage is not None
    assert worst.since_run.value == pytest.approx(1.0)
    assert worst.in_stage.value == pytest.approx(0.1)


def test_task_that_the_run_taught_counts_from_the_end_of_its_own_stage() -> None:
    rows = {(row.stage, row.task): row for row in courses(ended(two_stages()))}
    taught = rows["b", "a"].since_run
    assert taught is not None
    assert taught.value == pytest.approx(0.4)
    assert rows["a", "a"].since_run is None


def test_stage_end_is_of_the_whole_split() -> None:
    row = next(r for r in courses(ended(two_stages())) if (r.stage, r.task) == ("a", "old"))
    assert row.end is not None
    assert (row.end.value, row.end.examples, row.end.full) == (0.1, 400, True)


def test_completed_run_with_a_loss_names_model_and_diagnosis(run: RunDirectory) -> None:
    run.model.mkdir()
    closing = closing_of(run, ended(two_stages(), RunFinished("completed", 0)), run.id)
    assert closing.model == run.model
    assert closing.outcome[0].startswith("old lost 100")
    assert [command for command, _ in closing.next_steps] == [f"sf diagnose {run.id}"]


@pytest.mark.parametrize(
    ("verdict", "command"),
    [("spurious", "sf recover {run} --out DIR"), ("partial", "sf recover {run} --out DIR")],
)
def test_verdict_decides_the_next_step(run: RunDirectory, verdict: str, command: str) -> None:
    state = ended(
        two_stages(),
        RunFinished("completed", 0),
        DiagnosisMade(verdict, "old", 0.0, stage="b", step=100, start=1.0),
    )
    closing = closing_of(run, state, run.id)
    assert [given for given, _ in closing.next_steps] == [command.format(run=run.id)]


def test_real_loss_names_no_repair_as_the_next_command(run: RunDirectory) -> None:
    state = ended(
        two_stages(),
        RunFinished("completed", 0),
        DiagnosisMade("real", "old", 0.0, stage="b", step=100, start=1.0),
    )
    ((command, why),) = closing_of(run, state, run.id).next_steps
    assert command == ""
    assert "go back to the weights from before" in why


def test_new_task_that_stayed_at_its_start_was_not_learned(run: RunDirectory) -> None:
    closing = closing_of(run, ended(two_stages(learned=0.0), RunFinished("completed", 0)), run.id)
    assert any("b" in line and "not learned" in line for line in closing.outcome)
    assert closing.next_steps[0][0] == f"sf profile check {run.profile}"


def test_a_task_that_is_known_on_its_rows_alone_is_not_told_to_train_longer(
    run: RunDirectory,
) -> None:
    for loss, command in ((0.004, ""), (0.9, f"sf profile check {run.profile}")):
        last = Step("b", 100, loss=loss)
        state = ended(two_stages(learned=0.0), last, RunFinished("completed", 0))
        told = closing_of(run, state, run.id).next_steps[0]
        assert told[0] == command
        assert ("more steps don't help" in told[1]) == (command == "")


def test_a_stage_that_may_go_on_is_not_called_one_that_did_not_learn(run: RunDirectory) -> None:
    state = ended(two_stages(learned=0.0), RunFinished("stopped", 5))
    commands = [command for command, _ in closing_of(run, state, "r").next_steps]
    assert commands == ["sf resume r", "sf diagnose r"]


def test_completed_run_is_never_told_to_resume(run: RunDirectory) -> None:
    for status in ("completed", "guard_failed"):
        closing = closing_of(run, ended(two_stages(), RunFinished(status, 0)), run.id)
        assert not any("resume" in command for command, _ in closing.next_steps)
    stopped = closing_of(run, ended(two_stages(), RunFinished("stopped", 5)), run.id)
    assert stopped.next_steps[0][0] == f"sf resume {run.id}"


def test_kept_task_is_not_called_lost(run: RunDirectory) -> None:
    events: list[Any] = [
        RunStarted(tasks=["old", "a"], watched=["old", "a"]),
        StageStarted("a", "a", 10, known=["old"]),
        Probe("a", 0, {"old": share(0.96, 50), "a": share(0.0, 50)}, True),
        Probe("a", 10, {"old": share(0.94, 50), "a": share(1.0, 50)}, True),
        RunFinished("completed", 0),
    ]
    closing = closing_of(run, ended([], *events), run.id)
    assert closing.outcome[0].startswith("old was kept")
    assert closing.next_steps == []


def test_task_that_was_never_known_is_not_called_kept(run: RunDirectory) -> None:
    events: list[Event] = [
        StageStarted("b", "b", 100, known=["old"]),
        Probe("b", 0, {"old": share(0.0, 100), "b": share(0.0, 100)}, full=True),
        Probe("b", 100, {"old": share(0.0, 100), "b": share(1.0, 100)}, full=True),
    ]
    first, *_ = closing_of(run, ended(events, RunFinished("completed", 0)), run.id).outcome
    assert first.startswith("old was not known when the run began")
    assert "kept" not in first


def test_stopped_run_names_its_newest_checkpoint_of_the_current_branch(run: RunDirectory) -> None:
    for step in (50, 80):
        (run.checkpoints / "a" / f"step-{step:06d}").mkdir(parents=True)
    events: list[Any] = [
        RunStarted(tasks=["old", "a"]),
        StageStarted("a", "a", 100, known=["old"]),
        CheckpointWritten("a", 50, "checkpoints/a/step-000050"),
        CheckpointWritten("a", 80, "checkpoints/a/step-000080"),
        CommandAnswered("1", "done", action="rollback", op="rollback", stage="a", step=90),
        Rewound("a", 50, "rollback", checkpoint="step-000050"),
        RunFinished("stopped", 5),
    ]
    closing = closing_of(run, ended([], *events), run.id)
    assert closing.model == run.checkpoints / "a" / "step-000050"


def test_a_dead_run_is_resumed_first(run: RunDirectory) -> None:
    closing = closing_of(run, ended(two_stages()), "r", is_dead=True)
    assert [command for command, _ in closing.next_steps] == ["sf resume r", "sf diagnose r"]


def test_after_a_nan_no_resume_and_no_higher_rate_is_advised(run: RunDirectory) -> None:
    nan = Alert("error", Alert.NAN, "step 101: the loss is nan", "b", 101)
    failed = RunFinished(status="failed", exit_code=1)
    closing = closing_of(run, ended(two_stages(learned=0.0), nan, failed), "r")
    ((command, why),) = closing.next_steps
    assert command == ""
    assert "lower [train] learning_rate" in why
    # It went on behind the NaN, at a lower rate, and failed of something else.
    state = ended(two_stages(), nan, Step("b", 101), failed)
    assert closing_of(run, state, "r").next_steps[0] == ("sf resume r", "continue the run")


def test_a_task_that_was_not_known_as_it_was_asked_is_not_called_kept(run: RunDirectory) -> None:
    unknown = Alert("warn", Alert.unknown_code("old"), "not known", "a", 0)
    state = ended(two_stages(second=0.12), unknown)
    assert any(
        "old was not known when the run began" in line
        for line in closing_of(run, state, "r").outcome
    )
