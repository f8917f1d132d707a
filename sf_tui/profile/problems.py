"""What is wrong with a profile, told together: each mistake with its place, key and remedy.

Knows where values came from (a line of the file, `--set`, `--seed`); knows nothing of what the
keys mean.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from sf_tui.errors import ProfileError, shorten
from sf_tui.masking import mask_url_logins
from sf_tui.printable import printable
from sf_tui.profile.locate import KeyLines, KeyPath

MOST_TOLD = 20
QUOTES_HINT = "put it into quotes: "


@dataclass(frozen=True)
class Problem:
    """One mistake.

    Args:
        path: the key it is about; its line is told, or that of what stands around it.
        text: what is wrong, after the table's name.
        hint: what to do about it; may be empty.
        table: how many parts of `path` name the table; default: all but the last.
    """

    path: KeyPath
    text: str
    hint: str = ""
    table: int | None = None

    @property
    def table_path(self) -> KeyPath:
        """The table that the mistake is in."""
        return self.path[:-1] if self.table is None else self.path[: self.table]


@dataclass
class Origin:
    """Where each value of a raw profile came from.

    Args:
        name: the file as the user named it.
        lines: the lines of its keys.
        raw: the profile as plain tables, with everything that was set from outside.
        options: for what was set from outside, the option as the user wrote it.
    """

    name: str
    lines: KeyLines
    raw: Mapping[str, Any]
    options: dict[KeyPath, str] = field(default_factory=dict)

    def option(self, path: KeyPath) -> str:
        """Return the option that a value came from, or "" when it stands in the file."""
        in_file, _ = self.lines.known(path)
        for length in range(len(path), 0, -1):
            if path[:length] in self.options and length >= len(in_file):
                return self.options[path[:length]]
        return ""

    def place(self, path: KeyPath) -> str:
        """Return `file:line` of a key, or the option that it came from."""
        return self.option(path) or f"{self.name}:{self.lines.line(path)}"

    def table_label(self, path: KeyPath) -> str:
        """Name a table as the file does: [train], [[tasks]] 'new', [[tasks]] 'new' train:."""
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

    def told(self, problem: Problem) -> str:
        """Return the line that tells a problem, without its hint."""
        option = self.option(problem.path)
        place = option or f"{self.name}:{self.lines.line(problem.path)}"
        # An option names the table already, unless the mistake is in another than its own.
        shown = not option or problem.table is not None
        label = self.table_label(problem.table_path) if shown else ""
        line = f"{place}: {label} {problem.text}" if label else f"{place}: {problem.text}"
        # Names may hold line breaks or a terminal's control characters.
        return shorten(mask_url_logins(printable(line, multiline=False)))

    def order(self, problem: Problem) -> tuple[bool, int]:
        """Sort key: what stands in the file by its line, then the options as they were given."""
        option = self.option(problem.path)
        if option:
            return True, list(self.options.values()).index(option)
        return False, self.lines.line(problem.path)


class ProfileProblemsError(ProfileError):
    """Several mistakes in one profile: a line each, the first with its remedy below it.

    Args:
        told: each mistake's line and hint.
    """

    def __init__(self, told: list[tuple[str, str]]) -> None:
        self.problems = told
        rest = [
            f"{line} ({hint})" if hint.startswith("did you mean") else line
            for line, hint in told[1:MOST_TOLD]
        ]
        if len(told) > MOST_TOLD:
            rest.append(f"… and {len(told) - MOST_TOLD} more")
        self.rest = rest
        super().__init__("\n".join([told[0][0], *rest]), told[0][1])

    def __str__(self) -> str:
        """Put the first mistake's remedy right below it."""
        first, hint = self.problems[0]
        return "\n".join([first, *([f"  {hint}"] if hint else []), *self.rest])


def _shell_hint(option: str, hint: str) -> str:
    """Quotes in an option are taken by the shell, so it needs a second pair around them."""
    if not option.startswith("--set") or not hint.startswith(QUOTES_HINT):
        return hint
    value = hint.partition(" = ")[2]
    return f"{QUOTES_HINT}--set '{option.removeprefix('--set ')}={value}'"


def _shown_hint(option: str, hint: str) -> str:
    return shorten(mask_url_logins(_shell_hint(option, hint)))


def raise_problems(origin: Origin, problems: list[Problem]) -> None:
    """Raise one ProfileError that tells all the problems, if there are any."""
    told: list[tuple[str, str]] = []
    for problem in sorted(problems, key=origin.order):
        line = origin.told(problem)
        if line not in [known for known, _ in told]:
            told.append((line, _shown_hint(origin.option(problem.path), problem.hint)))
    if len(told) == 1:
        raise ProfileError(*told[0])
    if told:
        raise ProfileProblemsError(told)


def problems_told(error: ProfileError) -> list[tuple[str, str]]:
    """Return each mistake that an error tells, with its hint."""
    if isinstance(error, ProfileProblemsError):
        return error.problems
    return [(error.message, error.hint)]
