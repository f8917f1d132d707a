"""The progress of a test or a repair that this process makes, as lines, and its end at Ctrl-C."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from sf_tui.cli.output import check_interrupt
from sf_tui.tui.operation_words import progress_parts

if TYPE_CHECKING:
    from sf_tui.recovery.progress import Progress

LINE_EVERY_S = 5.0


def progress_reporter(
    log: Callable[[str], None], clock: Callable[[], float] = time.monotonic
) -> Callable[[Progress], None]:
    """Return a function that takes the progress and writes a line every few seconds.

    It raises KeyboardInterrupt after Ctrl-C, even if a library swallowed that.

    Args:
        log: writes a line. The beginning of each part is written by the work itself.
        clock: monotonic seconds.
    """
    last_s = clock()

    def report(now: Progress) -> None:
        nonlocal last_s
        check_interrupt()
        if now.done and clock() - last_s >= LINE_EVERY_S:
            last_s = clock()
            log(", ".join(progress_parts(now)))

    return report
