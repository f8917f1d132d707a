"""Losses of small runs as they were recorded: a change of structure must not change a training.

Runs here are compared with figures, not with each other: a draw that comes from another seed, a
batch in another order or a loss that is added elsewhere shows, where two runs of the same code
would agree. The tolerance covers processors that add in another order.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from sf_tui.run.directory import RunDirectory
from support.quick_run import Begin, Operator, live_course, work

LLAMA = (
    'model.config={model_type = "llama", hidden_size = 24, intermediate_size = 40,'
    " num_hidden_layers = 3, num_attention_heads = 4, num_key_value_heads = 2,"
    " attention_dropout = 0.1}",
    "train.micro_batch_size=3",
)
PLANS: dict[str, tuple[tuple[str, ...], Callable[[Operator], Operator]]] = {
    "plain": ((), lambda operator: operator),
    "freeze": ((), lambda operator: operator.at("new", 5, "freeze", layers=2)),
    "anchored": (
        ('tasks.new.train.strategy="anchor"', "anchor.strength=100.0"),
        lambda operator: operator,
    ),
    "anchor pressed": ((), lambda operator: operator.at("new", 5, "anchor", strength=100.0)),
    "rollback": ((), lambda operator: operator.at("new", 10, "rollback", to="step-000004")),
    "llama with dropout and micro-batches": (LLAMA, lambda operator: operator),
}
RECORDED: dict[str, tuple[float, ...]] = {
    "plain": (6.42676, 6.098523, 6.220463, 5.566289),
    "freeze": (6.42676, 6.098523, 6.223149, 5.56487),
    "anchored": (6.42676, 6.116125, 6.24306, 5.645424),
    "anchor pressed": (6.42676, 6.098523, 6.231472, 5.603665),
    "rollback": (6.42676, 6.098523, 6.220463, 5.566289),
    "llama with dropout and micro-batches": (6.231529, 5.765124, 5.923735, 5.036315),
}
"""Loss of steps 1, 6, 9 and 12, in nats a token."""


def new_losses(run: RunDirectory) -> list[float]:
    return [loss for (stage, _), (loss, *_) in live_course(run).items() if stage == "new"]


@pytest.mark.parametrize("plan", PLANS)
def test_losses_are_those_that_were_recorded(begin: Begin, plan: str) -> None:
    overrides, press = PLANS[plan]
    run = begin(*overrides)
    assert work(run, press(Operator(run))) == 0
    losses = [new_losses(run)[step - 1] for step in (1, 6, 9, 12)]
    assert losses == pytest.approx(RECORDED[plan], rel=1e-5)
