"""The doctor finds what would end a detached run or spoil the console, on any machine."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sf_tui.cli import doctor
from sf_tui.cli.doctor import (
    check_colors,
    check_disk,
    check_logout,
    check_runs_home,
    check_session,
    check_signs,
    read_logind,
)
from support import PATIENCE_S


def logind(root: Path, **files: str) -> Path:
    """Write logind's files below a root, by names in which `_` stands for `/`."""
    for name, text in files.items():
        path = root.joinpath(*name.split("__")).with_suffix(".conf")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


KILLS = "[Login]\n#KillUserProcesses=no\nKillUserProcesses=yes\n"


def test_a_machine_that_kills_what_is_left_at_logout_fails(tmp_path: Path) -> None:
    root = logind(tmp_path, etc__systemd__logind=KILLS)
    found = check_logout(root, "ada", {})
    assert found.level == "fail"
    assert "loginctl enable-linger ada" in found.remedy
    assert check_logout(root, "root", {}).level == "ok", "root is spared by default"


def test_a_user_who_lingers_is_told_how_to_start_runs(tmp_path: Path) -> None:
    root = logind(tmp_path, etc__systemd__logind=KILLS)
    linger = root / "var/lib/systemd/linger"
    linger.mkdir(parents=True)
    (linger / "ada").touch()
    found = check_logout(root, "ada", {})
    assert found.level == "warn"
    assert "systemd-run --user --scope sf run" in found.remedy


def test_later_settings_of_logind_win(tmp_path: Path) -> None:
    root = logind(
        tmp_path,
        usr__lib__systemd__logind="KillUserProcesses=yes\n",
        etc__systemd__logind="KillUserProcesses=yes\n",
        **{"etc__systemd__logind.conf.d__50-keep": "[Login]\nKillUserProcesses=no\n"},
    )
    assert read_logind(root)["KillUserProcesses"] == "no"
    assert check_logout(root, "ada", {}).level == "ok"


def test_users_outside_the_killed_ones_are_left_alone(tmp_path: Path) -> None:
    root = logind(tmp_path, etc__systemd__logind=KILLS + "KillOnlyUsers=eve mallory\n")
    assert check_logout(root, "ada", {}).level == "ok"
    assert check_logout(root, "eve", {}).level == "fail"


def test_a_machine_without_systemd_and_a_slurm_job_are_told_apart(tmp_path: Path) -> None:
    assert check_logout(tmp_path, "ada", {}).level == "ok"
    found = check_logout(tmp_path, "ada", {"SLURM_JOB_ID": "77"})
    assert found.level == "warn"
    assert "--no-ui" in found.remedy


@pytest.mark.parametrize(
    ("environ", "level"),
    [
        ({"TERM": "xterm-256color"}, "ok"),
        ({"TERM": "xterm", "COLORTERM": "truecolor"}, "ok"),
        ({"TERM": "screen"}, "warn"),
        ({}, "warn"),
        ({"TERM": "xterm-256color", "NO_COLOR": "1"}, "info"),
    ],
)
def test_colors_are_judged_by_what_the_console_needs(environ: dict[str, str], level: str) -> None:
    assert check_colors(environ).level == level


def test_the_session_says_what_a_dropped_link_means() -> None:
    assert "never the run" in check_session({"SSH_CONNECTION": "a b"}).found
    assert "tmux over SSH" in check_session({"TMUX": "x", "SSH_TTY": "y"}).found
    assert check_session({}).level == "ok"


def test_signs_need_a_utf8_locale() -> None:
    assert check_signs({"TERM": "xterm"}, "utf-8").level == "ok"
    assert check_signs({"TERM": "xterm"}, "ISO-8859-1").level == "warn"


def test_a_home_that_can_not_be_written_fails(tmp_path: Path) -> None:
    assert check_runs_home(tmp_path / "not" / "there" / "yet").level == "ok"
    found = check_runs_home(Path("/proc/1/nowhere"))
    assert found.level == "fail"
    assert "SF_HOME" in found.remedy


def test_checkpoints_that_do_not_fit_fail(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = check_disk("biography-tiny", tmp_path / "runs")
    assert found.level == "ok"
    assert "keeps up to 10 checkpoints" in found.found
    monkeypatch.setattr(doctor, "BYTES_A_PARAMETER", 10**12)
    assert check_disk("biography-tiny", tmp_path / "runs").level == "fail"
    assert check_disk("no-such-profile", tmp_path / "runs").level == "warn"


def test_the_doctor_prints_findings_and_its_exit_code_says_whether_all_is_well(
    run_sf: Callable[..., subprocess.CompletedProcess[str]],
) -> None:
    done = run_sf("doctor", "--profile", "biography-tiny", "--json")
    report: dict[str, Any] = json.loads(done.stdout)
    assert done.returncode == (0 if report["healthy"] else 1)
    checks = {finding["check"] for finding in report["findings"]}
    assert {"versions", "machine", "logging out", "colors", "signs", "runs", "disk"} <= checks
    assert all(finding["level"] in {"ok", "info", "warn", "fail"} for finding in report["findings"])
    text = run_sf("doctor", "--profile", "biography-tiny")
    assert "torch" in text.stdout


def test_the_doctor_imports_no_torch() -> None:
    code = (
        "import sys\nfrom sf_tui.cli.doctor import examine\nexamine('biography-tiny')\n"
        "print('torch' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=PATIENCE_S
    )
    assert done.stdout.strip() == "False"
