"""Which tensor of a model's files becomes which parameter when transformers loads them.

transformers renames keys on loading (`language_model.model.…` to `model.language_model.…`) and
converts some tensors (experts stored one by one become a single tensor). This module asks it for
both. It reads names, never a tensor.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class StoredNames:
    """Maps names in a model's files to names of the live model's parameters and buffers.

    Args:
        model: the model that the files load as.
        part: name of the module of it that is tuned on its own; empty for the model itself.
    """

    def __init__(self, model: PreTrainedModel, part: str = "") -> None:
        # Deferred: it imports every kind of model's conversions.
        from transformers.conversion_mapping import get_model_conversion_mapping
        from transformers.core_model_loading import WeightConverter, WeightRenaming

        transforms = get_model_conversion_mapping(model)
        self._renamings = [entry for entry in transforms if isinstance(entry, WeightRenaming)]
        self._converters = [entry for entry in transforms if isinstance(entry, WeightConverter)]
        self._base = model.base_model_prefix
        # transformers looks names up with `get`; the tensors themselves would keep memory in use.
        self._known: dict[str, Any] = dict.fromkeys(model.state_dict(), True)
        self._part = f"{part}." if part else ""

    def loaded(self, keys: Iterable[str]) -> tuple[dict[str, str], bool]:
        """Return the live name for each key in the files, and whether tensors are converted.

        Args:
            keys: names of tensors in the files. Converted tensors, and those outside the part that
                is tuned, are left out of the answer.
        """
        from transformers.core_model_loading import rename_source_key

        names: dict[str, str] = {}
        converted = False
        for key in sorted(keys):
            # The last two have different names in different versions of transformers.
            name, pattern = rename_source_key(
                key, self._renamings, self._converters, self._base, self._known
            )
            if name not in self._known and key in self._known:
                # As on loading: a name that is already the model's own is left alone.
                name, pattern = key, None
            if pattern is not None:
                converted = True
            elif name.startswith(self._part):
                names[key] = name.removeprefix(self._part)
        return names, converted
