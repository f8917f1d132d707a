"""The replay cursor: one step of the run whose values are shown instead of the newest."""

from __future__ import annotations

from sf_tui.tui.scene import RANGES, Scene


def move_by_probe(scene: Scene, direction: int) -> None:
    """Move the cursor to the probe before (-1) or after (+1); behind the last one is live."""
    curves = scene.record.curves
    x = scene.cursor
    if x is None:
        if direction > 0:
            return
        x = curves.end + 1
    found: list[int] = []
    for name, stage in curves.stages.items():
        offset = curves.offset(name)
        for series in stage.accuracy.values():
            step = (
                series.step_before(x - offset) if direction < 0 else series.step_after(x - offset)
            )
            if step is not None:
                found.append(offset + step)
    if found:
        scene.cursor = max(found) if direction < 0 else min(found)
    elif direction > 0:
        scene.cursor = None


def jump_to_mark(scene: Scene, direction: int) -> None:
    """Move the cursor to what happened before (-1) or next (+1); behind the last one is live."""
    jumps = scene.jumps()
    x = scene.cursor
    if direction < 0:
        before = [jump for jump in jumps if x is None or jump < x]
        scene.cursor = before[-1] if before else x
    elif x is not None:
        after = [jump for jump in jumps if jump > x]
        scene.cursor = after[0] if after else None


def look_closer(scene: Scene, direction: int) -> None:
    """Let the charts span fewer (+1) or more (-1) steps."""
    index = RANGES.index(scene.range) + direction
    scene.range = RANGES[min(max(index, 0), len(RANGES) - 1)]
