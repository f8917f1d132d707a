"""What the edits' arguments may be. It knows nothing of weights."""

from __future__ import annotations

from sf_tui.errors import UsageError


def check_share(op: str, name: str, value: float) -> float:
    """Return a share as it was given.

    Raises:
        UsageError: it isn't a number from 0 to 1.
    """
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not number or not 0 <= value <= 1:
        raise UsageError(f"{op}: {name} = {value!r} is no share", f"{name} = 0 … 1")
    return float(value)
