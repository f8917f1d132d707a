"""Timestamps in events: RFC 3339, UTC."""

from __future__ import annotations

from datetime import UTC, datetime


def rfc3339_now() -> str:
    """Return the current UTC time as RFC 3339, to the millisecond."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def parse_rfc3339(text: str) -> datetime:
    """Parse an RFC 3339 time.

    Raises:
        ValueError: `text` is not an RFC 3339 time.
    """
    return datetime.fromisoformat(text)


def seconds_since_epoch(time: str) -> float | None:
    """Return an event's time in seconds since the epoch; None if it has none."""
    try:
        moment = parse_rfc3339(time)
    except ValueError:
        return None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
