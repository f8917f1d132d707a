"""A run in which an operator and rules ask for much."""

from __future__ import annotations

from sf_tui.run.directory import RunDirectory
from support.quick_run import Operator

RULES = """\
[[rules]]
name = "hold"
metric = "drift"
above = 0.1
action = "freeze"
arguments = {layers = 1}
[[rules]]
name = "back"
metric = "drift"
above = 0.4
action = "rollback"
arguments = {to = "step-000000"}
[[rules]]
name = "keep"
metric = "loss"
below = 100.0
once = false
action = "checkpoint"
"""


def operate(run: RunDirectory) -> Operator:
    # Never at a step that ends with a checkpoint: a command that nobody had read when the worker
    # was killed behind it is refused by the next one, and the operator would have to ask again.
    operator = Operator(run)
    operator.at("old", 2, "freeze", layers=2).at("old", 3, "unfreeze")
    operator.at("old", 6, "pause").after("pause", "resume")
    operator.at("old", 7, "checkpoint").at("old", 10, "rollback", to="step-000004")
    operator.at("old", 11, "freeze", layers=3)
    operator.at("new", 3, "unfreeze").at("new", 7, "rollback").at("new", 9, "freeze", layers=1)
    return operator
