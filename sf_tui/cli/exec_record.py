"""The file that `sf exec` hands to a command, and the marks that the command's processes leave.

`exec.json` holds what was asked for; the environment variable SF_EXEC names it. The hook and the
callback write marks beside it, each once: `exec.json.started`, `.imported`, `.trainer`, `.failed`,
`.taken`. The folder is in SF_HOME, where the processes of other machines usually find it, too.
"""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

import sf_tui
from sf_tui.errors import RunError
from sf_tui.integrations.exec_marks import VARIABLE
from sf_tui.run.directory import new_run_id, runs_home

HOOK = Path(sf_tui.__file__).parent / "integrations" / "hook"

_ABANDONED_S = 30 * 24 * 3600

_NO_PYTHON = (
    "no Python of this command read PYTHONPATH",
    "`python -I`, `-E` and `-S`, `uv run --isolated`, `sudo` and containers drop it: "
    "give the Trainer SfCallback instead (`sf guide own-training`)",
)
_NO_TRAINER_MODULE = (
    "no Python of this command imported transformers' Trainer",
    "a loop of your own needs `sf_tui.watch`; where a launcher drops PYTHONPATH on the way "
    "(`python -I`, containers), give the Trainer SfCallback (`sf guide own-training`)",
)
_NO_TRAINER = (
    "transformers' Trainer was imported, but none was created",
    "a loop of your own needs `sf_tui.watch` (`sf guide own-training`)",
)
_NO_TRAINING = (
    "a Trainer was created, but it did not begin to train",
    "evaluation and prediction are not watched",
)


@dataclass(frozen=True)
class ExecRecord:
    """The record of one `sf exec`."""

    path: Path

    @classmethod
    def write(cls, facts: Mapping[str, Any]) -> ExecRecord:
        """Write a new record.

        Raises:
            RunError: SF_HOME can't be written.
        """
        home = runs_home().parent / "exec"
        folder = home / new_run_id("exec")
        try:
            home.mkdir(parents=True, exist_ok=True)
            _remove_abandoned(home)
            folder.mkdir(mode=0o700)
            path = folder / "exec.json"
            path.write_bytes(orjson.dumps(facts, option=orjson.OPT_INDENT_2))
        except OSError as error:
            raise RunError(
                f"{folder}: can't be written: {error.strerror or error}",
                "set SF_HOME to a folder that you can write",
            ) from error
        return cls(path)

    def environment(self, inherited: Mapping[str, str]) -> dict[str, str]:
        """Return the environment in which the command's Pythons load the hook."""
        rest = inherited.get("PYTHONPATH")
        found = f"{HOOK}:{rest}" if rest else str(HOOK)
        return {**inherited, "PYTHONPATH": found, VARIABLE: str(self.path)}

    def taken(self) -> str | None:
        """Return the run directory of the training that was watched, if one was."""
        text = self._mark("taken")
        if text is None:
            return None
        with suppress(orjson.JSONDecodeError):
            facts = orjson.loads(text)
            if isinstance(facts, dict) and isinstance(facts.get("run"), str):
                return str(facts["run"])
        return None

    def failure(self) -> tuple[str, str] | None:
        """Return what ended the watching, or kept it from beginning, and what to do about it."""
        failed = self._mark("failed")
        if failed is None:
            return None
        interpreter, _, reason = failed.partition("\n")
        return _failure(interpreter, reason)

    def why_not(self) -> tuple[str, str]:
        """Return why no training was watched, and what to do about it."""
        failed = self.failure()
        if failed is not None:
            return failed
        for kind, why in (
            ("trainer", _NO_TRAINING),
            ("imported", _NO_TRAINER),
            ("started", _NO_TRAINER_MODULE),
        ):
            if self._mark(kind) is not None:
                return why
        return _NO_PYTHON

    def remove(self) -> None:
        """Remove the record and its marks."""
        shutil.rmtree(self.path.parent, ignore_errors=True)

    def _mark(self, kind: str) -> str | None:
        try:
            return self.path.with_name(f"{self.path.name}.{kind}").read_text("utf-8", "replace")
        except OSError:
            return None


def _failure(interpreter: str, reason: str) -> tuple[str, str]:
    if reason.startswith("ModuleNotFoundError: No module named 'sf_tui"):
        return (
            f"sf is not installed for {interpreter}, which runs the training "
            f"(this sf belongs to {sys.executable})",
            f"{interpreter} -m pip install sf-tui",
        )
    if reason.startswith(("ModuleNotFoundError", "ImportError")):
        return (
            f"{interpreter} can't import sf: {reason}",
            f"{interpreter} -m pip install sf-tui  brings what is missing",
        )
    return reason, f"the training ran without sf in {interpreter}"


def _remove_abandoned(home: Path) -> None:
    """Remove what killed calls left; no training of today takes that long to begin."""
    oldest = time.time() - _ABANDONED_S
    for folder in home.iterdir():
        with suppress(OSError):
            if folder.stat().st_mtime < oldest:
                shutil.rmtree(folder)


def command_words(command: Sequence[str]) -> list[str]:
    """Return a command as JSON can represent it: bytes that are not UTF-8 are escaped."""
    return [word.encode("utf-8", "backslashreplace").decode() for word in command]
