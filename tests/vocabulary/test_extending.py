"""Another package extends the vocabulary: a row and an implementation, and every part knows it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import Result
from safetensors.torch import load_file
from typer.testing import CliRunner

from sf_tui.cli.app import app
from sf_tui.errors import ProfileError, UsageError
from sf_tui.profile import dump_profile, load_profile
from sf_tui.profile.reference import profile_json_schema, profile_reference
from sf_tui.run.commands import request_command
from sf_tui.run.directory import RunDirectory
from sf_tui.run.events import Event, JsonObject
from sf_tui.tui.actions import read_actions
from sf_tui.tui.console import ConsoleApp
from sf_tui.tui.dialogs.help import HelpDialog
from sf_tui.tui.terminal import ConsoleOptions
from sf_tui.vocabulary.commands import Command
from sf_tui.vocabulary.ops import OPS, Argument, Op, register_op
from sf_tui.worker.ops import OpImplementation, OpTarget, register_implementation
from support.put_back import put_back
from support.quick_run import (
    PROFILE,
    assert_well_told,
    checkpoint_weights,
    commands_of,
    equal,
    events_of,
    final_weights,
    live_course,
    work,
)
from tui.driving import SIZE

SHRINK = Op(
    "shrink",
    "make every weight smaller",
    (Argument("share", float, "what is taken off", default=0.01, above=0, maximum=1),),
    key="x",
    doing="shrinking",
    changes_weights=True,
    replayed=True,
)
OWN_ACTION = (
    '[actions.shrink-more]\nop = "shrink"\nshare = 0.02\nkey = "y"\nlabel = "Shrink more"\n'
)


class Shrink(OpImplementation):
    @torch.no_grad()
    def apply(self, target: OpTarget, command: Command) -> str:
        for weight in target.context.prepared.loaded.model.parameters():
            weight.mul_(1 - command.arguments["share"])
        return f"smaller by {command.arguments['share']:g}"


@pytest.fixture(autouse=True, scope="module")
def shrink() -> Iterator[None]:
    register_op(SHRINK)
    register_implementation(SHRINK.name, Shrink())
    yield
    del OPS[SHRINK.name]


def sf(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def begin(folder: Path, name: str, *overrides: str) -> RunDirectory:
    folder.mkdir(exist_ok=True)
    (folder / "quick.toml").write_text(PROFILE + OWN_ACTION)
    profile = load_profile(folder / "quick.toml", overrides)
    return RunDirectory.create(
        folder / name, profile_text=dump_profile(profile), profile_name="quick", argv=["sf"]
    )


@pytest.fixture(scope="module")
def shrunk(tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
    """Return a finished run that `sf act` shrank at two steps."""
    run = begin(tmp_path_factory.mktemp("shrunk"), "run")
    sent = []

    def act(event: Event) -> None:
        if event["type"] == "step" and (event["stage"], event["step"]) == ("old", 5):
            sent.append(sf("act", run.path, "shrink", "--set", "share=0.5", "--wait", "0"))
        elif event["type"] == "step" and (event["stage"], event["step"]) == ("old", 6):
            sent.append(sf("act", run.path, "shrink-more", "--wait", "0"))
            sent.append(sf("act", run.path, "shrink", "--set", "share=2", "--wait", "0"))

    assert work(run, act) == 0
    assert [result.exit_code for result in sent[:2]] == [0, 0]
    assert isinstance(sent[2].exception, UsageError)
    return run


def test_a_profile_takes_the_op_and_checks_its_arguments(tmp_path: Path) -> None:
    file = tmp_path / "prod.toml"
    file.write_text(PROFILE)
    action = load_profile(file).actions["shrink"]
    assert (action.op, action.key, action.own_arguments) == ("shrink", "x", {"share": 0.01})
    file.write_text(PROFILE + OWN_ACTION.replace("0.02", "2"))
    with pytest.raises(ProfileError, match="share = 2: must be a number above 0 and up to 1"):
        load_profile(file)
    file.write_text(PROFILE + OWN_ACTION.replace("share", "sare"))
    with pytest.raises(ProfileError, match=r"unknown key 'sare'[\s\S]*did you mean 'share'"):
        load_profile(file)
    file.write_text(PROFILE + OWN_ACTION.replace('"shrink"', '"shrnk"'))
    with pytest.raises(ProfileError, match="did you mean 'shrink'"):
        load_profile(file)


def test_schema_and_reference_know_the_op() -> None:
    table: dict[str, Any] = profile_json_schema()["$defs"]["Action"]["properties"]
    assert "shrink" in table["op"]["enum"]
    assert table["share"]["exclusiveMinimum"] == 0
    assert "| `shrink` | `share` | a number above 0 and up to 1 |" in profile_reference()


def test_the_worker_does_it_and_the_history_shows_it(shrunk: RunDirectory) -> None:
    assert_well_told(shrunk)
    assert commands_of(shrunk) == [
        *[("shrink", "accepted"), ("shrink", "done")],
        *[("shrink-more", "accepted"), ("shrink-more", "done")],
    ]
    first, second = json.loads(sf("show", shrunk.path, "--json").stdout)["commands"]
    assert (first["op"], first["arguments"], first["step"]) == ("shrink", {"share": 0.5}, 5)
    assert (second["arguments"], second["reason"]) == ({"share": 0.02}, "smaller by 0.02")
    # It changes weights: probed at once, and the way back is saved.
    assert [e["step"] for e in events_of(shrunk, "probe") if e["stage"] == "old"][:4] == [
        0,
        4,
        5,
        6,
    ]
    assert {5, 6} <= {e["step"] for e in events_of(shrunk, "checkpoint") if e["stage"] == "old"}


async def test_the_console_lists_its_key(shrunk: RunDirectory) -> None:
    actions = read_actions(shrunk)
    assert [actions.of_key(key).op for key in "xy"] == ["shrink"] * 2  # type: ignore[union-attr]
    console = ConsoleApp(shrunk, ConsoleOptions())
    async with console.run_test(size=SIZE) as pilot:
        await pilot.press("?")
        await pilot.pause()
        assert isinstance(console.screen, HelpDialog)
        lines = console.screen.compose_text(92, 1000)
        text = " ".join("".join(part for part, _ in line) for line in lines)
    assert "Shrink more" in text
    assert "make every weight smaller (share 0.02)" in text


def test_a_resume_after_a_kill_does_it_again(shrunk: RunDirectory, tmp_path: Path) -> None:
    killed = next(e["seq"] for e in events_of(shrunk, "step") if e["step"] == 7)
    run = put_back(shrunk, tmp_path / "killed", killed, late=False)
    # Back to the periodic checkpoint of step 4: both commands are behind it.
    for step in (5, 6):
        shutil.rmtree(run.checkpoints / "old" / f"step-{step:06d}")
    assert work(run) == 0
    assert_well_told(run)
    assert live_course(run) == live_course(shrunk)
    assert equal(final_weights(run), final_weights(shrunk))


def test_weights_edited_before_the_first_step_do_not_become_the_stages_start(
    tmp_path: Path,
) -> None:
    strategy = 'tasks.new.train.strategy="l2-start"', "tasks.new.train.l2_start.strength=0.1"
    run = begin(tmp_path, "run", "train.steps=6", *strategy)

    def operator(event: JsonObject) -> None:
        if event["type"] != "probe" or (event["stage"], event["step"]) != ("new", 0):
            return
        # The edit is followed by another probe, when the second command is not answered yet.
        if not events_of(run, "command"):
            for action in ("shrink", "checkpoint"):
                request_command(run, action)

    assert work(run, operator) == 0
    assert [e["status"] for e in events_of(run, "command")] == ["accepted", "done"] * 2
    first = checkpoint_weights(run, "new", 0)
    kept = load_file(run.checkpoints / "new" / "step-000000~1" / "weights" / "head.safetensors")
    assert not any(torch.equal(first[name], weight) for name, weight in kept.items())
    *_, saved = (e for e in events_of(run, "checkpoint") if (e["stage"], e["step"]) == ("new", 0))
    again = put_back(run, tmp_path / "again", saved["seq"] + 1, late=False)
    assert work(again) == 0
    assert live_course(again) == live_course(run)
    assert equal(final_weights(again), final_weights(run))
