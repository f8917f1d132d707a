"""The profile's bounds: rules, which fire when a metric crosses a bound, and guards at the end.

A rule fires once per crossing, not at every step beyond its bound. This module does not know the
effects of actions.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from sf_tui.profile import GuardSettings, Rule


class RuleWatch:
    """Tracks which rules are armed: those whose last metric value was within the bound."""

    def __init__(self, rules: Sequence[Rule]) -> None:
        self._rules = rules
        self._crossed: set[str] = set()

    @property
    def crossed(self) -> list[str]:
        """Names of the rules whose metric is beyond its bound; stored in checkpoints."""
        return sorted(self._crossed)

    def restore(self, crossed: Collection[str]) -> None:
        """Restore the state from a checkpoint."""
        self._crossed = set(crossed)

    def begin_stage(self) -> None:
        """Arm every rule."""
        self._crossed.clear()

    def evaluate(self, values: Mapping[str, float | None], step: int) -> list[tuple[Rule, float]]:
        """Return the rules that fire, in profile order, each with the value that triggered it.

        Args:
            values: the metrics measured at this step; a rule whose metric is missing keeps its
                state.
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
        accuracy: each task's final metric, on its whole held-out split.
        old: the watched tasks learned before the last one.
        new: the task learned last.
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
