"""`sf bench memory` as it is called: the command, its processes and its JSON."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from sf_tui.bench.harness import peak_memory_bytes, run_part
from sf_tui.cli.bench import app
from sf_tui.errors import UsageError


@pytest.mark.slow
def test_the_command_prints_one_object_about_both_sides(tied_llama_directory: Path) -> None:
    arguments = ["--model", str(tied_llama_directory), "--steps", "20", "--batch-size", "4"]
    result = CliRunner().invoke(app, ["memory", *arguments, "--json"])
    assert result.exit_code == 0, result.exception
    report = json.loads(result.stdout)
    assert set(report["wanted"]) == {"ratio_to_trainer", "ratio_with_test"}
    assert report["conditions"]["steps"] == 20
    measured = report["measured"]
    trainer = measured["trainer_peak_bytes"]
    assert report["ratio_to_trainer"] == measured["trained_peak_bytes"] / trainer
    assert report["ratio_with_test"] == measured["peak_bytes"] / trainer
    assert measured["peak_bytes"] >= measured["trained_peak_bytes"]
    assert measured["verdict"]
    assert measured["probes"] >= 5
    assert measured["checkpoints"] >= 5
    assert measured["frozen_layers"] == 2
    for side in ("", "trainer_"):
        assert measured[f"{side}peak_bytes"] >= measured[f"{side}loaded_bytes"] > 50_000_000


@pytest.mark.slow  # a process of its own that imports torch
def test_an_error_of_a_measuring_process_comes_back_as_it_was(llama_directory: Path) -> None:
    arguments = {"model": str(llama_directory), "steps": 3, "batch_size": None, "threads": 1}
    with pytest.raises(UsageError, match="too few") as caught:
        run_part("overhead", arguments, threads=1)
    assert caught.value.hint == "at least 50"


def test_the_peak_stays_when_memory_is_given_back() -> None:
    block = bytearray(120_000_000)
    block[::4096] = b"x" * len(block[::4096])
    grown = peak_memory_bytes()
    del block
    # The kernel counts pages in batches, so to within a few of them.
    assert peak_memory_bytes() > grown - 10_000_000
