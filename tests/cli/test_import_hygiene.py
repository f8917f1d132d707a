"""The command line is there at once: nothing heavy is imported before a command's body runs."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

HEAVY = {"torch", "transformers", "accelerate", "datasets", "textual", "pydantic", "numpy"}


def _imported_by(statement: str) -> set[str]:
    program = f"{statement}\nimport json, sys\nprint(json.dumps(sorted(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    return set(json.loads(done.stdout))


def test_the_command_line_imports_nothing_heavy() -> None:
    assert not _imported_by("import sf_tui.cli.app") & HEAVY


@pytest.mark.parametrize("package", ["sf_tui.run.state", "sf_tui.profile", "sf_tui.tui"])
def test_what_the_console_reads_with_imports_no_torch(package: str) -> None:
    assert not _imported_by(f"import {package}") & {"torch", "transformers", "accelerate"}


def test_the_worker_imports_no_textual() -> None:
    assert "textual" not in _imported_by("import sf_tui.worker.worker")
