"""A replaced file is the old one or the new one, never a part."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from sf_tui.run.durable import replace_file


@pytest.mark.parametrize("durable", [True, False])
def test_content_is_exchanged_and_nothing_else_stays(tmp_path: Path, durable: bool) -> None:
    path = tmp_path / "file"
    for content in (b"one", b"another", b""):
        replace_file(path, content, durable=durable)
        assert path.read_bytes() == content
        assert list(tmp_path.iterdir()) == [path]


def test_full_disk_leaves_the_old_file(
    tmp_path: Path, largest_file: Callable[[int], AbstractContextManager[None]]
) -> None:
    path = tmp_path / "file"
    replace_file(path, b"old")
    with largest_file(10), pytest.raises(OSError, match="too large"):
        replace_file(path, b"x" * 100)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]
