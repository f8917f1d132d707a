"""Prepares a run before its first step: device, model, tokenized data.

Reports all errors in a profile's files and models before training starts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from sf_tui.engine.adapters.stages import begin_new_adapter
from sf_tui.engine.batches import DrawnSource, EncodedSource, FixedSource
from sf_tui.engine.compiled import check_compiler
from sf_tui.engine.compute import ComputeSetting, choose_compute
from sf_tui.engine.generation_end import end_note, stop_at, stop_ids
from sf_tui.engine.layout import Freezer, ModelLayout
from sf_tui.engine.loading import LoadedModel, load_model
from sf_tui.engine.probing import Reference
from sf_tui.engine.ranks import ALONE, Ranks
from sf_tui.engine.sharding import divide
from sf_tui.errors import DataError, ModelError
from sf_tui.profile import ModelSettings, Profile, TaskSettings
from sf_tui.profile.names import HOST_DATA
from sf_tui.tasks.biography import biography_task
from sf_tui.tasks.encoded_examples import EncodedExamples, choose_metric, encode_all
from sf_tui.tasks.encoding import Encoded
from sf_tui.tasks.host_rows import host_task
from sf_tui.tasks.task import Example, FixedExamples, Task
from sf_tui.tasks.template import date_note, fix_date
from sf_tui.tasks.user_data import user_task
from sf_tui.vocabulary.sizes import counted

BIOGRAPHY = "biography:"

MOST_REPEATED = 1024
"""Largest batch size that may exceed its split's rows; such a batch repeats rows."""


@dataclass(frozen=True)
class PreparedTask:
    """One tokenized task."""

    task: Task
    metric: str
    """Name of the metric that charts, rules and guards use."""
    watch: bool
    train: EncodedSource
    held_out: Sequence[Encoded]
    mean_length: float
    """Mean number of tokens in a training example."""
    notes: tuple[str, ...]
    """Rows dropped because of the tokenizer or the length limit, with the reason."""

    @property
    def name(self) -> str:
        """The task's name."""
        return self.task.name


@dataclass(frozen=True)
class PreparedRun:
    """Model, data and settings for the stages."""

    profile: Profile
    compute: ComputeSetting
    loaded: LoadedModel
    layout: ModelLayout
    freezer: Freezer
    tasks: dict[str, PreparedTask]
    notes: tuple[str, ...] = ()
    """Notes on unexpected behavior of the model's chat template and generation settings."""
    ranks: Ranks = ALONE
    """The processes that train the model together."""
    reference: Reference | None = None
    """The start model's distributions on the answers that a task consists of; None without one."""

    def begin_stage(self, stage: str) -> None:
        """Prepare the model for a stage that starts: with a new adapter, if each stage has one."""
        settings, adapters = self.profile.adapter, self.layout.adapters
        place = [spec.name for spec in self.profile.stages()].index(stage)
        if settings is not None and settings.per_stage == "new" and place:
            assert adapters is not None  # [adapter] makes them
            begin_new_adapter(adapters, seed=self.profile.seed, stage=stage, place=place)


def starts_without_adapter(profile: Profile, stage: str) -> bool:
    """Return whether a stage's start model is the base with the adapter turned off.

    In later stages it is the adapter as it was then, or the sum of the finished ones. Where each
    stage has a new one, those of finished stages stay in use while the last is off; the first
    checkpoint of the first stage then is the base.
    """
    settings = profile.adapter
    if settings is None or settings.source is not None or settings.per_stage == "new":
        return False
    return profile.stages()[0].name == stage


def prepare_run(
    profile: Profile,
    threads: int | None,
    moment: datetime | None = None,
    ranks: Ranks = ALONE,
) -> PreparedRun:
    """Load the model and the tasks of a profile.

    Args:
        profile: the profile.
        threads: CPU threads used by an earlier part of the run, else None.
        moment: creation time of the run, used for dates in the chat template; None for now.
        ranks: the processes that train the model together; each prepares the same.

    Raises:
        ModelError: the model or its tokenizer can't be loaded, or nothing can be compiled.
        DataError: a task's data can't be used.
    """
    # Data first: it is fast to read and has most of the errors.
    tasks = {settings.name: read_task(profile, settings) for settings in profile.tasks}
    stages = [stage.train for stage in profile.stages()]
    compute = choose_compute(
        profile.model.dtype,
        threads or profile.train.threads,
        tf32=any(train.tf32 for train in stages),
    )
    if any(train.torch_compile for train in stages):
        check_compiler(compute.device)
    loaded = load_model_of(profile, compute, moment=moment)
    if ranks.lockstep:
        compute = replace(compute, in_step=ranks)
        loaded = _divided(loaded, ranks)
    layout = loaded.layout
    freezer = Freezer(layout)
    for action in profile.actions.values():
        if action.op == "freeze":
            wanted = action.own_arguments
            freezer.choose(wanted["layers"], embeddings=wanted["embeddings"])
    stops = stop_ids(loaded.model)
    prepared = {
        settings.name: prepare_task(profile, settings, tasks[settings.name], loaded)
        for settings in profile.tasks
    }
    missing = [token for token in stop_ids(loaded.model) if token not in stops]
    notes = (end_note(loaded.tokenizer, missing, stops), date_note(loaded.tokenizer))
    return PreparedRun(
        profile,
        compute,
        loaded,
        layout,
        freezer,
        prepared,
        tuple(note for note in notes if note),
        ranks,
    )


def _divided(loaded: LoadedModel, ranks: Ranks) -> LoadedModel:
    if loaded.composite is not None:
        raise ModelError(
            '[launch] sharding = "fsdp2" does not divide a model with a vision or audio part',
            'take sharding = "ddp"',
        )
    return replace(loaded, layout=divide(loaded.model, loaded.layout, ranks))


def load_model_of(
    profile: Profile,
    compute: ComputeSetting,
    settings: ModelSettings | None = None,
    moment: datetime | None = None,
) -> LoadedModel:
    """Load a profile's model, or a substitute, as the profile's stages need it.

    While it is loaded, its chat template writes the date of `moment`, or today's.
    """
    loaded = load_model(
        settings or profile.model,
        profile.base_dir,
        compute,
        seed=profile.seed,
        gradient_checkpointing=any(
            stage.train.gradient_checkpointing for stage in profile.stages()
        ),
        adapter=profile.adapter,
        stages=len(profile.stages()),
    )
    fix_date(loaded.tokenizer, moment or datetime.now())
    return loaded


def read_task(profile: Profile, settings: TaskSettings) -> Task:
    """Read or generate one task's data, without model or tokenizer."""
    if settings.data.startswith(BIOGRAPHY):
        made = biography_task(settings.data.removeprefix(BIOGRAPHY), profile.biography)
        return Task(settings.name, made.train, made.held_out, made.guess_floor, made.notes)
    if settings.data.startswith(HOST_DATA):
        return host_task(settings.name, profile.base_dir, settings.data)
    return user_task(settings, profile.base_dir, profile.seed)


def prepare_task(
    profile: Profile, settings: TaskSettings, task: Task, loaded: LoadedModel
) -> PreparedTask:
    """Encode a task's examples.

    Raises:
        DataError: no example is short enough, or an example can't be encoded.
    """
    trained = settings.name in {stage.task for stage in profile.stages()}
    encoded = trained or settings.name in profile.tasks_of_old_examples()
    held_out = encode_rows(profile, settings, task.held_out, loaded)
    # Nobody knows the rows that a loop of one's own trains on: such a task is not scored.
    unknown = settings.data == HOST_DATA
    if not held_out.rows and not unknown:
        raise DataError(
            f"[[tasks]] '{task.name}': no held-out row can be used: {_why(held_out)}",
            "raise [train] max_length, or shorten the rows",
        )
    train: EncodedSource
    notes = [f"held-out split: {note}" for note in held_out.notes()]
    if isinstance(task.train, FixedExamples):
        examples = task.train.examples if encoded else ()
        rows = encode_rows(profile, settings, examples, loaded)
        if trained and not rows.rows and not unknown:
            raise DataError(
                f"[[tasks]] '{task.name}': no row is left to train on: {_why(rows)}",
                "raise [train] max_length, shorten the rows, or hold fewer out",
            )
        notes += [f"training split: {note}" for note in rows.notes()]
        train = FixedSource(rows.rows)
        lengths = [len(row.input_ids) for row in rows.rows] if trained else []
    else:
        train = DrawnSource(task.train, loaded.tokenizer)
        lengths = []
    held_out_lengths = [len(row.input_ids) for row in held_out.rows]
    # Asked once: the answer takes a walk through all modules of the model.
    positions = loaded.max_length
    beyond = sum(length > (positions or length) for length in lengths + held_out_lengths)
    if beyond:
        notes.append(
            f"{counted(beyond, 'row')} {'has' if beyond == 1 else 'have'} more tokens than "
            f"the {positions} positions that the model was made for; what it answers there is "
            "uncertain"
        )
    if trained and profile.host is None:
        _refuse_batch(profile, settings.name, len(train))
    lengths = lengths or held_out_lengths
    return PreparedTask(
        task,
        metric_of(settings, held_out.rows),
        settings.watch,
        train,
        held_out.rows,
        sum(lengths) / max(len(lengths), 1),
        tuple(notes),
    )


def _refuse_batch(profile: Profile, task: str, rows: int) -> None:
    """Refuse a batch size above both the split's rows and `MOST_REPEATED`; it could fill memory."""
    for stage in profile.stages():
        size = stage.train.batch_size
        if stage.task == task and size > max(rows, MOST_REPEATED):
            raise DataError(
                f"[[tasks]] '{task}': [train] batch_size = {size} is more than the "
                f"{counted(rows, 'row')} to train on (stage '{stage.name}')",
                f"make it at most {max(rows, MOST_REPEATED)}; a batch larger than the split "
                "repeats its rows",
            )


def metric_of(settings: TaskSettings, rows: Sequence[Encoded]) -> str:
    """Return the metric of a task; `auto` depends on its rows."""
    return choose_metric(rows) if settings.metric == "auto" else settings.metric


def encode_rows(
    profile: Profile, settings: TaskSettings, examples: Sequence[Example], loaded: LoadedModel
) -> EncodedExamples:
    """Encode some of a task's examples, dropping those too long for its stage.

    Also makes the model's generation stop at the tokens that end their answers.
    """
    limit = loaded.row_limit(profile.stage_train(settings.name).max_length)
    encoded = encode_all(
        examples,
        loaded.tokenizer,
        limit,
        on_bad_row=settings.on_bad_row,
        control_tokens=settings.control_tokens,
    )
    stop_at(loaded.model, encoded.ends)
    return encoded


def _why(rows: EncodedExamples) -> str:
    return "; ".join(rows.notes()) or "the split left none"
