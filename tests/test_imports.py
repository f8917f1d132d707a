"""No module knows, through whatever it imports, a module that knows it.

Counted are all imports: at the top, under TYPE_CHECKING, and deferred ones in function bodies. One
exception: a command's body in `cli` may import what lies below it late, for a quick `--help`; such
imports point to lower layers only, and import-linter holds that. Importing a module also runs the
`__init__` of the packages above it; that is not counted, as only what it names is knowledge.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import sf_tui

PACKAGE = Path(sf_tui.__file__).parent


def modules() -> dict[str, Path]:
    """Return every module's file by its dotted name; a package's is its `__init__`."""
    found = {}
    for path in PACKAGE.rglob("*.py"):
        parts = (PACKAGE.name, *path.relative_to(PACKAGE).with_suffix("").parts)
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imports(tree: ast.Module, known: Mapping[str, object]) -> Iterator[str]:
    """Yield the modules of ours that a module imports, wherever in its text it does so."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module is not None:
            for alias in node.names:
                submodule = f"{node.module}.{alias.name}"
                yield submodule if submodule in known else node.module
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


def graph(sources: Mapping[str, str]) -> dict[str, set[str]]:
    """Return for each module those of ours that it imports."""
    return {
        name: {other for other in imports(ast.parse(text), sources) if other in sources} - {name}
        for name, text in sources.items()
    }


def cycle(sources: Mapping[str, str]) -> list[str]:
    """Return the modules of an import cycle; none where there is no cycle."""
    try:
        TopologicalSorter(graph(sources)).prepare()
    except CycleError as error:
        found: list[str] = error.args[1]
        return found
    return []


def test_no_module_imports_itself_through_others() -> None:
    sources = {name: path.read_text(encoding="utf-8") for name, path in modules().items()}
    assert len(sources) > 100

    assert " <- ".join(cycle(sources)) == ""


def test_a_cycle_for_type_checking_or_in_a_function_is_found() -> None:
    typed = "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from {} import a\n"
    deferred = "def f():\n    import {}\n"

    for one, other in ((typed, deferred), (deferred, typed)):
        assert cycle({"p.a": one.format("p.b"), "p.b": other.format("p.a")})
    assert not cycle({"p.a": typed.format("p.b"), "p.b": "import p\n", "p": ""})
    # A package that takes a name from its own module, which takes one from the package.
    assert cycle({"p": "from p.a import f\n", "p.a": "from p import f\n"})
