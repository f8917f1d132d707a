"""Plain sequential tuning: the baseline that forgets."""

from __future__ import annotations

from typing import ClassVar

from sf_tui.engine.strategies.base import StageContext, Strategy


class Seq(Strategy):
    """Tune on the new task and nothing else.

    Old-data access: none.
    Cost: none beside the step itself.
    """

    name: ClassVar[str] = "seq"
    old_data_access: ClassVar[str] = "none"

    def begin(self, context: StageContext) -> None:
        """Do nothing."""
