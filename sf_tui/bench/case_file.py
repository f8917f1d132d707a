"""A long benchmark's file: one JSON object a case, so that what is there isn't played again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def read_cases(path: Path, schema: int) -> list[dict[str, Any]]:
    """Return the cases in a file; lines that a kill cut short or of another schema are left out."""
    if not path.exists():
        return []
    rows = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            row = json.loads(line)
        except json.JSONDecodeError:
            continue
        if row.get("schema") == schema:
            rows.append(row)
    return rows


def append_case(path: Path, row: dict[str, Any]) -> None:
    """Write a case behind those that are there, on a line of its own whatever a kill left."""
    torn = path.exists() and not path.read_bytes().endswith(b"\n")
    with path.open("a", encoding="utf-8") as file:
        file.write(("\n" if torn else "") + json.dumps(row) + "\n")
