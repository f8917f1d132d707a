"""Reads `trainer_state.json`, the log that transformers' Trainer writes beside its checkpoints.

The file is external input: numbers are checked one by one, and no text of it is used. Every Trainer
writes it in the same layout: TRL, axolotl, LLaMA-Factory and ms-swift use transformers' own code.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sf_tui.errors import DataError
from sf_tui.run.durable import open_regular, reason_of

STATE_NAME = "trainer_state.json"

LARGEST_BYTES = 256 << 20
"""Larger than the log of a million steps, which takes 130 MB."""

MOST_STEPS = 10**9
"""More optimizer steps than any training takes."""

_AWAY = "move it away to import the checkpoints without a loss curve"


@dataclass(frozen=True)
class LoggedStep:
    """What the Trainer logged at one optimizer step.

    Attributes:
        step: optimizer steps done.
        loss: mean loss since the entry before it, in nats per token; None if it was not finite.
        learning_rate: the step's rate; None if it was not logged.
        grad_norm: gradient norm before clipping; None if it was not logged or not finite.
    """

    step: int
    loss: float | None
    learning_rate: float | None
    grad_norm: float | None


@dataclass(frozen=True)
class TrainerState:
    """A Trainer's progress.

    Attributes:
        path: the file.
        step: optimizer steps done when it was written.
        planned: length of the training in steps; 0 if it is unknown.
        epochs: passes over the data by then; None if unknown.
        logged: the logged steps, in order.
    """

    path: Path
    step: int
    planned: int
    epochs: float | None
    logged: tuple[LoggedStep, ...]

    @property
    def learning_rate(self) -> float | None:
        """The highest learning rate that was logged."""
        return max((at.learning_rate for at in self.logged if at.learning_rate), default=None)


def read_trainer_state(path: Path) -> TrainerState | None:
    """Return the content of a `trainer_state.json`; None if there is none.

    Raises:
        DataError: it can't be read, is damaged, or holds an impossible value.
    """
    try:
        with open_regular(path) as file:
            content = file.read(LARGEST_BYTES + 1)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise DataError(f"{path}: can't be read: {reason_of(error)}", _AWAY) from error
    if len(content) > LARGEST_BYTES:
        raise DataError(f"{path}: more than {LARGEST_BYTES >> 20} MiB, no log of a training", _AWAY)
    try:
        # The standard library's parser knows NaN and Infinity, which the Trainer writes.
        values = json.loads(content.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        first = str(error).partition("\n")[0]
        raise DataError(
            f"{path}: not JSON: {first}", f"it was cut off or damaged: restore it, or {_AWAY}"
        ) from error
    if not isinstance(values, dict):
        raise DataError(f"{path}: not a JSON object", _AWAY)
    step = _count(values.get("global_step"), path, "global_step")
    history = values.get("log_history")
    if not isinstance(history, list | None):
        raise DataError(f"{path}: log_history is no list", _AWAY)
    epochs = _number(values.get("epoch"), path, "epoch")
    return TrainerState(
        path,
        step,
        _count(values.get("max_steps") or 0, path, "max_steps"),
        epochs if epochs and epochs > 0 else None,
        tuple(_logged(history or [], step, path)),
    )


def _logged(history: list[Any], last: int, path: Path) -> Iterator[LoggedStep]:
    """Yield the entries about optimizer steps; evaluations and the summary have no `loss`."""
    before = 0
    pending: LoggedStep | None = None
    for place, entry in enumerate(history):
        where = f"log_history[{place}]"
        if not isinstance(entry, dict):
            raise DataError(f"{path}: {where} is no object", _AWAY)
        if "loss" not in entry:
            continue
        step = _count(entry.get("step"), path, f"{where}.step")
        if not before <= step <= last:
            raise DataError(
                f"{path}: {where}.step is {step}, after step {before} and with global_step {last}",
                f"its entries are out of order: restore the file, or {_AWAY}",
            )
        # An entry may be logged again at the same step; the last one counts.
        if pending is not None and step > pending.step > 0:
            yield pending
        before = step
        pending = LoggedStep(
            step,
            _number(entry["loss"], path, f"{where}.loss"),
            _number(entry.get("learning_rate"), path, f"{where}.learning_rate"),
            _number(entry.get("grad_norm"), path, f"{where}.grad_norm"),
        )
    # Step 0 would precede the start.
    if pending is not None and pending.step:
        yield pending


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _count(value: object, path: Path, key: str) -> int:
    # A step may be written as 10.0 after a conversion.
    whole = isinstance(value, float) and value.is_integer()
    if not _is_number(value) or not (isinstance(value, int) or whole):
        raise DataError(f"{path}: {key} is {_shown(value)}, not a count", _AWAY)
    count = int(value)  # type: ignore[call-overload]
    if not 0 <= count <= MOST_STEPS:
        raise DataError(f"{path}: {key} is {_shown(value)}, not a number of steps", _AWAY)
    return count


def _number(value: object, path: Path, key: str) -> float | None:
    if value is None:
        return None
    if not _is_number(value):
        raise DataError(f"{path}: {key} is {_shown(value)}, not a number", _AWAY)
    try:
        number = float(value)  # type: ignore[arg-type]
    except OverflowError:
        return None
    return number if math.isfinite(number) else None


def _shown(value: object) -> str:
    text = json.dumps(value) if isinstance(value, str | int | float | bool | None) else "no number"
    return text if len(text) <= 40 else f"{text[:39]}…"
