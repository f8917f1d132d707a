"""The list of checkpoints to go back to, and dialogs that fit small screens."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from sf_tui.tui.dialogs.confirm import ConfirmDialog, RollbackDialog
from sf_tui.tui.feed import RunFeed
from sf_tui.tui.rollback import rollback_targets
from sf_tui.vocabulary.events import CheckpointWritten
from tui.driving import console_of, open_dialog, screen_text, sent
from tui.written_run import WrittenRun

MakeRun = Callable[..., WrittenRun]
SIZES = [(80, 24), (40, 10), (200, 60)]


@pytest.fixture
def repaired(running: WrittenRun) -> WrittenRun:
    """Return a run repaired at step 100, the checkpoint from before it kept aside."""
    running.steps(86, 100)
    folder = running.run.checkpoints / "new"
    running.command("c-4", "recover", "accepted", 100)
    running.command("c-4", "recover", "done", 100)
    running.old = 0.98
    running.probe(100)
    (folder / "step-000100").rename(folder / "step-000100~1")
    saved = CheckpointWritten(stage="new", step=100, path="checkpoints/new/step-000100~1")
    running.event(saved)
    running.checkpoint(100)
    return running


def test_each_checkpoint_has_its_own_probe_whatever_came_after_it(repaired: WrittenRun) -> None:
    repaired.steps(101, 210)
    targets = rollback_targets(repaired.run, RunFeed(repaired.run).live)
    assert [(target.name, target.beside) for target in targets] == [
        ("step-000200", ""),
        ("step-000100", "after recover"),
        ("step-000100~1", "before recover"),
        ("step-000000", ""),
    ]
    after, before = (target.scores["old"] for target in targets[1:3])
    assert (after.value, after.examples) == (0.98, 64)
    assert before.value == pytest.approx(0.4, abs=0.05)


def test_what_the_event_itself_tells_of_its_probe_counts(running: WrittenRun) -> None:
    (running.run.checkpoints / "new" / "step-000090").mkdir()
    running.steps(86, 90)
    metrics = {"old": {"exact_match": 0.5, "n": 12}}
    path = "checkpoints/new/step-000090"
    running.event(CheckpointWritten(stage="new", step=90, path=path, metrics=metrics, probed_at=80))
    running.steps(91, 95)
    target = rollback_targets(running.run, RunFeed(running.run).live)[0]
    assert (target.scores["old"].value, target.scores["old"].examples) == (0.5, 12)
    assert target.probed_at == 80


def test_the_checkpoint_of_the_current_weights_is_not_listed(repaired: WrittenRun) -> None:
    targets = rollback_targets(repaired.run, RunFeed(repaired.run).live)
    assert [target.name for target in targets] == ["step-000100~1", "step-000000"]


async def test_the_list_shows_examples_and_interval(repaired: WrittenRun) -> None:
    repaired.steps(101, 210)
    app = console_of(repaired)
    async with app.run_test(size=(120, 40)) as pilot:
        await open_dialog(pilot, app, "b", "down")
        text = screen_text(app)
        assert "step-000100" in text
        assert "after recover" in text
        assert "before recover" in text
        assert "0.98 ± " in text
        assert "(64)" in text


@pytest.mark.parametrize("size", SIZES)
async def test_the_line_for_yes_is_in_sight_at_every_size(
    repaired: WrittenRun, size: tuple[int, int]
) -> None:
    repaired.steps(101, 210)
    app = console_of(repaired)
    async with app.run_test(size=size) as pilot:
        await open_dialog(pilot, app, "b")
        assert isinstance(app.screen, RollbackDialog)
        await pilot.press("n", "o")
        lines = screen_text(app).splitlines()
        assert any("yes" in line and "no" in line for line in lines)
        assert any("esc" in line for line in lines)
        await pilot.press("enter")
        await pilot.pause()
        assert "type yes, or press esc" in screen_text(app)
        assert isinstance(app.screen, RollbackDialog)
        await pilot.press("ctrl+u", *"yes", "enter")
        assert not isinstance(app.screen, RollbackDialog)
    assert sent(repaired) == [("rollback", {"to": "step-000200"})]


@pytest.mark.parametrize("size", [SIZES[0], SIZES[1]])
async def test_a_confirmation_keeps_its_keys_in_sight_and_scrolls(
    repaired: WrittenRun, size: tuple[int, int]
) -> None:
    app = console_of(repaired)
    async with app.run_test(size=size) as pilot:
        await open_dialog(pilot, app, "r")
        assert isinstance(app.screen, ConfirmDialog)
        seen = ""
        for _ in range(20):
            text = screen_text(app)
            seen += " ".join(text.replace("│", " ").split())
            assert "│ y " in text
            await pilot.press("down")
            await pilot.pause()
        assert "To undo" in seen
        await pilot.press("y")
    assert [action for action, _ in sent(repaired)] == ["recover"]


@pytest.mark.parametrize("size", [(80, 24), (50, 12)])
async def test_the_stop_dialog_shows_the_command_and_the_line_for_yes(
    repaired: WrittenRun, size: tuple[int, int]
) -> None:
    app = console_of(repaired)
    async with app.run_test(size=size) as pilot:
        await open_dialog(pilot, app, ":")
        await open_dialog(pilot, app, *"stop", "enter")
        await pilot.press("n", "o", "enter")
        await pilot.pause()
        text = screen_text(app)
        assert "type yes, or press esc" in text
        assert "End the run" in text


async def test_the_palette_offers_only_what_can_be_done(running: WrittenRun) -> None:
    running.beat(age_s=300)
    app = console_of(running)
    async with app.run_test(size=(120, 50)) as pilot:
        await open_dialog(pilot, app, ":")
        text = screen_text(app)
        assert "careful save" not in text
        assert "help" in text
