"""Reads the folder that transformers' Trainer leaves: its checkpoints, its log, its final model.

TRL, axolotl, LLaMA-Factory and ms-swift write the same layout. All of it is external input: names,
JSON and safetensors headers decide whether it can be used, and no pickle is ever opened. Reads no
tensor.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sf_tui.cases.inputs import digest_file
from sf_tui.engine.adapters.files import ADAPTER_CONFIG, ADAPTER_WEIGHTS, adapter_place
from sf_tui.engine.model_files import INDEX, SINGLE, SUFFIX, find_weights, read_headers
from sf_tui.errors import ModelError, UsageError
from sf_tui.integrations.trainer_state import (
    MOST_STEPS,
    STATE_NAME,
    TrainerState,
    read_trainer_state,
)
from sf_tui.printable import printable
from sf_tui.run.durable import reason_of
from sf_tui.run.references import FileFacts, WeightFiles
from sf_tui.tasks.model_source import read_model_config

_CHECKPOINT = re.compile(r"checkpoint-([0-9]+)")
_PICKLES = ("pytorch_model*.bin", "adapter_model.bin", "*.pt", "*.pth", "*.ckpt")
_SHARDED = (
    ("pytorch_model_fsdp_*", "FSDP"),
    ("*.distcp", "FSDP"),
    ("global_step*", "DeepSpeed"),
    ("zero_to_fp32.py", "DeepSpeed"),
)
_ADAPTER_SHAPE = (
    *("peft_type", "r", "lora_alpha", "use_rslora", "use_dora", "target_modules"),
    *("rank_pattern", "alpha_pattern", "modules_to_save", "bias"),
)
"""Keys of an adapter's configuration that decide what its tensors mean."""
_SKIP = "move the folder away to import the other checkpoints"


@dataclass(frozen=True)
class SavedWeights:
    """Weights that the training wrote after a step."""

    step: int
    weights: WeightFiles

    @property
    def folder(self) -> Path:
        """Where they are."""
        return self.weights.folder


@dataclass(frozen=True)
class TrainerOutput:
    """A finished training's folder.

    Attributes:
        folder: the folder.
        saved: the weights after each saved step, in order of the step.
        state: the Trainer's log; None if it has none.
        notes: for the user: what is not imported, and why.
    """

    folder: Path
    saved: tuple[SavedWeights, ...]
    state: TrainerState | None
    notes: tuple[str, ...]

    @property
    def steps(self) -> int:
        """Optimizer steps of the training."""
        return max(self.saved[-1].step, self.state.step if self.state is not None else 0)

    @property
    def is_adapter(self) -> bool:
        """Whether the training tuned an adapter."""
        return self.saved[0].weights.is_adapter

    @property
    def tokenizer(self) -> Path | None:
        """The folder with the tokenizer that the training used; None if it saved none."""
        for place in (self.folder, *(at.folder for at in reversed(self.saved))):
            if (place / "tokenizer.json").is_file() or (place / "tokenizer.model").is_file():
                return place
        return None


def read_output(folder: Path) -> TrainerOutput:
    """Read a finished training's folder.

    Raises:
        UsageError: it holds no checkpoint.
        ModelError: weights are pickled, sharded by a distributed training, incomplete or damaged.
        DataError: the log is damaged.
    """
    found = _checkpoint_folders(folder)
    saved = [SavedWeights(step, weights_in(place)) for step, place in sorted(found.items())]
    state = _newest_state(folder, saved)
    notes: list[str] = []
    final = _final_weights(folder)
    if final is not None:
        saved += _placed(final, saved, state, notes)
    if not saved:
        raise UsageError(f"{folder}: {_what_is_missing(final)}", _what_instead(folder))
    kinds = {at.weights.is_adapter for at in saved}
    if len(kinds) > 1:
        adapter = next(at for at in saved if at.weights.is_adapter)
        whole = next(at for at in saved if not at.weights.is_adapter)
        raise ModelError(
            f"{folder}: {adapter.folder} is an adapter and {whole.folder} a whole model",
            "these are two trainings: move one of them away",
        )
    if state is None:
        notes.append(f"no {STATE_NAME} in it or in its checkpoints: there is no loss curve")
    elif not state.logged:
        notes.append(f"{state.path}: no step was logged: there is no loss curve")
    return TrainerOutput(folder, tuple(saved), state, tuple(notes))


def _checkpoint_folders(folder: Path) -> dict[int, Path]:
    """Return the checkpoints' folders by their step; the order of names would put 1000 before 200.

    Raises:
        UsageError: the folder can't be read, or two folders are of one step.
    """
    if not folder.is_dir():
        kind = "not a directory" if folder.exists() else "no such directory"
        raise UsageError(f"{folder}: {kind}", "name the output_dir of the training")
    try:
        entries = sorted(folder.iterdir())
    except OSError as error:
        raise UsageError(
            f"{folder}: can't be read: {reason_of(error)}", "check its owner"
        ) from error
    found: dict[int, Path] = {}
    for entry in entries:
        match = _CHECKPOINT.fullmatch(entry.name)
        if match is None:
            continue
        if not entry.is_dir():
            what = "a link to nothing" if entry.is_symlink() else "not a directory"
            raise UsageError(f"{entry}: {what}", _SKIP)
        # `int` refuses thousands of digits.
        step = int(match[1]) if len(match[1]) <= 12 else MOST_STEPS + 1
        if not 0 < step <= MOST_STEPS:
            raise UsageError(f"{entry}: the name is no number of optimizer steps", _SKIP)
        if step in found:
            raise UsageError(f"{entry}: {found[step].name} is of the same step", "move one away")
        found[step] = entry
    return found


def _newest_state(folder: Path, saved: list[SavedWeights]) -> TrainerState | None:
    """Return the log with the most steps: the folder's, or that of its last checkpoint.

    Scripts write the folder's at the end, if at all; an earlier training may have left one.
    """
    places = [folder, *(at.folder for at in saved[-1:])]
    states = [state for place in places if (state := read_trainer_state(place / STATE_NAME))]
    return max(states, key=lambda state: state.step, default=None)


def _final_weights(folder: Path) -> WeightFiles | None:
    if _has_adapter(folder) or find_weights(folder):
        return weights_in(folder)
    return None


def _has_adapter(folder: Path) -> bool:
    return (adapter_place(folder) / ADAPTER_CONFIG).is_file()


def _placed(
    final: WeightFiles,
    saved: list[SavedWeights],
    state: TrainerState | None,
    notes: list[str],
) -> list[SavedWeights]:
    """Return the final model as weights of the last step, unless it is a checkpoint's copy."""
    last = saved[-1] if saved else None
    same = next((at for at in saved if _digests(at.weights) == _digests(final)), None)
    if same is not None:
        if same is not last:
            notes.append(
                f"the model in {final.folder} is that of {same.folder.name} "
                "(load_best_model_at_end); the run ends with the last checkpoint"
            )
        return []
    if last is not None and last.weights.is_adapter != final.is_adapter:
        kind = "an adapter" if final.is_adapter else "a whole model"
        notes.append(f"not imported: {final.folder} itself holds {kind}, unlike its checkpoints")
        return []
    if state is None or (last is not None and state.step <= last.step):
        if last is not None:
            notes.append(
                f"not imported: the model in {final.folder} differs from {last.folder.name}, and "
                "no log says after which step it was written"
            )
        return []
    return [SavedWeights(state.step, final)] if state.step else []


def _digests(weights: WeightFiles) -> Mapping[str, str]:
    return {
        name: facts.sha256 for name, facts in weights.files.items() if name.endswith(".safetensors")
    }


def weights_in(folder: Path, skip: str = _SKIP) -> WeightFiles:
    """Return a folder's weights with the facts of their files.

    Args:
        folder: a model's or an adapter's directory.
        skip: what to do instead if its weights can't be used.

    Raises:
        ModelError: it holds none that can be read.
    """
    try:
        place = adapter_place(folder)
        if (place / ADAPTER_CONFIG).is_file():
            files = [place / ADAPTER_WEIGHTS, place / ADAPTER_CONFIG]
            if not files[0].is_file():
                raise _without_weights(place, ADAPTER_WEIGHTS)
            _check_headers(place, files[:1])
            return WeightFiles(folder, True, dict(_facts(folder, files)))
        files = find_weights(folder)
        if not files:
            raise _without_weights(folder, SINGLE)
        _check_headers(folder, files)
        index = [] if files[0].name == SINGLE else [folder / INDEX]
        return WeightFiles(folder, False, dict(_facts(folder, [*files, *index])))
    except ModelError as error:
        raise ModelError(error.message, f"{error.hint}; or {skip}") from error


def check_shapes(output: TrainerOutput, base: WeightFiles) -> None:
    """Check from headers and configurations that all checkpoints are of one shape, the base's.

    Args:
        output: the training's folder.
        base: the model that it began with; adapters have other tensors.

    Raises:
        ModelError: a checkpoint has another shape; the message names a tensor or a key.
    """
    if output.is_adapter:
        first, *later = output.saved
        wanted = _adapter_shape(first.folder)
        for at in later:
            found = _adapter_shape(at.folder)
            for key in wanted:
                if found[key] != wanted[key]:
                    config = adapter_place(at.folder) / ADAPTER_CONFIG
                    raise ModelError(
                        f"{config}: {key} is {_shown(found[key])}, and "
                        f"{_shown(wanted[key])} in {first.folder.name}",
                        f"these are adapters of two trainings: {_SKIP}",
                    )
        return
    shapes = {name: shape for name, _, shape in _shapes(base)}
    for at in output.saved:
        for name, path, shape in _shapes(at.weights):
            if name in shapes and shapes[name] != shape:
                raise ModelError(
                    f"{path}: tensor '{name}' is {_times(shape)}, and {_times(shapes[name])} in "
                    f"{base.folder}",
                    "the training began with another model (--base MODEL), or it resized the "
                    "vocabulary: then nothing can be compared with the base",
                )


def _shapes(weights: WeightFiles) -> Iterator[tuple[str, Path, tuple[int, ...]]]:
    for file in weights.files:
        if file.endswith(SUFFIX):
            for name, header in read_headers(weights.folder / file).items():
                yield name, header.path, header.shape


def _adapter_shape(folder: Path) -> dict[str, Any]:
    config = read_model_config(adapter_place(folder) / ADAPTER_CONFIG)
    found = {key: config.get(key) for key in _ADAPTER_SHAPE}
    return {key: sorted(at, key=str) if isinstance(at, list) else at for key, at in found.items()}


def _shown(value: object) -> str:
    text = printable(str(value), multiline=False)
    return text if len(text) <= 60 else f"{text[:59]}…"


def _times(shape: tuple[int, ...]) -> str:
    return " × ".join(map(str, shape)) or "a single number"


def _check_headers(folder: Path, files: list[Path]) -> None:
    """Refuse damaged files, and the empty tensors that DeepSpeed's stage 3 leaves in them."""
    for path in files:
        for name, header in read_headers(path).items():
            if header.elements:
                continue
            sharded = _sharded(folder)
            raise ModelError(
                f"{path}: tensor '{name}' is empty"
                + (f": the weights are in {sharded.name}, {sharded.what}" if sharded else ""),
                sharded.remedy if sharded else "restore the file",
            )


def _facts(folder: Path, files: list[Path]) -> Iterator[tuple[str, FileFacts]]:
    for path in files:
        digest = digest_file(path, whole=path.suffix != ".safetensors")
        if digest is None:
            raise ModelError(f"{path}: can't be read", "check its owner")
        name = path.relative_to(folder).as_posix()
        yield name, FileFacts(digest["bytes"], path.stat().st_mtime_ns, digest["sha256"])


@dataclass(frozen=True)
class _Shards:
    """What a distributed training left in place of whole weights."""

    name: str
    what: str
    remedy: str


def _sharded(folder: Path) -> _Shards | None:
    for pattern, what in _SHARDED:
        found = next(iter(sorted(folder.glob(pattern))), None)
        if found is None:
            continue
        merge = (
            f"accelerate merge-weights {found} {folder}"
            if what == "FSDP"
            else f"python zero_to_fp32.py . . --safe_serialization, in {folder}"
        )
        return _Shards(found.name, f"a sharded {what} checkpoint", f"gather them first: {merge}")
    return None


def _without_weights(folder: Path, wanted: str) -> ModelError:
    """Return the error for a folder without readable weights: what it holds instead."""
    sharded = _sharded(folder)
    if sharded is not None:
        return ModelError(
            f"{folder}: {sharded.what} ({sharded.name}), which sf can't put together",
            sharded.remedy,
        )
    pickle = next((at for pattern in _PICKLES for at in sorted(folder.glob(pattern))), None)
    weights = pickle is not None and pickle.name.startswith(("pytorch_model", "adapter_model"))
    if weights and pickle is not None:
        return ModelError(
            f"{pickle}: pickled weights, which can run code when they are loaded: sf never does",
            f"save {wanted} instead (save_safetensors=True), or convert it",
        )
    return ModelError(f"{folder}: no {wanted} in it", "it is not complete: restore it")


def _what_is_missing(final: WeightFiles | None) -> str:
    if final is None:
        return "no checkpoint-N and no model in it"
    return f"a model without checkpoint-N; no {STATE_NAME} says after how many steps it was written"


def _what_instead(folder: Path) -> str:
    if (folder / "config.json").is_file() or _has_adapter(folder):
        return f"`sf diagnose {folder} --old FILE --start-model BASE` tests a model as it is"
    inner = [at.parent for at in sorted(folder.glob("*/checkpoint-*"))]
    if inner:
        return f"did you mean '{inner[0]}'?"
    return "name the output_dir of a training by transformers' Trainer"
