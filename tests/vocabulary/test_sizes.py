"""A size is written in the nearest unit."""

from __future__ import annotations

import pytest

from sf_tui.vocabulary.sizes import format_bytes


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (None, "–"),
        (999, "999 B"),
        (12_700_000, "12.7 MB"),
        (999_500, "1.0 MB"),
        (150e9, "150 GB"),
        (4.2e12, "4.2 TB"),
        (2**63, "9.2 EB"),
        (1e22, "10000 EB"),
    ],
)
def test_a_size_is_written_in_the_nearest_unit(count: float | None, text: str) -> None:
    assert format_bytes(count) == text
