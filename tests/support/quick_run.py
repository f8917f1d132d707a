"""Small real runs: a profile of two stages that plays in a second, an operator who keeps a plan."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from sf_tui.run.commands import request_command
from sf_tui.run.directory import RunDirectory
from sf_tui.run.events import JsonObject, read_objects
from sf_tui.vocabulary.events import event_object
from sf_tui.worker.stop import StopSignals
from sf_tui.worker.worker import Worker

# Dropout, so that random numbers count; sizes that make no layer like another.
PROFILE = """\
name = "quick"
[model]
source = "random"
[model.config]
model_type = "gpt_neox"
hidden_size = 16
num_hidden_layers = 4
num_attention_heads = 2
intermediate_size = 32
max_position_embeddings = 64
attention_dropout = 0.1
hidden_dropout = 0.1
[biography]
people = 6
new_people = 3
[[tasks]]
name = "old"
data = "biography:old"
learn = true
[[tasks]]
name = "new"
data = "biography:new"
[train]
learning_rate = 3e-3
batch_size = 4
steps = 12
warmup_steps = 2
weight_decay = 0.1
[probe]
every = 4
every_in_window = 4
[checkpoint]
every = 4
keep_last = 50
[window]
steps = 8
"""


def with_model(config: str, model: str = 'source = "random"') -> str:
    """Return the profile with another model: its `[model.config]`, and the keys of `[model]`."""
    start, rest = PROFILE.index("[model]"), PROFILE.index("[biography]")
    return f"{PROFILE[:start]}[model]\n{model}\n{config}{PROFILE[rest:]}"


Begin = Callable[..., RunDirectory]


def work(run: RunDirectory, *listeners: Callable[[JsonObject], None]) -> int:
    """Be the worker of a run until it ends; return the exit code."""
    worker = Worker(run, StopSignals())
    for listener in listeners:
        worker.listen(lambda event, listener=listener: listener(event_object(event)))
    return worker.work()


class Operator:
    """Listens to a run and asks for what was planned for each step, once."""

    def __init__(self, run: RunDirectory) -> None:
        self._run = run
        self._plan: dict[tuple[str, int], list[tuple[str, dict[str, Any]]]] = {}
        self._replies: dict[str, list[tuple[str, dict[str, Any]]]] = {}

    def at(self, stage: str, step: int, action: str, **arguments: Any) -> Operator:
        """Plan an action for the moment a step is logged."""
        self._plan.setdefault((stage, step), []).append((action, arguments))
        return self

    def after(self, done: str, action: str, **arguments: Any) -> Operator:
        """Plan an action for the moment when another one is done."""
        self._replies.setdefault(done, []).append((action, arguments))
        return self

    def __call__(self, event: JsonObject) -> None:
        """Ask for what is due now."""
        if event["type"] == "step":
            place = (event["stage"], event["step"])
            for action, arguments in self._plan.get(place, ()):
                self._ask(action, arguments, f"{place[0]}:{place[1]}:{action}")
        elif event["type"] == "command" and event["status"] == "done":
            for action, arguments in self._replies.get(event["action"], ()):
                self._ask(action, arguments, f"after:{event['id']}:{action}")

    def _ask(self, action: str, arguments: dict[str, Any], label: str) -> None:
        # By its label an order is known again after a resume; one that failed is given again.
        statuses = [e["status"] for e in events_of(self._run, "command") if e["by"] == label]
        if not statuses or statuses[-1] == "failed":
            request_command(self._run, action, arguments, by=label)


def events_of(run: RunDirectory, type_: str | None = None) -> list[JsonObject]:
    """Return a run's events, of one type if wanted."""
    return [e for e in read_objects(run.events) if type_ is None or e["type"] == type_]


def commands_of(run: RunDirectory) -> list[tuple[str, str]]:
    """Return action and status of every command event in order."""
    return [(e["action"], e["status"]) for e in events_of(run, "command")]


def live_course(run: RunDirectory) -> dict[tuple[str, int], tuple[float, float, float]]:
    """Return loss, rate and gradient norm of every step that still counts."""
    course: dict[tuple[str, int], tuple[float, float, float]] = {}
    for event in read_objects(run.events):
        if event["type"] == "rewound":
            stage, step = event["stage"], event["step"]
            course = {key: v for key, v in course.items() if key[0] != stage or key[1] <= step}
        elif event["type"] == "step":
            measures = (event["loss"], event["learning_rate"], event["grad_norm"])
            course[event["stage"], event["step"]] = measures
    return course


def assert_course_close(run: RunDirectory, other: RunDirectory, *, rel: float, abs: float) -> None:
    """Assert that two runs have the same live steps, with nearly the same measures."""
    ours, theirs = live_course(run), live_course(other)
    assert ours.keys() == theirs.keys()
    for place, measures in ours.items():
        assert measures == pytest.approx(theirs[place], rel=rel, abs=abs), place


def live_probes(run: RunDirectory) -> dict[tuple[str, int], Any]:
    """Return what every probe that still counts found."""
    probes: dict[tuple[str, int], Any] = {}
    for event in read_objects(run.events):
        if event["type"] == "rewound":
            stage, step = event["stage"], event["step"]
            probes = {key: v for key, v in probes.items() if key[0] != stage or key[1] <= step}
        elif event["type"] == "probe":
            probes[event["stage"], event["step"]] = (event["metrics"], event["drop"])
    return probes


def final_weights(run: RunDirectory) -> dict[str, torch.Tensor]:
    """Return the weights in `model/`, by the names that they have in the model."""
    stored = load_file(run.model / "model.safetensors")
    # transformers keeps an older name in the files of GPT-NeoX.
    return {name.replace("embed_out", "lm_head"): weight for name, weight in stored.items()}


def checkpoint_weights(run: RunDirectory, stage: str, step: int) -> dict[str, torch.Tensor]:
    """Return all weights of a checkpoint by name."""
    found: dict[str, torch.Tensor] = {}
    for file in (run.checkpoints / stage / f"step-{step:06d}" / "weights").iterdir():
        found |= load_file(file)
    return found


def equal(left: dict[str, torch.Tensor], right: dict[str, torch.Tensor]) -> bool:
    """Tell whether two sets of weights are the same to the last bit."""
    return left.keys() == right.keys() and all(torch.equal(left[n], right[n]) for n in left)


def checkpoints_of(run: RunDirectory, stage: str) -> list[str]:
    """Return the names of a stage's checkpoint folders, hidden ones included."""
    return sorted(entry.name for entry in (run.checkpoints / stage).iterdir())


_ENDS = ("done", "failed", "cancelled")


def assert_well_told(run: RunDirectory) -> None:
    """Assert that a log is unbroken and that every command came to its end."""
    events = events_of(run)
    assert [event["seq"] for event in events] == list(range(1, len(events) + 1))
    told: dict[str, list[str]] = {}
    for event in events:
        if event["type"] == "command":
            told.setdefault(event["id"], []).append(event["status"])
    for identity, statuses in told.items():
        ends = (["refused"], ["cancelled"], *(["accepted", end] for end in _ENDS))
        assert statuses in ends, identity
    for kind in ("run_started", "stage_started", "stage_finished"):
        said = [event.get("stage") for event in events if event["type"] == kind]
        assert len(said) == len(set(said)), kind
