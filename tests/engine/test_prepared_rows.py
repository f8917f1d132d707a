"""Rows against the positions that a model was made for."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from sf_tui.engine import loading
from sf_tui.engine.prepare import PreparedRun, prepare_run
from sf_tui.profile import parse_profile

POSITIONS = 64


def prepared(model: Path, folder: Path, rows: int) -> PreparedRun:
    """Prepare a task of which two rows are longer than the model's positions."""
    texts = [f"What is the capital of {number}?" for number in range(rows)]
    texts += ["capital " * (POSITIONS + 5), "country " * (POSITIONS + 5)]
    told = [json.dumps({"question": text, "answer": "Paris"}) + "\n" for text in texts]
    (folder / "rows.jsonl").write_text("".join(told))
    (folder / "held.jsonl").write_text(
        json.dumps({"question": "Name a country.", "answer": "Peru"})
    )
    return prepare_run(
        parse_profile(
            f'name = "m"\nmodel.source = "{model}"\ntrain.max_length = {POSITIONS + 40}\n'
            '[[tasks]]\nname = "old"\ndata = "rows.jsonl"\nheld_out = "held.jsonl"\nlearn = true\n',
            base_dir=folder,
        ),
        None,
    )


def test_rows_beyond_the_positions_are_counted(llama_directory: Path, tmp_path: Path) -> None:
    notes = prepared(llama_directory, tmp_path, 4).tasks["old"].notes
    assert any(f"2 rows have more tokens than the {POSITIONS} positions" in note for note in notes)


def test_the_model_is_searched_no_more_often_for_more_rows(
    llama_directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    searches = 0
    search = loading.made_for

    def counted(model: Any) -> int | None:
        nonlocal searches
        searches += 1
        return search(model)

    monkeypatch.setattr(loading, "made_for", counted)
    found = []
    for rows in (4, 60):
        searches = 0
        prepared(llama_directory, tmp_path, rows)
        found.append(searches)
    assert found[0] == found[1]
