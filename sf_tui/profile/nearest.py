"""The known name that a mistyped one was meant to be.

Knows nothing of what the names stand for.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable

# difflib's own 0.6 finds "steps" for "step" and "lerning_rate" for "learning_rate" and still
# says nothing for a word that is merely as long.
CUTOFF = 0.6


def nearest_name(word: str, known: Iterable[str]) -> str | None:
    """Return the known name closest to a word, or None when none is close."""
    names = {name.lower(): name for name in known}
    found = difflib.get_close_matches(word.lower(), names, n=1, cutoff=CUTOFF)
    return names[found[0]] if found else None


def nearest_names(word: str, known: Iterable[str], count: int = 3) -> list[str]:
    """Return up to `count` known names close to a word, the closest first."""
    names = {name.lower(): name for name in known}
    found = difflib.get_close_matches(word.lower(), names, n=count, cutoff=CUTOFF)
    return [names[name] for name in found]


def did_you_mean(word: str, known: Iterable[str], kind: str = "") -> str:
    """Return a hint: the nearest known name, else all of them.

    Args:
        word: what was written.
        known: what could have been written.
        kind: what these names are, in the plural ("keys", "ops"); opens the list of all.
    """
    names = list(known)
    near = nearest_name(word, names)
    if near is not None:
        return f"did you mean '{near}'?"
    if not names:
        return f"there are no {kind}" if kind else ""
    return f"{kind or 'known'}: {', '.join(names)}"
