"""`sf guide` and `sf profile schema`."""

from __future__ import annotations

import json
import re
from importlib import resources
from pathlib import Path
from typing import Any

import pytest
import tomli
from typer.main import get_command
from typer.testing import CliRunner

from sf_tui.cli.app import app
from sf_tui.cli.guide import PAGES, page_text
from sf_tui.errors import UsageError
from sf_tui.profile.reference import profile_reference
from sf_tui.profile.sources import builtin_profiles

ROOT = Path(__file__).parents[2]


def sf(*arguments: str) -> Any:
    return CliRunner().invoke(app, arguments)


def test_every_page_is_listed_and_every_listed_page_is_there() -> None:
    files = {
        entry.name.removesuffix(".md")
        for entry in resources.files("sf_tui.guide").iterdir()
        if entry.name.endswith(".md")
    }
    assert files == set(PAGES)
    listed = [line for line in sf("guide").stdout.splitlines() if line.startswith("  ")]
    assert [line.split()[0] for line in listed] == list(PAGES)


@pytest.mark.parametrize("topic", PAGES)
def test_a_piped_page_is_plain_markdown(topic: str) -> None:
    shown = sf("guide", topic)
    assert shown.exit_code == 0
    assert shown.stdout == page_text(topic)
    assert shown.stdout.startswith("# ")


def test_a_page_is_found_by_a_word_of_it() -> None:
    found = sf("guide", "--search", "requeue").stdout
    assert {"headless", "many-gpus"} <= {line.partition(":")[0] for line in found.splitlines()}
    with pytest.raises(UsageError, match="no page of the guide contains 'xyzzy'"):
        raise sf("guide", "--search", "xyzzy").exception


def test_an_unknown_page_names_the_nearest() -> None:
    error = sf("guide", "consol").exception
    assert isinstance(error, UsageError)
    assert error.hint == "did you mean 'console'?"


def test_the_profile_page_is_what_the_schema_says() -> None:
    assert page_text("profile") == profile_reference(), (
        "write it again: python -m sf_tui.profile.reference > sf_tui/guide/profile.md"
    )


def commands_of(command: Any, prefix: tuple[str, ...] = ()) -> set[tuple[str, ...]]:
    found = {prefix}
    for name, inner in getattr(command, "commands", {}).items():
        found |= commands_of(inner, (*prefix, name))
    return found


@pytest.mark.parametrize("page", [*PAGES, "README"])
def test_every_command_that_a_page_shows_exists(page: str) -> None:
    text = (ROOT / "README.md").read_text() if page == "README" else page_text(page)
    known = commands_of(get_command(app))
    groups = {command[0] for command in known if len(command) > 1}
    for first, second in re.findall(r"`?\bsf ([a-z]+)(?: ([a-z]+))?", text):
        assert (first,) in known or first in {"shows", "at", "is"}, f"{page}: sf {first}"
        if first in groups and second and (first, second) not in known:
            assert second in {"last"}, f"{page}: sf {first} {second}"


def test_readme_fits() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) <= 170


def test_the_json_schema_knows_every_key_of_the_built_in_profiles() -> None:
    schema = json.loads(sf("profile", "schema").stdout)
    tables = schema["$defs"]

    def table_of(part: dict[str, Any]) -> dict[str, Any]:
        for place in (part, *part.get("anyOf", ()), *part.get("allOf", ())):
            if "$ref" in place:
                return tables[place["$ref"].rpartition("/")[2]]
        return part

    def check(values: dict[str, Any], table: dict[str, Any]) -> None:
        for key, value in values.items():
            if "properties" not in table:
                continue
            assert key in table["properties"], key
            part = table["properties"][key]
            if isinstance(value, dict):
                check(value, table_of(part))
            elif isinstance(value, list) and value and isinstance(value[0], dict):
                for inner in value:
                    check(inner, table_of(part["items"]))

    for name, path in builtin_profiles().items():
        assert tomli.loads(Path(path).read_text())["name"] == name
        check(tomli.loads(Path(path).read_text()), schema)


@pytest.mark.parametrize("page", [*PAGES, "README"])
def test_every_module_that_a_page_names_exists(page: str) -> None:
    text = (ROOT / "README.md").read_text() if page == "README" else page_text(page)
    for path in re.findall(r"`((?:[a-z_]+/)+[a-z_]*(?:\.(?:py|tcss|md))?)`", text):
        assert (ROOT / "sf_tui" / path).exists() or (ROOT / path).exists(), f"{page}: {path}"


@pytest.mark.parametrize("page", [*PAGES, "README"])
def test_every_table_that_a_page_names_is_in_the_schema(page: str) -> None:
    text = (ROOT / "README.md").read_text() if page == "README" else page_text(page)
    known = set(re.findall(r"^## `\[+([a-zA-Z_.]+)\]+`", page_text("profile"), re.MULTILINE))
    known |= {"actions", "model.config", "train.NAME"}
    for table in re.findall(r"`\[+([a-z_]+(?:\.[a-zA-Z_]+)?)\]+[` ]", text):
        assert table in known, f"{page}: [{table}]"
