"""Loads a run's weights: the newest ones, and those of a stage's start.

Reads only; takes no lock; knows no data. The caller chooses the checkpoint.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from sf_tui.cases.host_adapter import kept_adapter
from sf_tui.cases.referenced import check_unchanged, open_referenced
from sf_tui.engine.adapters.files import ADAPTER_CONFIG, inspect_adapter, is_adapter
from sf_tui.engine.adapters.start import adapter_weights
from sf_tui.engine.checkpoint import (
    Checkpoint,
    checkpoint_weights,
    load_checkpoint,
    read_checkpoint,
    start_folder,
)
from sf_tui.engine.checkpoint_state import STATE_FILE
from sf_tui.engine.compute import ComputeSetting, choose_compute
from sf_tui.engine.layout import ModelLayout
from sf_tui.engine.loading import LoadedModel
from sf_tui.engine.prepare import load_model_of, starts_without_adapter
from sf_tui.engine.start_weights import open_start_weights
from sf_tui.engine.weights import AdapterOff, StartWeights
from sf_tui.errors import ModelError
from sf_tui.profile import Profile, starter_directory
from sf_tui.profile.adapter_schema import AdapterSettings
from sf_tui.profile.sources import absolute
from sf_tui.run.directory import RunDirectory
from sf_tui.run.references import Reference
from sf_tui.run.state import RunState

_STARTER = "starter:"


@dataclass(frozen=True)
class LoadedRun:
    """A loaded model with its current weights, its layers and its compute settings."""

    loaded: LoadedModel
    layout: ModelLayout
    compute: ComputeSetting


@dataclass(frozen=True)
class RunRecord:
    """A run's progress as its directory shows it, before any weights are loaded."""

    run: RunDirectory
    profile: Profile
    history: RunState
    point: Checkpoint | None
    """The checkpoint that a resume would load; None if only `model/` is left."""
    references: Sequence[Reference] = ()
    """The checkpoints of an imported run, in order of their step; the last one is its newest, or
    the one that was asked for."""

    @property
    def place(self) -> tuple[str, int]:
        """The stage and the step of the newest weights."""
        if self.references:
            return self.references[-1].stage, self.references[-1].step
        if self.point is not None:
            return self.point.stage, self.point.step
        stage = self.history.stage
        assert stage is not None  # a record has weights, so a stage has begun
        return stage.name, stage.step

    def start_of(self, stage: str) -> Path:
        """Return the checkpoint with the weights that a stage began with."""
        return start_folder(self.run.checkpoints / stage)


def load_newest(record: RunRecord) -> LoadedRun:
    """Load a run's model with its newest weights.

    The model is the run's own `model/`, or else the profile's; a checkpoint's weights are loaded on
    top of either.

    Raises:
        ModelError: the model can't be loaded.
        RunError: the checkpoint can't be read.
    """
    profile, point = record.profile, record.point
    if record.references:
        return _load_referenced(record)
    settings = profile.model
    # What a host trains may be more than the keys of [adapter] can say.
    adapter = kept_adapter(record.run) or profile.adapter
    if adapter is not None:
        return _load_newest_adapter(record, adapter)
    words = settings.tokenizer or ("biography" if settings.source == "random" else None)
    if has_model(record.run):
        settings = settings.model_copy(
            update={
                "source": str(record.run.model),
                "config": {},
                # For some families (Qwen3.5), transformers replaces the directory's tokenizer class
                # with its own, which tokenizes differently.
                "tokenizer": "biography" if words == "biography" else None,
                "revision": None,
            }
        )
    compute = choose_compute(
        profile.model.dtype, point.state["threads"] if point else profile.train.threads
    )
    loaded = load_model_of(profile, compute, settings, record.run.created)
    if point is not None:
        load_checkpoint(point, loaded.layout, None)
    return LoadedRun(loaded, loaded.layout, compute)


def _load_referenced(record: RunRecord) -> LoadedRun:
    """Load the base of an imported run with the weights of its current checkpoint."""
    profile, weights = record.profile, record.references[-1].weights
    check_unchanged(weights)
    if profile.adapter is not None:
        # The profile names one of the checkpoints, which may be gone.
        own = profile.adapter.model_copy(update={"source": str(weights.folder)})
        profile = profile.model_copy(update={"adapter": own})
    compute = choose_compute(profile.model.dtype, profile.train.threads)
    loaded = load_model_of(profile, compute, moment=record.run.created)
    if profile.adapter is None:
        open_referenced(weights, loaded).load_into(loaded.layout)
    return LoadedRun(loaded, loaded.layout, compute)


def _load_newest_adapter(record: RunRecord, adapter: AdapterSettings) -> LoadedRun:
    """Load the base of a run with its newest adapter."""
    point = record.point
    if point is None:
        # The directory holds the changes of all stages as one adapter.
        changes = {"source": str(record.run.model), "per_stage": "same"}
        adapter = adapter.model_copy(update=changes)
    profile = record.profile.model_copy(update={"adapter": adapter})
    threads = point.state["threads"] if point else profile.train.threads
    compute = choose_compute(profile.model.dtype, threads)
    loaded = load_model_of(profile, compute, moment=record.run.created)
    if point is not None:
        load_checkpoint(point, loaded.layout, None)
    return LoadedRun(loaded, loaded.layout, compute)


def has_model(run: RunDirectory) -> bool:
    """Return whether a run has written its final model."""
    return any((run.model / name).is_file() for name in ("config.json", ADAPTER_CONFIG))


def open_start_model(name: str, model: LoadedRun) -> StartWeights:
    """Return the start weights with the given name.

    Args:
        name: a model directory, a checkpoint's folder, or starter:NAME.
        model: the model that they must fit.

    Raises:
        ModelError: the weights don't fit, or don't exist.
        RunError: the checkpoint is incomplete or doesn't fit.
        ProfileError: there is no such starter.
    """
    if name.startswith(_STARTER):
        folder = starter_directory(name)
    else:
        folder = Path(absolute(name, Path.cwd()))
    if model.layout.adapters is not None and not (folder / STATE_FILE).is_file():
        return _open_adapter_start(folder, model)
    composite = model.loaded.composite
    names = composite.names if composite else None
    return open_start_weights(folder, model.loaded.model, model.layout, names)


def base_start(model: LoadedRun) -> AdapterOff:
    """Return the start of a model with an adapter: its base, with the adapter turned off."""
    assert model.loaded.base is not None, "only a model with an adapter has a base"
    return AdapterOff(Path(model.loaded.base.source))


def _open_adapter_start(folder: Path, model: LoadedRun) -> StartWeights:
    """Return the base of an adapter, or an earlier state of the adapter, as start weights."""
    base = base_start(model)
    if is_adapter(folder):
        return adapter_weights(inspect_adapter(folder), model.layout)
    if folder.resolve() == base.folder.resolve():
        return base
    raise ModelError(
        f"{folder}: neither the base of the adapter ({base.folder}) nor an adapter directory",
        "leave --start-model out: the start is the base with the adapter off; or name an earlier "
        "state of the adapter",
    )


def find_stage_start(
    model: LoadedRun, record: RunRecord, stage: str, named: str | None = None
) -> StartWeights | None:
    """Return the named start weights, or else those that a stage of a run began with.

    Args:
        model: the model that they must fit.
        record: the run's progress.
        stage: the stage.
        named: a model directory, a checkpoint's folder, or starter:NAME; None for the stage's own.

    Returns:
        None if the stage's first checkpoint is gone.

    Raises:
        ModelError: the named weights don't fit, or don't exist.
        RunError: the checkpoint can't be used, or a file that an imported run refers to changed.
    """
    if named is not None:
        return open_start_model(named, model)
    first = next((at for at in record.references if at.stage == stage and at.step == 0), None)
    if first is not None:
        return open_referenced(first.weights, model.loaded)
    return own_start(record.profile, stage, model, record.start_of)


def own_start(
    profile: Profile, stage: str, model: LoadedRun, start_of: Callable[[str], Path]
) -> StartWeights | None:
    """Return the weights that a stage of a run of our own began with; None if they are gone.

    Args:
        profile: the run's profile.
        stage: the stage.
        model: the model that they must fit.
        start_of: returns the folder of a stage's first checkpoint.

    Raises:
        RunError: the checkpoint can't be used.
    """
    if starts_without_adapter(profile, stage):
        return base_start(model)
    checkpoint = read_checkpoint(start_of(stage))
    if checkpoint is None:
        return None
    start = checkpoint_weights(checkpoint, model.layout)
    start.check(model.layout)
    return start
