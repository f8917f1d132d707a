"""`sf profile list|show|check|init`."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from sf_tui.cli.profile_commands import app
from sf_tui.errors import DataError, ProfileError, UsageError
from sf_tui.profile import load_profile


def sf_profile(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.mark.usefixtures("installation")
def test_list_tells_name_description_model_and_tasks() -> None:
    result = sf_profile("list")
    assert result.exit_code == 0
    assert result.stdout == ("scene\n  a scene\n  model starter:biography-mini · tasks old, new\n")
    assert json.loads(sf_profile("list", "--json").stdout) == [
        {
            "name": "scene",
            "description": "a scene",
            "model": "starter:biography-mini",
            "tasks": ["old", "new"],
        }
    ]


@pytest.mark.usefixtures("installation")
def test_show_prints_a_profile_that_loads_to_the_same(tmp_path: Path) -> None:
    result = sf_profile("show", "scene", "--set", "train.steps=7", "--seed", "5")
    assert result.exit_code == 0
    path = tmp_path / "shown.toml"
    path.write_text(result.stdout)
    assert load_profile(path) == load_profile("scene", ["train.steps=7"], seed=5)
    shown = json.loads(sf_profile("show", "scene", "--json").stdout)
    assert shown["train"]["steps"] == 300


@pytest.mark.usefixtures("installation")
def test_check_says_what_the_profile_would_do() -> None:
    result = sf_profile(
        "check", "scene", "--quick", "--set", "replay_stage.steps=9", "--set", "train.epochs=2"
    )
    assert result.exit_code == 0
    assert result.stdout == (
        "scene: ok\n"
        "  model   starter:biography-mini\n"
        "  task    old: biography:old, metric auto\n"
        "  task    new: biography:new, metric auto\n"
        "  stage   new: seq, 2 epochs of 16 examples at 1e-05; old data: none\n"
        "  stage   replay: seq, 9 steps of 16 examples at 1e-05; old data: every training "
        "example of 'old'\n"
    )
    told = json.loads(sf_profile("check", "scene", "--quick", "--json").stdout)
    assert told["ok"] is True
    assert told["stages"] == [
        {
            "name": "new",
            "task": "new",
            "strategy": "seq",
            "old_data_access": "none",
            "steps": 300,
            "epochs": None,
        }
    ]


@pytest.mark.usefixtures("installation")
def test_check_tells_every_mistake() -> None:
    result = sf_profile("check", "scene", "--set", "train.stepz=7", "--set", "seed=x", "--json")
    assert isinstance(result.exception, ProfileError)
    assert result.exception.exit_code == 2
    told = json.loads(result.stdout)
    assert told["ok"] is False
    assert [error["message"].split(":")[0] for error in told["errors"]] == [
        "--set train.stepz",
        "--set seed",
    ]
    assert told["errors"][0]["hint"] == "did you mean 'steps'?"


@pytest.mark.usefixtures("installation")
def test_anchored_profile_is_shown_and_checked(tmp_path: Path) -> None:
    options = ["train.strategy=anchor", "anchor.strength=2", "neighbors.kinds.random_tokens=0"]
    given = [part for option in options for part in ("--set", option)]
    shown = tmp_path / "shown.toml"
    shown.write_text(sf_profile("show", "scene", *given).stdout)
    assert load_profile(shown) == load_profile("scene", options)
    told = json.loads(sf_profile("show", shown, "--json").stdout)
    assert told["anchor"]["strength"] == 2.0
    assert told["neighbors"]["kinds"]["random_tokens"] == 0.0
    checked = sf_profile("check", shown, "--quick", "--set", "tasks.old.watch=false")
    assert (
        "  stage   new: anchor, 300 steps of 16 examples at 1e-05; old data: none\n"
        in checked.stdout
    )
    assert (
        "  note    stage 'new' is trained with 'anchor' and no earlier task is watched"
        in checked.stdout
    )


@pytest.mark.usefixtures("installation")
def test_check_misses_the_diagnosis_files() -> None:
    result = sf_profile("check", "scene", "--set", "diagnose.control=/no/such.csv")
    assert isinstance(result.exception, ProfileError)
    assert result.exception.message == (
        "--set diagnose.control: control: there is no file /no/such.csv"
    )


def test_check_misses_a_file(tmp_path: Path) -> None:
    path = tmp_path / "sf.toml"
    path.write_text(
        'name = "a"\nmodel.source = "org/model"\n'
        '[[tasks]]\nname = "a"\ndata = "a.csv"\nlearn = true\n'
    )
    result = sf_profile("check", path)
    assert isinstance(result.exception, ProfileError)
    assert result.exception.message.startswith(f"{path}:5: [[tasks]] 'a' data: there is no file")


def test_init_writes_a_profile_that_passes_check(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    llama_directory: Path,
    two_schemas: tuple[Path, Path],
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(llama_directory, tmp_path / "model")
    shutil.copy(two_schemas[0], tmp_path / "old.jsonl")
    (tmp_path / "sub").mkdir()
    for out in ("sf.toml", "sub/my profile.toml"):
        result = sf_profile(
            *("init", "--model", "model", "--old", "old.jsonl"),
            *("--new", two_schemas[1], "--out", out),
        )
        assert result.exit_code == 0, result.exception
        assert result.stdout == ""
        assert f"wrote {out}" in result.stderr
        assert sf_profile("check", out, "--quick").exit_code == 0
    assert 'data = "./old.jsonl"' in (tmp_path / "sf.toml").read_text()
    profile = load_profile(tmp_path / "sub" / "my profile.toml")
    assert profile.name == "my-profile"
    assert profile.model.source == str(tmp_path / "model")
    assert [task.data for task in profile.tasks] == [
        str(tmp_path / "old.jsonl"),
        str(two_schemas[1]),
    ]
    assert profile.train.learning_rate == 0.0025  # 0.08 / 32


def test_check_reports_rows_cost_and_warnings(
    tmp_path: Path, llama_directory: Path, two_schemas: tuple[Path, Path]
) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(
        f'name = "mine"\nmodel.source = "{llama_directory}"\n'
        f'[[tasks]]\nname = "old"\ndata = "{two_schemas[0]}"\n'
        f'[[tasks]]\nname = "new"\ndata = "{two_schemas[1]}"\n'
        "[train]\nlearning_rate = 1e-5\nsteps = 300\n"
    )
    result = sf_profile("check", path)
    assert result.exit_code == 0, result.exception
    lines = result.stdout.splitlines()
    assert any("llama" in line and "hidden size 32" in line for line in lines)
    assert any("16 rows: 14 safe examples, 2 held out" in line for line in lines)
    assert any("16 rows: 14 to train on, 2 held out" in line for line in lines)
    assert any("300 steps, 343 epochs" in line and "tokens" in line for line in lines)
    assert any(line.startswith("  cost") and "memory" in line for line in lines)
    warned = [line for line in lines if line.startswith("  warn")]
    assert any("learning_rate = 1e-05 is 250 times below" in line for line in warned)
    assert any("'old' holds out 2 of 16 rows: too few for a verdict" in line for line in warned)
    assert any("times: lower steps" in line for line in warned)
    (unknown,) = [line for line in warned if "does not know it as it is asked" in line]
    assert unknown.count("asked: ") == unknown.count("the model answers: ") == 2

    told = json.loads(sf_profile("check", path, "--json").stdout)
    assert [facts["held_out"] for facts in told["data"]] == [2, 2]
    assert told["estimate"]["stages"][0]["epochs"] == pytest.approx(300 * 16 / 14)
    assert told["estimate"]["disk_bytes"] > 0
    assert (told["start"][0]["task"], told["start"][0]["known"]) == ("old", False)
    assert [f"  warn    {text}" for text in told["warnings"]] == warned
    quick = json.loads(sf_profile("check", path, "--no-measure", "--json").stdout)
    assert quick["start"] == []


def test_check_names_the_row_that_cannot_be_used(tmp_path: Path, llama_directory: Path) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"prompt": "a", "completion": "b"}\n{"prompt": 1, "completion": "b"}\n')
    path = tmp_path / "mine.toml"
    path.write_text(
        f'name = "mine"\nmodel.source = "{llama_directory}"\n'
        f'[[tasks]]\nname = "new"\ndata = "{rows}"\nlearn = true\n'
    )
    result = sf_profile("check", path, "--json")
    assert isinstance(result.exception, DataError)
    assert "rows.jsonl:2" in json.loads(result.stdout)["errors"][0]["message"]


@pytest.mark.usefixtures("installation")
def test_init_alone_is_the_built_in_experiment(tmp_path: Path) -> None:
    out = tmp_path / "mine.toml"
    assert sf_profile("init", "--out", out, "--name", "Mine").exit_code == 0
    assert sf_profile("check", out, "--quick").exit_code == 0
    profile = load_profile(out)
    assert profile.name == "Mine"
    assert (profile.train.learning_rate, profile.train.batch_size) == (4e-4, 48)
    assert profile.train.steps == 300


@pytest.mark.usefixtures("installation")
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--out", "there.toml"], "there.toml: already exists"),
        (["--out", "no/where.toml"], "no/where.toml: there is no directory no"),
        (["--old", "there.toml"], "--model and --new are missing"),
        (
            ["--model", "a/b", "--old", "x.jsonl", "--new", "a/b"],
            "--old x.jsonl: there is no such file",
        ),
        (["--out", "x" * 300], f"{'x' * 300}: can't be written: file name too long"),
        (["--name", "a/b"], "--name a/b: can't be a profile's name"),
    ],
)
def test_init_refuses(
    arguments: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "there.toml").write_text("mine")
    result = sf_profile("init", *arguments)
    assert isinstance(result.exception, UsageError)
    assert result.exception.message == message
    assert result.exception.hint
    assert [path.read_text() for path in tmp_path.iterdir() if path.is_file()] == ["mine"]


def test_module_brings_in_nothing_heavy() -> None:
    script = (
        "import sys, sf_tui.cli.profile_commands\n"
        "print(*sorted({'pydantic', 'tomli', 'tomlkit', 'rich', 'torch'} & set(sys.modules)))"
    )
    result = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == ""
