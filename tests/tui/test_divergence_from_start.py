"""A watched training without old examples: kept answers, and the divergence beside them."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from typer.testing import CliRunner

from sf_tui.cli.app import app
from sf_tui.tui.panels.danger_strip import DangerStrip
from sf_tui.vocabulary.declared import ModelFacts, PlannedStage
from sf_tui.vocabulary.events import Danger, Probe, RunStarted, StageStarted
from tui.driving import SIZE, console_of
from tui.written_run import WrittenRun

# Kept answers stay the same from step 10 to step 30, while the probabilities move.
COURSE = {0: (1.0, 0.0), 10: (0.75, 0.3), 20: (0.75, 0.2), 30: (0.75, 0.9)}


@pytest.fixture
def written(make_run: Callable[..., WrittenRun]) -> WrittenRun:
    run = make_run()
    run.event(
        RunStarted(
            run=run.run.id,
            profile="p",
            model=ModelFacts(parameters=1, layers=1),
            tasks=["neighbors", "new"],
            watched=["neighbors", "new"],
            metrics={"neighbors": "exact_match", "new": "exact_match"},
            stages=[PlannedStage("new", "new", 40)],
            device="cpu",
        )
    )
    known = ["neighbors"]
    run.event(
        StageStarted(stage="new", task="new", strategy="seq", steps=40, known=known, anchor=None)
    )
    run.event(Danger(stage="new", step=0, state="entered", window=20))
    for step, (kept, kl) in COURSE.items():
        for at in range(max(step - 9, 1), step + 1):
            run.step(at)
        metrics = {
            "neighbors": {"exact_match": kept, "kl": kl, "n": 64},
            "new": {"exact_match": 0.5, "n": 64},
        }
        run.event(Probe(stage="new", step=step, metrics=metrics, full=step == 0, drop=1 - kept))
    run.beat()
    return run


async def test_console_shows_it_beside_the_kept_answers(written: WrittenRun) -> None:
    console = console_of(written)
    async with console.run_test(size=SIZE) as pilot:
        await pilot.pause()
        lines = DangerStrip(console.view).compose_lines(200, 2)
    strip = "\n".join("".join(text for text, _ in line) for line in lines)
    assert "(48 of 64) KL 0.900" in strip


def test_show_and_log_name_its_course(written: WrittenRun) -> None:
    run = str(written.run.path)
    shown = CliRunner().invoke(app, ["show", run]).stdout
    assert "neighbors: KL 0.900 at the end, at most 0.300 in the window (step 10): " in shown
    (old, new) = json.loads(CliRunner().invoke(app, ["show", run, "--json"]).stdout)["tasks"]
    assert old["kl"] == {"largest": 0.3, "largest_step": 10, "end": 0.9}
    assert new["kl"] is None
    assert "KL 0.200" in CliRunner().invoke(app, ["log", run, "--kind", "probe"]).stdout
