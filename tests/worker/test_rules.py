"""A rule fires when its metric crosses the bound: once, by its name, with the value that did it."""

from __future__ import annotations

from sf_tui.profile import Rule
from sf_tui.run.directory import RunDirectory
from sf_tui.worker.rules import RuleWatch
from support.quick_run import (
    Begin,
    Operator,
    assert_well_told,
    checkpoint_weights,
    commands_of,
    equal,
    events_of,
    final_weights,
    live_course,
    work,
)


def rule(metric: str, bound: str, action: str, more: str = "") -> str:
    return (
        f'[[rules]]\nname = "guardian"\nmetric = "{metric}"\n{bound}\naction = "{action}"\n{more}\n'
    )


def watch(**settings: object) -> RuleWatch:
    given = {"name": "r", "metric": "drop", "above": 0.2, "action": "freeze"} | settings
    if "below" in settings:
        del given["above"]
    return RuleWatch([Rule.model_validate(given)])


def fired(rules: RuleWatch, values: list[float | None]) -> list[int]:
    return [step for step, value in enumerate(values, 1) if rules.evaluate({"drop": value}, step)]


def test_rule_fires_at_the_crossing_and_not_while_the_metric_stays_beyond() -> None:
    assert fired(watch(), [0.1, 0.3, 0.4, 0.1, 0.2, 0.21]) == [2, 6]
    assert fired(watch(below=0.5), [0.6, 0.5, 0.4, 0.3, 0.7, 0.1]) == [3, 6]


def test_metric_beyond_its_bound_at_first_sight_fires() -> None:
    assert fired(watch(), [0.3]) == [1]


def test_metric_that_was_not_measured_leaves_the_rule_as_it_was() -> None:
    assert fired(watch(), [0.3, None, 0.3, None, 0.1, None, 0.3]) == [1, 7]


def test_rule_of_the_first_steps_is_silent_afterwards() -> None:
    assert fired(watch(within_steps=2), [0.1, 0.3]) == [2]
    assert fired(watch(within_steps=2), [0.1, 0.1, 0.3]) == []


def test_value_that_is_no_number_fires_nothing() -> None:
    assert fired(watch(), [float("nan")]) == []
    assert fired(watch(below=0.5), [float("nan")]) == []


def test_new_stage_arms_every_rule_and_a_checkpoint_remembers() -> None:
    rules = watch()
    assert rules.evaluate({"drop": 0.3}, 1)
    assert rules.crossed == ["r"]
    other = watch()
    other.restore(rules.crossed)
    assert not other.evaluate({"drop": 0.4}, 2)
    rules.begin_stage()
    assert rules.evaluate({"drop": 0.3}, 1)


def test_freeze_by_rule_is_told_with_its_value_and_holds(begin: Begin) -> None:
    run = begin(more=rule("drift", "above = 0.4", "freeze", "arguments = {layers = 2}"))
    assert work(run) == 0
    assert_well_told(run)
    accepted, done = events_of(run, "command")
    largest = {
        (e["stage"], e["step"]): max(layer["relative_update"] for layer in e["layers"])
        for e in events_of(run, "drift")
    }
    for event in (accepted, done):
        assert (event["by"], event["action"], event["op"]) == ("guardian", "freeze", "freeze")
        assert (event["stage"], event["step"]) == ("old", 8)
        assert event["value"] == largest["old", 8] > 0.4
    assert largest["old", 4] < 0.4
    firing, end = checkpoint_weights(run, "old", 8), final_weights(run)
    held = [n for n in firing if ".0." in n or ".1." in n or "embed_in" in n]
    assert equal({n: firing[n] for n in held}, {n: end[n] for n in held})
    assert not equal(firing, end)


def test_rule_fires_once_in_a_run_unless_it_says_otherwise(begin: Begin) -> None:
    once = rule("drift", "above = 0.4", "checkpoint")
    often = rule("drift", "above = 0.4", "checkpoint", "once = false").replace("guardian", "often")
    run = begin(more=once + often)
    assert work(run) == 0
    told = [(e["by"], e["stage"], e["step"]) for e in events_of(run, "command")]
    assert told[::2] == [("guardian", "old", 8), ("often", "old", 8), ("often", "new", 8)]


MEASURED = {
    "loss": ("below = 100.0", ("old", 1)),
    "grad_norm": ("above = 0.0", ("old", 1)),
    "new_accuracy": ("below = 0.5", ("old", 4)),
    "old_accuracy": ("below = 0.5", ("new", 4)),
    "drop": ("below = 0.5", ("new", 4)),
}


def test_every_metric_can_fire_as_soon_as_it_is_measured_and_rules_have_an_order(
    begin: Begin,
) -> None:
    # Of two at one step, the second finds what the first has done.
    actions = {"loss": "freeze", "grad_norm": "unfreeze"}
    rules = "".join(
        rule(metric, bound, actions.get(metric, "checkpoint")).replace("guardian", f"by-{metric}")
        for metric, (bound, _) in MEASURED.items()
    )
    run = begin("train.steps=4", more=rules)
    assert work(run) == 0
    told = [(e["by"], (e["stage"], e["step"])) for e in events_of(run, "command")]
    assert told[::2] == [(f"by-{metric}", place) for metric, (_, place) in MEASURED.items()]
    assert [status for _, status in commands_of(run)] == ["accepted", "done"] * len(MEASURED)


def test_action_that_makes_no_sense_is_refused_and_the_run_goes_on(
    begin: Begin, undisturbed: RunDirectory
) -> None:
    run = begin(more=rule("loss", "below = 100.0", "unfreeze", "once = false"))
    assert work(run) == 0
    assert {status for _, status in commands_of(run)} == {"refused"}
    assert "nothing is frozen" in events_of(run, "command")[0]["reason"]
    assert equal(final_weights(run), final_weights(undisturbed))


def test_rule_rolls_back_once_and_the_stage_ends(begin: Begin, undisturbed: RunDirectory) -> None:
    run = begin(more=rule("drift", "above = 0.4", "rollback"))
    assert work(run) == 0
    assert_well_told(run)
    (rewound,) = events_of(run, "rewound")
    assert (rewound["stage"], rewound["step"], rewound["lost"]) == ("old", 4, 4)
    assert live_course(run) == live_course(undisturbed)
    assert equal(final_weights(run), final_weights(undisturbed))


def test_rule_stops_the_run_and_a_resume_goes_on_without_stopping_again(
    begin: Begin, undisturbed: RunDirectory
) -> None:
    run = begin(more=rule("drift", "above = 0.4", "stop"))
    assert work(run) == 5
    assert events_of(run)[-1]["reason"].startswith("stopped by rule guardian")
    assert work(run) == 0
    assert_well_told(run)
    assert equal(final_weights(run), final_weights(undisturbed))


def test_rule_pauses_and_the_operator_lets_it_go_on(begin: Begin) -> None:
    run = begin("tasks.new.train.steps=1", more=rule("drift", "above = 0.4", "pause"))
    assert work(run, Operator(run).after("pause", "resume")) == 0
    assert [e["step"] for e in events_of(run, "command")] == [8, 8, 8, 8]
