"""`[adapter]`: what it takes, and the mistakes that span its keys. Opens no adapter."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from importlib.util import find_spec
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from sf_tui.profile.names import RANDOM_MODEL
from sf_tui.profile.problems import Problem
from sf_tui.profile.sources import is_missing, missing_hint
from sf_tui.profile.values import Line, Positive, RowCount
from sf_tui.vocabulary.strategies import StrictTable, Wanted, finite

ALL_LINEAR = "all-linear"

INSTALL_PEFT = "install the extra: pip install 'sf-tui[adapters]'"

_OF_THE_SOURCE = ("r", "alpha", "dropout", "targets", "rslora", "dora")
"""Keys that an adapter directory brings itself."""


def _targets(value: object) -> object:
    if value == ALL_LINEAR:
        return value
    names = value if isinstance(value, list) else []
    if not names or not all(isinstance(name, str) and name.strip() for name in names):
        raise ValueError("neither all-linear nor a list of names")
    return names


Targets = Annotated[
    str | list[str],
    BeforeValidator(_targets),
    Wanted(f'"{ALL_LINEAR}", or a list of module names like ["q_proj", "v_proj"]'),
]
Dropout = Annotated[
    float, BeforeValidator(finite), Field(ge=0, lt=1), Wanted("a share from 0 to below 1")
]


class AdapterSettings(StrictTable):
    """`[adapter]`: train an adapter and leave the weights alone; without the table, they train."""

    type: Literal["lora"] = Field(default="lora", description="kind of a new adapter")
    source: Line | None = Field(
        default=None,
        description="a PEFT directory to start from, with its own rank and targets; default: a new "
        "adapter",
    )
    r: RowCount = Field(default=16, description="rank of each change")
    alpha: Positive = Field(default=32.0, description="the change is scaled by alpha / r")
    dropout: Dropout = Field(default=0.0, description="dropout before the adapter, in training")
    targets: Targets = Field(
        default=ALL_LINEAR,
        description="modules that get an adapter; all-linear: each linear one but the head",
    )
    rslora: bool = Field(default=False, description="scale by alpha / sqrt(r) instead")
    dora: bool = Field(
        default=False, description="train magnitudes and directions of the weights apart (DoRA)"
    )
    quantize: Literal["none", "4bit"] = Field(
        default="none", description="hold the base in 4 bits (QLoRA); needs a GPU and bitsandbytes"
    )
    per_stage: Literal["same", "new"] = Field(
        default="same",
        description="same: all stages train one adapter; new: each trains its own on top of the "
        "finished ones",
    )


def check_adapter(
    settings: AdapterSettings | None, raw: Any, model: str, strategies: Collection[str]
) -> Iterator[Problem]:
    """Find keys of `[adapter]` that contradict each other or the model.

    Args:
        settings: the table; None if there is none.
        raw: the table as it was read.
        model: `[model] source`.
        strategies: those that a stage is trained with.
    """
    if settings is None:
        return
    given = raw if isinstance(raw, dict) else {}
    if model == RANDOM_MODEL:
        yield Problem(
            ("adapter",),
            "a random model has no base that an adapter directory could name",
            "name a model that exists in [model] source, or take the table away",
            table=1,
        )
    if settings.source is not None:
        for key in _OF_THE_SOURCE:
            # A resolved profile has every key with its default.
            if given.get(key, default := AdapterSettings.model_fields[key].default) != default:
                yield Problem(
                    ("adapter", key),
                    f"{key} goes with a new adapter; the one in source has its own",
                    f"take {key} away, or take source away for a new adapter",
                )
        if settings.per_stage == "new":
            yield Problem(
                ("adapter", "per_stage"),
                'per_stage = "new" goes with a new adapter, and source continues one',
                "merge it into its base first (`sf merge`), and tune the merged model",
            )
    if settings.per_stage == "new" and "ewc" in strategies:
        yield Problem(
            ("adapter", "per_stage"),
            "strategy 'ewc' adds up what each parameter meant to earlier tasks, and a new adapter "
            "has new parameters",
            'set per_stage = "same", or train with another strategy',
        )
    if settings.dora and settings.per_stage == "new":
        yield Problem(
            ("adapter", "per_stage"),
            'per_stage = "new" adds changes up, and a DoRA adapter is no sum with the weights',
            'set dora = false, or per_stage = "same"',
        )


def adapter_files(settings: AdapterSettings | None) -> Iterator[Problem]:
    """Find an adapter directory that doesn't exist, and a missing peft."""
    if settings is None:
        return
    if settings.source is not None and is_missing(settings.source):
        yield Problem(
            ("adapter", "source"),
            f"source: there is no {settings.source}",
            missing_hint(settings.source),
        )
    if find_spec("peft") is None:
        yield Problem(("adapter",), "adapters need peft, which isn't installed", INSTALL_PEFT, 1)
