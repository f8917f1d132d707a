"""`sf exec`: the hook takes hold of a Trainer, of nothing else, and says when it can't."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import transformers.trainer
from safetensors.torch import load_file
from transformers.integrations.integration_utils import INTEGRATION_TO_CALLBACK

from integrations.conftest import Trained
from sf_tui.cli.exec_record import HOOK, ExecRecord
from sf_tui.integrations import SfCallback
from sf_tui.run.directory import RunDirectory, list_runs
from sf_tui.run.events import read_events
from support import PATIENCE_S, RUN_PATIENCE_S
from support.hosts import lines_of, losses_of, trainer

TRAIN = """
import json, os, sys
from pathlib import Path
from datasets import load_dataset
from transformers import AutoModelForCausalLM, AutoTokenizer, DataCollatorForSeq2Seq
from transformers import Trainer, TrainerCallback, TrainingArguments

folder, out, kill_at, resume = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
tokenizer = AutoTokenizer.from_pretrained(folder / "model")
model = AutoModelForCausalLM.from_pretrained(folder / "model")

def encode(row):
    prompt = tokenizer(row["prompt"])["input_ids"]
    answer = tokenizer(row["completion"])["input_ids"]
    loaded = sorted({"sf_tui"} & set(sys.modules))
    Path(out.parent, f"helper-{os.getpid()}").write_text(str(loaded))
    return {"input_ids": prompt + answer, "labels": [-100] * len(prompt) + answer}

class Kill(TrainerCallback):
    def on_step_end(self, args, state, control, **given):
        if state.global_step == kill_at:
            os.kill(os.getpid(), 9)

if __name__ == "__main__":
    rows = load_dataset(
        "json", data_files=str(folder / "new.jsonl"), split="train", cache_dir=str(out.parent / "c")
    )
    rows = rows.map(encode, remove_columns=rows.column_names, num_proc=2)
    arguments = TrainingArguments(
        str(out), max_steps=8, per_device_train_batch_size=4, learning_rate=1e-3, seed=3,
        logging_steps=1, save_steps=3, use_cpu=True, disable_tqdm=True, dataloader_num_workers=1,
    )
    trainer = Trainer(
        model, arguments, train_dataset=rows, processing_class=tokenizer,
        data_collator=DataCollatorForSeq2Seq(tokenizer), callbacks=[Kill()],
    )
    trainer.train(resume_from_checkpoint=resume == "resume")
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    (out / "losses.json").write_text(json.dumps(losses))
    sys.exit(3)
"""
PROFILE = "[probe]\nexamples = 12\n[window]\nsteps = 4\n[neighbors]\nsurvey_budget = 0\n"


@pytest.fixture
def hook(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """Return the hook as a module, with it transformers' lists as they were afterwards."""
    monkeypatch.setattr(transformers.trainer, "DEFAULT_CALLBACKS", list(_DEFAULTS))
    monkeypatch.delitem(INTEGRATION_TO_CALLBACK, "sf", raising=False)
    spec = importlib.util.spec_from_file_location("sf_hook", HOOK / "sitecustomize.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    yield module
    INTEGRATION_TO_CALLBACK.pop("sf", None)


_DEFAULTS = tuple(transformers.trainer.DEFAULT_CALLBACKS)


@pytest.fixture
def record(monkeypatch: pytest.MonkeyPatch, tiny_scene: Path, tmp_path: Path) -> ExecRecord:
    """Return the record of a `sf exec` to which this process belongs."""
    (tmp_path / "watch.toml").write_text(PROFILE)
    record = ExecRecord.write(
        {
            "old": [str(tiny_scene / "old.jsonl")],
            "profile": str(tmp_path / "watch.toml"),
            "run_dir": None,
            "command": ["train"],
            "cwd": str(tmp_path),
        }
    )
    monkeypatch.setenv("SF_EXEC", str(record.path))
    return record


def python(
    *arguments: str, interpreter: str = sys.executable, **variables: str
) -> subprocess.CompletedProcess[str]:
    """Run Python with the hook's folder on PYTHONPATH."""
    environ = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    path = ":".join([str(HOOK), *filter(None, [variables.pop("path", "")])])
    return subprocess.run(
        [interpreter, *arguments],
        env={**environ, "PYTHONPATH": path, **variables},
        # Not where sf can be imported from the current directory.
        cwd="/",
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=True,
    )


def test_the_hook_imports_nothing_into_other_processes(tmp_path: Path) -> None:
    show = "import json, sys; print(json.dumps(sorted(sys.modules)))"
    idle = set(json.loads(python("-c", show).stdout))
    hooked = set(json.loads(python("-c", show, SF_EXEC=str(tmp_path / "exec.json")).stdout))
    plain = subprocess.run(
        [sys.executable, "-c", show], capture_output=True, text=True, check=True
    ).stdout

    assert idle == hooked
    assert hooked - set(json.loads(plain)) <= {"sitecustomize"}


def test_a_sitecustomize_behind_the_hook_runs_in_its_place(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text("import sys\nsys.path.append('/added')\n")
    show = (
        "import sys, sitecustomize as s\n"
        "print(s.__file__, '/added' in sys.path, type(sys.meta_path[0]).__name__)"
    )
    done = python("-c", show, path=str(tmp_path), SF_EXEC=str(tmp_path / "exec.json"))

    assert done.stdout.split() == [str(tmp_path / "sitecustomize.py"), "True", "TrainerFinder"]
    without = python("-c", show, path=str(tmp_path))
    assert without.stdout.split()[:2] == [str(tmp_path / "sitecustomize.py"), "True"]
    assert "TrainerFinder" not in without.stdout


def test_an_error_in_the_hidden_sitecustomize_is_reported_as_ever(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text("import no_such_module\n")

    done = python("-c", "print(1)", path=str(tmp_path), SF_EXEC=str(tmp_path / "exec.json"))

    assert done.stdout == "1\n"
    assert "no_such_module" in done.stderr


def test_an_interpreter_without_sf_trains_on_and_is_named(tmp_path: Path) -> None:
    package = tmp_path / "transformers"
    package.mkdir()
    (package / "__init__.py").write_text("__version__ = '5.9'\n")
    (package / "trainer_callback.py").write_text("class TrainerCallback: pass\n")
    (package / "trainer.py").write_text(
        "from transformers.trainer_callback import TrainerCallback\n"
        "DEFAULT_CALLBACKS = []\n"
        "class Trainer:\n"
        "    def __init__(self):\n"
        "        print(type(DEFAULT_CALLBACKS[0]()).__name__)\n"
    )
    record = ExecRecord.write({})
    interpreter = str(Path(getattr(sys, "_base_executable", sys.executable)).resolve())

    done = python(
        "-c",
        "from transformers.trainer import Trainer; Trainer()",
        interpreter=interpreter,
        path=str(tmp_path),
        SF_EXEC=str(record.path),
    )

    assert done.stdout == "TrainerCallback\n"
    assert done.stderr.startswith("sf: this training is not watched: ModuleNotFoundError")
    why, what = record.why_not()
    assert "sf is not installed for" in why
    assert what.endswith("-m pip install sf-tui")


@pytest.mark.parametrize(
    ("marks", "said"),
    [
        ([], "no Python of this command read PYTHONPATH"),
        (["started"], "no Python of this command imported transformers' Trainer"),
        (["started", "imported"], "none was created"),
        (["started", "imported", "trainer"], "did not begin to train"),
    ],
)
def test_why_nothing_was_watched(
    marks: list[str], said: str, hook: ModuleType, record: ExecRecord
) -> None:
    for kind in marks:
        hook.mark(kind, "x")

    assert said in record.why_not()[0]


def train(hook: ModuleType, folder: Path, out: Path, *callbacks: Any, **more: Any) -> Any:
    hook.add_callback(transformers.trainer)
    made = trainer(folder, out, callbacks, **more)
    made.train()
    return made


def test_every_trainer_gets_the_callback_and_report_to_knows_its_name(
    hook: ModuleType,
    record: ExecRecord,
    tiny_scene: Path,
    plain_training: Trained,
    tmp_path: Path,
) -> None:
    watched = train(hook, tiny_scene, tmp_path / "out", report_to="sf")

    kinds = [type(callback) for callback in watched.callback_handler.callbacks]
    assert kinds.count(SfCallback) == 1
    assert losses_of(watched) == plain_training.losses
    (run,) = list_runs()
    assert record.taken() == str(run.path)
    assert lines_of(run.path, "run_finished")[0]["exit_code"] == 0


def test_a_callback_that_the_script_gives_goes_first(
    hook: ModuleType, record: ExecRecord, tiny_scene: Path, tmp_path: Path
) -> None:
    own = SfCallback(profile=tmp_path / "watch.toml", run_dir=tmp_path / "run")

    train(hook, tiny_scene, tmp_path / "out", own)

    assert list_runs() == []
    assert record.taken() == str(tmp_path / "run")


def test_what_ends_the_watching_is_reported_at_the_end(
    hook: ModuleType, record: ExecRecord, tiny_scene: Path, tmp_path: Path
) -> None:
    record.path.write_text("{")

    train(hook, tiny_scene, tmp_path / "out")

    assert record.taken() is None
    assert "can't be read" in record.why_not()[0]


def test_transformers_without_the_list_is_named(hook: ModuleType, record: ExecRecord) -> None:
    hook.add_callback(ModuleType("transformers.trainer"))

    assert "DEFAULT_CALLBACKS" in record.why_not()[0]


def test_evaluation_alone_is_not_watched(
    hook: ModuleType, record: ExecRecord, tiny_scene: Path, tmp_path: Path
) -> None:
    hook.add_callback(transformers.trainer)
    made = trainer(tiny_scene, tmp_path / "out")
    made.evaluate(made.train_dataset)

    assert "did not begin to train" in record.why_not()[0]
    assert list_runs() == []


Exec = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def sf_exec(tmp_path: Path, tiny_scene: Path) -> Exec:
    """Run `sf exec` on the training script, or the script alone."""
    (tmp_path / "train.py").write_text(TRAIN)
    (tmp_path / "watch.toml").write_text(PROFILE)

    def run(
        out: str, *, plain: bool = False, kill_at: int = 0, resume: str = ""
    ) -> subprocess.CompletedProcess[str]:
        script = [sys.executable, "train.py", str(tiny_scene), out, str(kill_at), resume]
        ours = [sys.executable, "-m", "sf_tui.cli", "exec", "--profile", "watch.toml"]
        ours += ["--old", str(tiny_scene / "old.jsonl"), "--"]
        return subprocess.run(
            script if plain else ours + script,
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
            check=False,
        )

    return run


# Four processes that import torch: the script's, and its helpers'.
def test_a_training_script_runs_unchanged_and_is_watched(sf_exec: Exec, tmp_path: Path) -> None:
    done = sf_exec("out")

    assert done.returncode == 3, done.stderr
    assert "{'loss': " in done.stdout
    (run,) = list_runs()
    assert done.stderr.endswith(f"sf: watched as {run.id}: `sf show {run.id}`\n")
    losses = json.loads((tmp_path / "out" / "losses.json").read_text())
    steps = lines_of(run.path, "step")
    assert [step["loss"] for step in steps] == pytest.approx(losses, rel=1e-3)
    helpers = list(tmp_path.glob("helper-*"))
    assert helpers
    assert {helper.read_text() for helper in helpers} == {"[]"}


@pytest.mark.slow  # four starts of torch, one after another
def test_a_killed_training_that_its_host_resumes_goes_on_in_its_run(
    sf_exec: Exec, tmp_path: Path
) -> None:
    assert sf_exec("plain", plain=True).returncode == 3
    killed = sf_exec("out", kill_at=5)
    assert killed.returncode == -9
    resumed = sf_exec("out", resume="resume")
    assert resumed.returncode == 3, resumed.stderr

    (run,) = list_runs()
    events = list(read_events(RunDirectory(run.path).events))
    assert [event.seq for event in events] == list(range(1, len(events) + 1))
    assert lines_of(run.path, "run_finished")[-1]["exit_code"] == 0
    ours, theirs = (
        (tmp_path / out / "checkpoint-8" / "model.safetensors").read_bytes()
        for out in ("out", "plain")
    )
    assert ours == theirs


def sft(folder: Path, data: Path, out: Path, *more: str) -> list[str]:
    """Return the command line of `trl sft` on the new rows, with its default settings."""
    data.mkdir(exist_ok=True)
    (data / "train.jsonl").write_text((folder / "new.jsonl").read_text())
    command = [str(Path(sys.executable).parent / "trl"), "sft", "--model_name_or_path"]
    command += [str(folder / "model"), "--dataset_name", str(data), "--output_dir", str(out)]
    command += ["--per_device_train_batch_size", "4", "--logging_steps", "1", "--use_cpu", "true"]
    command += ["--learning_rate", "1e-3", "--bf16", "false", "--report_to", "none"]
    return [*command, *more]


LORA = ("--use_peft", "--lora_r", "4")
# Without a GPU, accelerate's launcher for several GPUs starts as many processes on the CPU.
DDP = ("--multi_gpu", "--num_processes", "2", "--main_process_port", "0")
KINDS = pytest.mark.parametrize(
    "kind", [(), LORA, DDP, LORA + DDP], ids=["full", "lora", "full-ddp", "lora-ddp"]
)


STUCK_AFTER_S = 20.0


def run_to_end(command: list[str], log: Path) -> int | None:
    """Run a training to its end; return its exit code, None if it hung after its work was done.

    Without sf, one of two gloo ranks often stays in its own exit (torch 2.13): the destructor of
    DDP's reducer joins a thread that waits for the GIL, which the destructor holds.
    """
    with log.open("w") as output:
        host = subprocess.Popen(command, stdout=output, stderr=output, start_new_session=True)
    deadline = time.monotonic() + RUN_PATIENCE_S
    try:
        while host.poll() is None and time.monotonic() < deadline:
            if "Model saved" in log.read_text():
                deadline = min(deadline, time.monotonic() + STUCK_AFTER_S)
            time.sleep(0.2)
        return host.returncode
    finally:
        if host.poll() is None:
            os.killpg(host.pid, signal.SIGKILL)
            host.wait()


@pytest.mark.slow  # two starts of `trl sft`, each of which starts two more processes
@KINDS
def test_trl_sft_is_watched_and_bit_identical(
    kind: tuple[str, ...], tiny_scene: Path, tmp_path: Path
) -> None:
    exec_ = [sys.executable, "-m", "sf_tui.cli", "exec", "--old", str(tiny_scene / "old.jsonl")]
    logs = []
    for out, before in (("plain", []), ("out", [*exec_, "--"])):
        command = sft(tiny_scene, tmp_path / "data", tmp_path / out, "--max_steps", "6", *kind)
        code = run_to_end([*before, *command], tmp_path / "log")
        said = (tmp_path / "log").read_text()
        assert code == 0 or (code is None and not before and kind[-len(DDP) :] == DDP), said
        state = json.loads((tmp_path / out / "checkpoint-6" / "trainer_state.json").read_text())
        logs.append([entry["loss"] for entry in state["log_history"] if "loss" in entry])

    name = "adapter_model.safetensors" if "--use_peft" in kind else "model.safetensors"
    assert logs[0] == logs[1]
    assert (tmp_path / "plain" / name).read_bytes() == (tmp_path / "out" / name).read_bytes()
    (run,) = list_runs()
    assert len(lines_of(run.path, "step")) == 6
    assert lines_of(run.path, "run_finished")[0]["exit_code"] == 0


@pytest.mark.slow  # `trl sft`, and five commands while it trains
@KINDS
def test_trl_sft_is_frozen_anchored_and_stopped_from_outside(
    kind: tuple[str, ...], tiny_scene: Path, tmp_path: Path
) -> None:
    run, out = tmp_path / "run", tmp_path / "out"
    profile = tmp_path / "watch.toml"
    profile.write_text(PROFILE + "[anchor]\nrows = 4\ncache_size = 32\n")
    sf = [sys.executable, "-m", "sf_tui.cli"]
    watched = [*sf, "exec", "--profile", str(profile), "--old", str(tiny_scene / "old.jsonl")]
    watched += ["--run-dir", str(run), "--"]
    # Long enough never to end by itself.
    command = sft(tiny_scene, tmp_path / "data", out, "--max_steps", "100000", *kind)
    with (tmp_path / "log").open("w") as log:
        host = subprocess.Popen([*watched, *command], stdout=log, stderr=log)
    try:
        wait_until(lambda: (run / "events.jsonl").exists() and lines_of(run, "step"), host)
        asked = [["freeze", "--set", "layers=1"], ["checkpoint"], ["anchor"]]
        for words in asked:
            act = [*sf, "act", str(run), *words]
            done = subprocess.run(act, capture_output=True, text=True, check=False)
            assert done.returncode == 0, done.stderr
        (held,) = (entry["step"] for entry in lines_of(run, "command") if is_done(entry, "anchor"))
        wait_until(lambda: lines_of(run, "step")[-1]["step"] > held + 2, host)
        subprocess.run([*sf, "stop", str(run)], check=True, capture_output=True)
        assert host.wait(RUN_PATIENCE_S) == 0, (tmp_path / "log").read_text()
    finally:
        host.kill()
        host.wait()

    assert all("anchor" in step["losses"] for step in lines_of(run, "step")[-2:])
    (finished,) = lines_of(run, "run_finished")
    assert (finished["status"], finished["exit_code"]) == ("stopped", 5)
    numbers = sorted(int(one.name.split("-")[1]) for one in out.glob("checkpoint-*"))
    assert numbers[-1] == lines_of(run, "step")[-1]["step"]
    name = "adapter_model.safetensors" if "--use_peft" in kind else "model.safetensors"
    first, last = (load_file(out / f"checkpoint-{n}" / name) for n in (numbers[0], numbers[-1]))
    frozen = [key for key in first if ".layers.0." in key]
    free = [key for key in first if ".layers.1." in key]
    assert frozen
    assert free
    assert all(first[key].equal(last[key]) for key in frozen)
    assert not any(first[key].equal(last[key]) for key in free)


def is_done(command: dict[str, Any], action: str) -> bool:
    return (command["action"], command["status"]) == (action, "done")


def wait_until(reached: Callable[[], object], host: subprocess.Popen[bytes]) -> None:
    """Wait until something holds while a training runs."""
    deadline = time.monotonic() + RUN_PATIENCE_S
    while not reached():
        assert host.poll() is None, "the training ended"
        assert time.monotonic() < deadline, "the training has not got there"
        time.sleep(0.1)
