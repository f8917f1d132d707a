"""A run directory as a worker would leave it, with times that stand still."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import orjson

from sf_tui.run.directory import RunDirectory
from sf_tui.tui.terminal import ConsoleOptions
from sf_tui.vocabulary.declared import (
    AnchorState,
    ArmRecord,
    DiagnosisCost,
    LayerDrift,
    ModelFacts,
    PlannedStage,
    RiskGroupRecord,
)
from sf_tui.vocabulary.events import (
    Alert,
    CheckpointWritten,
    CommandAnswered,
    Danger,
    DiagnosisMade,
    Drift,
    Event,
    Probe,
    RunStarted,
    StageStarted,
    Step,
    TasksAtRisk,
    event_object,
)

BEGAN = datetime(2026, 3, 1, 9, 30, tzinfo=UTC)
LAYERS = ("embeddings", "block-0", "block-1", "block-2", "block-3", "head")
FRAMES = ("What is the capital of … ?", "Which river runs through … ?", "Who rules … ?")
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

[actions.anchor]
op = "anchor"
key = "a"

[actions.unanchor]
op = "unanchor"
key = "o"

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

[actions.diagnose]
op = "diagnose"
key = "d"
thorough = false

[actions.recover]
op = "recover"
key = "r"
examples = 10
steps = 20
confirm = true

[actions.interpolate]
op = "interpolate"
confirm = true
keep = 0.7

[actions.shift-edit]
op = "shift-edit"
confirm = true
alpha = 1.0

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
        self.waited_s = 0
        self.old, self.new = 0.995, 0.02
        self.frozen: tuple[str, ...] = ()
        self.anchor: AnchorState | None = None
        self.drift = dict.fromkeys(LAYERS, 0.0)
        self.alive = False

    @property
    def now_s(self) -> float:
        """The time of the newest event in seconds since the epoch."""
        return (BEGAN + timedelta(seconds=self.seq + self.waited_s)).timestamp()

    def event(self, event: Event) -> None:
        """Write an event as a worker would."""
        self.write(event_object(event))

    def write(self, line: dict[str, Any]) -> None:
        """Write the object of an event, whatever is in it, with the next number and its time."""
        self.seq += 1
        time = (
            (BEGAN + timedelta(seconds=self.seq + self.waited_s)).isoformat().replace("+00:00", "Z")
        )
        with self.run.events.open("ab") as file:
            file.write(orjson.dumps(line | {"seq": self.seq, "time": time}) + b"\n")
        if self.alive:
            self.beat()

    def begin(self, *, stages: tuple[str, ...] = ("new",), steps: int = 300) -> None:
        self.event(
            RunStarted(
                run=self.run.id,
                profile="biography-mini",
                model=ModelFacts(parameters=1_052_160, layers=4),
                tasks=["old", *stages],
                watched=["old", *stages],
                metrics={task: "exact_match" for task in ("old", *stages)},
                stages=[PlannedStage(stage, stage, steps) for stage in stages],
                device="cpu",
            )
        )

    def begin_stage(
        self,
        stage: str = "new",
        *,
        steps: int = 300,
        known: tuple[str, ...] = ("old",),
        probes: dict[str, float] | None = None,
        refused: dict[str, str] | None = None,
    ) -> None:
        self.event(
            StageStarted(
                stage=stage,
                task=stage,
                strategy="seq",
                steps=steps,
                known=list(known),
                anchor=self.anchor,
                refused=refused or {},
            )
        )
        if known:
            self.event(Danger(stage=stage, step=0, state="entered", window=150))
        if probes is None:
            self.probe(0, stage)
        else:
            self.probe_all(0, stage, probes)
        self.checkpoint(0, stage)

    def probe_all(self, step: int, stage: str, values: dict[str, float]) -> None:
        """Probe every task, with the values given."""
        metrics = {task: {"exact_match": value, "n": 100} for task, value in values.items()}
        self.event(Probe(stage=stage, step=step, metrics=metrics, full=step == 0))

    def probe(self, step: int, stage: str = "new", **values: float) -> None:
        accuracy = {"old": self.old, stage: self.new} | values
        measures = {
            task: {
                "exact_match": value,
                "first_token_accuracy": value,
                "token_accuracy": value,
                "nll": 1 - value,
                "n": 64,
            }
            for task, value in accuracy.items()
        }
        self.event(
            Probe(
                stage=stage,
                step=step,
                metrics=measures,
                full=step == 0,
                drop=0.995 - accuracy["old"],
            )
        )
        self.event(
            Drift(
                stage=stage,
                step=step,
                layers=[
                    LayerDrift(name, value, name in self.frozen)
                    for name, value in self.drift.items()
                ],
            )
        )

    def checkpoint(self, step: int, stage: str = "new") -> None:
        name = f"step-{step:06d}"
        (self.run.checkpoints / stage / name).mkdir(parents=True)
        self.event(
            CheckpointWritten(
                stage=stage, step=step, path=f"checkpoints/{stage}/{name}", bytes=12_700_000
            )
        )

    def step(self, step: int, stage: str = "new", loss: float | None = None) -> None:
        self.event(
            Step(
                stage=stage,
                step=step,
                loss=5 * math.exp(-step / 40) + 0.05 if loss is None else loss,
                learning_rate=4e-4 * min(1, step / 20),
                grad_norm=0.3 + 3 * math.exp(-step / 50),
                tokens_per_second=1450.0,
                losses={} if self.anchor is None else {"anchor": 0.012},
            )
        )

    def steps(self, first: int, last: int, stage: str = "new") -> None:
        """Train from one step to another: the old task decays, the new one is learnt."""
        for step in range(first, last + 1):
            self.new += (1 - self.new) * 0.06
            if self.anchor is not None:
                self.old += (0.93 - self.old) * 0.03
            elif not self.frozen:
                self.old += (0.38 - self.old) * 0.035
            for index, name in enumerate(LAYERS):
                if name not in self.frozen:
                    self.drift[name] += 0.001 / (1 + index) * math.exp(-step / 120)
            self.step(step, stage)
            if step % 5 == 0 and step <= 150:
                self.probe(step, stage)
            if step == 15:
                self.event(
                    Alert(
                        level="warn",
                        code="drop",
                        message="'old' dropped by 25 points since the stage began",
                        stage=stage,
                        step=step,
                    )
                )
            if step % 100 == 0:
                self.checkpoint(step, stage)
            if step == 150:
                self.event(Danger(stage=stage, step=step, state="left", window=150))

    def command(
        self, identity: str, action: str, status: str, step: int, stage: str = "new", **more: Any
    ) -> None:
        fields: dict[str, Any] = {"by": "ana@gpu7 pts/3"} | more
        op = {"careful": "checkpoint"}.get(action, action)
        self.event(
            CommandAnswered(
                id=identity, action=action, op=op, status=status, stage=stage, step=step, **fields
            )
        )

    def freeze(self, step: int, stage: str = "new") -> None:
        self.command("c-1", "freeze", "accepted", step, stage)
        self.frozen = LAYERS[:3]
        self.command("c-1", "freeze", "done", step, stage)

    def take_anchor(self, step: int, stage: str = "new", strength: float = 1.0) -> None:
        arguments = {"strength": strength}
        self.command("c-2", "anchor", "accepted", step, stage, arguments=arguments)
        self.anchor = AnchorState(strength)
        self.command("c-2", "anchor", "done", step, stage, arguments=arguments)

    def name_neighbors(self, stage: str = "new", *frames: str) -> None:
        """Tell what the start model names beside the new task, as a worker does at step 0."""
        kinds = [("slot", "What is the currency of … ?")]
        kinds += [("other_template", frame) for frame in frames or FRAMES]
        self.event(
            TasksAtRisk(
                stage=stage,
                step=0,
                prompts=512,
                seconds=2.5,
                tokens=9000,
                groups=[
                    RiskGroupRecord(frame, kind, frame.replace("…", "Peru"), -2.0 - index / 4, 40)
                    for index, (kind, frame) in enumerate(kinds)
                ],
            )
        )

    def diagnose(self, step: int, stage: str = "new", **more: Any) -> None:
        """Tell a recovery test of three arms that brings nearly all back."""
        start, now, recovered = 0.995, self.old, 0.951
        arms = {
            name: ArmRecord(
                recovered=value,
                control=control,
                steps=steps,
                seconds=seconds,
                tokens=240_000,
                learning_rate=4e-4,
                floor=0.04,
                allowed=control <= 0.04,
            )
            for name, value, control, steps, seconds in (
                ("examples", 0.56, 0.02, 20, 9.4),
                ("neighbors", recovered, 0.017, 40, 21.3),
                ("unrelated", 0.61, 0.085, 30, 12.0),
            )
        }
        arms["edit"] = ArmRecord(skipped="no weights of the stage's start")
        fields: dict[str, Any] = {
            "verdict": "spurious",
            "task": "old",
            "start": start,
            "now": now,
            "recovered": recovered,
            "alignment_loss": recovered - now,
            "knowledge_loss": start - recovered,
            "spurious_share": (recovered - now) / (start - now),
            "real_share": (start - recovered) / (start - now),
            "interval": [0.88, 0.957],
            "recovered_interval": [0.93, 0.968],
            "drop_interval": [0.51, 0.602],
            "examples": 10,
            "held_out": 590,
            "steps": 40,
            "seconds": 42.7,
            "tokens": 720_000,
            "cost": DiagnosisCost(),
            "closed": True,
            "evidence": [
                f"The old task was at {start} at the start and is at {now:.3f} now.",
                "'neighbors' brings it to 0.951 (0.930 to 0.968) in 40 steps.",
                "Even the lower end of that accuracy is at least 0.9 of the start: the knowledge "
                "is there.",
            ],
            "arm": "neighbors",
            "arms": arms,
        }
        self.event(DiagnosisMade(stage=stage, step=step, **fields | more))

    def beat(
        self, *, age_s: float = 0.0, host: str = "node-7", began_s: float | None = None
    ) -> None:
        """Leave a heartbeat as a worker on another host would."""
        beat = {"time": self.now_s - age_s, "host": host, "pid": 4711}
        if began_s is not None:
            beat["began"] = began_s
        self.run.heartbeat.write_bytes(orjson.dumps(beat))
        self.alive = age_s == 0

    def options(self, **more: Any) -> ConsoleOptions:
        """Return options whose clocks stand at the newest event."""
        clock = FakeClock(self.now_s)
        return ConsoleOptions(zone=UTC, wall_clock=clock, steady_clock=FakeClock(), **more)
