"""What a kill left in a run directory is cleared up, and what was being replaced comes back."""

from __future__ import annotations

from pathlib import Path

import pytest

from sf_tui.run.directory import RunDirectory, clear_leftovers


def put(path: Path, content: str = "x") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)
    return path


def names(folder: Path) -> set[str]:
    return {str(entry.relative_to(folder)) for entry in folder.rglob("*") if entry.is_file()}


@pytest.mark.parametrize(
    "name",
    [
        ".run.json.4242.writing",
        ".heartbeat.4242.writing",
        ".inputs.json.4242.writing",
        ".events.jsonl.damaged-20260301T093000.4242.writing",
        ".model.writing/model.safetensors",
        "checkpoints/new/.step-000004.writing/weights/head.safetensors",
        "checkpoints/new/.step-000004.deleting/state.json",
        "checkpoints/new/.step-000004~1.deleting/state.json",
        "neighbors/new/.part-0000.safetensors.writing",
        "neighbors/new/.bank.json.4242.writing",
        "neighbors/new/.tmpX7z1Qw",
        "answers/.new.json.4242.writing",
    ],
)
def test_what_was_never_finished_goes(run: RunDirectory, name: str) -> None:
    before = names(run.path)
    put(run.path / name)
    clear_leftovers(run)
    assert names(run.path) == before


def test_everything_else_stays(run: RunDirectory) -> None:
    for name in (
        ".git/config",
        ".notes.writing",
        "checkpoints/new/step-000004/state.json",
        "checkpoints/new/step-000004~1/state.json",
        "checkpoints/new/step-000008.damaged/state.json",
        "neighbors/new/part-0000.safetensors",
        "answers/new.json",
        "model/.gitattributes",
    ):
        put(run.path / name)
    before = names(run.path)
    clear_leftovers(run)
    assert names(run.path) == before


@pytest.mark.parametrize(
    ("path", "old"),
    [
        ("model", ".model.replaced"),
        ("checkpoints/new/step-000004", "checkpoints/new/.step-000004.replaced"),
    ],
)
@pytest.mark.parametrize("exchanged", [True, False])
def test_what_was_being_replaced_is_the_new_one_or_the_old_one(
    run: RunDirectory, path: str, old: str, exchanged: bool
) -> None:
    put(run.path / old / "file", "old")
    if exchanged:
        put(run.path / path / "file", "new")
    clear_leftovers(run)
    assert not (run.path / old).exists()
    assert (run.path / path / "file").read_text() == ("new" if exchanged else "old")
