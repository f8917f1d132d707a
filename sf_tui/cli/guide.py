"""`sf guide`: the guide's pages, in the terminal and offline.

The pages are Markdown files inside the package. A terminal shows them rendered in a pager; a pipe
gets plain Markdown.
"""

from __future__ import annotations

import re
import sys
from importlib import resources
from typing import Annotated

import typer

from sf_tui.cli.complete import one_of
from sf_tui.cli.output import drawing_console, write_line
from sf_tui.errors import UsageError, did_you_mean

GROUPS = {
    "Start": {
        "quick-start": "from a fresh clone to a recovered model",
        "own-data": "your model, your data, a profile",
        "own-training": "a training that you already have",
    },
    "Use": {
        "console": "panels and keys",
        "answers": "what the model answers: before, now, repaired",
        "recovery": "spurious or real, repair, anchor",
        "sweep": "many settings, old task against new",
        "adapters": "LoRA: train, diagnose, repair, merge",
        "several-runs": "open, pin, compare; runs on other hosts",
        "many-gpus": "several processes, torchrun, SLURM",
        "headless": "scripts, exit codes, CI, SLURM, systemd",
    },
    "Look up": {
        "profile": "every key of a profile",
        "run-directory": "a run's files",
        "events": "every event of a run's log",
        "measuring": "exact match, held out, drop, frozen",
        "results": "what was measured, with the commands",
    },
    "Develop": {
        "architecture": "layers, contracts, where to add something",
        "extending": "add a data schema, an integration",
    },
}
"""The pages in reading order, grouped by purpose."""

PAGES = {name: about for group in GROUPS.values() for name, about in group.items()}


def guide(
    topic: Annotated[
        str | None,
        typer.Argument(
            help="Show this page; default: list the pages.", autocompletion=one_of(*PAGES)
        ),
    ] = None,
    search: Annotated[
        str | None,
        typer.Option("--search", metavar="WORD", help="List the lines that contain WORD."),
    ] = None,
) -> None:
    """Read the guide, offline."""
    if search is not None:
        _search(search, [topic] if topic else list(PAGES))
    elif topic is None:
        _list_pages()
        write_line("\n`sf guide TOPIC` shows a page, `sf guide --search WORD` finds one", err=True)
    else:
        _show(page_text(topic))


def _list_pages() -> None:
    width = max(map(len, PAGES))
    for number, (title, pages) in enumerate(GROUPS.items()):
        write_line(f"{chr(10) if number else ''}{title}")
        for name, about in pages.items():
            write_line(f"  {name:<{width}}  {about}")


def page_text(topic: str) -> str:
    """Return a page as Markdown.

    Raises:
        UsageError: there is no such page.
    """
    if topic not in PAGES:
        raise UsageError(
            f"the guide has no page '{topic}'", did_you_mean(topic, PAGES, "there are")
        )
    page = resources.files("sf_tui.guide") / f"{topic}.md"
    return page.read_text(encoding="utf-8")


def _show(text: str) -> None:
    if not sys.stdout.isatty():
        write_line(text, end="")
        return
    # Deferred: it takes a fifth of a second, and a piped page doesn't need it.
    from rich.markdown import Markdown

    console = drawing_console()
    with console.pager(styles=True):
        console.print(Markdown(text))


def _search(word: str, topics: list[str]) -> None:
    wanted = re.compile(re.escape(word), re.IGNORECASE)
    found = False
    for topic in topics:
        for number, line in enumerate(page_text(topic).splitlines(), 1):
            if wanted.search(line):
                found = True
                write_line(f"{topic}:{number}: {line.strip()}")
    if not found:
        hint = f"pages: {', '.join(PAGES)}"
        raise UsageError(f"no page of the guide contains '{word}'", hint)
