"""What a check of `sf doctor` found."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Finding:
    """The result of one check.

    Attributes:
        check: the check's name.
        level: ok, info, warn or fail.
        found: one line.
        remedy: what to do; empty if nothing is needed.
    """

    check: str
    level: str
    found: str
    remedy: str = ""
