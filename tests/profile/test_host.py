from __future__ import annotations

import pytest

from sf_tui.errors import ProfileError
from sf_tui.profile import parse_profile
from sf_tui.profile.write import dump_profile

HOSTED = """\
name = "mine"

[model]
source = "/models/a"

[[tasks]]
name = "capitals"
data = "/data/capitals.jsonl"

[[tasks]]
name = "dates"
data = "/data/dates.jsonl"

[[tasks]]
name = "new"
data = "host:new.jsonl"

[host]
name = "trl"
version = "1.16.0"
command = ["trl", "sft", "--model_name_or_path", "a"]
output_dir = "/out"
"""


def test_host_trains_the_last_task_and_all_others_are_old() -> None:
    profile = parse_profile(HOSTED)
    ((spec, known),) = profile.stages_with_known()
    assert (spec.task, known) == ("new", ["capitals", "dates"])
    assert profile.host is not None
    assert profile.host.output_dir == "/out"
    assert parse_profile(dump_profile(profile)) == profile


def test_host_can_be_watched_without_any_old_task() -> None:
    profile = parse_profile(
        'name="x"\nmodel.source="/m"\n[[tasks]]\nname="new"\ndata="host:"\n[host]\nname="loop"\n'
    )
    ((spec, known),) = profile.stages_with_known()
    assert (spec.task, known) == ("new", [])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (HOSTED.partition("[host]")[0], "rows of a run that another program trains"),
        (HOSTED.replace('dates.jsonl"', 'dates.jsonl"\nlearn = true'), "trains the last task only"),
        (HOSTED + "\n[replay_stage]\nsteps = 5\n", "has no second stage"),
    ],
)
def test_what_contradicts_a_host_is_refused(change: str, message: str) -> None:
    with pytest.raises(ProfileError, match=message):
        parse_profile(change)
