"""The time as events write it."""

from __future__ import annotations

from datetime import UTC, datetime


def rfc3339_now() -> str:
    """Return the present time in UTC, to the millisecond, as RFC 3339 writes it."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def parse_rfc3339(text: str) -> datetime:
    """Return the time that `text` names.

    Raises:
        ValueError: it is no RFC 3339 time.
    """
    return datetime.fromisoformat(text)
