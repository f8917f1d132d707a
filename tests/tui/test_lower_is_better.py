"""Two watched old tasks measured by nll, one getting worse and one improving."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from sf_tui.cli.narration import closing_rows
from sf_tui.run.events import read_events
from sf_tui.run.history import fold
from sf_tui.tui.keepsakes import values_as_markdown
from sf_tui.tui.panels.matrix import Matrix
from tui.driving import SIZE, console_of, screen_text
from tui.written_run import WrittenRun

MakeRun = Callable[..., WrittenRun]
COURSE = {0: (1.0, 3.0), 10: (6.0, 2.0), 20: (5.0, 1.0)}
"""By step: nats a token of the task that gets worse and of the one that improves."""


@pytest.fixture
def written(make_run: MakeRun) -> WrittenRun:
    run = make_run()
    run.event(
        "run_started",
        run=run.run.id,
        profile="p",
        model={"parameters": 1, "layers": 1},
        tasks=["better", "worse", "new"],
        watched=["better", "worse", "new"],
        metrics={"better": "nll", "worse": "nll", "new": "exact_match"},
        stages=[{"stage": "new", "task": "new", "steps": 30}],
        device="cpu",
    )
    run.event(
        "stage_started",
        stage="new",
        task="new",
        strategy="seq",
        steps=30,
        known=["better", "worse"],
        anchor=None,
    )
    run.event("danger", stage="new", step=0, state="entered", window=30)
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
        run.event("probe", stage="new", step=step, accuracy=accuracy, full=step == 0, drop=drop)
    run.beat()
    return run


async def test_every_panel_names_the_task_whose_likelihood_fell(written: WrittenRun) -> None:
    app = console_of(written)
    async with app.run_test(size=SIZE) as pilot:
        await pilot.pause()
        screen = screen_text(app)
        assert app.scene.record.worst_known == "worse"
        strip = screen.splitlines()[2]
        assert "worse +4.00 nats a token (1.000 to 5.000)" in strip
        assert "highest worse 6.000" in screen
        matrix = app.screen.query_one(Matrix)
        rows = {
            line[0][0].split()[1]: [(text.strip(), role) for text, role in line[1:]]
            for line in matrix.compose_lines(60, 10)[1:]
        }
        assert rows["worse"] == [("1.00", "muted"), ("6.00", "muted"), ("5.00", "danger")]
        assert rows["better"] == [("3.00", "muted"), ("3.00", "muted"), ("1.00", "text")]
        values = values_as_markdown(app.scene)
    assert "| worse (nll) | 1.000 | 6.000 | 5.000 | +4.00 nats a token |" in values
    assert "| better (nll) | 3.000 | 3.000 | 1.000 | −2.00 nats a token |" in values


def test_the_closing_table_gives_the_worst_value_of_each(written: WrittenRun) -> None:
    rows = {row["task"]: row for row in closing_rows(fold(read_events(written.run.events)))}
    assert (rows["worse"]["worst_in_window"], rows["worse"]["worst_at_step"]) == (6.0, 10)
    assert (rows["better"]["worst_in_window"], rows["better"]["worst_at_step"]) == (3.0, 0)
