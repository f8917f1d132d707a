"""What each panel shows in which state of a run: its lines, and the role of each part."""

from __future__ import annotations

import pytest

from sf_tui.tui.console import ConsoleApp
from sf_tui.tui.panels.card import Card
from sf_tui.tui.panels.charts import AccuracyChart, LossChart
from sf_tui.tui.panels.danger_strip import DangerStrip
from sf_tui.tui.panels.header_footer import Footer, Header
from sf_tui.tui.panels.lists import Events
from sf_tui.tui.panels.matrix import Matrix
from sf_tui.tui.panels.panel import Panel
from sf_tui.tui.panels.tables import Drift, DriftLine
from sf_tui.tui.panels.verdict import Verdict, VerdictLine
from sf_tui.tui.theme import DARK, LIGHT, PLAIN
from support.console_scenes import (
    MakeRun,
    Scene,
    anchored,
    dead,
    diagnosed,
    frozen,
    in_danger,
    light,
    past_the_window,
    plain_terminal,
    read_only,
    three_stages,
)

Parts = list[tuple[str, str]]
WIDTH = 118


class ShownRun:
    """A run in one state, and what the console's panels make of it."""

    def __init__(self, scene: Scene, make_run: MakeRun) -> None:
        self.state = scene.__name__
        written, options = scene(make_run)
        self.app = ConsoleApp(written.run, written.options(**options))
        self.app.check_worker()

    def lines(self, panel: type[Panel], width: int = WIDTH, height: int = 6) -> list[Parts]:
        """Return the parts of each line that are no blanks, each with its role."""
        return [parts(line) for line in panel(self.app.view).compose_lines(width, height)]

    def title(self, panel: type[Panel]) -> Parts:
        """Return what stands at the right end of a panel's title."""
        return parts(list(panel(self.app.view).title_right()))

    def text(self, panel: type[Panel], width: int = WIDTH, height: int = 6) -> list[str]:
        """Return a panel's lines without their roles."""
        lines = panel(self.app.view).compose_lines(width, height)
        return ["".join(text for text, _ in line) for line in lines]


def parts(line: Parts) -> Parts:
    return [(text.strip(), role) for text, role in line if text.strip()]


@pytest.fixture
def shown(make_run: MakeRun, request: pytest.FixtureRequest) -> ShownRun:
    """Return a run in the state that the test names by `@in_state(...)`."""
    return ShownRun(request.param, make_run)


def in_state(*scenes: Scene) -> pytest.MarkDecorator:
    """Give a test a run in each of these states."""
    return pytest.mark.parametrize("shown", scenes, indirect=True, ids=lambda one: one.__name__)


# The danger strip


@in_state(in_danger)
def test_danger_strip_says_how_much_is_lost_and_what_would_help(shown: ShownRun) -> None:
    first, second = shown.lines(DangerStrip)
    assert first == [
        ("DANGER WINDOW", "danger"),
        ("85/150", "strong"),
        ("● old", "task-0"),
        ("0.41 ± 0.12", "strong"),
        ("(64 examples)", "muted"),
        ("·", "muted"),
        ("−59", "danger"),
        ("since the run began", "muted"),
        ("▸", "danger"),
        ("a", "key"),
        ("anchor", "text"),
        ("f", "key"),
        ("freeze", "text"),
    ]
    assert second[:2] == [("▲ new", "task-1"), ("0.99 ± 0.06", "text")]
    assert second[2] == ("(64 examples)", "muted")
    assert second[5:] == [
        ("65 steps left", "muted"),
        ("old −4", "text"),
        ("in 25 steps", "muted"),
    ]
    done, left = second[3:5]
    assert (set(done[0]), done[1]) == ({"━"}, "danger")
    assert (set(left[0]), left[1]) == ({"─"}, "rule")
    assert len(done[0]) / (len(done[0]) + len(left[0])) == pytest.approx(85 / 150, abs=0.02)


@in_state(in_danger)
def test_danger_strip_gives_both_references_and_the_worst_where_there_is_room(
    shown: ShownRun,
) -> None:
    first, second = shown.lines(DangerStrip, 200)
    assert first[7:9] == [("since the run began", "muted"), (", −59 in this stage", "muted")]
    assert second[-3:] == [
        ("lowest", "muted"), ("0.41 ± 0.12", "text"), ("in the window", "muted"),
    ]  # fmt: skip


@in_state(frozen)
def test_danger_strip_of_a_frozen_run_says_how_to_undo_it(shown: ShownRun) -> None:
    first, _ = shown.lines(DangerStrip, 160)
    held = first.index(("3 layers frozen", "ok"))
    assert first[held + 1] == (", u unfreeze", "text")
    assert ("−49", "danger") in first
    assert first[-2:] == [("r", "key"), ("recover", "text")]
    assert "freeze" not in [text for text, _ in first]


@in_state(anchored)
def test_danger_strip_of_an_anchored_run_gives_the_anchors_loss(shown: ShownRun) -> None:
    first, second = shown.lines(DangerStrip, 160)
    assert first[-3:] == [("anchored", "ok"), (", KL 0.012", "text"), (", o unanchor", "text")]
    # Less than the profile's alert, so in no color of danger; and it is rising again.
    assert ("−11", "text") in first
    assert ("old +5", "text") in second


@in_state(past_the_window)
def test_danger_strip_is_calm_behind_the_window_and_offers_a_repair(shown: ShownRun) -> None:
    first, second = shown.lines(DangerStrip)
    assert first[0] == ("danger window over", "muted")
    assert ("−61", "danger") in first
    assert first[-2:] == [("r", "key"), ("recover", "text")]
    assert [role for text, role in second if "━" in text] == ["muted"]
    assert ("over", "muted") in second


@in_state(dead)
def test_danger_strip_of_a_dead_run_says_how_to_go_on(shown: ShownRun) -> None:
    first, _ = shown.lines(DangerStrip)
    assert first == [
        ("The worker is dead", "danger"),
        ("(last event 09:32:56)", "text"),
        ("sf resume 20260301-093000-biography-mini-a1b2", "strong"),
        ("(from new/step-000100)", "text"),
    ]


@in_state(read_only)
def test_danger_strip_suggests_nothing_to_a_reader(shown: ShownRun) -> None:
    first, _ = shown.lines(DangerStrip)
    assert first[-1] == (", −59 in this stage", "muted")
    assert "key" not in [role for _, role in first]


# Header, footer and card


@in_state(in_danger)
def test_header_names_run_stage_progress_and_numbers(shown: ShownRun) -> None:
    first, second = shown.lines(Header)
    assert first[:6] == [
        ("sf", "muted"),
        ("20260301-093000-biography-mini-a1b2", "strong"),
        ("stage", "muted"),
        ("▲ new", "task-1"),
        ("1/1", "muted"),
        ("step", "muted"),
    ]
    assert first[6] == ("85/300", "text")
    assert first[-3:] == [("ETA", "muted"), ("4:59", "text"), ("running", "ok")]
    assert second == [
        *(("loss", "muted"), ("0.647", "text"), ("grad norm", "muted"), ("0.848", "text")),
        *(("lr", "muted"), ("4.0e-4", "text"), ("1,450", "text"), ("tokens/s", "muted")),
        *(("0.718", "text"), ("steps/s", "muted")),
    ]


@in_state(three_stages)
def test_header_counts_the_stages(shown: ShownRun) -> None:
    first, _ = shown.lines(Header)
    assert first[3:5] == [("■ new-2", "task-2"), ("2/3", "muted")]
    assert ("60/200", "text") in first


@in_state(dead)
def test_header_of_a_dead_run_promises_no_end(shown: ShownRun) -> None:
    first, _ = shown.lines(Header)
    assert first[-1] == ("worker dead", "danger")
    assert "ETA" not in [text for text, _ in first]


@in_state(anchored)
def test_header_of_an_anchored_run_gives_strength_and_loss(shown: ShownRun) -> None:
    _, second = shown.lines(Header)
    assert second[-1] == ("anchored, strength 1", "ok")
    assert second[4:6] == [("anchor KL", "muted"), ("0.012", "text")]


@in_state(read_only)
def test_header_and_footer_say_that_nothing_can_be_sent(shown: ShownRun) -> None:
    assert shown.lines(Header)[1][-1] == ("read-only", "strong")
    (footer,) = shown.lines(Footer)
    assert footer[0] == ("read-only: no actions", "muted")
    assert [text for text, role in footer if role == "key"] == ["q", "?", ":", "z"]


@in_state(in_danger)
def test_footer_has_actions_in_text_and_the_consoles_own_keys_muted(shown: ShownRun) -> None:
    (footer,) = shown.lines(Footer)
    labels = dict(zip(footer[::2], footer[1::2], strict=True))
    assert labels["f", "key"] == ("freeze", "text")
    assert labels["q", "key"] == ("leave", "muted")


@in_state(in_danger, dead, three_stages)
def test_card_has_a_line_for_each_task_that_was_probed(shown: ShownRun) -> None:
    state, *rest = shown.lines(Card, 48, height=14)
    tasks = [line[0] for line in rest if line and line[0][1].startswith("task")]
    expected = [("● old", "task-0"), ("▲ new", "task-1"), ("■ new-2", "task-2")]
    assert tasks == expected[: len(tasks)]
    assert len(tasks) == (3 if shown.state == "three_stages" else 2)
    assert state[0][1] == "strong"
    assert rest[-1][:4] == [("q", "key"), ("leave", "muted"), ("?", "key"), ("help", "muted")]


@in_state(dead)
def test_card_of_a_dead_run_gives_the_command_that_goes_on(shown: ShownRun) -> None:
    lines = shown.lines(Card)
    assert lines[0][:2] == [("new 120/300", "strong"), ("worker dead", "danger")]
    assert [("sf resume 20260301-093000-biography-mini-a1b2", "strong")] in lines


# Drift, matrix and events


@in_state(frozen)
def test_drift_shows_frozen_layers_in_their_own_color(shown: ShownRun) -> None:
    assert ("3 frozen", "ok") in shown.title(Drift)
    rows = {line[0][0]: line for line in shown.lines(Drift, 60, height=10)}
    assert list(rows) == ["embeddings", *(f"block-{index}" for index in range(4)), "head"]
    for name, line in rows.items():
        held = name in {"embeddings", "block-0", "block-1"}
        assert line[0][1] == ("ok" if held else "muted"), name
        assert line[1][1] == ("ok" if held else "text"), name
        assert (line[-1] == ("frozen", "ok")) is held, name
    assert rows["embeddings"][2] == ("0.037", "text")
    bars = [len(line[1][0]) for line in rows.values()]
    assert bars[0] == max(bars)
    (in_one_line,) = shown.lines(DriftLine)
    assert in_one_line[-1] == ("frozen embeddings, block-0..1", "ok")
    assert [role for text, role in in_one_line if text in "▁▂▃▄▅▆▇█"] == ["ok"] * 3 + ["text"] * 3


@in_state(anchored)
def test_drift_says_that_answers_are_held(shown: ShownRun) -> None:
    assert shown.title(Drift)[-1] == ("anchored", "ok")
    (in_one_line,) = shown.lines(DriftLine)
    assert in_one_line[-2:] == [("none frozen", "muted"), ("anchored, strength 1", "ok")]


@in_state(three_stages)
def test_matrix_marks_what_a_stage_has_lost_and_what_was_not_measured(shown: ShownRun) -> None:
    head, *rows, legend = shown.lines(Matrix, 44, height=7)
    assert [text for text, _ in head] == ["start", "end s1", "now", "worst"]
    values = {row[0]: row[1:] for row in rows}
    assert values["● old", "task-0"] == [
        *(("0.99", "muted"), ("0.38*", "danger"), ("0.38*", "danger"), ("0.38*", "muted")),
    ]
    assert values["▲ new", "task-1"] == [
        ("s1", "muted"),
        *(("0.02", "muted"), ("1.00*", "text"), ("·", "faint"), ("·", "faint")),
    ]
    assert values["◆ new-3", "task-3"] == [("·", "faint")] * 4
    assert legend == [("full split, 64   * probe, 64 examples", "muted")]


@in_state(frozen)
def test_events_have_a_time_a_place_and_the_role_of_their_weight(shown: ShownRun) -> None:
    rows = shown.lines(Events, height=10)
    assert rows[-2] == [
        ("09:31:11", "muted"),
        ("new@45", "muted"),
        ("freeze: requested → accepted @45 → done", "ok"),
        (", by ana@gpu7 pts/3", "muted"),
    ]
    assert rows[-1][-1] == ("checkpoint new/step-000100, 12.7 MB", "muted")
    assert rows[-3][1:] == [
        ("new@15", "muted"),
        ("!", "warn"),
        ("'old' dropped by 25 points since the stage began", "warn"),
    ]


# The verdict


@in_state(diagnosed)
def test_verdict_splits_the_loss_into_what_comes_back_and_what_does_not(shown: ShownRun) -> None:
    assert shown.title(Verdict) == [("new@85", "muted"), ("spurious", "task-1")]
    bar, *lines = shown.lines(Verdict)
    assert [role for _, role in bar] == ["task-0", "task-1", "danger"]
    shares = [len(text) for text, _ in bar]
    assert shares[0] / sum(shares) == pytest.approx(0.410 / 0.995, abs=0.02)
    assert shares[2] / sum(shares) == pytest.approx(0.044 / 0.995, abs=0.02)
    assert ("0.95", "task-1") in lines[1]
    assert lines[2][-1] == ("0.04", "danger")
    assert lines[3][:2] == [("spurious share", "muted"), ("0.92", "task-1")]


@in_state(diagnosed)
def test_verdict_in_one_line(shown: ShownRun) -> None:
    (line,) = shown.lines(VerdictLine)
    assert line[:5] == [
        ("verdict", "title"),
        ("spurious", "task-1"),
        ("0.41", "task-0"),
        ("→", "muted"),
        ("0.95", "task-1"),
    ]


@in_state(in_danger)
def test_without_a_diagnosis_the_verdict_says_so(shown: ShownRun) -> None:
    assert shown.lines(Verdict) == [[("none was asked for", "muted")]]
    assert shown.lines(VerdictLine) == []


# The charts


@pytest.mark.parametrize(
    ("shown", "label", "role"),
    [(frozen, "freeze", "ok+band"), (anchored, "anchor", "ok+band"),
     (diagnosed, "spurious", "strong+band")],
    indirect=["shown"],
)  # fmt: skip
def test_accuracy_chart_marks_what_was_done_where_it_was_done(
    shown: ShownRun, label: str, role: str
) -> None:
    chart = AccuracyChart(shown.app.view).compose_lines(90, 10)
    (row,) = [line for line in chart if label in "".join(text for text, _ in line)]
    column = "".join(text for text, _ in row).index(label)
    roles = [each for text, each in row for _ in text]
    assert roles[column : column + len(label)] == [role] * len(label)
    step = 85 if shown.state == "diagnosed" else 45
    assert (column - 6) / 84 == pytest.approx(step / 300, abs=0.04)


@in_state(in_danger, past_the_window, three_stages)
def test_charts_shade_every_danger_window(shown: ShownRun) -> None:
    for chart in (AccuracyChart, LossChart):
        windows = sum(line.count("danger window") for line in shown.text(chart, 90, 10))
        assert windows == (2 if shown.state == "three_stages" else 1)
        for line in chart(shown.app.view).compose_lines(90, 10):
            shaded = sum(len(text) for text, role in line if role.endswith("+band"))
            assert shaded == 0 or shaded > 25


@in_state(three_stages)
def test_charts_name_the_stages_below_their_axis(shown: ShownRun) -> None:
    for chart in (AccuracyChart, LossChart):
        assert shown.text(chart, 90, 10)[-1].split() == ["new", "new-2", "200"]


# Terminals of other kinds


@pytest.mark.parametrize(
    ("shown", "paint"),
    [(in_danger, DARK), (light, LIGHT), (plain_terminal, PLAIN)],
    indirect=["shown"],
)
async def test_roles_become_the_styles_of_the_terminals_kind(
    shown: ShownRun, paint: object
) -> None:
    async with shown.app.run_test(size=(120, 40)) as pilot:
        await pilot.pause()
        assert shown.app.view.paint is paint
        strip = shown.app.query_one(DangerStrip)
        first = next(iter(strip.render_line(0)))
        assert first.text == "DANGER WINDOW"
        assert first.style == shown.app.view.paint.style("danger")


@in_state(plain_terminal)
async def test_a_terminal_without_utf8_gets_ascii_everywhere(shown: ShownRun) -> None:
    async with shown.app.run_test(size=(120, 40)) as pilot:
        await pilot.pause()
        for panel in shown.app.screen.query(Panel):
            for y in range(panel.size.height):
                assert panel.render_line(y).text.isascii(), panel.id
