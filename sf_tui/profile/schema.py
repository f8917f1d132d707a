"""The schema of a profile: the tables and keys of its TOML file, their types, ranges and defaults.

Knows the meaning of each key (`sf profile init` writes the descriptions) and the training settings
of each stage. Rules between keys and defaults that depend on other keys are in `load`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import Field, PrivateAttr

from sf_tui.errors import UsageError, did_you_mean
from sf_tui.profile.action_schema import Action, Rule
from sf_tui.profile.adapter_schema import AdapterSettings
from sf_tui.profile.host_schema import HostSettings
from sf_tui.profile.names import REPLAY_STAGE, Dtype
from sf_tui.profile.recovery_schema import DiagnoseSettings, RecoverSettings
from sf_tui.profile.train_schema import (
    NeighborSettings,
    ReplayStageSettings,
    StrictTable,
    TrainSettings,
    overlay_train,
    replay_stage_base,
    take_in_strategies,
)
from sf_tui.profile.values import (
    Count,
    CountOrZero,
    FieldNames,
    HeldOut,
    Line,
    Name,
    NotNegative,
    Part,
    PlainTable,
    ProfileName,
    RowCount,
    Seed,
    Share,
    TaskMetric,
)
from sf_tui.vocabulary.strategies import AnchorSettings, StrategySettings, strategy_declared


class ModelSettings(StrictTable):
    """`[model]`: the source of the weights and the tokenizer."""

    source: Line = Field(
        description="starter:NAME, package:NAME/FILE (a Python package's), a directory, "
        "a Hugging Face id, a .gguf file, or random"
    )
    config: PlainTable = Field(
        default={},
        description="configuration of a random model: model_type and its keys",
    )
    tokenizer: Line | None = Field(
        default=None,
        description="a directory, a Hugging Face id or biography; default: the model's own",
    )
    dtype: Dtype = Field(
        default="auto", description="auto: bf16 autocast over fp32 weights on a GPU, fp32 on a CPU"
    )
    trust_remote_code: bool = Field(
        default=False, description="run model code that comes with a Hugging Face id"
    )
    revision: Line | None = Field(
        default=None, description="branch, tag or commit of a Hugging Face id"
    )


class TaskSettings(StrictTable):
    """`[[tasks]]`: named data, in the order of training."""

    name: Name = Field(description="name in charts, rules and events")
    data: Line = Field(
        description="biography:NAME, a JSONL, JSON, CSV or parquet file, or a datasets id"
    )
    metric: TaskMetric = Field(
        default="auto",
        description="metric of charts and rules; auto: exact_match, or token_accuracy if long",
    )
    learn: bool = Field(
        default=False,
        description="true: train the first task too; later tasks are always trained",
    )
    watch: bool = Field(
        default=True,
        description="false: probed, but not counted as an old task in drop and guards",
    )
    held_out: HeldOut = Field(
        default=None,
        description="a share, a number of rows or a file; default: 10 % of the rows, <= 512",
    )
    group: Line | None = Field(
        default=None, description="a field; rows with the same value stay on one side of the split"
    )
    fields: FieldNames = Field(
        default={},
        description="your field for each role: a name, or a text with {names} in it",
    )
    on_bad_row: Literal["error", "skip"] = Field(
        default="error", description="on a bad row: stop, or omit and count it"
    )
    control_tokens: Literal["text", "keep", "error"] = Field(
        default="text",
        description="control tokens in a row's text: encoded as text, kept, or a bad row",
    )
    split: Line | None = Field(default=None, description="the split of a datasets id")
    subset: Line | None = Field(default=None, description="the subset of a datasets id")
    train: PlainTable = Field(default={}, description="keys of [train] for this task's stage only")


class BiographySettings(StrictTable):
    """`[biography]`: the generator behind "biography:…" data."""

    people: RowCount = Field(default=400, description="people in the pretraining data")
    train_share: Part = Field(
        default=0.75, description="share of people that the old task trains on"
    )
    new_people: RowCount = Field(default=25, description="people in each new task")
    question_form: Literal["same", "other"] = Field(
        default="same",
        description="same: new tasks ask in the old task's words; other: in words of their own",
    )
    seed: Seed = Field(default=0, description="seed of the people and their facts")
    new_seed: Seed = Field(default=0, description="seed of the new people")


class ProbeSettings(StrictTable):
    """`[probe]`: how often all tasks are measured, and at what cost."""

    every: Count = Field(
        default=25, description="steps between probes; a multiple if the budget is too small"
    )
    every_in_window: Count = Field(
        default=5, description="steps between probes in the danger window"
    )
    budget: Share = Field(default=0.03, description="share of the compute that probes may use")
    budget_in_window: Share = Field(default=0.10, description="the same in the danger window")
    examples: Count | None = Field(
        default=None,
        description="held-out examples per probe; default: by the budget, >= 50 of an old task",
    )
    batch_size: RowCount | None = Field(
        default=None, description="examples per pass; default: chosen"
    )


class CheckpointSettings(StrictTable):
    """`[checkpoint]`: how often the state is saved, and what is kept."""

    every: Count = Field(default=100, description="steps between checkpoints")
    keep_last: Count = Field(default=2, description="number of latest checkpoints kept")
    keep_best: CountOrZero = Field(default=1, description="number of best checkpoints kept")


class WindowSettings(StrictTable):
    """`[window]`: the danger window at the start of a stage."""

    steps: CountOrZero = Field(default=150, description="length in optimizer steps")
    alert_drop: Share = Field(
        default=0.20, description="drop that raises an alert, once its interval is past it"
    )


class GuardSettings(StrictTable):
    """`[guard]`: bounds that decide the exit code of a headless run."""

    old_accuracy: Share | None = Field(
        default=None, description="least final accuracy of every watched old task"
    )
    new_accuracy: Share | None = Field(
        default=None, description="least final accuracy of the last task"
    )


class ConsoleSettings(StrictTable):
    """`[console]`: what the console and `sf wait` do by themselves."""

    bell: bool = Field(
        default=False, description="ring the terminal's bell at warnings and at the run's end"
    )


class LaunchSettings(StrictTable):
    """`[launch]`: the processes that train together; `torchrun` overrides their number."""

    processes: Count | Literal["gpus"] = Field(
        default=1, description='number of processes on this machine, or "gpus": one per GPU'
    )
    sharding: Literal["ddp", "fsdp2"] = Field(
        default="ddp", description="ddp: each process holds the whole model; fsdp2: a part of it"
    )


class CostSettings(StrictTable):
    """`[cost]`: the price of the machine."""

    gpu_hour: NotNegative | None = Field(default=None, description="price of one GPU hour")


@dataclass(frozen=True)
class StageSpec:
    """One stage of a run: a task and its training settings."""

    name: str
    task: str
    train: TrainSettings


class Profile(StrictTable):
    """A whole profile; `load_profile` returns one that is checked, resolved and complete."""

    name: ProfileName = Field(description="the profile's name, part of the run's id")
    description: str = Field(default="", description="purpose of the profile")
    seed: Seed = Field(default=0, description="seed of the data order and all other randomness")
    model: ModelSettings
    tasks: list[TaskSettings]
    biography: BiographySettings = Field(default_factory=BiographySettings)
    adapter: AdapterSettings | None = None
    train: TrainSettings = Field(default_factory=TrainSettings)
    anchor: AnchorSettings = Field(default_factory=AnchorSettings)
    neighbors: NeighborSettings = Field(default_factory=NeighborSettings)
    replay_stage: ReplayStageSettings = Field(default_factory=ReplayStageSettings)
    diagnose: DiagnoseSettings = Field(default_factory=DiagnoseSettings)
    recover: RecoverSettings = Field(default_factory=RecoverSettings)
    probe: ProbeSettings = Field(default_factory=ProbeSettings)
    checkpoint: CheckpointSettings = Field(default_factory=CheckpointSettings)
    window: WindowSettings = Field(default_factory=WindowSettings)
    rules: list[Rule] = Field(default_factory=list)
    actions: dict[str, Action] = Field(default_factory=dict)
    guard: GuardSettings = Field(default_factory=GuardSettings)
    console: ConsoleSettings = Field(default_factory=ConsoleSettings)
    cost: CostSettings = Field(default_factory=CostSettings)
    launch: LaunchSettings = Field(default_factory=LaunchSettings)
    host: HostSettings | None = None

    _base_dir: Path = PrivateAttr(default_factory=Path.cwd)
    _notes: tuple[str, ...] = PrivateAttr(default=())

    @property
    def base_dir(self) -> Path:
        """The folder where relative paths start; loading makes them absolute."""
        return self._base_dir

    @property
    def notes(self) -> tuple[str, ...]:
        """Notes for the user: settings without effect."""
        return self._notes

    def __eq__(self, other: object) -> bool:
        """Compare contents, not where the profiles were read from."""
        return isinstance(other, Profile) and self.__dict__ == other.__dict__

    __hash__ = None  # type: ignore[assignment]

    def task(self, name: str) -> TaskSettings:
        """Return the task of this name; UsageError with the nearest name if there is none."""
        for task in self.tasks:
            if task.name == name:
                return task
        names = [task.name for task in self.tasks]
        raise UsageError(f"no task is named '{name}'", did_you_mean(name, names, "tasks"))

    def action(self, name: str) -> Action:
        """Return the action of this name; UsageError with the nearest name if there is none."""
        if name in self.actions:
            return self.actions[name]
        raise UsageError(
            f"no action is named '{name}'", did_you_mean(name, self.actions, "actions")
        )

    def stage_train(self, task_name: str) -> TrainSettings:
        """Return the training settings of a task's stage or of the stage `replay`."""
        if task_name == REPLAY_STAGE:
            own = {**self.replay_stage.train, "steps": self.replay_stage.steps}
            base = replay_stage_base(self.train, own)
        else:
            own = self.task(task_name).train
            if not own:
                return self.train
            base = self.train.model_dump(exclude_none=True)
        return TrainSettings.model_validate(overlay_train(base, own))

    def stages(self) -> list[StageSpec]:
        """Return the stages in order; each but `replay` has its task's name."""
        trained = [
            task.name
            for place, task in enumerate(self.tasks)
            if (place or task.learn if self.host is None else task is self.tasks[-1])
        ]
        stages = [StageSpec(name, name, self.stage_train(name)) for name in trained]
        if self.replay_stage.steps:
            recovered = self.replay_stage.task or self.watched_tasks()[0]
            stages.append(StageSpec(REPLAY_STAGE, recovered, self.stage_train(REPLAY_STAGE)))
        return stages

    def watched_tasks(self) -> list[str]:
        """Return the names of the tasks that can become old tasks, in order."""
        return [task.name for task in self.tasks if task.watch]

    def old_data_access(self, stage: StageSpec) -> str:
        """Return what a stage is trained on of earlier tasks' data, in words."""
        train = stage.train
        begun_with_old = [
            one.name for one, known in self.stages_with_known() if set(known) - {one.task}
        ]
        strategys = train.declaration.old_data(
            self.strategy_settings(train.strategy, train),
            # The first such stage is held to its own start, which knows all that was taught.
            taught=stage.name in begun_with_old[1:],
        )
        if stage.name != REPLAY_STAGE:
            return strategys
        whole = f"every training example of '{stage.task}'"
        return whole if strategys == "none" else f"{whole}, {strategys}"

    def tasks_of_old_examples(self) -> set[str]:
        """Return the tasks whose training examples a later stage's strategy needs."""
        needed: set[str] = set()
        for spec, known in self.stages_with_known():
            if "old_examples" in spec.train.declaration.needs:
                needed |= {name for name in known if name != spec.task}
        return needed

    def stages_with_known(self) -> Iterator[tuple[StageSpec, list[str]]]:
        """Return the stages in order, each with the tasks learned before it."""
        first = self.tasks[:1] if self.host is None else self.tasks[:-1]
        known = [task.name for task in first if not task.learn]
        for spec in self.stages():
            yield spec, known
            known = known if spec.task in known else [*known, spec.task]

    def strategy_settings(self, name: str, train: TrainSettings) -> StrategySettings | None:
        """Return a strategy's settings for a stage, with defaults if its table isn't given.

        Args:
            name: the strategy.
            train: the stage's training settings.
        """
        declaration = strategy_declared(name)
        if declaration.settings is None:
            return None
        key = declaration.train_key
        given = train.table(key) if key else getattr(self, declaration.table)
        if given is None and declaration.needs_table:
            return None
        settings: StrategySettings = declaration.settings() if given is None else given
        return settings


def current_schema() -> type[Profile]:
    """Return `Profile` with all strategies registered so far."""
    take_in_strategies(Profile)
    return Profile
