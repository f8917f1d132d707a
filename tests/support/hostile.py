"""Text that steers a terminal, runs full of it, and what may and may not come out."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson

from sf_tui.vocabulary.events import Alert, Rewound
from tui.written_run import WrittenRun

IN_NAMES = (
    "\x1b]0;title\x07\x1b]52;c;QUJD\x07\x1b]52;c;QUJD\x1b\\\x1b[2J\x1b[35;45;5m\x1bP1$q\x1b\\"
    "\x1b_a\x1b\\\x1bXs\x1b\\\x1bc\x9b2J\x9d0;title\x9c\x90q\x9c\r\b\b\x7f\x85\x0b\x0c\x0e"
    "\u202e\u2066\u200f\u061c\u2028\u2029\u200b\ufeff\U000e0041"
)
"""What may stand in a file's name and in an argument."""
EVERYWHERE = IN_NAMES + "\x00[link=http://example.org]l[/link] 日本 👩\u200d🔬"
"""What may stand in a JSON text, rich's markup among it."""

# Words of the event log that readers compare with, and what names a file.
_STRUCTURE = {"type", "time", "id", "run", "status", "level", "state", "verdict", "kind", "op"}
_STRUCTURE |= {"action", "path", "host"}


def tainted(value: Any, hostile: str = EVERYWHERE, key: str = "") -> Any:
    """Return a value with hostile text in each of its strings and names."""
    if isinstance(value, str):
        return value if key in _STRUCTURE else value + hostile
    if isinstance(value, list):
        return [tainted(each, hostile, key) for each in value]
    if not isinstance(value, dict):
        return value
    own = {"accuracy", "metrics"}
    return {
        name + hostile if key in own and key != name else name: tainted(inner, hostile, name)
        if key not in own
        else inner
        for name, inner in value.items()
    }


def forge(written: WrittenRun) -> None:
    """Rewrite a run's event log with hostile text in every field that a person reads."""
    events: list[dict[str, Any]] = [
        orjson.loads(line) for line in written.run.events.read_bytes().splitlines()
    ]
    events[0]["precision"] = "fp32"
    written.run.events.write_bytes(b"".join(orjson.dumps(tainted(e)) + b"\n" for e in events))
    facts = orjson.loads(written.run.run_json.read_bytes())
    facts |= {"argv": ["sf", EVERYWHERE], "host": EVERYWHERE}
    written.run.run_json.write_bytes(orjson.dumps(facts))
    written.run.worker_log.write_bytes(f"{EVERYWHERE}\nwarning {EVERYWHERE}\n".encode() * 5)


def full_run(make_run: Callable[..., WrittenRun], name: str) -> WrittenRun:
    """Return a run with every kind of event, all of them hostile."""
    written = make_run(name)
    written.begin()
    written.begin_stage()
    written.name_neighbors()
    written.steps(1, 40)
    written.take_anchor(41)
    written.command("c-3", "rollback", "refused", 41, reason="no such checkpoint")
    written.diagnose(42)
    written.event(Rewound(stage="new", step=0, reason="r", lost=42))
    written.event(Alert(level="warn", code="x", message="m", stage="new", step=42))
    forge(written)
    return written


_CSI = re.compile(r"\x1b\[[0-9;?<>=]*\$?[A-Za-z]")
COLOR = re.compile(r"\x1b\[[0-9;]*m")


def steering(output: bytes | str, allowed: re.Pattern[str] | None = None) -> str:
    """Return all that steers a terminal in an output, besides the sequences that are allowed."""
    text = output.decode("utf-8", "surrogateescape") if isinstance(output, bytes) else output
    if allowed is not None:
        assert "\x1b[35;45;5m" not in text, "a color that is not ours"
        text = allowed.sub("", text)
    return "".join(
        sign
        for sign in text
        if sign not in "\n\t\u200c\u200d"
        and unicodedata.category(sign) in {"Cc", "Cf", "Cs", "Zl", "Zp"}
    )


def steering_beside_csi(output: bytes) -> str:
    """Return what steers in a console's output, in which CSI sequences are the console's own."""
    return steering(output, _CSI)


def write_folder(folder: Path) -> Path:
    """Return a new folder with a hostile name."""
    path = folder / f"d{IN_NAMES}"
    path.mkdir()
    return path
