"""What a benchmark found, and how it is shown: one table or one JSON object."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.table import Table


@dataclass(frozen=True)
class Figure:
    """One result."""

    name: str
    """Its key in the JSON object."""
    says: str
    """What it is, for people."""
    value: float
    wanted: str = ""
    """The bound that it should keep; empty where none is set."""


@dataclass(frozen=True)
class BenchReport:
    """The results of one benchmark."""

    bench: str
    figures: tuple[Figure, ...]
    conditions: dict[str, Any]
    """What it was measured on and with: model, threads, batch, repetitions, …"""
    measured: dict[str, Any]
    """What the figures were made of; times in seconds, sizes in bytes."""

    def as_json(self) -> dict[str, Any]:
        """Return the JSON object that scripts read: the figures by name, then the rest."""
        return {
            "bench": self.bench,
            **{figure.name: figure.value for figure in self.figures},
            "wanted": {figure.name: figure.wanted for figure in self.figures if figure.wanted},
            "conditions": self.conditions,
            "measured": self.measured,
        }

    def as_plain(self) -> dict[str, Any]:
        """Return all of it as JSON types, for `from_plain` on the other side of a pipe."""
        return asdict(self)

    @classmethod
    def from_plain(cls, plain: dict[str, Any]) -> BenchReport:
        """Take up what `as_plain` made."""
        return cls(
            plain["bench"],
            tuple(Figure(**figure) for figure in plain["figures"]),
            plain["conditions"],
            plain["measured"],
        )

    def as_table(self) -> Table:
        """Return the figures as a table, what they were measured on below it."""
        # Deferred: the measuring processes never draw.
        from rich.table import Table

        said = ", ".join(f"{name} {_short(value)}" for name, value in self.conditions.items())
        table = Table(title=f"sf bench {self.bench}", caption=said, box=None, pad_edge=False)
        table.add_column("figure", overflow="fold")
        table.add_column("what it is", overflow="fold")
        table.add_column("measured", justify="right")
        table.add_column("wanted")
        for figure in self.figures:
            table.add_row(figure.name, figure.says, _short(figure.value), figure.wanted)
        return table


def _short(value: Any) -> str:
    return f"{value:.3f}" if isinstance(value, float) else str(value)
