from __future__ import annotations

import io

from rich.console import Console

from sf_tui.bench.harness import BenchReport, Figure

REPORT = BenchReport(
    "speed",
    (Figure("ratio", "ours by theirs", 1.23456, "at least 1"), Figure("extra", "beside it", 2.0)),
    {"model": "starter:tiny", "threads": 1},
    {"seconds": 0.5},
)


def test_json_names_figures_at_the_top() -> None:
    assert REPORT.as_json() == {
        "bench": "speed",
        "ratio": 1.23456,
        "extra": 2.0,
        "wanted": {"ratio": "at least 1"},
        "conditions": {"model": "starter:tiny", "threads": 1},
        "measured": {"seconds": 0.5},
    }


def test_a_report_survives_the_way_through_a_pipe() -> None:
    assert BenchReport.from_plain(REPORT.as_plain()) == REPORT


def test_the_table_tells_figures_bounds_and_conditions() -> None:
    out = io.StringIO()
    Console(file=out, width=100).print(REPORT.as_table())
    text = out.getvalue()
    for part in ("ours by theirs", "1.235", "at least 1", "model starter:tiny", "threads 1"):
        assert part in text
