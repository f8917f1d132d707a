"""`sf act` where no worker is left to carry anything out."""

from __future__ import annotations

from pathlib import Path

import pytest

from sf_tui.cli.act import act
from sf_tui.errors import RunError
from sf_tui.profile import dump_profile, load_profile
from sf_tui.run.directory import RunDirectory
from sf_tui.run.events import EventLog
from sf_tui.vocabulary.events import RunFinished


@pytest.mark.parametrize(
    ("action", "hint"),
    [
        ("interpolate", "`sf recover ended --by interpolate --out DIR` does that now"),
        ("diagnose", "`sf diagnose ended` does that now"),
        ("freeze", "`sf resume ended` goes on with it if steps are left"),
    ],
)
def test_act_on_a_run_that_has_ended_names_the_way_on(
    tmp_path: Path, action: str, hint: str
) -> None:
    profile = dump_profile(load_profile("biography-mini"))
    run = RunDirectory.create(tmp_path / "ended", profile_text=profile, profile_name="p", argv=[])
    log = EventLog(run.events)
    log.append(RunFinished("completed", 0))
    log.close()
    with pytest.raises(RunError, match="no worker is there") as caught:
        act(str(run.path), action, set_=None)
    assert caught.value.hint == hint
    assert run.commands.read_bytes() == b""
