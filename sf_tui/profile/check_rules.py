"""Checks of `[[rules]]` and `[guard]`: reachable bounds and existing actions."""

from __future__ import annotations

from collections.abc import Iterator

from sf_tui.errors import UsageError, did_you_mean
from sf_tui.profile.action_schema import Rule
from sf_tui.profile.check_data import check_old_examples, has_old_task
from sf_tui.profile.names import HOST_DATA
from sf_tui.profile.problems import Origin, Problem
from sf_tui.profile.schema import Profile
from sf_tui.vocabulary.metrics import KL, metric_named

OLD_METRICS = ("drop", "old_accuracy")
SHARES = ("old_accuracy", "new_accuracy")


def check_rules(profile: Profile, origin: Origin) -> Iterator[Problem]:
    """Find rules that can't fire or have no effect."""
    seen: dict[str, int] = {}
    for place, rule in enumerate(profile.rules):
        path = ("rules", place)
        if rule.name in seen:
            other = origin.place(("rules", seen[rule.name], "name"))
            yield Problem(
                (*path, "name"),
                f"name = '{rule.name}' is already the name of another rule ({other})",
                "give one of them another name",
            )
        seen.setdefault(rule.name, place)
        yield from _check_bound(profile, place, rule)
        yield from _check_action(profile, place, rule)


def _check_bound(profile: Profile, place: int, rule: Rule) -> Iterator[Problem]:
    path = ("rules", place)
    if rule.above is None and rule.below is None:
        yield Problem((*path, "above"), "the bound is missing", "add above or below = a number")
        return
    if rule.above is not None and rule.below is not None:
        yield Problem(
            (*path, "below"),
            "above and below are both given",
            "make it two rules of one bound each",
        )
        return
    key, bound = ("above", rule.above) if rule.above is not None else ("below", rule.below)
    assert bound is not None
    if rule.metric in OLD_METRICS and not has_old_task(profile):
        yield Problem(
            (*path, "metric"),
            f"metric '{rule.metric}' is never measured: no earlier task is watched",
            "watch a task before the last one, or remove the rule",
        )
        return
    if rule.metric == KL.name and not _has_start_answers(profile):
        yield Problem(
            (*path, "metric"),
            "metric 'kl' is never measured: it compares the start model's own answers, which only "
            "a watched training without old examples is scored on",
            'use metric = "drop"',
        )
        return
    nll = _nll_tasks(profile, rule.metric)
    if rule.metric in SHARES and nll:
        yield Problem(
            (*path, "metric"),
            f"metric '{rule.metric}' is a share, and task '{nll[0]}' is measured in nats (nll)",
            'use metric = "drop", or give the task another metric',
        )
    elif not nll and rule.metric in (*OLD_METRICS, *SHARES):
        lowest = -1.0 if rule.metric == "drop" else 0.0
        if not lowest <= bound <= 1:
            yield Problem(
                (*path, key),
                f"{key} = {bound:g}: '{rule.metric}' is a share and never goes beyond 1",
                f"write a share, e.g. {key} = {bound / 100 if 1 < bound <= 100 else 0.2:g}",
            )
    elif rule.metric not in (*OLD_METRICS, *SHARES) and bound < 0:
        yield Problem(
            (*path, key),
            f"{key} = {bound:g}: '{rule.metric}' is never below 0",
            "write a number of at least 0",
        )


def _nll_tasks(profile: Profile, metric: str) -> list[str]:
    tasks = profile.tasks[-1:] if metric == "new_accuracy" else profile.tasks[:-1]
    return [task.name for task in tasks if not metric_named(task.metric).is_share and task.watch]


def _has_start_answers(profile: Profile) -> bool:
    """Return whether a task of a watched training consists of the start model's answers."""
    return any(task.data.startswith(HOST_DATA) for task in profile.tasks[:-1])


def _check_action(profile: Profile, place: int, rule: Rule) -> Iterator[Problem]:
    if rule.action not in profile.actions:
        yield Problem(
            ("rules", place, "action"),
            f"action '{rule.action}' does not exist",
            did_you_mean(rule.action, profile.actions, "actions"),
        )
        return
    action = profile.actions[rule.action]
    if action.op == "rollback" and not rule.once:
        # After the rollback the same steps give the same metric again.
        yield Problem(
            ("rules", place, "once"),
            "once = false: a rule that rolls back again and again would never end",
            "remove once, or let the rule freeze",
        )
    if action.op == "diagnose" and not has_old_task(profile):
        yield Problem(
            ("rules", place, "action"),
            f"action '{rule.action}' has nothing to diagnose: no earlier task is watched",
            "watch a task before the last one, or remove the rule",
        )
    yield from check_old_examples(profile, ("rules", place, "arguments"), action.op, rule.arguments)
    for name, value in rule.arguments.items():
        try:
            action.arguments({name: value})
        except UsageError as error:
            yield Problem(("rules", place, "arguments", name), error.message, error.hint)


def check_guard(profile: Profile) -> Iterator[Problem]:
    """Find guards on tasks that are not measured, or not as a share."""
    for key in SHARES:
        if getattr(profile.guard, key) is None:
            continue
        nll = _nll_tasks(profile, key)
        if nll:
            yield Problem(
                ("guard", key),
                f"{key} is a share, and task '{nll[0]}' is measured in nats (nll)",
                "remove the guard, or give the task another metric",
            )
        elif key in OLD_METRICS and not has_old_task(profile):
            yield Problem(
                ("guard", key),
                f"{key} is never measured: no earlier task is watched",
                "watch a task before the last one, or remove the guard",
            )
