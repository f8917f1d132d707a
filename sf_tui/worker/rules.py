"""Rules: which of the profile's bounds a step has just crossed.

A rule fires when its metric crosses the bound, not for as long as it lies beyond. What firing does
is not known here.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from sf_tui.profile import Rule


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
        """Take up what a checkpoint remembers."""
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
