"""A metric from outside the package: one row, one computation, and everything knows it."""

from __future__ import annotations

import multiprocessing
import os
import sys
from pathlib import Path

PROGRAM = """
import asyncio
import math
import sys
from pathlib import Path

from sf_tui.vocabulary.metrics import Metric, register_metric

register_metric(
    Metric(
        "bits", "negative log-likelihood in bits", higher_is_better=False, is_share=False,
        unit="bits a token",
    )
)

from sf_tui.engine.probing import register_measure

register_measure(
    "bits", lambda found: found.nll.sum() / found.answer_tokens.sum() / math.log(2)
)

from sf_tui.run.course import courses
from sf_tui.profile import dump_profile, load_profile
from sf_tui.run.commands import request_command
from sf_tui.run.directory import RunDirectory
from sf_tui.run.events import read_events
from sf_tui.run.state import fold
from sf_tui.tui.console import ConsoleApp
from sf_tui.tui.terminal import ConsoleOptions
from sf_tui.tui.panels.charts import AccuracyChart
from sf_tui.vocabulary.events import CommandAnswered, Probe, Step
from sf_tui.worker.stop import StopSignals
from sf_tui.worker.worker import Worker

folder = Path(sys.argv[1])
profile = load_profile(folder / "toy.toml")
run = RunDirectory.create(
    folder / "run", profile_text=dump_profile(profile), profile_name="toy", argv=["sf", "run"]
)


def stop_in_the_second_stage(event):
    if isinstance(event, Step) and (event.stage, event.step) == ("new", 6):
        request_command(run, "stop")


worker = Worker(run, StopSignals())
worker.listen(stop_in_the_second_stage)
assert worker.work() == 5
assert Worker(run, StopSignals()).work() == 0

events = list(read_events(run.events))
state = fold(events)
probes = [e for e in events if isinstance(e, Probe) and e.stage == "new"]
for probe in probes:
    old = probe.metrics["old"]
    assert math.isclose(old["bits"], old["nll"] / math.log(2))
first, last = (probe.comparable["old"]["bits"] for probe in (probes[0], probes[-1]))
assert math.isclose(probes[-1].drop, last - first), "more bits are a loss"
assert last > first
fired = [e for e in events if isinstance(e, CommandAnswered) and e.by == "lost"]
assert [e.status for e in fired] == ["accepted", "done"]
assert fired[0].value > 0.001
row = next(r for r in courses(state) if (r.stage, r.task) == ("new", "old"))
assert row.end.metric.name == "bits"
assert row.worst.value >= row.start.value


async def look():
    app = ConsoleApp(run, ConsoleOptions())
    async with app.run_test(size=(120, 40)) as pilot:
        await pilot.pause()
        chart = app.screen.query_one(AccuracyChart)
        assert any("old bits" in text for text, _ in chart.title_right())
        assert app.view.live.worst_known == "old"


asyncio.run(look())
print("all of it")
"""

PROFILE = """\
name = "toy"
[model]
source = "random"
[model.config]
model_type = "gpt_neox"
hidden_size = 16
num_hidden_layers = 2
num_attention_heads = 2
intermediate_size = 32
max_position_embeddings = 64
[biography]
people = 6
new_people = 3
[[tasks]]
name = "old"
data = "biography:old"
metric = "bits"
learn = true
train = {steps = 60, learning_rate = 1e-2}
[[tasks]]
name = "new"
data = "biography:new"
[train]
learning_rate = 0.3
batch_size = 4
steps = 12
warmup_steps = 2
[probe]
every = 4
every_in_window = 4
[window]
steps = 8
[[rules]]
name = "lost"
metric = "drop"
above = 0.001
action = "freeze"
"""


def play(folder: Path) -> None:
    """Be the program, in a process that need not import torch again."""
    # The test's own are buffers of pytest. Left open for what is said of an error.
    said = os.open(folder / "said", os.O_WRONLY | os.O_CREAT)
    sys.stdout = sys.stderr = os.fdopen(said, "w", buffering=1)
    sys.argv = ["program", str(folder)]
    os.environ["SF_HOME"] = str(folder / "home")
    exec(PROGRAM, {"__name__": "__main__"})


def test_a_metric_from_outside_is_played_through(tmp_path: Path) -> None:
    (tmp_path / "toy.toml").write_text(PROFILE)
    # Of its own, because what is registered stays.
    process = multiprocessing.get_context("fork").Process(target=play, args=(tmp_path,))
    process.start()
    process.join(120)
    said = (tmp_path / "said").read_text()
    process.kill()
    assert said.endswith("all of it\n"), said
