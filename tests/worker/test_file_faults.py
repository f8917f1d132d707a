"""A worker killed at any file operation, or in the middle of a write, loses and leaves nothing.

A run with actions is played once as a whole. Then it is played again and killed at one of its file
operations, and resumed to its end: weights, steps, probes, checkpoints, events of checkpoints and
every name in the directory must be those of the run that nobody killed.
"""

from __future__ import annotations

import shutil
import signal
from pathlib import Path

import orjson
import pytest

from sf_tui.run.directory import RunDirectory
from support.fault_play import Asked, Fault, fork
from support.quick_run import assert_well_told, events_of, live_course, live_probes

PROFILE = """\
name = "faults"
[model]
source = "random"
[model.config]
model_type = "gpt_neox"
hidden_size = 16
num_hidden_layers = 1
num_attention_heads = 2
intermediate_size = 32
max_position_embeddings = 64
attention_dropout = 0.1
[biography]
people = 4
new_people = 2
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
steps = 6
warmup_steps = 1
[probe]
every = 2
every_in_window = 2
[checkpoint]
every = 2
keep_last = 1
keep_best = 0
[window]
steps = 4
[anchor]
cache_size = 8
[recover]
steps = 2
interpolate = 0.7
[replay_stage]
steps = 2
# Drift is measured where a checkpoint is due: the rule's is written anew, so one replaces another.
[[rules]]
name = "keep"
metric = "drift"
above = 1e-9
action = "checkpoint"
"""

# Never at a step that ends with a checkpoint, as in the ledger's tests.
PLAN: list[Asked] = [
    ("old", 1, "freeze", {"layers": 1, "embeddings": False}),
    ("old", 3, "checkpoint", {}),
    ("old", 5, "rollback", {"to": "step-000003"}),
    ("new", 1, "anchor", {}),
    ("new", 1, "unfreeze", {}),
    ("new", 3, "recover", {"steps": 2}),
    ("new", 5, "rollback", {}),
]


class FaultHost:
    """Plays the run in processes of their own and kills them where it is told to."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._profile = folder / "faults.toml"
        self._profile.write_text(PROFILE)
        self._log, self._errors = folder / "points.txt", folder / "errors.txt"
        self.whole = self.run("whole")
        assert self.play(self.whole) == 0, self.errors
        self.points = self._log.read_text().splitlines()

    @property
    def errors(self) -> str:
        """What the processes printed."""
        return self._errors.read_text()[-2000:]

    def run(self, name: str) -> RunDirectory:
        """Return where a run of that name belongs; alone in its folder."""
        home = self._folder / name
        home.mkdir()
        return RunDirectory(home / "run")

    def play(self, run: RunDirectory, at: int = 0, *, torn: bool = False) -> int:
        """Play a run from where it is until its end or its kill."""
        return fork(Fault(run, self._profile, PLAN, at, torn, self._log, self._errors))


@pytest.fixture(scope="module")
def faults(tmp_path_factory: pytest.TempPathFactory) -> FaultHost:
    return FaultHost(tmp_path_factory.mktemp("faults"))


def names(run: RunDirectory) -> set[str]:
    """Return every name in and beside a run directory."""
    home = run.path.parent
    return {str(entry.relative_to(home)) for entry in home.rglob("*")}


def contents(run: RunDirectory) -> dict[str, bytes]:
    """Return the bytes of checkpoints, model and banks; of states what doesn't count events."""
    found = {}
    for folder in (run.checkpoints, run.model, run.path / "neighbors"):
        for file in folder.rglob("*"):
            if not file.is_file():
                continue
            content = file.read_bytes()
            if file.name == "state.json":
                state = orjson.loads(content)
                content = orjson.dumps(
                    {k: v for k, v in state.items() if k not in {"seq", "logged", "checksum"}}
                )
            found[str(file.relative_to(run.path))] = content
    return found


def told_checkpoints(run: RunDirectory) -> set[tuple[str, int, str]]:
    return {(e["stage"], e["step"], e["path"]) for e in events_of(run, "checkpoint")}


def difference(faults: FaultHost, at: int, *, torn: bool) -> str | None:
    """Kill a run at one operation, resume it, and return in what it differs from the whole one."""
    run, whole = faults.run(f"{'torn' if torn else 'kill'}-{at}"), faults.whole
    killed = faults.play(run, at, torn=torn)
    if killed != -signal.SIGKILL:
        return f"was not killed: {killed}"
    code = faults.play(run)
    if code != 0:
        return f"the resume ended with {code}: {faults.errors}"
    left, missing = names(run) - names(whole), names(whole) - names(run)
    if left or missing:
        return f"left over: {sorted(left)}; missing: {sorted(missing)}"
    now, then = contents(run), contents(whole)
    other = sorted(name for name in then if now[name] != then[name])
    if other:
        return f"other bytes: {other}"
    for measure in (live_course, live_probes, told_checkpoints):
        if measure(run) != measure(whole):
            return f"other {measure.__name__}"
    assert_well_told(run)
    shutil.rmtree(run.path.parent)
    return None


def trial(faults: FaultHost, points: list[int], *, torn: bool) -> list[str]:
    """Return a line for each operation of `points` (from 1) after which something differs."""
    found = []
    for at in points:
        wrong = difference(faults, at, torn=torn)
        line = f"{'torn' if torn else 'kill'} {at} ({faults.points[at - 1]}): {wrong}"
        print(line, flush=True)
        if wrong:
            found.append(line)
    return found


def test_the_whole_run_did_what_it_was_asked_to(faults: FaultHost) -> None:
    assert_well_told(faults.whole)
    done = {e["op"] for e in events_of(faults.whole, "command") if e["status"] == "done"}
    assert done == {"freeze", "unfreeze", "checkpoint", "rollback", "anchor", "recover"}
    # Pruned: of three and more a stage's start, its end and what was asked for are left.
    told, kept = told_checkpoints(faults.whole), faults.whole.checkpoints.glob("*/step-*")
    assert len(list(kept)) < len(told)
    kinds = {point.split()[1] for point in faults.points}
    assert {"open", "write", "fsync", "serialize", "os.rename", "os.rmdir"} <= kinds


def test_kill_at_a_file_operation_changes_nothing_and_leaves_nothing(faults: FaultHost) -> None:
    def after(kind: str, word: str, place: int = 0) -> int:
        found = [
            at
            for at, point in enumerate(faults.points, 1)
            if point.split()[1] == kind and word in point
        ]
        return found[place] + 1

    # A few that each leave something of another kind; a `slow` test kills at every operation.
    chosen = [
        # Half of a pruned checkpoint is deleted.
        after("os.rename", ".deleting") + 3,
        # A checkpoint and its stage's end are in place, and neither told nor pruned.
        after("os.rename", "checkpoints/new/step-000006"),
        # One checkpoint has stepped aside and the other is not in its place yet.
        after("os.rename", ".replaced"),
        # The bank is half made.
        after("serialize", "neighbors"),
    ]
    assert not trial(faults, chosen, torn=False)


def test_torn_write_changes_nothing_and_leaves_nothing(faults: FaultHost) -> None:
    writes = [at for at, point in enumerate(faults.points, 1) if point.startswith("torn")]
    assert not trial(faults, [writes[len(writes) // 2]], torn=True)


@pytest.mark.slow
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("torn", [False, True])
def test_kill_at_any_file_operation_changes_nothing(faults: FaultHost, torn: bool) -> None:
    points = [
        at for at, point in enumerate(faults.points, 1) if not torn or point.startswith("torn")
    ]
    assert not trial(faults, points, torn=torn)
