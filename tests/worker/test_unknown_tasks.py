"""An old task that the model does not know is reported before training, once, and costs nothing."""

from __future__ import annotations

import pytest

from support.quick_run import Begin, Operator, equal, events_of, final_weights, work

KNOWN_FIRST = "tasks.old.learn=false"
FEW = "train.steps=3"


def test_it_is_reported_before_the_first_step_with_answers(begin: Begin) -> None:
    run = begin(KNOWN_FIRST, FEW)
    assert work(run, Operator(run).at("new", 1, "stop")) == 5
    assert work(run) == 0
    events = events_of(run)
    (alert,) = [e for e in events if e.get("code") == "unknown-old"]
    assert alert["seq"] < next(e["seq"] for e in events if e["type"] == "step")
    assert (alert["level"], alert["stage"], alert["step"]) == ("warn", "new", 0)
    assert alert["message"].count('asked: "') == 3
    assert alert["message"].count('wanted: "') == alert["message"].count("the model answers: ") == 3
    assert "0 of 12" in alert["message"]


def test_it_changes_nothing_of_the_training(begin: Begin, monkeypatch: pytest.MonkeyPatch) -> None:
    told, silent = (begin(KNOWN_FIRST, FEW, name=name) for name in ("told", "silent"))
    assert work(told) == 0
    monkeypatch.setattr("sf_tui.worker.probes.warn_of_unknown_tasks", lambda *_: None)
    assert work(silent) == 0
    assert equal(final_weights(told), final_weights(silent))


def test_a_task_that_an_earlier_stage_had_lost_is_not_reported_again(begin: Begin) -> None:
    third = '[[tasks]]\nname = "third"\ndata = "biography:new-2"\n'
    run = begin(KNOWN_FIRST, FEW, more=third)
    assert work(run) == 0
    codes = [(e["code"], e["stage"]) for e in events_of(run, "alert") if "unknown" in e["code"]]
    assert codes == [("unknown-old", "new"), ("unknown-new", "third")]
