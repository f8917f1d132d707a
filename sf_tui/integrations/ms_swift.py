"""The file for `swift sft --external_plugins FILE --callbacks sf`.

`sf integrate ms-swift` prints its path. Data loader workers import it again, so nothing heavy is
imported before a trainer asks for the callback.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from swift.callbacks import callbacks_map

from sf_tui.integrations.variables import callback_from_variables, has_default_callback

if TYPE_CHECKING:
    from transformers import TrainerCallback


def new_callback(args: Any, trainer: Any) -> TrainerCallback:  # noqa: ARG001  ms-swift passes both
    """Return the callback of one trainer.

    Raises:
        SfError: a file doesn't exist, or the profile has mistakes.
    """
    # Deferred: it is there in a process that trains.
    from transformers import TrainerCallback

    return TrainerCallback() if has_default_callback() else callback_from_variables()


callbacks_map["sf"] = new_callback
