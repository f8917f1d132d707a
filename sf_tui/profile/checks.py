"""Every rule that spans several keys of a profile, gathered from the parts that hold them.

Sees a profile whose types are right, beside its raw tables (to know what was really given) and
their places. Finds problems and notes; changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterator

from sf_tui.masking import has_url_login
from sf_tui.profile.actions import check_actions
from sf_tui.profile.check_diagnosis import DATA_KEYS, check_diagnosis, diagnosis_files
from sf_tui.profile.check_model import check_model, model_files
from sf_tui.profile.check_rules import check_guard, check_rules
from sf_tui.profile.check_tasks import check_biography, check_tasks, task_files
from sf_tui.profile.check_train import (
    check_anchor,
    check_replay_stage,
    check_strategies,
    check_train_tables,
)
from sf_tui.profile.locate import KeyPath
from sf_tui.profile.problems import Origin, Problem
from sf_tui.profile.schema import Profile


def check_profile(profile: Profile, origin: Origin) -> list[Problem]:
    """Return what is wrong between the keys of a profile."""
    return [
        *check_logins(profile),
        *check_model(profile, origin),
        *check_tasks(profile, origin),
        *check_biography(profile),
        *check_train_tables(profile, origin),
        *check_replay_stage(profile, origin),
        *check_strategies(profile, origin),
        *check_anchor(profile),
        *check_diagnosis(profile, origin),
        *check_actions(profile, origin),
        *check_rules(profile, origin),
        *check_guard(profile),
    ]


def check_logins(profile: Profile) -> Iterator[Problem]:
    """Find sources of models and data that hold a login: it would be stored and shown with them."""
    places: list[tuple[KeyPath, object]] = [
        (("model", key), getattr(profile.model, key)) for key in ("source", "tokenizer", "revision")
    ]
    for place, task in enumerate(profile.tasks):
        places += [
            (("tasks", place, key), getattr(task, key))
            for key in ("data", "held_out", "split", "subset")
        ]
    for key in DATA_KEYS:
        places.append((("diagnose", key), getattr(profile.diagnose, key)))
    for path, value in places:
        if isinstance(value, str) and has_url_login(value):
            yield Problem(
                path,
                f"{path[-1]}: a URL with a user name or password in it",
                "the profile is copied into the run directory: take the login away; for the Hub "
                "use `hf auth login`, else download the file",
            )


def check_files(profile: Profile) -> list[Problem]:
    """Return the files and directories that a profile names and that aren't there."""
    return [*model_files(profile), *task_files(profile), *diagnosis_files(profile)]
