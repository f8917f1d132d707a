"""When a terminal's bell should ring for a run: at each warning, and at the end.

Off unless the operator asks for it, with `--bell` or the profile's `[console] bell`.
"""

from __future__ import annotations

import tomllib

from sf_tui.run.directory import RunDirectory
from sf_tui.run.durable import read_regular
from sf_tui.run.events import EventTail
from sf_tui.vocabulary.events import Alert, Event, RunFinished

_LOUD = ("warn", "error")


def wants_bell(run: RunDirectory) -> bool:
    """Return whether the run's profile asks for the bell; False if it can't be read."""
    try:
        profile = tomllib.loads(read_regular(run.profile).decode())
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError):
        return False
    console = profile.get("console")
    return isinstance(console, dict) and console.get("bell") is True


class Bell:
    """Follows a run's log from now on.

    Args:
        run: the run.
    """

    def __init__(self, run: RunDirectory) -> None:
        size = run.events.stat().st_size if run.events.exists() else 0
        self._tail = EventTail(run.events, size)

    def poll(self) -> bool:
        """Return whether an event that rings the bell was written since the last call."""
        try:
            return any([_is_loud(event) for event in self._tail.iterate()])
        except OSError:
            # The file system may be unavailable for a moment; the next poll reads on.
            return False


def _is_loud(event: Event) -> bool:
    if isinstance(event, Alert):
        return event.level in _LOUD
    return isinstance(event, RunFinished)
