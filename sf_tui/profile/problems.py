"""Mistakes in a profile, reported together: each with its position, key and remedy.

Knows where a value came from (a line of the file, `--set`, `--seed`), but not what a key means.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from sf_tui.errors import ProfileError, shorten
from sf_tui.masking import mask_url_logins
from sf_tui.printable import printable
from sf_tui.profile.locate import KeyLines, KeyPath

MOST_LISTED = 20
QUOTES_HINT = "put it into quotes: "


@dataclass(frozen=True)
class Problem:
    """One mistake.

    Args:
        path: its key; the report gives the key's line, or that of the innermost table around it.
        text: what is wrong; the report prefixes the table's name.
        hint: what to do about it; may be empty.
        table: number of parts of `path` that name the table; default: all but the last.
    """

    path: KeyPath
    text: str
    hint: str = ""
    table: int | None = None

    @property
    def table_path(self) -> KeyPath:
        """The table with the mistake."""
        return self.path[:-1] if self.table is None else self.path[: self.table]


@dataclass
class Origin:
    """Where each value of a raw profile came from.

    Args:
        name: the file's name as the user gave it.
        lines: the lines of its keys.
        raw: the profile as plain tables, with options applied.
        options: the command-line options by the key that they set, as the user wrote them.
    """

    name: str
    lines: KeyLines
    raw: Mapping[str, Any]
    options: dict[KeyPath, str] = field(default_factory=dict)

    def option(self, path: KeyPath) -> str:
        """Return the option that set a value, or "" if it is from the file."""
        in_file, _ = self.lines.known(path)
        for length in range(len(path), 0, -1):
            if path[:length] in self.options and length >= len(in_file):
                return self.options[path[:length]]
        return ""

    def place(self, path: KeyPath) -> str:
        """Return `file:line` of a key, or the option that set it."""
        return self.option(path) or f"{self.name}:{self.lines.line(path)}"

    def table_label(self, path: KeyPath) -> str:
        """Return a table's label: [train], [[tasks]] 'new', [[tasks]] 'new' train:."""
        if not path:
            return ""
        places = [spot for spot, part in enumerate(path) if isinstance(part, int)]
        if not places:
            return f"[{'.'.join(map(str, path))}]"
        first = places[0]
        label = f"[[{'.'.join(map(str, path[:first]))}]] {self._element_name(path[: first + 1])}"
        below = path[first + 1 :]
        return f"{label} {'.'.join(map(str, below))}:" if below else label

    def _element_name(self, path: KeyPath) -> str:
        value: Any = self.raw
        for part in path:
            try:
                value = value[part]
            except (KeyError, IndexError, TypeError):
                value = None
                break
        name = value.get("name") if isinstance(value, dict) else None
        number = path[-1]
        assert isinstance(number, int)
        return f"'{name}'" if isinstance(name, str) and name else f"number {number + 1}"

    def report_line(self, problem: Problem) -> str:
        """Return the line of the report for a problem, without its hint."""
        option = self.option(problem.path)
        place = option or f"{self.name}:{self.lines.line(problem.path)}"
        # An option already names the table, unless the mistake is in another one.
        shown = not option or problem.table is not None
        label = self.table_label(problem.table_path) if shown else ""
        line = f"{place}: {label} {problem.text}" if label else f"{place}: {problem.text}"
        # Names may contain line breaks and control characters.
        return shorten(mask_url_logins(printable(line, multiline=False)))

    def order(self, problem: Problem) -> tuple[bool, int]:
        """Sort key: mistakes in the file by line, then those in options in their order."""
        option = self.option(problem.path)
        if option:
            return True, list(self.options.values()).index(option)
        return False, self.lines.line(problem.path)


class ProfileProblemsError(ProfileError):
    """Several mistakes in one profile: one line each, the first with its remedy below it.

    Args:
        problems: each mistake's line and hint.
    """

    def __init__(self, problems: list[tuple[str, str]]) -> None:
        self.problems = problems
        rest = [
            f"{line} ({hint})" if hint.startswith("did you mean") else line
            for line, hint in problems[1:MOST_LISTED]
        ]
        if len(problems) > MOST_LISTED:
            rest.append(f"… and {len(problems) - MOST_LISTED} more")
        self.rest = rest
        super().__init__("\n".join([problems[0][0], *rest]), problems[0][1])

    def __str__(self) -> str:
        """Return the mistakes with the first one's remedy below it."""
        first, hint = self.problems[0]
        return "\n".join([first, *([f"  {hint}"] if hint else []), *self.rest])


def _shell_hint(option: str, hint: str) -> str:
    """Add the outer quotes that an option needs, because the shell removes the inner ones."""
    if not option.startswith("--set") or not hint.startswith(QUOTES_HINT):
        return hint
    value = hint.partition(" = ")[2]
    return f"{QUOTES_HINT}--set '{option.removeprefix('--set ')}={value}'"


def _shown_hint(option: str, hint: str) -> str:
    return shorten(mask_url_logins(_shell_hint(option, hint)))


def raise_problems(origin: Origin, problems: list[Problem]) -> None:
    """Raise one ProfileError that reports all problems, if there are any."""
    lines: list[tuple[str, str]] = []
    for problem in sorted(problems, key=origin.order):
        line = origin.report_line(problem)
        if line not in [known for known, _ in lines]:
            lines.append((line, _shown_hint(origin.option(problem.path), problem.hint)))
    if len(lines) == 1:
        raise ProfileError(*lines[0])
    if lines:
        raise ProfileProblemsError(lines)


def problems_in(error: ProfileError) -> list[tuple[str, str]]:
    """Return each mistake of an error with its hint."""
    if isinstance(error, ProfileProblemsError):
        return error.problems
    return [(error.message, error.hint)]
