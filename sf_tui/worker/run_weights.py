"""A run's weights: the newest ones that count, and those of a stage's start.

Only reads: locks nothing and knows no data.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from sf_tui.engine.checkpoint import Checkpoint, load_checkpoint, read_checkpoint
from sf_tui.engine.compute import ComputeSetting, choose_compute
from sf_tui.engine.layout import ModelLayout
from sf_tui.engine.loading import LoadedModel
from sf_tui.engine.prepare import load_model_of
from sf_tui.engine.start_weights import open_start_weights
from sf_tui.engine.weights import StoredWeights
from sf_tui.errors import RunError
from sf_tui.profile import Profile, starter_directory
from sf_tui.profile.sources import absolute
from sf_tui.run.directory import RunDirectory
from sf_tui.run.events import read_events
from sf_tui.run.history import History, fold
from sf_tui.worker.checkpoints import CheckpointStore
from sf_tui.worker.ledger import Ledger

_STARTER = "starter:"


@dataclass(frozen=True)
class ModelAtHand:
    """A loaded model, its layers and the device."""

    loaded: LoadedModel
    layout: ModelLayout
    compute: ComputeSetting


@dataclass(frozen=True)
class RunRecord:
    """What is known about a run before any weight is loaded."""

    run: RunDirectory
    profile: Profile
    history: History
    point: Checkpoint | None
    """The newest checkpoint that counts; None where only `model/` is left."""

    @property
    def place(self) -> tuple[str, int]:
        """The stage and the step of the newest weights."""
        if self.point is not None:
            return self.point.stage, self.point.step
        stage = self.history.stage
        assert stage is not None  # `read_record` has checked
        return stage.name, stage.step

    def start_of(self, stage: str) -> Path:
        """Return where a stage's first checkpoint belongs."""
        return CheckpointStore(self.run, self.profile.checkpoint).path(stage, 0)


def read_record(run: RunDirectory, profile: Profile) -> RunRecord:
    """Read the progress of a run and which of its weights count.

    Raises:
        RunError: it has no weights yet, or its log can't be read.
    """
    events = list(read_events(run.events))
    history = fold(events)
    names = [stage.name for stage in profile.stages()]
    point = CheckpointStore(run, profile.checkpoint).resume_point(names, Ledger(events))
    if history.stage is None or (point is None and not _has_model(run)):
        raise RunError(
            f"{run.id}: it has no checkpoint yet, so there are no weights to look at",
            f"`sf resume {run.id}` goes on with it",
        )
    return RunRecord(run, profile, history, point)


def load_newest(record: RunRecord) -> ModelAtHand:
    """Load a run's model with the newest weights that count.

    The run's own `model/` is used if it exists, else the profile's model; either way the
    checkpoint's weights are loaded into it.

    Raises:
        ModelError: the model can't be loaded.
        RunError: the checkpoint can't be read.
    """
    profile, point = record.profile, record.point
    settings = profile.model
    words = settings.tokenizer or ("biography" if settings.source == "random" else None)
    if _has_model(record.run):
        settings = settings.model_copy(
            update={
                "source": str(record.run.model),
                "config": {},
                # For some families (Qwen3.5) transformers ignores the directory's tokenizer class
                # for one of its own, which splits words into other tokens.
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
    return ModelAtHand(loaded, loaded.layout, compute)


def _has_model(run: RunDirectory) -> bool:
    return (run.model / "config.json").is_file()


def open_start_model(name: str, loaded: LoadedModel, layout: ModelLayout) -> StoredWeights:
    """Find start weights by name.

    Args:
        name: a model directory, a checkpoint's folder, or starter:NAME.
        loaded: the model that they must fit.
        layout: its layers.

    Raises:
        ModelError: they don't fit, or there are none.
        RunError: the checkpoint was never finished or doesn't fit.
        ProfileError: there is no such starter.
    """
    if name.startswith(_STARTER):
        folder = starter_directory(name)
    else:
        folder = Path(absolute(name, Path.cwd()))
    names = loaded.composite.names if loaded.composite else None
    return open_start_weights(folder, loaded.model, layout, names)


def find_start(
    loaded: LoadedModel, layout: ModelLayout, checkpoint: Path, named: str | None
) -> StoredWeights | None:
    """Return the named start weights, else a stage's first checkpoint; None without either.

    Raises:
        ModelError: the named ones don't fit, or there are none.
        RunError: the checkpoint can't be used.
    """
    if named is not None:
        return open_start_model(named, loaded, layout)
    if read_checkpoint(checkpoint) is None:
        return None
    return open_start_weights(checkpoint, loaded.model, layout)
