"""The run directory of a host's training: found or made, filled with its rows, and prepared."""

from __future__ import annotations

import copy
from contextlib import nullcontext
from dataclasses import replace
from datetime import datetime
from pathlib import Path

from sf_tui.cases.host_adapter import keep_adapter
from sf_tui.engine.checkpoint import Checkpoint, read_checkpoint
from sf_tui.engine.checkpoint_state import parse_state
from sf_tui.engine.layout import Freezer, read_layout
from sf_tui.engine.loading import AdapterBase, LoadedModel
from sf_tui.engine.prepare import (
    PreparedRun,
    PreparedTask,
    prepare_task,
    read_task,
    starts_without_adapter,
)
from sf_tui.errors import RunError
from sf_tui.integrations.host import Host, host_compute
from sf_tui.integrations.host_profile import (
    NEIGHBORS,
    NEW,
    ROWS,
    Settings,
    host_profile,
    scored_rows,
)
from sf_tui.masking import mask_argv
from sf_tui.neighbors.anatomy import prompts_of
from sf_tui.neighbors.start_answers import StartAnswers
from sf_tui.profile import Profile
from sf_tui.profile.write import dump_profile
from sf_tui.run.directory import RunDirectory, list_runs, new_run_id, runs_home
from sf_tui.run.liveness import probe_liveness
from sf_tui.tasks.host_rows import host_file, write_host_rows
from sf_tui.tasks.template import fix_date
from sf_tui.worker.stage_bank import StageBank, start_model

NEIGHBORS_PROBED = 128
"""Neighbor prompts that are measured: a change of 12 points in their answers is then certain."""


def earlier_run(host: Host, run_dir: Path | None) -> RunDirectory | None:
    """Return the run that a resumed host continues; None if it has none."""
    if host.step == 0:
        return None
    if run_dir is not None:
        return RunDirectory(run_dir) if (run_dir / "run.json").is_file() else None
    if host.output_dir is None:
        return None
    for run in list_runs():
        try:
            facts = run.read_run_json()
        except RunError:
            # Someone else's damaged run is none of this training's.
            continue
        if facts.get("output_dir") == str(host.output_dir) and not probe_liveness(run).has_worker:
            return run
    return None


def make_run(host: Host, settings: Settings, run_dir: Path | None) -> RunDirectory:
    """Make the run directory of a training that begins, with the rows that it trains on.

    Raises:
        SfError: there is nothing to probe, or the directory can't be made.
    """
    # Answers are generated, and each of the passes would have to be everyone's.
    has_prompts = host.layout is None and bool(prompts_of(host.train_rows))
    rows = bool(host.train_rows)
    profile = host_profile(
        settings,
        {
            "name": host.name,
            "version": host.version,
            "command": mask_argv(host.command),
            "output_dir": None if host.output_dir is None else str(host.output_dir),
        },
        host.train,
        _source_of(host),
        new=ROWS[NEW] if rows else "host:",
        neighbors=has_prompts and not settings.has_old,
        held_out={name: scored_rows(path) for name, path in settings.old.items()},
        adapter=host.adapter,
        surveys=host.layout is None,
    )
    if not settings.has_old and not has_prompts:
        raise RunError(
            "there is nothing to probe: no old examples are given, and the host's rows have no "
            "prompts to make neighbors of, or its weights are sharded",
            "give old examples with old=…",
        )
    path = run_dir or runs_home() / new_run_id(profile.name)
    path.parent.mkdir(parents=True, exist_ok=True)
    run = RunDirectory.create(
        path,
        profile_text=dump_profile(profile),
        profile_name=profile.name,
        argv=list(host.command),
    )
    file = host_file(run.path, ROWS[NEW])
    if rows and file is not None:
        write_host_rows(file, host.train_rows, host.held_out_rows)
    if host.layout is not None:
        # A shard of an adapter can't be put on its base.
        return run
    try:
        keep_adapter(run, host.model, profile.model.source)
    except OSError as error:
        raise RunError(
            f"{run.host}: the adapter's start can't be written: {error.strerror or error}",
            "free space on the disk, or choose another place for the run",
        ) from error
    return run


def _source_of(host: Host) -> str:
    source = host.model_source
    if source and Path(source).exists():
        return str(Path(source).absolute())
    # A model made in memory: the host's own folder will hold it.
    return source or str(host.output_dir or "unknown")


def prepare_host(run: RunDirectory, profile: Profile, host: Host) -> PreparedRun:
    """Return the host's model and the run's tasks; the host's tokenizer stays as it is."""
    tokenizer = copy.deepcopy(host.tokenizer)
    fix_date(tokenizer, run.created or datetime.now())
    layout = host.layout or read_layout(host.model)
    base = AdapterBase(profile.model.source) if layout.adapters is not None else None
    loaded = LoadedModel(host.model, tokenizer, layout, base=base)
    freezer = Freezer(layout)
    compute = host_compute(host)
    prepared = PreparedRun(profile, compute, loaded, layout, freezer, {})
    settings = {task.name: task for task in profile.tasks}

    def add(name: str) -> None:
        task = prepare_task(profile, settings[name], read_task(profile, settings[name]), loaded)
        prepared.tasks[name] = task

    add(NEW)
    if NEIGHBORS in settings:
        prepared = replace(prepared, reference=_start_answers(run, prepared))
    for name in settings:
        if name != NEW:
            add(name)
    prepared.tasks[NEW] = _with_length(prepared.tasks.pop(NEW), list(prepared.tasks.values()))
    return prepared


def _with_length(task: PreparedTask, others: list[PreparedTask]) -> PreparedTask:
    """Return a task without rows with the mean length of the others, for the cost of a probe."""
    if len(task.train) or not others:
        return task
    return replace(task, mean_length=sum(one.mean_length for one in others) / len(others))


def _start_answers(run: RunDirectory, prepared: PreparedRun) -> StartAnswers | None:
    """Return the start model's answers to neighbor prompts, which are asked for once.

    None if a resumed run has lost their probabilities: the start model is gone.
    """
    file, folder = host_file(run.path, ROWS[NEIGHBORS]), run.host / "neighbors"
    assert file is not None
    (spec,) = prepared.profile.stages()
    bank = StageBank(prepared, spec, probed=NEIGHBORS_PROBED)
    if file.exists():
        kept = bank.read(folder)
        return None if kept is None else StartAnswers(kept)
    adapters = prepared.layout.adapters
    without = adapters is not None and starts_without_adapter(prepared.profile, spec.name)
    with adapters.off() if adapters is not None and without else nullcontext():
        answered = bank.build(start_model(prepared, spec), folder)
    write_host_rows(file, (), answered.rows)
    return StartAnswers(answered)


def state_file(run: RunDirectory, step: int) -> Path:
    """Return the file with what a resume from the host's checkpoint of a step needs."""
    return run.host / f"step-{step:06d}.json"


def resume_point(run: RunDirectory, stage: str, host_step: int) -> tuple[Checkpoint, int] | None:
    """Return what was kept at the host's checkpoint, or last before it, with the stage's step."""
    start = read_checkpoint(run.checkpoints / stage / "step-000000")
    if start is None:
        return None
    first = int(start.state.get("host_step", 0))
    step = host_step - first
    found = [start]
    for file in sorted(run.host.glob("step-*.json")):
        state = parse_state(file.read_bytes(), file)
        if state["step"] <= step:
            found.append(Checkpoint(file, state))
    return max(found, key=lambda one: one.step), step
