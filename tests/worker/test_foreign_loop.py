"""A plain torch loop, not ours, watched by the same probes, rules, commands and checkpoints."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from sf_tui.engine.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from sf_tui.engine.loop import StepHooks, StepOutcome
from sf_tui.errors import RunError
from sf_tui.profile import StageSpec
from sf_tui.run.directory import RunDirectory
from sf_tui.vocabulary.events import event_object
from sf_tui.worker.context import RunContext
from sf_tui.worker.stop import StopSignals
from sf_tui.worker.worker import Worker
from support.quick_run import (
    Begin,
    Operator,
    assert_well_told,
    checkpoint_weights,
    commands_of,
    equal,
    events_of,
    final_weights,
    live_course,
)

RULE = """\
[[rules]]
name = "hold"
metric = "drift"
above = 0.001
action = "freeze"
arguments = {layers = 1}
"""


class BareLoop:
    """SGD, a row a step, in the order in which they come."""

    def __init__(self, context: RunContext, spec: StageSpec) -> None:
        prepared = context.prepared
        self.model: torch.nn.Module = prepared.loaded.model
        self.optimizer: torch.optim.Optimizer = torch.optim.SGD(self.model.parameters(), lr=0.1)
        self.step = 0
        self.total_steps = 8
        self._layout = prepared.layout
        self._source = prepared.tasks[spec.task].train
        self._factor = 1.0

    def refusal(self, what: str) -> str | None:
        return f"a bare loop can't {what}" if what in ("anchor", "ewc") else None

    def attach(self, hooks: StepHooks) -> None:
        assert dict(hooks.losses()) == {}

    def advance(self) -> StepOutcome:
        row = self._source.encoded(self.step % len(self._source), 0)
        self.model.eval()
        ids, labels = torch.tensor([row.input_ids]), torch.tensor([row.labels])
        loss = self.model(input_ids=ids, labels=labels).loss
        self.optimizer.zero_grad()
        loss.backward()
        norm = float(torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0))
        self.optimizer.step()
        self.step += 1
        return StepOutcome(loss.item(), norm, 0.1 * self._factor, 1.0)

    def save(
        self,
        path: Path,
        state: dict[str, Any],
        tensors: Mapping[str, Mapping[str, torch.Tensor]],
    ) -> int:
        return save_checkpoint(path, self._layout, None, state, tensors)

    def rewind(self, checkpoint: Checkpoint) -> None:
        load_checkpoint(checkpoint, self._layout, None)
        self.step = checkpoint.step

    def scale_learning_rate(self, factor: float) -> None:
        self._factor = factor


def work(run: RunDirectory, operator: Operator | None = None) -> int:
    worker = Worker(run, StopSignals(), loop_of=BareLoop)
    if operator is not None:
        worker.listen(lambda event: operator(event_object(event)))
    return worker.work()


def test_foreign_loop_is_watched_commanded_and_resumed(begin: Begin) -> None:
    run = begin(more=RULE, name="whole")
    asked = Operator(run).at("new", 2, "anchor").at("new", 6, "rollback", to="step-000004")
    assert work(run, asked) == 0
    assert_well_told(run)

    assert {e["stage"]: e["steps"] for e in events_of(run, "stage_started")} == {"old": 8, "new": 8}
    probed = [e["step"] for e in events_of(run, "probe") if e["stage"] == "new"]
    # Step 4 again behind the rollback to it.
    assert probed == [0, 4, 4, 8]
    assert [e["step"] for e in events_of(run, "drift") if e["stage"] == "old"][-1] == 8
    (fired,) = [e for e in events_of(run, "command") if e["by"] == "hold" and e["status"] == "done"]
    assert (fired["op"], fired["stage"]) == ("freeze", "old")
    # The rule froze the first block in stage old, and it stays so: bit for bit.
    start, end = checkpoint_weights(run, "new", 0), final_weights(run)
    held = [name for name in start if ".layers.0." in name]
    assert held
    assert equal({n: start[n] for n in held}, {n: end[n] for n in held})
    assert not equal(start, end)

    refused = [e for e in events_of(run, "command") if e["status"] == "refused"]
    assert [(e["action"], e["reason"]) for e in refused] == [("anchor", "a bare loop can't anchor")]
    assert ("rollback", "done") in commands_of(run)
    assert [e["reason"] for e in events_of(run, "rewound")] == ["rollback"]


def test_foreign_loop_goes_on_where_it_stopped(begin: Begin) -> None:
    whole, parts = begin(name="whole"), begin(name="parts")
    assert work(whole) == 0
    assert work(parts, Operator(parts).at("new", 3, "stop")) == 5
    assert work(parts) == 0
    assert live_course(parts) == live_course(whole)
    assert equal(final_weights(parts), final_weights(whole))


def test_strategy_that_a_loop_cannot_train_with_is_refused(begin: Begin) -> None:
    run = begin('tasks.new.train.strategy="ewc"')
    with pytest.raises(RunError, match="stage 'new': a bare loop can't ewc"):
        work(run)
