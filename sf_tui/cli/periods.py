"""Ages and points in time as options give them: `12h`, `7d`, `2026-11-29`."""

from __future__ import annotations

import re
from datetime import UTC, datetime

from sf_tui.errors import UsageError

_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 7 * 86400.0}
_AGE = re.compile(r"(\d{1,9}(?:\.\d{1,3})?)([smhdw])")


def age_seconds(text: str, option: str) -> float:
    """Return an age such as `12h` or `7d` in seconds.

    Args:
        text: number and unit: s, m, h, d or w.
        option: the option that it was given to, for the error.

    Raises:
        UsageError: it is no age.
    """
    found = _AGE.fullmatch(text.strip())
    if found is None:
        raise UsageError(f"{option} {text}: not an age", "give a number and s, m, h, d or w: 12h")
    return float(found[1]) * _UNITS[found[2]]


def moment(text: str, option: str, now: datetime) -> datetime:
    """Return the time that an age before now, a date or a date with time means.

    A time without a zone is local.

    Args:
        text: `7d`, `2026-11-29` or `2026-11-29T18:00`.
        option: the option that it was given to, for the error.
        now: current time with its zone.

    Raises:
        UsageError: it is neither.
    """
    try:
        if _AGE.fullmatch(text.strip()):
            return datetime.fromtimestamp(now.timestamp() - age_seconds(text, option), UTC)
        return datetime.fromisoformat(text.strip()).astimezone(UTC)
    except (ValueError, OverflowError, OSError) as error:
        raise UsageError(
            f"{option} {text}: neither an age nor a date", "for example 7d, 12h or 2026-11-29"
        ) from error
