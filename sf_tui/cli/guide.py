"""`sf guide`: the guide's pages, in the terminal and offline.

The pages are Markdown files inside the package. On a terminal they are rendered and paged; in a
pipe they come as they are.
"""

from __future__ import annotations

import difflib
import re
import sys
from importlib import resources
from typing import Annotated

import typer

from sf_tui.cli.output import drawing_console, write_line
from sf_tui.errors import UsageError

PAGES = {
    "quick-start": "from a fresh clone to a recovered model",
    "own-data": "your model, your data, a profile",
    "console": "panels and keys",
    "recovery": "spurious or real, repair, anchor",
    "headless": "scripts, exit codes, CI, SLURM, systemd",
    "measuring": "exact match, held out, drop, frozen",
    "profile": "every key of a profile",
    "run-directory": "a run's files",
    "events": "every event of a run's log",
    "results": "what was measured, with the commands",
    "architecture": "layers, contracts, where to add something",
}
"""Every page with what it is about, in reading order."""


def guide(
    topic: Annotated[
        str | None, typer.Argument(help="A page; without one they are listed.")
    ] = None,
    search: Annotated[
        str | None, typer.Option("--search", metavar="WORD", help="List the lines with a word.")
    ] = None,
) -> None:
    """Read the guide, offline."""
    if search is not None:
        _search(search, [topic] if topic else list(PAGES))
    elif topic is None:
        width = max(map(len, PAGES))
        for name, about in PAGES.items():
            write_line(f"{name:<{width}}  {about}")
        write_line("\n`sf guide TOPIC` shows a page, `sf guide --search WORD` finds one", err=True)
    else:
        _show(page_text(topic))


def page_text(topic: str) -> str:
    """Return a page as Markdown.

    Raises:
        UsageError: there is no such page.
    """
    if topic not in PAGES:
        near = difflib.get_close_matches(topic, PAGES, n=1)
        raise UsageError(
            f"the guide has no page '{topic}'",
            f"did you mean '{near[0]}'?" if near else f"there are: {', '.join(PAGES)}",
        )
    page = resources.files("sf_tui.guide") / f"{topic}.md"
    return page.read_text(encoding="utf-8")


def _show(text: str) -> None:
    if not sys.stdout.isatty():
        write_line(text, end="")
        return
    # Deferred: a fifth of a second that a piped page does without.
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
        raise UsageError(f"no page of the guide has '{word}'", hint)
