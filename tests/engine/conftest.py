"""Small real models of several shapes, rows of uneven length, and a tuner for them."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from transformers import PreTrainedModel

from sf_tui.engine.batches import FixedSource
from sf_tui.engine.compute import ComputeSetting, choose_compute
from sf_tui.engine.layout import ModelLayout, read_layout
from sf_tui.engine.loading import LoadedModel, load_model
from sf_tui.engine.loop import StageTuner
from sf_tui.profile import ModelSettings, TrainSettings
from sf_tui.tasks.encoding import Encoded
from support.tiny_models import SHAPES, MakeModel, MakeTuner


@pytest.fixture(scope="session")
def compute() -> ComputeSetting:
    return choose_compute("float32", 1)


@pytest.fixture(scope="session")
def make_model(compute: ComputeSetting) -> MakeModel:
    """Make a model of one of `SHAPES` with so many blocks, the same for the same seed."""

    def make(
        shape: str = "gpt_neox", blocks: int = 3, seed: int = 0, **options: Any
    ) -> LoadedModel:
        config = {
            "model_type": shape.split()[-1],
            "hidden_size": 16,
            "num_attention_heads": 2,
            "num_hidden_layers": blocks,
        }
        if shape != "bloom":
            config["max_position_embeddings"] = 64
        settings = ModelSettings(source="random", config=config | SHAPES[shape])
        return load_model(settings, Path.cwd(), compute, seed=seed, **options)

    return make


@pytest.fixture
def make_tuner(compute: ComputeSetting) -> MakeTuner:
    """Make a tuner for a model on some rows."""

    def make(
        model: PreTrainedModel,
        rows: list[Encoded],
        *,
        layout: ModelLayout | None = None,
        seed: int = 0,
        clock: Callable[[], float] = time.perf_counter,
        **settings: Any,
    ) -> StageTuner:
        given = {"learning_rate": 1e-2, "batch_size": 4, "warmup_steps": 0, "steps": 50} | settings
        return StageTuner(
            model,
            layout or read_layout(model),
            FixedSource(rows),
            TrainSettings(**given),
            compute,
            stage="new",
            seed=seed,
            pad_id=0,
            clock=clock,
        )

    return make
