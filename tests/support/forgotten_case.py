"""The case of a small Llama that learned an old task, then lost it to a new one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from transformers import PreTrainedTokenizerBase

from sf_tui.engine.compute import choose_compute
from sf_tui.engine.layout import read_layout
from sf_tui.engine.loading import load_model
from sf_tui.engine.start_weights import open_start_weights
from sf_tui.engine.weights import Snapshot
from sf_tui.profile import ModelSettings
from sf_tui.recovery.case import CaseTask, RecoveryCase
from sf_tui.recovery.scoring import eval_set
from sf_tui.recovery.short_tuning import tune_briefly
from sf_tui.tasks.encoding import Encoded, encode_example
from sf_tui.tasks.task import Example
from support.start_scene import CITIES, COUNTRIES

MakeCase = Callable[[], RecoveryCase]


def capital_row(tokenizer: PreTrainedTokenizerBase, text: str, at: int, shift: int = 0) -> Encoded:
    """Return a question about a country with the capital of the one `shift` places on."""
    answer = f" {CITIES[(at + shift) % len(CITIES)]}"
    return encode_example(Example(text.format(COUNTRIES[at]), answer), tokenizer)


def forgotten_case(
    folder: Path,
    model: Path,
    new_rows: Callable[[PreTrainedTokenizerBase], tuple[tuple[Encoded, ...], tuple[Encoded, ...]]],
) -> MakeCase:
    """Teach both tasks and return what makes the case anew, with the degraded weights.

    Args:
        folder: where the start weights are written.
        model: the model directory.
        new_rows: returns the new task's rows that a repair trains on, and its held-out rows. The
            model is taught both.
    """
    compute = choose_compute("float32", 1)
    loaded = load_model(ModelSettings(source=str(model)), folder, compute, seed=0)
    layout = read_layout(loaded.model)
    old = tuple(
        capital_row(loaded.tokenizer, "What is the capital of {}?", at)
        for at in range(len(COUNTRIES))
    )
    trained, held_out = new_rows(loaded.tokenizer)
    case = RecoveryCase(
        loaded,
        layout,
        compute,
        CaseTask("old", "exact_match", eval_set(old), old[:4]),
        CaseTask("new", "exact_match", eval_set(held_out), trained),
        None,
        3e-3,
        batch_size=8,
        stage_tokens=2000,
    )
    for name, taught in (
        ("old", old),
        ("new", trained if held_out is trained else (*trained, *held_out)),
    ):
        loss = case.examples_loss(name, taught, len(taught))
        tune_briefly(loaded.model, layout, [loss], steps=60, learning_rate=1e-2)
        if name == "old":
            loaded.model.save_pretrained(folder / "start")
    case.start = open_start_weights(folder / "start", loaded.model, layout)
    degraded = Snapshot(layout)

    def make() -> RecoveryCase:
        degraded.restore()
        return replace(case)

    return make
