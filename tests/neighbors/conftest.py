"""The starter as a start model, and a small Llama that never learnt anything."""

from __future__ import annotations

from pathlib import Path

import pytest

from sf_tui.engine.batches import FixedSource
from sf_tui.engine.compute import ComputeSetting, choose_compute
from sf_tui.engine.layout import read_layout
from sf_tui.engine.loading import load_model
from sf_tui.engine.loop import StageTuner
from sf_tui.profile import BiographySettings, ModelSettings, TrainSettings
from sf_tui.tasks.biography import biography_task
from sf_tui.tasks.encoding import encode_example
from sf_tui.tasks.task import Example, FixedExamples
from support.start_scene import CITIES, COUNTRIES, Scene


@pytest.fixture(scope="session")
def compute() -> ComputeSetting:
    return choose_compute("float32", 1)


@pytest.fixture(scope="session")
def starter(compute: ComputeSetting) -> Scene:
    """Return the starter with the question for the birthday of people whom it never met."""
    source = "starter:biography-mini"
    loaded = load_model(ModelSettings(source=source), Path.cwd(), compute, seed=0)
    examples = biography_task("new", BiographySettings()).train
    assert isinstance(examples, FixedExamples)
    rows = [
        encode_example(example, loaded.tokenizer)
        for example in examples.examples
        if example.group == "birthday"
    ]
    return Scene(loaded, compute, rows)


@pytest.fixture(scope="session")
def untrained(compute: ComputeSetting, llama_directory: Path) -> Scene:
    """Return a Llama with random weights and a question about eight countries."""
    loaded = load_model(ModelSettings(source=str(llama_directory)), Path.cwd(), compute, seed=0)
    rows = [
        encode_example(Example(f"What is the capital of {country}?", f" {city}"), loaded.tokenizer)
        for country, city in zip(COUNTRIES, CITIES, strict=True)
    ]
    return Scene(loaded, compute, rows)


@pytest.fixture(scope="session")
def taught(compute: ComputeSetting, llama_directory: Path) -> Scene:
    """Return a Llama that has read questions for capitals, and a new task that asks otherwise."""
    loaded = load_model(ModelSettings(source=str(llama_directory)), Path.cwd(), compute, seed=0)
    read = [
        encode_example(Example("", f"What is the capital of {country}?"), loaded.tokenizer)
        for country in COUNTRIES
    ]
    tuner = StageTuner(
        loaded.model,
        read_layout(loaded.model),
        FixedSource(read),
        TrainSettings(learning_rate=1e-2, batch_size=8, steps=40, warmup_steps=0),
        compute,
        stage="read",
        seed=0,
        pad_id=loaded.pad_id,
    )
    for _ in range(tuner.total_steps):
        tuner.advance()
    rows = [
        encode_example(Example(f"What is the country of {country}?", f" {city}"), loaded.tokenizer)
        for country, city in zip(COUNTRIES, CITIES, strict=True)
    ]
    return Scene(loaded, compute, rows)
