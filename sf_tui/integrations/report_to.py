"""Makes `report_to: sf` known to transformers: `import sf_tui.integrations.report_to`.

Not needed under `sf exec`. Settings come from SF_OLD, SF_PROFILE and SF_RUN_DIR.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from transformers.integrations import integration_utils

from sf_tui.integrations.variables import callback_from_variables

if TYPE_CHECKING:
    from sf_tui.integrations.callback import SfCallback


class ReportTo:
    """What stands in transformers' table: an object of `SfCallback` for each Trainer."""

    def __new__(cls) -> SfCallback:  # type: ignore[misc]
        """Return the callback of one Trainer.

        Raises:
            SfError: a file doesn't exist, or the profile has mistakes.
        """
        return callback_from_variables()


# Under `sf exec` the name is taken by a callback that leaves the watching to the default one.
integration_utils.INTEGRATION_TO_CALLBACK.setdefault("sf", ReportTo)
