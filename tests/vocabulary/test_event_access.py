"""Outside `run/` and `vocabulary/` events are objects: nobody reads their fields by string."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import sf_tui
from sf_tui.vocabulary.declared import fields_of
from sf_tui.vocabulary.events import EVENTS

ROOT = Path(sf_tui.__file__).parent
ALLOWED = ("run", "vocabulary")
NAMES = {"event", "e", "probe", "diagnosis", "alert", "rewound", "answer", "finished", "drift"}
"""What a variable with an event is called; a dictionary of another kind has another name."""
FIELDS = {field.name for cls in EVENTS.values() for field in fields_of(cls)} | {"type"}


READ = re.compile(rf"\b(?:{'|'.join(NAMES)})\s*(?:\[|\.\s*get\b)")
WRITTEN = re.compile(r"\.\s*(?:append|log_event)\s*\(\s*[fr]?[\"']")


def trees(like: re.Pattern[str]) -> dict[Path, ast.Module]:
    """Return the syntax trees of the modules that have such text, by their paths in the package."""
    texts = {path: path.read_text(encoding="utf-8") for path in sorted(ROOT.rglob("*.py"))}
    return {
        path.relative_to(ROOT): ast.parse(text) for path, text in texts.items() if like.search(text)
    }


def accesses(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Yield line and text of each access to an event's field by a string."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Subscript):
            owner, key = node.value, node.slice
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.args:
            if node.func.attr != "get":
                continue
            owner, key = node.func.value, node.args[0]
        else:
            continue
        name = owner.attr if isinstance(owner, ast.Attribute) else getattr(owner, "id", "")
        if name in NAMES and isinstance(key, ast.Constant) and key.value in FIELDS:
            yield node.lineno, ast.unparse(node)


def test_no_event_is_read_by_string() -> None:
    found = [
        f"{path}:{line}: {text}"
        for path, tree in trees(READ).items()
        if path.parts[0] not in ALLOWED
        for line, text in accesses(tree)
    ]
    assert found == []


def test_no_event_is_written_by_string() -> None:
    types = set(EVENTS)
    found = []
    for path, tree in trees(WRITTEN).items():
        for node in ast.walk(tree):
            if (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Attribute)
                and node.func.attr in {"append", "log_event"}
                and node.args
                and isinstance(node.args[0], ast.Constant)
                and node.args[0].value in types
                and node.keywords
            ):
                found.append(f"{path}:{node.lineno}")
    assert found == []


def test_the_check_finds_what_it_looks_for() -> None:
    text = "x = event['step']\ny = self.finished.get('exit_code')\nz = row['step']"
    assert [match.group() for match in READ.finditer(text)] == ["event[", "finished.get"]
    assert WRITTEN.search("log.append(\n    'step', stage='new')")
    tree = ast.parse(text)
    assert [line for line, _ in accesses(tree)] == [1, 2]
