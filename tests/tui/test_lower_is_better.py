"""Two watched old tasks measured by nll, one getting worse and one improving."""

from __future__ import annotations

import io
from collections.abc import Callable

import pytest
from rich.console import Console
from typer.testing import CliRunner

from sf_tui.cli.app import app
from sf_tui.cli.narration import Narrator
from sf_tui.profile import Rule
from sf_tui.run.course import courses
from sf_tui.run.events import read_events
from sf_tui.run.state import fold
from sf_tui.tui.exports import values_as_markdown
from sf_tui.tui.panels.danger_strip import DangerStrip
from sf_tui.tui.panels.matrix import Matrix
from sf_tui.vocabulary.declared import ModelFacts, PlannedStage
from sf_tui.vocabulary.events import Danger, Probe, RunFinished, RunStarted, StageStarted
from sf_tui.worker.rules import RuleWatch
from tui.driving import SIZE, console_of, screen_text
from tui.written_run import WrittenRun

MakeRun = Callable[..., WrittenRun]
COURSE = {0: (1.0, 3.0), 10: (6.0, 2.0), 20: (5.0, 1.0)}
"""By step: nats a token of the task that gets worse and of the one that improves."""


@pytest.fixture
def written(make_run: MakeRun) -> WrittenRun:
    run = make_run()
    run.event(
        RunStarted(
            run=run.run.id,
            profile="p",
            model=ModelFacts(parameters=1, layers=1),
            tasks=["better", "worse", "new"],
            watched=["better", "worse", "new"],
            metrics={"better": "nll", "worse": "nll", "new": "exact_match"},
            stages=[PlannedStage("new", "new", 30)],
            device="cpu",
        )
    )
    run.event(
        StageStarted(
            stage="new",
            task="new",
            strategy="seq",
            steps=30,
            known=["better", "worse"],
            anchor=None,
        )
    )
    run.event(Danger(stage="new", step=0, state="entered", window=30))
    for step, (worse, better) in COURSE.items():
        accuracy = {
            name: {
                "exact_match": 0.5,
                "first_token_accuracy": 0.5,
                "token_accuracy": 0.5,
                "nll": value,
                "n": 64,
            }
            for name, value in (("better", better), ("worse", worse), ("new", 0.0))
        }
        drop = max(worse - COURSE[0][0], better - COURSE[0][1])
        for at in range(max(step - 9, 1), step + 1):
            run.step(at)
        run.event(Probe(stage="new", step=step, metrics=accuracy, full=step == 0, drop=drop))
    run.beat()
    return run


async def test_every_panel_names_the_task_whose_likelihood_fell(written: WrittenRun) -> None:
    console = console_of(written)
    async with console.run_test(size=SIZE) as pilot:
        await pilot.pause()
        screen = screen_text(console)
        assert console.view.live.worst_known == "worse"
        strip = screen.splitlines()[2]
        assert "worse nll 5.00 (64 examples) · +4.00 nats a token since the run began" in strip
        matrix = console.screen.query_one(Matrix)
        rows = {
            line[0][0].split()[1]: [(text.strip(), role) for text, role in line[2:]]
            for line in matrix.compose_lines(60, 10)[1:-1]
        }
        assert rows["worse"] == [("1.00", "muted"), ("5.00*", "danger"), ("6.00*", "muted")]
        assert rows["better"] == [("3.00", "muted"), ("1.00*", "text"), ("3.00*", "muted")]
        wide = "\n".join(
            "".join(text for text, _ in line)
            for line in DangerStrip(console.view).compose_lines(200, 2)
        )
        assert "highest 6.00 in the window" in wide
        values = values_as_markdown(console.view)
    assert (
        "| worse (nll) | 1.00, 64 examples | 6.00, 64 examples | 5.00, 64 examples | "
        "+4.00 nats a token | +4.00 nats a token |"
    ) in values
    assert "| better (nll) | 3.00, 64 examples" in values


def test_the_closing_table_gives_the_worst_value_of_each(written: WrittenRun) -> None:
    rows = {row.task: row for row in courses(fold(read_events(written.run.events)))}
    found = {task: (row.worst.value, row.worst_step) for task, row in rows.items() if row.worst}
    assert found["worse"] == (6.0, 10)
    assert found["better"] == (3.0, 0)


def test_show_and_narration_give_the_worst_value_of_each(written: WrittenRun) -> None:
    shown = CliRunner().invoke(app, ["show", str(written.run.path)]).stdout
    output = io.StringIO()
    narrator = Narrator(Console(file=output, width=120))
    for event in read_events(written.run.events):
        narrator(event)
    narrator(RunFinished("completed", 0))
    for text in (shown, output.getvalue()):
        rows = [line.split() for line in text.splitlines() if line.startswith("new ")]
        assert [row[1:] for row in rows if row[1] in {"better", "worse"}] == [
            ["better", "64", "3.00", "3.00", "1.00", "−2.00"],
            ["worse", "64", "1.00", "6.00", "5.00", "+4.00"],
        ]


def test_a_rule_on_the_drop_fires_by_the_task_that_gets_worse(written: WrittenRun) -> None:
    rule = Rule.model_validate({"name": "lost", "metric": "drop", "above": 3.5, "action": "freeze"})
    rules = RuleWatch([rule])
    probes = [event for event in read_events(written.run.events) if isinstance(event, Probe)]
    fired = [
        (p.step, value) for p in probes for _, value in rules.evaluate({"drop": p.drop}, p.step)
    ]
    assert fired == [(10, 5.0)]
