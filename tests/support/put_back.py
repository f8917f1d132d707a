"""A run directory as a kill would have left it."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import orjson

from sf_tui.run.directory import RunDirectory
from support.quick_run import (
    events_of,
)


def put_back(run: RunDirectory, path: Path, count: int, *, late: bool) -> RunDirectory:
    """Make the directory as a kill would have left it when `count` events stood in the log.

    Args:
        run: the finished run.
        path: where to.
        count: events in the log.
        late: the worker had come further than it had told: the next checkpoint is there already.
    """
    events = events_of(run)[:count]
    path.mkdir()
    shutil.copy(run.run_json, path)
    shutil.copy(run.profile, path)
    (path / "lock").touch()
    (path / "heartbeat").write_bytes(run.heartbeat.read_bytes())
    lines = [orjson.dumps(event) + b"\n" for event in events]
    torn = b'{"seq":' if late else b""
    (path / "events.jsonl").write_bytes(b"".join(lines) + torn)
    answered = {event["id"] for event in events if event["type"] == "command"}
    commands = run.commands.read_bytes().splitlines(keepends=True)
    kept = [line for line in commands if orjson.loads(line)["id"] in answered]
    (path / "commands.jsonl").write_bytes(b"".join(kept))
    folders = run.checkpoints.glob("*/*")
    states = [(orjson.loads((folder / "state.json").read_bytes()), folder) for folder in folders]
    for state, folder in sorted(states, key=lambda one: one[0]["seq"]):
        if state["seq"] + (not late) > count:
            continue
        voided = next(
            event["seq"]
            for event in [*events_of(run), {"type": "rewound", "seq": 10**9, "reason": "rollback"}]
            if event["type"] == "rewound"
            and event["seq"] > state["seq"]
            and event["reason"] == "rollback"
            and (event["seq"] == 10**9 or event["stage"] == state["stage"])
            and (
                event.get("step", -1) < state["step"]
                # Back to before an edit at this very step: the other one was kept beside it.
                or (event["step"] == state["step"] and event["checkpoint"] != folder.name)
            )
        )
        name, mark, _ = folder.name.partition("~")
        # From before an edit: it was kept beside the checkpoint that was written after it.
        kept_beside = any(
            after["stage"] == state["stage"]
            and after["step"] == state["step"]
            and state["seq"] < after["seq"] <= count - (not late)
            for after, _ in states
        )
        # A rollback tells first and puts aside then.
        aside = mark and (kept_beside or count > voided or (count == voided and not late))
        target = path / "checkpoints" / state["stage"] / (folder.name if aside else name)
        if target.exists():
            # Of this step there was one with other weights, from before they were mended.
            target.rename(target.with_name(f"{name}~9"))
        shutil.copytree(folder, target, copy_function=os.link)
    return RunDirectory(path)
