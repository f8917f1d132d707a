"""Two profiles that differ are told apart by key, as `--set` names it."""

from __future__ import annotations

import pytest

from sf_tui.profile import dump_profile, parse_profile
from sf_tui.profile.write import differences
from support.ruled_profile import BASE


@pytest.mark.parametrize(
    ("override", "key", "ours", "theirs"),
    [
        ("train.steps=30", "train.steps", "300", "30"),
        ("seed=4", "seed", "0", "4"),
        ('tasks.new.data="biography:new-2"', "tasks.new.data", '"biography:new"', None),
        ("rules.r.above=0.5", "rules.r.above", "0.2", "0.5"),
        ("actions.freeze.layers=2", "actions.freeze.layers", "none", "2"),
        ("tasks.new.train.batch_size=4", "tasks.new.train.batch_size", "nothing", "4"),
    ],
)
def test_difference_is_told_by_key(override: str, key: str, ours: str, theirs: str | None) -> None:
    [found] = differences(parse_profile(BASE), parse_profile(BASE, overrides=[override]))
    assert (found.key, found.ours) == (key, ours)
    assert theirs is None or found.theirs == theirs


def test_written_profile_is_no_other_one() -> None:
    profile = parse_profile(BASE)
    assert differences(profile, parse_profile(dump_profile(profile))) == []
