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
from sf_tui.integrations.processes import Decided, Processes, is_first_process
from sf_tui.integrations.refusals import trainer_refusals
from sf_tui.integrations.spread import bare
from sf_tui.integrations.step_meter import StepMeter
from sf_tui.integrations.watcher import Watcher, reason_of, tell_unwatched
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
        self._processes: Processes | None = None
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
            # A process that only follows needs none of it; the files may be on another machine.
            if is_first_process():
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
        if self._is_default and SfCallback._given:
            # The script has one with settings of its own; two would watch the same training.
            return
        self._meter.detach()
        self._processes = self._meet(given["model"])
        processes, settings = self._processes, self._settings
        if processes is None:
            return
        self._meter.attach(given["model"])
        if processes.is_first and settings is not None:
            processes.begin_work()
            self._watcher.begin(
                lambda: describe_trainer(args, state, given, self._command, processes),
                settings,
                self._run_dir,
            )
        hosted = self._watcher.hosted
        self._agree(save=False)
        self._meter.start()
        if hosted is not None:
            taken = {"run": str(hosted.run.path), "host": _host_of(args)[0], "pid": os.getpid()}
            mark("taken", json.dumps(taken))

    def on_step_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **given: Any
    ) -> None:
        """Note the rate of the step that begins."""
        if self._processes is not None:
            self._learning_rate = float(given["optimizer"].param_groups[0]["lr"])
            self._meter.start()

    def on_pre_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **given: Any
    ) -> None:
        """Add the anchor's gradient, which the host has clipped its own before."""
        if self._processes is not None:
            self._meter.is_on = False
            self._watcher.before_update()
            self._processes.share_gradients()
            self._meter.is_on = True

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **given: Any
    ) -> None:
        """Record the step, probe if one is due, and do what is asked for, in every process."""
        processes = self._processes
        if processes is None:
            return
        self._meter.is_on = False
        step = self._meter.take()
        is_share = step.is_share and bool(getattr(args, "average_tokens_across_devices", True))
        loss, tokens = processes.measured(step.loss, step.tokens, is_share=is_share)
        processes.begin_work()
        outcome = StepOutcome(loss, float("nan"), self._learning_rate, tokens / step.seconds)
        wanted = self._watcher.after_step(lambda: outcome)
        decided = self._agree(save=wanted)
        self._meter.is_on = True
        control.should_training_stop = control.should_training_stop or decided.stop
        control.should_save = control.should_save or decided.save

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
        if self._processes is not None:
            self._processes.begin_work()
            self._watcher.end()
            self._agree(save=False)

    def _meet(self, model: Any) -> Processes | None:
        """Return the training's processes; None if it isn't watched."""
        watches = self._settings is not None
        try:
            return Processes(model, bare_model(model), watches=watches)
        except Exception as error:
            # Whatever is wrong with a model or a launch that is not ours, the training goes on.
            if watches and is_first_process():
                tell_unwatched(reason_of(error))
            return None

    def _agree(self, *, save: bool) -> Decided:
        """Do in every process what the first one decided; leave them if it watches no longer."""
        assert self._processes is not None  # asked by the caller
        watcher = self._watcher
        decided = self._processes.agree(
            Decided(
                stop=watcher.should_stop,
                save=save,
                adds=watcher.adds_gradients,
                weights=watcher.changed_weights,
                over=watcher.hosted is None,
            )
        )
        if decided.over:
            self._processes = None
            self._meter.detach()
        return decided


def describe_trainer(
    args: TrainingArguments,
    state: TrainerState,
    given: dict[str, Any],
    command: list[str],
    processes: Processes,
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
        notes=[*notes, *processes.spread.notes()],
        refusals=trainer_refusals(args, name, processes.spread),
        watch=processes.watch,
        layout=processes.layout,
    )


def bare_model(model: Any) -> Any:
    """Return a model without wrappers: of several processes, of compilation, of an adapter.

    Raises:
        ModelError: the adapter is no part of the model's layers.
    """
    return unwrapped(bare(model))


def _host_of(args: TrainingArguments) -> tuple[str, str]:
    package = type(args).__module__.partition(".")[0]
    return _HOSTS.get(package, ("transformers", "transformers"))


def _version_of(distribution: str) -> str | None:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return None


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
