"""Every reader folds the same events to the same story, whatever was rewound."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from sf_tui.run.event_parser import EventParser
from sf_tui.run.state import RunState, fold
from sf_tui.vocabulary.declared import AnchorState
from sf_tui.vocabulary.events import Event

FULL = {"exact_match": 0.5, "first_token_accuracy": 0.5, "token_accuracy": 0.5, "nll": 1.0, "n": 4}


def events_of(objects: Iterable[Any]) -> Iterator[Event]:
    """Yield the events of JSON objects as a log's reader would, damaged ones left out."""
    parser = EventParser()
    for line in objects:
        event = parser.read(line) if isinstance(line, dict) else "no object"
        if isinstance(event, Event):
            yield event


def test_readers_of_one_process_read_any_order_and_choice_of_fields() -> None:
    whole = {"seq": 1, "time": "t", "type": "step", "stage": "new", "step": 3, "loss": 0.5}
    turned = dict(reversed(whole.items()))
    newer = {**whole, "later": 1}
    short = {name: value for name, value in whole.items() if name != "loss"}
    for line, loss in ((whole, 0.5), (turned, 0.5), (newer, 0.5), (short, None), (whole, 0.5)):
        # The second of two alike is built by the function that the first one's pattern made.
        for event in events_of([line, {**line, "step": 4}]):
            assert (event.stage, event.loss, event.seq) == ("new", loss, 1)  # type: ignore[attr-defined]
    [event] = events_of([{**whole, "loss": 0.25}])
    assert event.loss == 0.25  # type: ignore[attr-defined]


class Story:
    """Tells a run event by event, as a worker would."""

    def __init__(self) -> None:
        self.events: list[dict[str, Any]] = []

    def tell(self, type_: str, **fields: Any) -> None:
        self.events.append({"seq": len(self.events) + 1, "time": "t", "type": type_, **fields})

    def begin(
        self, *, steps: int = 20, window: int = 10, anchor: dict[str, Any] | None = None
    ) -> None:
        self.tell("run_started", run="r", profile="p", tasks=["old", "new"], metrics={"new": "nll"})
        self.tell(
            "stage_started", stage="new", task="new", steps=steps, known=["old"], anchor=anchor
        )
        self.probe(0)
        self.tell("danger", stage="new", step=0, state="entered", window=window)

    def step(self, step: int, **more: Any) -> None:
        self.tell("step", stage="new", step=step, loss=1.0 / step, **more)

    def probe(self, step: int) -> None:
        self.tell("probe", stage="new", step=step, metrics={"old": FULL, "new": FULL}, drop=0.0)

    def drift(self, step: int, *, frozen: bool = False) -> None:
        layers = [{"name": "block-0", "relative_update": 0.1, "frozen": frozen}]
        self.tell("drift", stage="new", step=step, layers=layers)

    def rewind(self, step: int, reason: str) -> None:
        self.tell("rewound", stage="new", step=step, lost=1, reason=reason)

    def command(self, op: str, status: str, step: int = 1, **arguments: Any) -> None:
        self.tell(
            "command", id=op, action=op, op=op, arguments=arguments, by="user", status=status,
            stage="new", step=step,
        )  # fmt: skip

    def diagnose(self, step: int, verdict: str = "spurious") -> None:
        self.tell("diagnosis", stage="new", step=step, verdict=verdict, task="old", now=0.5)

    def state(self) -> RunState:
        return fold(events_of(self.events))


def test_status_follows_the_run() -> None:
    story = Story()
    assert story.state().status == "starting"
    story.begin()
    assert story.state().status == "running"
    story.command("pause", "accepted")
    assert story.state().status == "running"
    story.command("pause", "done")
    assert story.state().status == "paused"
    story.command("resume", "done")
    assert story.state().status == "running"
    story.tell("run_finished", status="stopped", exit_code=5)
    assert story.state().status == "stopped"
    story.rewind(0, "resumed")
    assert story.state().status == "running"


def test_rewound_work_is_dropped_and_what_came_before_stays() -> None:
    story = Story()
    story.begin()
    for step in range(1, 9):
        story.step(step)
        if step % 4 == 0:
            story.probe(step)
            story.drift(step)
    story.rewind(4, "rollback")
    (stage,) = story.state().stages.values()
    assert stage.step == 4
    assert [probe.step for probe in stage.probes] == [0, 4]
    assert stage.last_step is None
    assert stage.drift is None
    story.step(5)
    story.probe(8)
    (stage,) = story.state().stages.values()
    assert (stage.step, [probe.step for probe in stage.probes]) == (5, [0, 4, 8])


def test_rollback_of_a_paused_run_leaves_it_paused() -> None:
    story = Story()
    story.begin()
    story.command("pause", "done")
    story.rewind(0, "rollback")
    story.command("rollback", "done")
    assert story.state().status == "paused"


def test_resumed_worker_is_not_paused_any_more() -> None:
    story = Story()
    story.begin()
    story.command("pause", "done")
    story.rewind(0, "resumed")
    assert story.state().status == "running"


def test_danger_ends_with_the_window_when_it_is_played_a_second_time() -> None:
    # `left` stands in the log once: a worker killed behind the window's end does not repeat it.
    story = Story()
    story.begin(window=3)
    for step in range(1, 4):
        story.step(step)
    story.tell("danger", stage="new", step=3, state="left", window=3)
    assert not story.state().stage.in_danger
    story.step(4)
    story.rewind(2, "resumed")
    assert story.state().stage.in_danger
    story.step(3)
    assert not story.state().stage.in_danger


def test_stage_that_was_over_when_its_worker_died_is_still_over() -> None:
    # `stage_finished` stands in the log once, too.
    story = Story()
    story.begin(steps=2)
    story.step(2)
    story.tell("stage_finished", stage="new", task="new", steps=2)
    story.rewind(2, "resumed")
    assert story.state().stage.finished
    story.rewind(1, "rollback")
    assert not story.state().stage.finished


def test_command_is_told_with_its_last_word() -> None:
    story = Story()
    story.begin()
    story.tell(
        "command", id="r:1", action="freeze", op="freeze", by="protect", status="accepted",
        stage="new", step=5, reason=None, value=0.3,
    )  # fmt: skip
    story.tell(
        "command", id="r:1", action="freeze", op="freeze", by="protect", status="done",
        stage="new", step=5, reason="frozen: block-0", value=0.3,
    )  # fmt: skip
    (command,) = story.state().commands.values()
    assert (command.status, command.by, command.value) == ("done", "protect", 0.3)
    assert command.reason == "frozen: block-0"


def test_frozen_layers_are_those_of_the_last_drift() -> None:
    story = Story()
    story.begin()
    assert story.state().stage.frozen == []
    story.drift(5, frozen=True)
    assert story.state().stage.frozen == ["block-0"]


def test_charted_measure_is_the_tasks_own() -> None:
    story = Story()
    story.begin()
    state = story.state()
    accuracy = state.stage.probes[0].metrics
    assert state.value_of("new", accuracy) == 1.0
    assert state.value_of("old", accuracy) == 0.5
    assert state.value_of("nothing", accuracy) is None


def test_what_a_newer_version_writes_is_passed_over() -> None:
    story = Story()
    story.begin()
    story.tell("hologram", stage="new")
    story.tell("neighbors", stage="unheard-of", groups=[])
    story.tell("add", stage="new")
    story.tell("step", stage="unheard-of", step=3)
    story.tell("step", stage="new", step=1, loss=1.0, temperature=36.6)
    state = story.state()
    assert (state.stage.step, state.last_seq) == (1, len(story.events))


def test_stage_of_the_anchor_strategy_is_anchored_from_its_start() -> None:
    story = Story()
    story.begin(anchor={"strength": 2.0, "rows": 48})
    assert story.state().stage.anchor == AnchorState(2.0, 48)
    story.step(1, losses={"anchor": 0.02})
    assert story.state().stage.anchor == AnchorState(2.0, 48)
    assert story.state().stage.anchor_loss == 0.02


def test_anchor_follows_its_commands() -> None:
    story = Story()
    story.begin()
    story.step(1)
    story.command("anchor", "accepted", 1, strength=0.5)
    assert story.state().stage.anchor is None
    story.command("anchor", "done", 1, strength=0.5)
    assert story.state().stage.anchor == AnchorState(0.5, None)
    story.step(2, losses={"anchor": 0.1})
    story.command("unanchor", "done", 2)
    assert story.state().stage.anchor is None
    story.step(3)
    stage = story.state().stage
    assert stage.anchor is None
    assert stage.anchor_loss is None
    assert [stage.anchor_at(step) for step in range(4)] == [
        None,
        AnchorState(0.5, None),
        None,
        None,
    ]


def test_step_settles_whether_it_is_anchored_after_a_rollback() -> None:
    story = Story()
    story.begin()
    for step in range(1, 5):
        story.step(step)
    story.command("anchor", "done", 4, strength=1.0)
    story.step(5, losses={"anchor": 0.1})
    story.rewind(2, "rollback")
    assert story.state().stage.anchor is None, "it was not, at that step"
    story.command("anchor", "done", 2, strength=3.0)
    story.rewind(2, "rollback")
    story.step(3)
    assert story.state().stage.anchor is None
    story.step(4, losses={"anchor": 0.1})
    assert story.state().stage.anchor == AnchorState(3.0, None), "the strength that was last told"


def test_step_tells_of_an_anchor_that_nothing_else_told_of() -> None:
    story = Story()
    story.begin()
    story.step(7, losses={"anchor": None})
    assert story.state().stage.anchor == AnchorState(None, None)


def test_neighbors_are_their_stages_own() -> None:
    story = Story()
    story.begin()
    assert story.state().stage.at_risk is None
    story.tell("tasks_at_risk", stage="new", step=0, groups=[{"frame": "a … b"}])
    assert story.state().stage.at_risk.groups[0].frame == "a … b"


def test_diagnosis_holds_until_the_weights_are_changed_otherwise_than_by_steps() -> None:
    for change in ("recover", "shift-edit", "spectral-edit", "interpolate"):
        story = Story()
        story.begin()
        story.step(1)
        story.diagnose(1)
        story.command("freeze", "done")
        story.step(2)
        assert story.state().diagnosis_holds
        story.command(change, "failed")
        assert story.state().diagnosis_holds
        story.command(change, "done")
        assert not story.state().diagnosis_holds
        assert story.state().diagnosis.verdict == "spurious"
        story.diagnose(2, "none")
        assert story.state().diagnosis_holds


def test_diagnosis_of_a_step_that_was_rolled_back_does_not_hold() -> None:
    story = Story()
    story.begin()
    for step in range(1, 5):
        story.step(step)
    story.diagnose(4)
    story.rewind(4, "resumed")
    assert story.state().diagnosis_holds
    story.rewind(2, "rollback")
    assert not story.state().diagnosis_holds


def test_diagnosis_does_not_hold_in_a_later_stage() -> None:
    story = Story()
    story.begin()
    story.diagnose(4)
    story.tell("stage_started", stage="new-2", task="new-2", steps=5, known=["old", "new"])
    assert not story.state().diagnosis_holds


def test_run_that_is_diagnosed_after_its_end_has_still_ended() -> None:
    story = Story()
    story.begin()
    story.tell("run_finished", status="completed", exit_code=0)
    story.diagnose(20, "real")
    state = story.state()
    assert state.status == "completed"
    assert state.diagnosis.verdict == "real"
    story.rewind(0, "resumed")
    assert story.state().status == "running"
