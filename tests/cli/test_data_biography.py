import json
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from sf_tui.cli.data_biography import biography
from sf_tui.errors import UsageError

SMALL = ["--people", "12", "--tuned", "0.5", "--new-people", "3"]


@pytest.fixture
def app() -> typer.Typer:
    app = typer.Typer()
    app.command()(biography)
    return app


def test_the_summary_names_files_rows_and_guess_floors(app: typer.Typer, tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["--out", str(tmp_path / "out"), *SMALL])

    assert result.exit_code == 0
    assert "old-held-out.jsonl" in result.stdout
    assert "36 rows" in result.stdout
    assert "new-5" in result.stdout
    assert "company city 0." in result.stdout


def test_json_is_one_object_about_what_was_written(app: typer.Typer, tmp_path: Path) -> None:
    out = tmp_path / "out"
    result = CliRunner().invoke(app, ["--out", str(out), "--json", "--form", "other", *SMALL])

    summary = json.loads(result.stdout)
    assert summary["directory"] == str(out)
    assert summary["rows"]["new-1.jsonl"] == 18
    assert set(summary["guess_floor"]) == {"old", *(f"new-{number}" for number in range(1, 6))}
    first = json.loads((out / "new-1.jsonl").read_text().splitlines()[0])
    assert first["prompt"].startswith("Recall ")


def test_an_occupied_directory_is_a_usage_error(app: typer.Typer, tmp_path: Path) -> None:
    (tmp_path / "mine").touch()
    result = CliRunner().invoke(app, ["--out", str(tmp_path), *SMALL])

    assert isinstance(result.exception, UsageError)
    assert str(tmp_path) in result.exception.message


def test_an_unknown_form_is_a_usage_error(app: typer.Typer, tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["--out", str(tmp_path / "out"), "--form", "third", *SMALL])

    assert isinstance(result.exception, UsageError)
    assert "third" in result.exception.message
