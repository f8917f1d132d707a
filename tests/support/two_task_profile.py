"""A profile of two tasks as text: what a test adds to it, and the mistakes found in that."""

from __future__ import annotations

import pytest

from sf_tui.errors import ProfileError
from sf_tui.profile import Profile, parse_profile, problems_in

TASKS = """\
name = "prod"
[model]
source = "org/model"
[[tasks]]
name = "old"
data = "org/old"
[[tasks]]
name = "new"
data = "org/new"
"""


def load(text: str = "", *overrides: str) -> Profile:
    """Load the profile with some text behind it."""
    return parse_profile(TASKS + text, name="prod.toml", overrides=overrides)


def problems(text: str = "", *overrides: str) -> list[tuple[str, str]]:
    """Return the mistakes in the profile with some text behind it, each with its hint."""
    with pytest.raises(ProfileError) as caught:
        load(text, *overrides)
    return problems_in(caught.value)
