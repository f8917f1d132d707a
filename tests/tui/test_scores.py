"""What the console says a task scored and lost: with its examples, its interval, its reference."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from textual.geometry import Size

from sf_tui.run.course import courses
from sf_tui.run.losses import score_of, worst_loss
from sf_tui.tui import scores
from sf_tui.tui.chart import GUTTER, column_of, plot_width
from sf_tui.tui.console import ConsoleApp
from sf_tui.tui.exports import values_as_markdown
from sf_tui.tui.machine import MachineSample
from sf_tui.tui.panels.card import Card
from sf_tui.tui.panels.charts import AccuracyChart, LossChart
from sf_tui.tui.panels.danger_strip import DangerStrip, strip_height
from sf_tui.tui.panels.header_footer import Header
from sf_tui.tui.panels.lists import Events, WorkerLog
from sf_tui.tui.panels.machine import MachinePanel
from sf_tui.tui.panels.matrix import Matrix
from sf_tui.tui.panels.panel import Panel
from sf_tui.tui.panels.step_axis import bands
from sf_tui.vocabulary.events import CommandAnswered, Rewound, RunFinished
from sf_tui.vocabulary.measured import format_score
from support.score_scenes import (
    REASON,
    MakeRun,
    failed,
    finished,
    five_tasks,
    losing,
    not_learned,
    probe,
    repaired,
)
from tui.driving import console_of, let_time_pass, screen_text
from tui.written_run import WrittenRun


def opened(written: WrittenRun) -> ConsoleApp:
    app = console_of(written)
    app.check_worker()
    return app


def text_of(app: ConsoleApp, panel: type[Panel], width: int, height: int = 12) -> list[str]:
    lines = panel(app.view).compose_lines(width, height)
    return ["".join(text for text, _ in line).rstrip() for line in lines]


def role_of(app: ConsoleApp, panel: type[Panel], width: int, word: str) -> str:
    """Return the role of the first piece that contains a word."""
    lines = panel(app.view).compose_lines(width, 12)
    return next(role for line in lines for text, role in line if word in text)


def test_a_loss_comes_with_examples_interval_and_both_references(make_run: MakeRun) -> None:
    app = opened(losing(make_run))
    first, second = text_of(app, DangerStrip, 120)
    assert first == (
        "DANGER WINDOW 85/150   ● old 0.26 ± 0.09 (26 of 101) · −74 since the run began, "
        "−74 in this stage   ▸ a anchor  f freeze"
    )
    assert second.startswith("▲ new 1.00 ± 0.04 (101 of 101)   ")
    assert second.endswith("65 steps left   old −5 in 25 steps")


@pytest.mark.parametrize(
    ("width", "least"),
    [
        (80, "0.26 ± 0.09 (26 of 101) · −74 since the run began"),
        (60, "0.26 ± 0.09 · −74"),
        (40, "0.26 · −74"),
    ],
)
def test_the_value_and_the_points_go_last(make_run: MakeRun, width: int, least: str) -> None:
    first, _ = text_of(opened(losing(make_run)), DangerStrip, width)
    assert f"● old {least}" in first
    assert len(first) <= width


@pytest.mark.parametrize("size", [(80, 24), (60, 20), (59, 19), (120, 40), (200, 60)])
async def test_every_layout_shows_the_interval_and_the_loss_since_the_run_began(
    make_run: MakeRun, size: tuple[int, int]
) -> None:
    app = console_of(losing(make_run))
    async with app.run_test(size=size) as pilot:
        await pilot.pause()
        screen = screen_text(app)
    assert "± 0.09" in screen
    assert "−74" in screen
    assert "since the run began" in screen or size == (60, 20)


def test_the_headline_is_of_the_task_that_lost_most_since_the_run_began(make_run: MakeRun) -> None:
    app = opened(five_tasks(make_run))
    first, _ = text_of(app, DangerStrip, 120)
    assert "● old 0.07 ± 0.07 (7 of 101) · −93 since the run began, 0 in this stage" in first
    assert role_of(app, DangerStrip, 120, "−93") == "danger"
    worst = worst_loss(app.view.live)
    assert worst is not None
    assert worst.task == "old"


def test_replay_gives_the_losses_up_to_the_cursor(make_run: MakeRun) -> None:
    app = opened(five_tasks(make_run))
    app.view.cursor = 60 + 30
    losses = {loss.task: loss for loss in scores.losses(app.view)}
    assert list(losses) == ["old", "people-a"]
    assert losses["old"].now.value == pytest.approx(26 / 101)
    first, second = text_of(app, DangerStrip, 200)
    assert "● old 0.26 ± 0.09 (26 of 101) · −74 since the run began, −14 in this stage" in first
    assert second.startswith("■ people-b 0.89 ± 0.08 (90 of 101)")


def test_the_matrix_takes_stage_ends_from_the_whole_split_and_says_so(make_run: MakeRun) -> None:
    app = opened(five_tasks(make_run))
    rows = text_of(app, Matrix, 60)
    assert rows[0].split() == ["start", *(["end", "s1", "end", "s2", "end", "s3"]), "now", "worst"]
    assert rows[1].split()[2:] == ["1.00", "0.40", "0.16", "0.07", "0.07*", "0.07*"]
    assert rows[2].split()[:3] == ["▲", "people-a", "s1"]
    assert rows[-1] == " full split, 200–600   * probe, 101 examples"
    # 94 of 600, where the probe's examples gave 12 of 101.
    state = app.view.live
    end = state.stages["people-b"].probes[-1]
    score = score_of(state, "old", end)
    assert score is not None
    assert (score.full, score.right, score.examples) == (True, 94, 600)


def test_the_matrix_and_show_give_the_same_ends(make_run: MakeRun) -> None:
    app = opened(five_tasks(make_run))
    heading, *rows, _ = Matrix(app.view).compose_lines(120, 12)
    assert len(heading) + 1 == len(rows[0]) == 8
    cells = {row[0][0].split()[1]: [text.strip() for text, _ in row[3:]] for row in rows}
    stages = list(app.view.live.stages)
    for course in courses(app.view.live):
        assert course.end is not None
        sign = "" if course.end.full else "*"
        shown = cells[course.task][stages.index(course.stage)]
        assert shown == format_score(course.end) + sign


def test_the_matrix_colors_by_the_loss_since_the_run_began(make_run: MakeRun) -> None:
    app = opened(five_tasks(make_run))
    old = Matrix(app.view).compose_lines(60, 12)[1]
    assert [role for text, role in old if text.strip() in {"0.40", "0.16", "0.07"}] == [
        "danger"
    ] * 3
    now, worst = old[-2:]
    assert (now[0].strip(), now[1]) == ("0.07*", "danger")
    assert (worst[0].strip(), worst[1]) == ("0.07*", "muted")


def test_the_matrix_of_a_finished_run_is_of_the_whole_split(make_run: MakeRun) -> None:
    rows = text_of(opened(finished(make_run)), Matrix, 60)
    assert rows[0].split() == ["run", "start", "stage", "end", "worst"]
    assert rows[1].split()[2:] == ["1.00", "±", "0.01", "0.26", "±", "0.04", "0.26", "±", "0.09*"]


def test_copied_values_have_counts_and_intervals(make_run: MakeRun) -> None:
    values = values_as_markdown(opened(losing(make_run)).view)
    assert (
        "| old (exact_match) | 1.00 ± 0.01, 600 of 600 | 0.26 ± 0.09, 26 of 101 | "
        "0.26 ± 0.09, 26 of 101 | −74 | −74 |"
    ) in values


@pytest.mark.parametrize("width", [60, 75, 110, 138, 200])
def test_the_legend_is_as_long_as_its_room(make_run: MakeRun, width: int) -> None:
    class Sized(AccuracyChart):
        size = Size(width, 20)  # type: ignore[assignment]

    legend = "".join(text for text, _ in Sized(opened(five_tasks(make_run)).view).title_right())
    assert len(legend) <= width - 14
    assert legend.startswith("● old 0.07 ")
    assert ("0.07 ± 0.07" in legend) == (width > 110)
    assert ("(7 of 101)" in legend) == (width == 200)
    assert "−93" in legend


def test_a_window_after_a_repair_counts_its_own_steps(make_run: MakeRun) -> None:
    app = opened(repaired(make_run))
    first, second = text_of(app, DangerStrip, 120)
    assert first.startswith("DANGER WINDOW 12/150 after recover   ● old 0.79 ± 0.09")
    assert "138 steps left" in second
    assert bands(app.view) == [(0, 150), (200, 350)]
    assert text_of(app, Card, 59)[-1].startswith("q leave  ? help  : more")
    assert any("danger window 12/150 after recover" in line for line in text_of(app, Card, 59, 19))


def test_the_newest_change_does_not_reach_across_a_repair(make_run: MakeRun) -> None:
    written = repaired(make_run)
    assert "old −19 in 10 steps" in text_of(opened(written), DangerStrip, 120)[1]
    early = repaired(lambda **_: make_run("20260301-093000-biography-mini-c3d4"), steps_after=2)
    assert "steps" not in text_of(opened(early), DangerStrip, 120)[1].partition("left")[2]


def test_the_newest_change_says_its_real_number_of_steps(make_run: MakeRun) -> None:
    written = losing(make_run)
    app = opened(written)
    change = scores.recent_change(app.view, "old")
    assert change is not None
    # The probe at or before step 60 is that of step 60.
    assert change.steps == 25
    app.view.cursor = 10
    assert scores.recent_change(app.view, "old").steps == 10  # type: ignore[union-attr]


def test_curves_are_not_joined_across_a_repair(make_run: MakeRun) -> None:
    app = opened(repaired(make_run))
    lines = AccuracyChart(app.view).compose_lines(90, 20)
    # Between the last probe before the repair (85) and the repair (200), nothing is drawn.
    columns = plot_width(90)
    first, last = (GUTTER + column_of(step, 0, 300, columns) for step in (88, 197))
    for line in lines[:-2]:
        cells = [(sign, role) for text, role in line for sign in text]
        drawn = [sign for sign, role in cells[first:last] if role.startswith("task")]
        assert not drawn, "".join(sign for sign, _ in cells)


def test_a_task_that_never_rises_is_said_to_be_not_learned(make_run: MakeRun) -> None:
    app = opened(not_learned(make_run))
    _, second = text_of(app, DangerStrip, 120)
    assert second.startswith("▲ new 0.00 ± 0.04 (0 of 101): not learned after 200 steps")
    assert any("new not learned" in line for line in text_of(app, Card, 59, 19))


def test_a_task_is_not_called_unlearned_within_its_window(make_run: MakeRun) -> None:
    app = opened(not_learned(make_run))
    app.view.cursor = 100
    assert "not learned" not in text_of(app, DangerStrip, 120)[1]


def test_a_task_that_the_model_knew_before_is_not_called_unlearned(make_run: MakeRun) -> None:
    written = make_run()
    written.begin()
    written.new = 0.97
    written.begin_stage()
    written.steps(1, 200)
    new = scores.new_task(opened(written).view)
    assert new is not None
    assert not new.not_learned


# Failed and finished runs


@pytest.mark.parametrize("width", [60, 80, 120, 200])
def test_a_failed_runs_strip_says_why_and_what_to_do_in_full(make_run: MakeRun, width: int) -> None:
    app = opened(failed(make_run))
    lines = text_of(app, DangerStrip, width, strip_height(app.view, width))
    assert " ".join(lines[:-1]) == f"Failed: {REASON}"
    assert lines[-1].startswith("● old 1.00 ± 0.01 (600 of 600)")
    assert "DANGER" not in " ".join(lines)
    assert "at risk" not in " ".join(lines)


async def test_a_failed_run_is_explained_in_every_panel_that_has_the_reason(
    make_run: MakeRun,
) -> None:
    app = console_of(failed(make_run))
    async with app.run_test(size=(120, 40)) as pilot:
        await pilot.pause()
        screen = screen_text(app)
        assert "no step has been taken" not in screen
        assert "the run ended before its first step" in screen
        strip = app.query_one(DangerStrip)
        assert strip.size.height == strip_height(app.view, 120) == 3
    for panel in (Events, WorkerLog):
        shown = " ".join(" ".join(text_of(app, panel, 60)).split())
        assert REASON in shown, panel


def test_the_machine_of_an_ended_run_has_no_live_figures(make_run: MakeRun) -> None:
    written = finished(make_run)
    app = opened(written)
    app.sample_machine()
    ended = app.view.live.last_time[11:16]
    assert text_of(app, MachinePanel, 40)[0] == f"  the run ended {ended}"
    written.event(Rewound(stage="new", step=200, reason="resumed", lost=100))
    written.beat()
    app = opened(written)
    app.sample_machine()
    assert text_of(app, MachinePanel, 40)[0] == "  the worker runs on node-7"


async def test_the_machines_figures_go_with_the_run(make_run: MakeRun) -> None:
    written = repaired(make_run)
    app = console_of(written)
    async with app.run_test(size=(120, 40)) as pilot:
        await pilot.pause()
        app.view.machine = MachineSample(cpu_percent=90.0, cores=2, rss_bytes=1, problem="")
        written.event(RunFinished("completed", 0))
        let_time_pass(app, 0.25)
        app.poll()
        await pilot.pause()
        screen = screen_text(app)
        assert "the run ended 09:3" in screen
        assert "of 2 cores" not in screen


def test_speeds_are_of_a_run_that_goes_on(make_run: MakeRun) -> None:
    assert "tokens/s" in text_of(opened(losing(make_run)), Header, 120)[1]
    written = losing(lambda **_: make_run("20260301-093000-biography-mini-e5f6"))
    written.event(CommandAnswered("c-1", "done", "pause", op="pause", stage="new", step=85))
    assert "/s" not in text_of(opened(written), Header, 120)[1]


# Logarithmic losses


def losses_of(make_run: Callable[..., WrittenRun], values: list[float]) -> ConsoleApp:
    written = make_run()
    written.begin(steps=100)
    written.begin_stage(steps=100)
    for step, loss in enumerate(values, start=1):
        written.step(step, loss=loss)
    return opened(written)


def test_a_zero_loss_is_marked_and_does_not_flatten_the_axis(make_run: MakeRun) -> None:
    values = [10 ** -(step / 10) for step in range(80)]
    values[40] = values[60] = 0.0
    app = losses_of(make_run, values)
    lines = LossChart(app.view).compose_lines(90, 22)
    labels = ["".join(text for text, _ in line)[:5].strip() for line in lines[:-2]]
    assert "1e-8" in labels
    assert "1" in labels
    foot = "".join(text for text, _ in lines[-3])
    assert foot.count("▼") == 2
    drawn = {
        row
        for row, line in enumerate(lines[:-2])
        for text, role in line
        if role.startswith("text") and any(0x2800 < ord(sign) < 0x2900 for sign in text)
    }
    assert len(drawn) > 12, "a straight fall over eight decades"
    assert "".join(text for text, _ in LossChart(app.view).title_right()).endswith("▼ zero")


def test_a_probe_of_a_later_step_than_the_act_belongs_to_the_new_weights(
    make_run: MakeRun,
) -> None:
    written = repaired(make_run, steps_after=0)
    probe(written, "new", 225, {"old": (60, 101), "new": (101, 101)})
    app = opened(written)
    change = scores.recent_change(app.view, "old")
    assert change is None or change.steps == 25
