"""Imports of large packages, without looking for garbage where there is none."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def without_collecting() -> Iterator[None]:
    """Import in the body what stays until the process ends.

    Imports leave no garbage, and collecting during those of torch and transformers, or of Textual,
    takes an eighth to a seventh of their time. What they made is not looked at later either.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        if was_enabled:
            gc.enable()
