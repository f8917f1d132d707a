"""Guards: whether the accuracies at a run's end are within the profile's bounds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sf_tui.profile import GuardSettings


def failed_guards(
    guard: GuardSettings, accuracy: Mapping[str, float], *, old: Sequence[str], new: str
) -> list[str]:
    """Return a sentence for each bound that does not hold; none means that all do.

    Args:
        guard: the bounds.
        accuracy: each task's own metric at the end, on its whole held-out split.
        old: the watched tasks that were learnt before the last one.
        new: the last task that was learnt.
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
