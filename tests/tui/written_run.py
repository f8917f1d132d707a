"""A run directory as a worker would leave it, with times that stand still."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import orjson

from sf_tui.run.directory import RunDirectory
from sf_tui.tui.options import ConsoleOptions

BEGAN = datetime(2026, 3, 1, 9, 30, tzinfo=UTC)
LAYERS = ("embeddings", "block-0", "block-1", "block-2", "block-3", "head")
PROFILE = """\
name = "biography-mini"

[window]
steps = 150
alert_drop = 0.2

[actions.freeze]
op = "freeze"
key = "f"
layers = 2
embeddings = true

[actions.unfreeze]
op = "unfreeze"
key = "u"

[actions.pause]
op = "pause"
key = "space"

[actions.resume]
op = "resume"
key = ""

[actions.checkpoint]
op = "checkpoint"
key = "c"

[actions.careful]
op = "checkpoint"
key = "v"
label = "careful save"
confirm = true

[actions.rollback]
op = "rollback"
key = "b"
confirm = true

[actions.stop]
op = "stop"
key = "k"
"""


class FakeClock:
    """A clock that goes on only when told."""

    def __init__(self, now: float = 1000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


class WrittenRun:
    """Writes the events of one run, one second apart, in the worker's words."""

    def __init__(self, path: Path, profile: str = PROFILE) -> None:
        self.run = RunDirectory.create(
            path, profile_text=profile, profile_name="biography-mini", argv=["sf", "run"]
        )
        self.seq = 0
        self.old, self.new = 0.995, 0.02
        self.frozen: tuple[str, ...] = ()
        self.drift = dict.fromkeys(LAYERS, 0.0)
        self.alive = False

    @property
    def now_s(self) -> float:
        """The time of the newest event in seconds since the epoch."""
        return (BEGAN + timedelta(seconds=self.seq)).timestamp()

    def event(self, type_: str, **fields: Any) -> dict[str, Any]:
        self.seq += 1
        time = (BEGAN + timedelta(seconds=self.seq)).isoformat().replace("+00:00", "Z")
        event = {"seq": self.seq, "time": time, "type": type_, **fields}
        with self.run.events.open("ab") as file:
            file.write(orjson.dumps(event) + b"\n")
        if self.alive:
            self.beat()
        return event

    def begin(self, *, stages: tuple[str, ...] = ("new",), steps: int = 300) -> None:
        self.event(
            "run_started",
            run=self.run.id,
            profile="biography-mini",
            model={"parameters": 1_052_160, "layers": 4},
            tasks=["old", *stages],
            watched=["old", *stages],
            metrics={task: "exact" for task in ("old", *stages)},
            stages=[{"stage": stage, "task": stage, "steps": steps} for stage in stages],
            device="cpu",
        )

    def begin_stage(
        self, stage: str = "new", *, steps: int = 300, known: tuple[str, ...] = ("old",)
    ) -> None:
        self.event(
            "stage_started",
            stage=stage,
            task=stage,
            strategy="seq",
            steps=steps,
            known=list(known),
        )
        if known:
            self.event("danger", stage=stage, step=0, state="entered", window=150)
        self.probe(0, stage)
        self.checkpoint(0, stage)

    def probe(self, step: int, stage: str = "new", **values: float) -> None:
        accuracy = {"old": self.old, stage: self.new} | values
        measures = {
            task: {"exact": value, "first_token": value, "token": value, "nll": 1 - value, "n": 64}
            for task, value in accuracy.items()
        }
        self.event(
            "probe",
            stage=stage,
            step=step,
            accuracy=measures,
            full=step == 0,
            drop=0.995 - accuracy["old"],
        )
        self.event(
            "drift",
            stage=stage,
            step=step,
            layers=[
                {"name": name, "relative_update": value, "frozen": name in self.frozen}
                for name, value in self.drift.items()
            ],
        )

    def checkpoint(self, step: int, stage: str = "new") -> None:
        name = f"step-{step:06d}"
        (self.run.checkpoints / stage / name).mkdir(parents=True)
        self.event(
            "checkpoint",
            stage=stage,
            step=step,
            path=f"checkpoints/{stage}/{name}",
            bytes=12_700_000,
        )

    def step(self, step: int, stage: str = "new", loss: float | None = None) -> None:
        self.event(
            "step",
            stage=stage,
            step=step,
            loss=5 * math.exp(-step / 40) + 0.05 if loss is None else loss,
            lr=4e-4 * min(1, step / 20),
            grad_norm=0.3 + 3 * math.exp(-step / 50),
            tokens_per_second=1450.0,
        )

    def steps(self, first: int, last: int, stage: str = "new") -> None:
        """Train from one step to another: the old task decays, the new one is learnt."""
        for step in range(first, last + 1):
            self.new += (1 - self.new) * 0.06
            if not self.frozen:
                self.old += (0.38 - self.old) * 0.035
            for index, name in enumerate(LAYERS):
                if name not in self.frozen:
                    self.drift[name] += 0.001 / (1 + index) * math.exp(-step / 120)
            self.step(step, stage)
            if step % 5 == 0 and step <= 150:
                self.probe(step, stage)
            if step == 15:
                self.event(
                    "alert",
                    level="warn",
                    code="drop",
                    message="'old' dropped by 25 points since the stage began",
                    stage=stage,
                    step=step,
                )
            if step % 100 == 0:
                self.checkpoint(step, stage)
            if step == 150:
                self.event("danger", stage=stage, step=step, state="left", window=150)

    def command(
        self, identity: str, action: str, status: str, step: int, stage: str = "new", **more: Any
    ) -> None:
        fields = {"by": "user", "reason": None, "value": None} | more
        op = {"careful": "checkpoint"}.get(action, action)
        self.event(
            "command",
            id=identity,
            action=action,
            op=op,
            status=status,
            stage=stage,
            step=step,
            **fields,
        )

    def freeze(self, step: int, stage: str = "new") -> None:
        self.command("c-1", "freeze", "accepted", step, stage)
        self.frozen = LAYERS[:3]
        self.command("c-1", "freeze", "done", step, stage)

    def beat(self, *, age_s: float = 0.0, host: str = "node-7") -> None:
        """Leave a heartbeat as a worker on another host would."""
        beat = {"time": self.now_s - age_s, "host": host, "pid": 4711}
        self.run.heartbeat.write_bytes(orjson.dumps(beat))
        self.alive = age_s == 0

    def options(self, **more: Any) -> ConsoleOptions:
        """Return options whose clocks stand at the newest event."""
        clock = FakeClock(self.now_s)
        return ConsoleOptions(zone=UTC, wall_clock=clock, steady_clock=FakeClock(), **more)
