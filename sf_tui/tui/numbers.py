"""Numbers as the console writes them: short, with their unit, of constant width."""

from __future__ import annotations

import math
from datetime import UTC, tzinfo

from sf_tui.run.clock import parse_rfc3339


def format_value(value: float | None) -> str:
    """Return a loss, norm or rate in at most seven characters; `–` for none."""
    if value is None or not math.isfinite(value):
        return "–"
    size = abs(value)
    if size >= 100_000:
        return scientific(value)
    if size >= 100:
        return f"{value:.0f}"
    if size >= 10:
        return f"{value:.1f}"
    if size >= 0.0095 or value == 0:
        return f"{value:.3f}" if size < 1.0005 else f"{value:.2f}"
    return scientific(value)


def format_share(value: float | None) -> str:
    """Return a share in [0, 1] with the two decimals that some hundred examples bear."""
    return "–" if value is None else f"{value:.2f}"


def scientific(value: float) -> str:
    """Return a number as `1.1e-8`, as axes write it."""
    return f"{value:.1e}".replace("e-0", "e-").replace("e+0", "e").replace("e+", "e")


def format_rate(per_second: float | None) -> str:
    """Return tokens per second; `–` for none."""
    if per_second is None:
        return "–"
    if per_second >= 99_950:
        return f"{per_second / 1000:,.0f}k"
    if per_second >= 9_995:
        return f"{per_second / 1000:.1f}k"
    return f"{per_second:,.0f}"


def format_duration(seconds: float | None) -> str:
    """Return a duration as `45 s`, `3:07` or `2 h 05`; `–` for none."""
    if seconds is None or not math.isfinite(seconds) or seconds < 0:
        return "–"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60}:{whole % 60:02d}"
    if whole < 48 * 3600:
        return f"{whole // 3600} h {whole % 3600 // 60:02d}"
    return f"{whole // 86400} d {whole % 86400 // 3600} h"


def format_age(seconds: float | None) -> str:
    """Return an age in one unit."""
    if seconds is None or not math.isfinite(seconds):
        return "–"
    seconds = max(seconds, 0.0)
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{int(seconds // size)} {unit}"
    return f"{int(seconds)} s"


def format_count(count: float | None) -> str:
    """Return a large count, such as parameters, with a decimal prefix."""
    if count is None:
        return "–"
    for size, unit in ((1_000_000_000, "B"), (1_000_000, "M"), (1_000, "k")):
        if count >= size:
            return (
                f"{count / size:.2f} {unit}" if count < 10 * size else f"{count / size:.0f} {unit}"
            )
    return str(count)


def format_clock(time: str, zone: tzinfo | None = None) -> str:
    """Return an event's time of day; spaces if it has none.

    Args:
        time: RFC 3339.
        zone: time zone of the reader; None for the machine's.
    """
    try:
        moment = parse_rfc3339(time)
    except ValueError:
        return " " * 8
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return moment.astimezone(zone).strftime("%H:%M:%S")
