"""Which tensor of a Hugging Face directory is which parameter of the live model.

It is the one that loading the directory would put there: transformers itself says how a name
changes on the way (`h.0.…` to `transformer.h.0.…`, `embed_out` to `lm_head`), and a weight that is
shared stands in a file under any one of its names. Tensors that loading would also recast, such as
experts fused into one, are not read; such a directory is refused by name.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from sf_tui.engine.layout import ModelLayout
from sf_tui.engine.stored_names import StoredNames
from sf_tui.errors import ModelError

if TYPE_CHECKING:
    from transformers import PreTrainedModel

OTHER_MODEL = "name the directory of the very model that the tuning began with"


def match_names(
    folder: Path,
    keys: Iterable[str],
    model: PreTrainedModel,
    layout: ModelLayout,
    names: StoredNames | None = None,
) -> dict[str, str]:
    """Return the name in the file for every parameter of a model.

    Args:
        folder: the directory, as messages name it.
        keys: names of all its tensors; those that the model has no parameter for, such as buffers,
            are passed over.
        model: the live model.
        layout: its layers.
        names: how a model with a vision or audio part names its text part; None for any other.

    Raises:
        ModelError: a parameter has no tensor, or there are more blocks than the model's.
    """
    loaded, recast = (names or StoredNames(model)).loaded(keys)
    stored: dict[str, str] = {}
    for key, name in loaded.items():
        stored.setdefault(name, key)
    # By the parameter's first name, which is the layout's, all of its names.
    taken = {name for layer in layout.layers for name in layer.parameters}
    aliases: dict[int, list[str]] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        aliases.setdefault(id(parameter), []).append(name)
    wanted = [known for known in aliases.values() if known[0] in taken]
    found: dict[str, str] = {}
    absent: list[str] = []
    for known in wanted:
        present = next((stored[name] for name in known if name in stored), None)
        if present is None:
            absent.append(known[0])
        else:
            found[known[0]] = present
    if absent:
        raise ModelError(
            f"{folder}: no tensor '{absent[0]}' in its safetensors "
            f"({len(absent)} of {len(wanted)} are missing)",
            "it stores some layers otherwise than the model uses them (experts one by one): only "
            "the first checkpoint of a run's stage can be read as start weights"
            if recast
            else OTHER_MODEL,
        )
    _refuse_more_blocks(folder, stored, layout)
    return found


def _refuse_more_blocks(folder: Path, stored: dict[str, str], layout: ModelLayout) -> None:
    blocks = next(iter(layout.blocks[0].parameters)).partition(".0.")[0]
    beyond = f"{blocks}.{len(layout.blocks)}."
    more = next((key for name, key in sorted(stored.items()) if name.startswith(beyond)), None)
    if more:
        raise ModelError(
            f"{folder}: tensor '{more}' is of a block beyond the model's {len(layout.blocks)}",
            OTHER_MODEL,
        )
