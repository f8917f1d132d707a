"""`SfCallback`: watches and acts in a training of transformers' `Trainer` or of TRL."""

from __future__ import annotations

import json
import os
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, ClassVar
from weakref import WeakSet

import torch
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from sf_tui.engine.adapters.layers import unwrapped
from sf_tui.engine.loop import StepOutcome
from sf_tui.errors import RunError, SfError, UsageError
from sf_tui.home import user_path
from sf_tui.integrations.adapter_table import adapter_table
from sf_tui.integrations.exec_marks import VARIABLE, mark
from sf_tui.integrations.host import Host
from sf_tui.integrations.host_profile import Old, Settings
from sf_tui.integrations.host_rows import rows_of_loader
from sf_tui.integrations.refusals import trainer_refusals
from sf_tui.integrations.step_meter import StepMeter
from sf_tui.integrations.watcher import Watcher, tell_unwatched
from sf_tui.worker.stop import one_line

_HOSTS = {
    "trl": ("trl", "trl"),
    "axolotl": ("axolotl", "axolotl"),
    "llamafactory": ("llamafactory", "llamafactory"),
    "swift": ("ms-swift", "ms-swift"),
}
"""By the package of its arguments: a host's name, and its distribution."""

_SCHEDULES = ("constant", "linear", "cosine")


class SfCallback(TrainerCallback):
    """Watches a `Trainer`: `Trainer(..., callbacks=[SfCallback(old="old.jsonl")])`.

    Args:
        old: examples of the old task in any format that `sf` reads: a file, several, or files by
            name of their task. None: the start model's answers to neighbor prompts are watched.
        profile: a TOML file with rules, actions, guard, window, probe, anchor, diagnose, recover.
        run_dir: the run directory; default: a new one among the others.
        name: name of the run's profile, part of the run's id.

    Raises SfError if a file doesn't exist or the profile has mistakes. Later errors end the
    watching, never the training.
    """

    _given: ClassVar[WeakSet[SfCallback]] = WeakSet()
    """Those of this process that a script made, not `sf exec`."""

    def __init__(
        self,
        old: Old = None,
        profile: str | Path | None = None,
        run_dir: str | Path | None = None,
        name: str | None = None,
    ) -> None:
        self._settings: Settings | None = Settings.read(old, profile, name)
        self._run_dir = None if run_dir is None else user_path(str(run_dir)).absolute()
        self._command: list[str] = [sys.executable, *sys.argv]
        self._is_default = False
        SfCallback._given.add(self)
        self._watcher = Watcher()
        self._meter = StepMeter()
        self._learning_rate = 0.0

    @classmethod
    def from_environment(cls) -> SfCallback:
        """Return the callback that `sf exec` asks for in the environment; inert after an error."""
        place = os.environ.get(VARIABLE, "")
        try:
            asked = _read_request(Path(place))
            callback = cls(asked.get("old"), asked.get("profile"), asked.get("run_dir"))
            callback._command = list(asked.get("command") or callback._command)
        except SfError as error:
            tell_unwatched(one_line(error))
            callback = cls()
            callback._settings = None
        callback._is_default = True
        SfCallback._given.discard(callback)
        return callback

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **given: Any
    ) -> None:
        """Begin the run, or continue the one that the training resumes."""
        settings = self._settings
        if settings is None or not state.is_world_process_zero:
            return
        if self._is_default and SfCallback._given:
            # The script has one with settings of its own; two would watch the same training.
            return
        self._meter.detach()
        sharded = _sharding(args)
        if sharded:
            tell_unwatched(f"{sharded} spreads the model over processes")
            return
        self._watcher.begin(
            lambda: describe_trainer(args, state, given, self._command), settings, self._run_dir
        )
        hosted = self._watcher.hosted
        if hosted is None:
            return
        self._meter.attach(given["model"])
        self._meter.start()
        taken = {"run": str(hosted.run.path), "host": _host_of(args)[0], "pid": os.getpid()}
        mark("taken", json.dumps(taken))

    def on_step_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **given: Any
    ) -> None:
        """Note the rate of the step that begins."""
        if self._watcher.hosted is not None:
            self._learning_rate = float(given["optimizer"].param_groups[0]["lr"])
            self._meter.start()

    def on_pre_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **given: Any
    ) -> None:
        """Add the anchor's gradient, which the host has clipped its own before."""
        if self._watcher.hosted is not None:
            self._meter.is_on = False
            self._watcher.before_update()
            self._meter.is_on = True

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **given: Any
    ) -> None:
        """Record the step, probe if one is due, and do what is asked for."""
        wanted = False
        if self._watcher.hosted is not None:
            self._meter.is_on = False
            wanted = self._watcher.after_step(self._outcome)
            self._meter.is_on = True
        stop, save = _agree(args, self._watcher.should_stop, wanted)
        control.should_training_stop = control.should_training_stop or stop
        control.should_save = control.should_save or save

    def on_save(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **given: Any
    ) -> None:
        """Record the host's checkpoint."""
        folder = Path(args.output_dir or ".") / f"checkpoint-{state.global_step}"
        if folder.is_dir():
            self._watcher.saved(folder)

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **given: Any
    ) -> None:
        """End the run."""
        self._meter.detach()
        self._watcher.end()

    def _outcome(self) -> StepOutcome:
        loss, speed = self._meter.take()
        return StepOutcome(loss, float("nan"), self._learning_rate, speed)


def describe_trainer(
    args: TrainingArguments, state: TrainerState, given: dict[str, Any], command: list[str]
) -> Host:
    """Return a Trainer's training, from what it passes to its callbacks.

    Raises:
        RunError: it has no tokenizer.
    """
    name, distribution = _host_of(args)
    processing = given.get("processing_class") or given.get("tokenizer")
    tokenizer = getattr(processing, "tokenizer", processing)
    if tokenizer is None:
        raise RunError(
            "the Trainer has no tokenizer", "pass it: Trainer(..., processing_class=tokenizer)"
        )
    model = bare_model(given["model"])
    optimizer = given["optimizer"]
    rate = max(float(args.learning_rate), 1e-12)
    train: dict[str, Any] = {
        "learning_rate": rate,
        "batch_size": args.train_batch_size * args.gradient_accumulation_steps * args.world_size,
        "micro_batch_size": args.per_device_train_batch_size,
        "steps": int(state.max_steps),
        "weight_decay": float(args.weight_decay),
        "max_grad_norm": float(args.max_grad_norm or 0.0),
        "gradient_checkpointing": bool(args.gradient_checkpointing),
    }
    schedule = str(getattr(args.lr_scheduler_type, "value", args.lr_scheduler_type))
    if schedule in _SCHEDULES:
        train["lr_schedule"] = schedule
    rows, notes = rows_of_loader(given.get("train_dataloader"), tokenizer)
    longest = getattr(args, "max_length", None) or getattr(args, "max_seq_length", None)
    if longest:
        train["max_length"] = int(longest)
    return Host(
        name=name,
        version=_version_of(distribution),
        command=command,
        output_dir=Path(args.output_dir).absolute() if args.output_dir else None,
        model=model,
        model_source=str(getattr(model, "name_or_path", "") or ""),
        optimizer=getattr(optimizer, "optimizer", optimizer),
        tokenizer=tokenizer,
        step=int(state.global_step),
        total_steps=int(state.max_steps),
        train=train,
        adapter=adapter_table(given["model"], model),
        autocast=torch.bfloat16 if args.bf16 else torch.float16 if args.fp16 else None,
        max_grad_norm=float(args.max_grad_norm or 0.0),
        train_rows=rows,
        notes=notes,
        refusals=trainer_refusals(args, name),
    )


def bare_model(model: Any) -> Any:
    """Return a model without wrappers: of several processes, of compilation, of an adapter.

    Raises:
        ModelError: the adapter is no part of the model's layers.
    """
    model = getattr(model, "_orig_mod", model)
    while hasattr(model, "module") and isinstance(model.module, torch.nn.Module):
        model = model.module
    model = getattr(model, "_orig_mod", model)
    return unwrapped(model)


def _host_of(args: TrainingArguments) -> tuple[str, str]:
    package = type(args).__module__.partition(".")[0]
    return _HOSTS.get(package, ("transformers", "transformers"))


def _version_of(distribution: str) -> str | None:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return None


def _sharding(args: TrainingArguments) -> str:
    """Return what spreads one model over several processes; empty for nothing."""
    if getattr(args, "deepspeed", None) or os.environ.get("ACCELERATE_USE_DEEPSPEED") == "true":
        return "DeepSpeed"
    if getattr(args, "fsdp", None) or os.environ.get("ACCELERATE_USE_FSDP") == "true":
        return "FSDP"
    return ""


def _agree(args: TrainingArguments, stop: bool, save: bool) -> tuple[bool, bool]:
    """Return the first process's decisions, in every process."""
    distributed: Any = torch.distributed
    if args.world_size < 2 or not distributed.is_available() or not distributed.is_initialized():
        return stop, save
    flags = torch.tensor([int(stop), int(save)], device=args.device)
    distributed.broadcast(flags, src=0)
    return bool(flags[0]), bool(flags[1])


def _read_request(path: Path) -> dict[str, Any]:
    try:
        asked = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UsageError(
            f"${VARIABLE} = {path}: can't be read: {error}", "it is written by `sf exec`"
        ) from error
    if not isinstance(asked, dict):
        raise UsageError(f"${VARIABLE} = {path}: not an object", "it is written by `sf exec`")
    return asked
