"""The profile's bounds: rules, which fire when a step crosses one, and guards at the run's end.

A rule fires once per crossing, not at every step beyond its bound. What its action does is not
known here.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from sf_tui.profile import GuardSettings, Rule


class RuleWatch:
    """Keeps which rules are armed: those whose metric was last seen on the good side."""

    def __init__(self, rules: Sequence[Rule]) -> None:
        self._rules = rules
        self._crossed: set[str] = set()

    @property
    def crossed(self) -> list[str]:
        """Names of the rules whose metric lies beyond its bound; part of a checkpoint."""
        return sorted(self._crossed)

    def restore(self, crossed: Collection[str]) -> None:
        """Restore the state of a checkpoint."""
        self._crossed = set(crossed)

    def begin_stage(self) -> None:
        """Arm every rule."""
        self._crossed.clear()

    def evaluate(self, values: Mapping[str, float | None], step: int) -> list[tuple[Rule, float]]:
        """Return the rules that fire, in the profile's order, with the value that made each fire.

        Args:
            values: the metrics that were measured at this step; a rule whose metric is not among
                them stays as it is.
            step: optimizer step of the stage.
        """
        firing = []
        for rule in self._rules:
            value = values.get(rule.metric)
            if value is None or (rule.within_steps is not None and step > rule.within_steps):
                continue
            beyond = (rule.above is not None and value > rule.above) or (
                rule.below is not None and value < rule.below
            )
            if beyond and rule.name not in self._crossed:
                firing.append((rule, value))
            if beyond:
                self._crossed.add(rule.name)
            else:
                self._crossed.discard(rule.name)
        return firing


def failed_guards(
    guard: GuardSettings, accuracy: Mapping[str, float], *, old: Sequence[str], new: str
) -> list[str]:
    """Return a sentence for each `[guard]` bound that does not hold.

    Args:
        guard: the bounds.
        accuracy: each task's own metric at the end, on its whole held-out split.
        old: the watched tasks learned before the last one.
        new: the last task that was learned.
    """
    failed = []
    if guard.old_accuracy is not None:
        failed += [
            f"[guard] old_accuracy: '{task}' ended at {accuracy[task]:.3f}, "
            f"below {guard.old_accuracy:g}"
            for task in old
            if accuracy[task] < guard.old_accuracy
        ]
    if guard.new_accuracy is not None and accuracy[new] < guard.new_accuracy:
        failed.append(
            f"[guard] new_accuracy: '{new}' ended at {accuracy[new]:.3f}, "
            f"below {guard.new_accuracy:g}"
        )
    return failed
