"""A made-up run that does in random order what a worker can do, event by event."""

from __future__ import annotations

import random
from dataclasses import dataclass, replace
from typing import Any

import orjson

from sf_tui.run.event_parser import EventParser
from sf_tui.vocabulary.declared import LayerDrift
from sf_tui.vocabulary.events import (
    Alert,
    CheckpointWritten,
    CommandAnswered,
    Danger,
    DiagnosisMade,
    Drift,
    Event,
    Probe,
    Rewound,
    RunFinished,
    RunStarted,
    StageFinished,
    StageStarted,
    Step,
    event_object,
)

LAYERS = ("embeddings", "block-0", "head")
STAGE_STEPS = 40


@dataclass(frozen=True)
class Saved:
    """A checkpoint: its step, where its event is in the log, and what held then."""

    step: int
    index: int
    frozen: frozenset[str]
    anchored: bool


class RandomRun:
    """Writes a log; `alive` has the places in it of the events of the current branch."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.log: list[Event] = []
        self.alive: list[tuple[str, int, int]] = []
        self.stage, self.step = "", 0
        self.frozen: frozenset[str] = frozenset()
        self.anchored = False
        self.saved: list[Saved] = []
        self.known: list[str] = ["old"]
        self._commands = 0
        self._parser = EventParser()
        tasks = ["old", "a", "b"]
        metrics = dict.fromkeys(tasks, "exact_match")
        self.tell(RunStarted(tasks=tasks, run="r", watched=tasks, metrics=metrics))

    def tell(self, event: Event) -> None:
        seq = len(self.log) + 1
        written = replace(event, seq=seq, time=f"2026-03-01T09:{seq // 60 % 60:02}:00Z")
        # As a reader of the log gets it.
        read = self._parser.read(orjson.loads(orjson.dumps(event_object(written))))
        assert isinstance(read, Event), read
        self.log.append(read)
        if self.stage:
            self.alive.append((self.stage, self.step, len(self.log)))

    def begin_stage(self, stage: str) -> None:
        self.stage, self.step, self.saved = stage, 0, []
        self.tell(StageStarted(stage, stage, STAGE_STEPS, known=list(self.known)))
        self.tell(Danger(stage, "entered", 0, 8))
        self.probe()
        self.save()

    def probe(self) -> None:
        metrics = {
            task: {"exact_match": round(self.random.random(), 3), "n": 64}
            for task in (*self.known, self.stage)
        }
        self.tell(Probe(self.stage, self.step, metrics, drop=0.1))
        layers = [LayerDrift(name, self.random.random(), name in self.frozen) for name in LAYERS]
        self.tell(Drift(self.stage, self.step, layers))

    def save(self) -> None:
        self.saved = [each for each in self.saved if each.step != self.step]
        path = f"checkpoints/{self.stage}/step-{self.step:06d}"
        self.tell(CheckpointWritten(self.stage, self.step, path))
        self.saved.append(Saved(self.step, len(self.log), self.frozen, self.anchored))

    def train(self) -> None:
        if self.step >= STAGE_STEPS - 1:
            return
        self.step += 1
        losses = {"anchor": 0.01} if self.anchored else {}
        loss = round(self.random.random(), 4)
        self.tell(Step(self.stage, self.step, loss, 1e-4, 1.0, 100.0, losses))
        if self.step % 4 == 0:
            self.probe()
        if self.step % 10 == 0:
            self.save()

    def command(self, op: str, *, answer: bool = True, **arguments: Any) -> CommandAnswered:
        self._commands += 1
        event = CommandAnswered(
            f"c-{self._commands}",
            "accepted",
            op,
            op,
            arguments,
            "user",
            stage=self.stage,
            step=self.step,
        )
        self.tell(event)
        if answer:
            self.tell(replace(event, status="done"))
        return event

    def freeze(self) -> None:
        self.command("freeze")
        self.frozen = frozenset(LAYERS[:2])
        self.probe()

    def unfreeze(self) -> None:
        self.command("unfreeze")
        self.frozen = frozenset()
        self.probe()

    def anchor(self) -> None:
        self.command("unanchor" if self.anchored else "anchor", strength=2.0)
        self.anchored = not self.anchored

    def recover(self) -> None:
        asked = self.command("recover", answer=False)
        self.save()
        self.tell(replace(asked, status="done"))
        self.tell(Danger(self.stage, "entered", self.step, 6, "recover"))
        self.probe()

    def diagnose(self) -> None:
        self.tell(DiagnosisMade("spurious", "old", 0.2, stage=self.stage, step=self.step))

    def alert(self) -> None:
        self.tell(Alert("warn", "drop", f"lost at {self.step}", self.stage, self.step))

    def pause(self) -> None:
        self.command("pause")
        self.command("resume")

    def roll_back(self) -> None:
        to = self.random.choice(self.saved)
        asked = self.command("rollback", answer=False)
        lost, before = self.step - to.step, self.step
        self.alive = [
            place for place in self.alive if place[0] != self.stage or place[2] <= to.index
        ]
        self.saved = [each for each in self.saved if each.index <= to.index]
        self.step, self.frozen, self.anchored = to.step, to.frozen, to.anchored
        name = f"step-{to.step:06d}"
        self.tell(Rewound(self.stage, to.step, "rollback", lost, name))
        self.tell(replace(asked, status="done", step=before))

    def next_stage(self) -> None:
        if self.stage == "a":
            while self.step < STAGE_STEPS - 1:
                self.train()
            self.tell(StageFinished(self.stage, self.stage, "seq", STAGE_STEPS))
            self.known.append("a")
            self.begin_stage("b")

    def play(self, acts: int, *, rewinds: bool) -> None:
        self.begin_stage("a")
        others = [
            self.freeze, self.unfreeze, self.anchor, self.recover, self.diagnose, self.alert,
            self.pause, self.next_stage,
        ]  # fmt: skip
        if rewinds:
            others += [self.roll_back] * 3
        for _ in range(acts):
            for _ in range(self.random.randrange(8)):
                self.train()
            self.random.choice(others)()
        if self.random.random() < 0.5:
            self.tell(RunFinished("completed", 0))
