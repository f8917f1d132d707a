"""A model that comes as a file of an installed package."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from sf_tui.errors import ProfileError
from sf_tui.profile import parse_profile
from sf_tui.profile.load import check_files
from sf_tui.profile.sources import package_file

TEXT = """\
name = "mine"
[model]
source = "{source}"
[[tasks]]
name = "old"
data = "biography:old"
[[tasks]]
name = "new"
data = "biography:new"
"""


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "shipped_model"
    folder.mkdir()
    # Finding the file must not run the package.
    (folder / "__init__.py").write_text("raise RuntimeError('imported')")
    (folder / "tiny.gguf").write_bytes(b"GGUF")
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    return folder


def test_the_file_is_found_without_importing_the_package(package: Path) -> None:
    assert package_file("package:shipped_model/tiny.gguf") == package / "tiny.gguf"
    profile = parse_profile(TEXT.format(source="package:shipped_model/tiny.gguf"))
    assert profile.model.source == str(package / "tiny.gguf")


@pytest.mark.parametrize(
    ("source", "hint"),
    [
        ("package:shipped_model/tyni.gguf", "did you mean 'package:shipped_model/tiny.gguf'?"),
        ("package:not_there_at_all/x.gguf", "pip install not-there-at-all"),
    ],
)
def test_what_is_not_installed_is_told_with_a_remedy(package: Path, source: str, hint: str) -> None:
    assert package.is_dir()
    problems = check_files(parse_profile(TEXT.format(source=source)))
    assert [problem.path for problem in problems] == [("model", "source")]
    assert hint in problems[0].hint


@pytest.mark.parametrize("source", ["package:name", "package:name/../tiny.gguf", "package:/x"])
def test_what_names_no_file_of_a_package_is_refused(source: str) -> None:
    with pytest.raises(ProfileError, match="names no file of a package"):
        parse_profile(TEXT.format(source=source))
